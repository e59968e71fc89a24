// A thin pool that is full, gone, inactive or broken: each fault is a typed error, and comes in bounded time.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::elapsed;
using testing::guest;
using testing::LvmLab;
using testing::must;
using testing::refusal_of;
using testing::refused;
using testing::sh;
using testing::snapshot_name;

namespace {

const SnapshotName s1 = snapshot_name("s1");

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

VolumeName make(Storage<LvmThin>& storage, Bytes size = 8_MiB) {
  return must(storage.create({.vmid = guest, .size = size}));
}

/// Writes to the whole volume, until that goes no further.
Result<void> write_all(Storage<LvmThin>& storage, const VolumeName& volume) {
  auto device = storage.open_volume(volume, Access::read_write);
  if (!device) return fail(std::move(device.error()));
  const std::vector<std::byte> data = testing::pattern(1, 4 << 20);
  for (Bytes at{}; at < device->size(); at += 4_MiB) {
    if (auto done = device->write_at(at, data); !done) return done;
  }
  return device->close();
}

}  // namespace

TEST_CASE("a pool that is full and fails: writers get no_space, the status says it, extending heals it") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M"};
  sh("lvchange -qq --errorwhenfull y " + lab.spec("pool"));
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  CHECK(must(storage.backend().pool()).queues == false);
  CHECK(elapsed([&] { refused(write_all(storage, volume), Errc::no_space); }) < 30s);
  const Status status = must(storage.status());
  CHECK(status.active);
  CHECK(status.available == Bytes{});
  REQUIRE_FALSE(status.health.empty());
  CHECK(status.health[0].find("out_of_data") != std::string::npos);
  CHECK_FALSE(must(storage.check()).empty());
  sh("lvextend -qq -y -L 64M " + lab.spec("pool") + " 2>&1");
  must(write_all(storage, volume));
  must(storage.remove(volume));
}

TEST_CASE("limits keep a pool from being filled by what is new") {
  LvmLab lab{"-L 64M --poolmetadatasize 4M"};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  must(storage.snapshot(volume, s1));
  must(write_all(storage, volume));
  lab.options.limits.data = 50;
  auto careful = lab.storage();
  CHECK(says(refusal_of(careful.create({.vmid = guest, .size = 4_MiB}), Errc::no_space), "the limit is 50 %"));
  refused(careful.clone(volume, s1, {.vmid = guest}), Errc::no_space);
  refused(careful.rollback(volume, s1), Errc::no_space);
  lab.options.limits = {.data = 90, .metadata = 90, .provisioned = 100};
  refused(lab.storage().create({.vmid = guest, .size = 4_MiB}), Errc::no_space);
  CHECK(must(storage.list()).size() == 1);
}

TEST_CASE("a pool that is inactive is told, and activated by whoever needs it") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  must(storage.deactivate());
  const Status status = must(storage.status());
  CHECK_FALSE(status.active);
  CHECK(status.total == 1_GiB);
  CHECK_FALSE(status.used);
  CHECK(must(storage.list()).size() == 1);
  must(storage.open_volume(volume, Access::read_only));
  must(storage.activate());
  CHECK(must(storage.status()).active);
  CHECK(must(storage.status()).used.has_value());
}

TEST_CASE("a volume group, a pool or a volume that is not there") {
  LvmLab lab;
  {
    auto storage = lab.storage();
    refused(storage.snapshot(testing::volume_name("vm-990000101-gone"), s1), Errc::not_found);
    refused(storage.backend().end_import(testing::volume_name("vm-990000101-gone")), Errc::not_found);
  }
  lab.config.thinpool = "other";
  refused(lab.storage().status(), Errc::not_found);
  refused(lab.storage().list(), Errc::not_found);
  refused(lab.storage().activate(), Errc::not_found);
  const std::string vg = lab.config.vgname;
  lab.config.vgname = "nowhere";
  auto nowhere = lab.storage();
  CHECK(says(refusal_of(nowhere.status(), Errc::unavailable), "nowhere"));
  refused(nowhere.list(), Errc::unavailable);
  refused(nowhere.activate(), Errc::unavailable);
  refused(nowhere.create({.vmid = guest, .size = 4_MiB, .name = testing::volume_name("vm-990000101-x")}),
          Errc::unavailable);
  lab.config.vgname = vg;
}

TEST_CASE("a disk that fails: reads and writes are errors with the errno, and the rest goes on") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  must(write_all(storage, volume));
  auto device = must(storage.open_volume(volume, Access::read_write));
  const std::string data = "lab1-pool_tdata";
  const std::string good = sh("dmsetup table " + data);
  const std::string size = good.substr(2, good.find(' ', 2) - 2);
  const auto swap = [&](const std::string& table) {
    sh("dmsetup suspend --nolockfs " + data + " && dmsetup load " + data + " --table '" + table +
       "' && dmsetup resume " + data);
  };
  swap("0 " + size + " error");
  std::vector<std::byte> buffer(4096);
  const Error reading = refusal_of(device.read_at(Bytes{0}, buffer), Errc::backend_failed);
  CHECK(reading.native() == native_errno(EIO));
  CHECK(says(reading, volume.str()));
  const Error writing = refusal_of(device.write_at(Bytes{0}, buffer), Errc::backend_failed);
  CHECK(writing.native() == native_errno(EIO));
  swap(good.substr(0, good.size() - 1));
  must(device.read_at(Bytes{0}, buffer));
  must(device.close());
}
