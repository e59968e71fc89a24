// Images of format 1, as old pools still hold them: `rbd` makes them only if it is forced to, and never in a namespace.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

#include <string>
#include <vector>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::guest;
using testing::must;
using testing::RbdLab;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;
using testing::volume_name;

namespace {

const SnapshotName s1 = snapshot_name("s1");

/// A pool without namespace.
struct OldPool : RbdLab {
  OldPool() : RbdLab{testing::Server::shared("ceph"), Where::whole_pool, "other"} {}
  explicit OldPool(testing::Server own) : RbdLab{std::move(own), Where::whole_pool} {}

  VolumeName make(const std::string& name, const std::string& size = "8M") const {
    testing::shell("env RBD_FORCE_ALLOW_V1=1 rbd -c " + server()["CONF"] + " create --image-format 1 --size " + size +
                   " " + spec(name) + " 2>/dev/null");
    return volume_name(name);
  }
};

std::vector<std::byte> first_bytes(Storage<Rbd>& storage, const VolumeName& volume) {
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> bytes(65536);
  must(device.read_at(Bytes{}, bytes));
  must(device.close());
  return bytes;
}

void write_first_bytes(Storage<Rbd>& storage, const VolumeName& volume, const std::vector<std::byte>& bytes) {
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(Bytes{}, bytes));
  must(device.close());
}

}  // namespace

TEST_CASE("an image of format 1 is told by info as by the list, and does what needs no newer one") {
  const OldPool lab;
  auto storage = lab.storage();
  const VolumeName volume = lab.make("vm-990000101-disk-0");

  const std::vector<VolumeInfo> listed = must(storage.list());
  REQUIRE(listed.size() == 1);
  const VolumeInfo info = must(storage.info(volume));
  CHECK(info.name == listed.front().name);
  CHECK(info.size == 8_MiB);
  CHECK(listed.front().size == 8_MiB);
  CHECK(info.vmid == listed.front().vmid);
  CHECK(info.identity == listed.front().identity);
  CHECK(info.identity == lab.rbd_json("info " + lab.spec(volume.str())).at("block_name_prefix"));
  CHECK_FALSE(info.ctime);
  CHECK_FALSE(listed.front().ctime);
  CHECK(must(storage.check()).empty());
  must(storage.activate(volume));
  must(storage.deactivate(volume));
  refused(storage.create({.vmid = guest, .size = 1_MiB, .name = volume}), Errc::already_exists);
  CHECK(must(storage.create({.vmid = guest, .size = 1_MiB})).str() == "vm-990000101-disk-1");

  const auto old = testing::pattern(1, 65536);
  write_first_bytes(storage, volume, old);
  CHECK(first_bytes(storage, volume) == old);
  {
    auto device = must(storage.open_volume(volume, Access::read_only));
    const auto extents = must(device.extents());
    CHECK(extents.front().allocated);
    CHECK_FALSE(extents.back().allocated);
  }
  CHECK(must(storage.resize(volume, 16_MiB)) == 16_MiB);
  must(storage.snapshot(volume, s1));
  CHECK(must(storage.snapshots(volume)).size() == 1);
  write_first_bytes(storage, volume, testing::pattern(2, 65536));
  must(storage.rollback(volume, s1));
  CHECK(first_bytes(storage, volume) == old);
  must(storage.flatten(volume));  // shares nothing
  const VolumeName renamed = must(storage.rename(volume, {.vmid = VmId{990'000'102}, .name = {}}));
  refused(storage.info(volume), Errc::not_found);
  refused(storage.activate(volume), Errc::not_found);
  CHECK(must(storage.info(renamed)).identity == info.identity);
  refused(storage.remove(renamed), Errc::in_use);
  must(storage.remove(renamed, {.snapshots = true}));
  refused(storage.info(renamed), Errc::not_found);
  CHECK(must(storage.list({.vmid = VmId{990'000'102}, .content = {}})).empty());
}

TEST_CASE("what an image of format 1 cannot do is refused before anything is done", "[own]") {
  const OldPool lab{testing::Server::own_cluster("format1")};
  auto storage = lab.storage();
  const VolumeName volume = lab.make("vm-990000101-disk-0");
  const VolumeName base = lab.make("base-990000101-disk-1");
  lab.rbd("snap create " + lab.spec(base.str()) + "@__base__");

  refused(storage.make_template(volume), Errc::not_supported);
  CHECK(must(storage.snapshots(volume)).empty());
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  refused(storage.remove(volume, {.trash = true}), Errc::not_supported);
  must(storage.snapshot(volume, s1));
  for (const bool all_clients_clone_format_2 : {false, true}) {
    if (all_clients_clone_format_2) lab.ceph("osd set-require-min-compat-client mimic");
    const Error error = refusal_of(storage.clone(volume, s1, {.vmid = guest, .name = {}}), Errc::not_supported);
    CHECK(error.message().find("format 1") != std::string::npos);
    refused(storage.clone(base, {.vmid = guest, .name = {}}), Errc::not_supported);
  }
  refused(storage.backend().snapshot_identity(volume, s1), Errc::not_supported);
  must(storage.remove_snapshot(volume, s1));
  CHECK(must(storage.list()).size() == 2);
  must(storage.remove(volume));
  must(storage.remove(base));
}
