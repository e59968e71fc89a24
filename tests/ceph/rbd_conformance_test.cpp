// Rbd keeps the laws on a real cluster with cephx: from outside with monhost and keyring, as a user who may use one
// namespace only; and (long) in the pool itself, in a namespace, with a data pool.

#include <stowage/testing/conformance.hpp>

#include <optional>
#include <stowage/backends/rbd.hpp>
#include <string>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::RbdLab;
using testing::Server;

namespace {

struct RbdFixture {
  using Backend = Rbd;

  /// `prepare` may change what the storage is opened with.
  explicit RbdFixture(void (*prepare)(RbdLab&), RbdLab::Where where = RbdLab::Where::name_space,
                      const std::string& pool = "rbd")
      : lab{Server::shared("ceph"), where, pool} {
    prepare(lab);
    storage_.emplace(lab.storage());
  }

  Storage<Backend>& storage() { return *storage_; }
  std::string add_foreign() const {
    lab.rbd("create --size 1M " + lab.spec("csi-vol-1"));
    return "csi-vol-1";
  }

  static constexpr std::size_t every = 7;
  /// A receipt is one argument here: how far, of what, on which base.
  void leave_unfinished(const VolumeName& volume, Intent intent) const {
    const bool is_receipt = intent.format == IntentFormat::current && intent.verb == "receive";
    if (is_receipt) intent.arguments = {intent.argument(1) + "/" + intent.argument(0) + "/" + intent.argument(2)};
    lab.leave_unfinished(volume, std::move(intent));
  }
  [[nodiscard]] std::string record_of(const VolumeName& volume) const { return lab.record(volume); }

  RbdLab lab;
  std::optional<Storage<Backend>> storage_;
};

void as_it_is(RbdLab&) {}

void with_data_pool(RbdLab& lab) { lab.config.data_pool = "data"; }

void from_outside(RbdLab& lab) {
  lab.config.name_space = "ns";
  lab.config.username = "tester";
  lab.config.monhost = {testing::must(Portal::parse(lab.server()["MONHOST"]))};
  lab.priv.copy(lab.server().folder() + "/tester.keyring", "st.keyring");
}

}  // namespace

TEST_CASE("Rbd keeps the laws in a namespace", "[long]") {
  RbdFixture fixture{as_it_is};
  testing::check_conformance(fixture);
}

TEST_CASE("Rbd keeps the laws in a pool without namespace", "[long]") {
  RbdFixture fixture{as_it_is, RbdLab::Where::whole_pool, "other"};
  testing::check_conformance(fixture);
}

TEST_CASE("Rbd keeps the laws with a data pool", "[long]") {
  RbdFixture fixture{with_data_pool};
  testing::check_conformance(fixture);
}

TEST_CASE("Rbd keeps the laws from outside, as a user of one namespace") {
  RbdFixture fixture{from_outside, RbdLab::Where::whole_pool};
  testing::check_conformance(fixture);
}

TEST_CASE("new images, templates and clones have their data in the data pool") {
  RbdFixture fixture{with_data_pool};
  const auto data_pool = [&](const std::string& image) {
    return fixture.lab.rbd_json("info " + fixture.lab.spec(image)).at("data_pool");
  };
  const VolumeName volume = testing::must(fixture.storage().create({.vmid = testing::guest, .size = 8_MiB}));
  CHECK(data_pool(volume.str()) == "data");
  const VolumeName base = testing::must(fixture.storage().make_template(volume));
  const VolumeName clone = testing::must(fixture.storage().clone(base, {.vmid = testing::guest}));
  CHECK(data_pool(clone.str().substr(clone.str().find('/') + 1)) == "data");
}
