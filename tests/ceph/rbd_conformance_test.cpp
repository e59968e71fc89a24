// Rbd keeps the laws on a real cluster with cephx: in the pool itself, in a namespace, with a data pool, as a user who
// may use one namespace only, and from outside with monhost and keyring.

#include <stowage/testing/conformance.hpp>

#include <stowage/backends/rbd.hpp>
#include <string>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::RbdLab;
using testing::Server;

namespace {

struct RbdFixture {
  using Backend = Rbd;
  Storage<Backend>& storage() { return storage_; }
  std::string add_foreign() {
    lab.rbd("create --size 1M " + lab.spec("csi-vol-1"));
    return "csi-vol-1";
  }

  RbdLab& lab;
  Storage<Backend> storage_ = lab.storage();
};

}  // namespace

TEST_CASE("Rbd keeps the laws in a namespace") {
  RbdLab lab;
  RbdFixture fixture{lab};
  testing::check_conformance(fixture);
}

TEST_CASE("Rbd keeps the laws in a pool without namespace") {
  RbdLab lab{Server::shared("ceph"), RbdLab::Where::whole_pool, "other"};
  RbdFixture fixture{lab};
  testing::check_conformance(fixture);
}

TEST_CASE("Rbd keeps the laws with a data pool, and the data is there") {
  RbdLab lab;
  lab.config.data_pool = "data";
  RbdFixture fixture{lab};
  testing::check_conformance(fixture);

  const VolumeName volume = testing::must(fixture.storage().create({.vmid = testing::guest, .size = 8_MiB}));
  CHECK(lab.rbd_json("info " + lab.spec(volume.str())).at("data_pool") == "data");
  const VolumeName base = testing::must(fixture.storage().make_template(volume));
  const VolumeName clone = testing::must(fixture.storage().clone(base, {.vmid = testing::guest}));
  CHECK(lab.rbd_json("info " + lab.spec(clone.str().substr(clone.str().find('/') + 1))).at("data_pool") == "data");
}

TEST_CASE("Rbd keeps the laws from outside, as a user of one namespace") {
  RbdLab lab{Server::shared("ceph"), RbdLab::Where::whole_pool};
  lab.config.name_space = "ns";
  lab.config.username = "tester";
  lab.config.monhost = {testing::must(Portal::parse(lab.server()["MONHOST"]))};
  lab.priv.copy(lab.server().folder() + "/tester.keyring", "st.keyring");
  {
    RbdFixture fixture{lab};
    testing::check_conformance(fixture);
  }
  lab.sweep();
  lab.config.name_space.clear();  // the namespace is the cluster's, not ours to remove
}
