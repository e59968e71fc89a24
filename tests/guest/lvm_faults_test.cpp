// A thin pool that is full, gone, inactive or broken: each fault is a typed error, and comes in bounded time.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>

#include <cstddef>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

/// Writes to the whole volume, until that goes no further.
Result<void> write_all(Storage<LvmThin>& storage, const VolumeName& volume) {
  auto device = storage.open_volume(volume, Access::read_write);
  if (!device) return fail(std::move(device.error()));
  const std::vector<std::byte> data = pattern(1, 4 << 20);
  for (Bytes at{}; at < device->size(); at += 4_MiB) {
    if (auto done = device->write_at(at, data); !done) return done;
  }
  return device->close();
}

Storage<MemoryBackend> in_memory() { return {must(StorageId::parse("memory")), MemoryBackend{}}; }

/// For how many seconds the kernel lets writers wait for room, as long as this lives.
class Patience {
 public:
  explicit Patience(int seconds) : was_{sh("cat " + file_)} { sh("echo " + std::to_string(seconds) + " > " + file_); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;
  ~Patience() { ask("echo " + was_.substr(0, was_.size() - 1) + " > " + file_); }

 private:
  std::string file_ = "/sys/module/dm_thin_pool/parameters/no_space_timeout";
  std::string was_;
};

/// `table` with writes that fail and reads that do not.
std::string without_writes(std::string table) {
  const std::size_t linear = table.find(" linear ");
  REQUIRE(linear != std::string::npos);
  return table.replace(linear, 8, " flakey ") + " 0 60 1 error_writes";
}

}  // namespace

TEST_CASE("a pool that is full and fails: writers get no_space, the status says it, extending heals it") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M"};
  sh("lvchange -qq --errorwhenfull y " + lab.spec("pool"));
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  CHECK(must(storage.status()).queues == false);
  CHECK(must(storage.status()).monitored.has_value());
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
  lab.options.limits.data = 90;
  refused(lab.storage().begin_import({.vmid = guest, .size = 32_MiB}), Errc::no_space);  // 32 of 64 are written
  lab.options.limits = {.data = 90, .metadata = 90, .provisioned = 100};
  refused(lab.storage().create({.vmid = guest, .size = 4_MiB}), Errc::no_space);
  CHECK(must(storage.list()).size() == 1);
}

TEST_CASE("a pool that is inactive is told, and activated by whoever needs it") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  must(storage.deactivate());
  Status status;
  CHECK(elapsed([&] { status = must(storage.status()); }) < 10s);
  CHECK_FALSE(status.active);
  CHECK(status.total == 1_GiB);
  CHECK_FALSE(status.used);
  CHECK(elapsed([&] { CHECK(must(storage.list()).size() == 1); }) < 10s);
  CHECK(elapsed([&] { must(storage.open_volume(volume, Access::read_only)); }) < 20s);
  must(storage.activate());
  CHECK(must(storage.status()).active);
  CHECK(must(storage.status()).used.has_value());
}

TEST_CASE("a volume group, a pool or a volume that is not there") {
  LvmLab lab;
  {
    auto storage = lab.storage();
    refused(storage.snapshot(volume_name("vm-990000101-gone"), s1), Errc::not_found);
    refused(storage.backend().end_import(volume_name("vm-990000101-gone")), Errc::not_found);
  }
  lab.config.thinpool = "other";
  CHECK(elapsed([&] { refused(lab.storage().status(), Errc::not_found); }) < 10s);
  CHECK(elapsed([&] { refused(lab.storage().list(), Errc::not_found); }) < 10s);
  CHECK(elapsed([&] { refused(lab.storage().activate(), Errc::not_found); }) < 10s);
  const std::string vg = lab.config.vgname;
  lab.config.vgname = "nowhere";
  auto nowhere = lab.storage();
  CHECK(elapsed([&] { CHECK(says(refusal_of(nowhere.status(), Errc::unavailable), "nowhere")); }) < 10s);
  CHECK(elapsed([&] { refused(nowhere.list(), Errc::unavailable); }) < 10s);
  CHECK(elapsed([&] { refused(nowhere.activate(), Errc::unavailable); }) < 10s);
  const CreateSpec spec{.vmid = guest, .size = 4_MiB, .name = volume_name("vm-990000101-x")};
  CHECK(elapsed([&] { refused(nowhere.create(spec), Errc::unavailable); }) < 10s);
  lab.config.vgname = vg;
}

TEST_CASE("a disk that fails: reads and writes are errors with the errno, and the rest goes on") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  must(write_all(storage, volume));
  auto device = must(storage.open_volume(volume, Access::read_write));
  ChangedDevice disk{"lab1-pool_tdata",
                     [](const std::string& table) { return table.substr(0, table.find(" linear ")) + " error"; }};
  std::vector<std::byte> buffer(4096);
  CHECK(elapsed([&] {
          const Error reading = refusal_of(device.read_at(Bytes{0}, buffer), Errc::backend_failed);
          CHECK(reading.native() == native_errno(EIO));
          CHECK(says(reading, volume.str()));
        }) < 10s);
  CHECK(elapsed([&] {
          const Error writing = refusal_of(device.write_at(Bytes{0}, buffer), Errc::backend_failed);
          CHECK(writing.native() == native_errno(EIO));
        }) < 10s);
  // A copy that meets it ends, and leaves nothing.
  auto memory = in_memory();
  CHECK(elapsed([&] {
          auto source = must(storage.open_volume(volume, Access::read_only));
          const Error copying = refusal_of(full_clone(source, memory, {.vmid = guest}), Errc::backend_failed);
          CHECK(copying.native() == native_errno(EIO));
        }) < 10s);
  CHECK(must(memory.list()).empty());
  disk.restore();
  must(device.read_at(Bytes{0}, buffer));
  must(device.close());
}

TEST_CASE("a disk that cannot be written: writes and flushes fail, and what is there can be read") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  sh("modprobe dm_flakey");
  const ChangedDevice disk{"lab1-pool_tdata", without_writes};
  auto device = must(storage.open_volume(volume, Access::read_write));
  for (const Bytes place : {Bytes{0}, 4_MiB}) {  // one that has blocks, one that has none yet
    CHECK(elapsed([&] {
            const Error error = refusal_of(device.write_at(place, pattern(2, 1 << 16)), Errc::backend_failed);
            CHECK(error.native() == native_errno(EIO));
          }) < 10s);
  }
  auto memory = in_memory();
  auto source = must(memory.open_volume(must(memory.create({.vmid = guest, .size = 4_MiB})), Access::read_write));
  must(source.write_at(Bytes{0}, pattern(3, 4 << 20)));
  CHECK(elapsed([&] {
          const Error error = refusal_of(copy(source, device), Errc::backend_failed);
          CHECK(error.native() == native_errno(EIO));
        }) < 10s);
  // what cannot be flushed is not kept silent
  CHECK(elapsed([&] { refused(device.close(), Errc::backend_failed); }) < 10s);
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
}

TEST_CASE("a pool that is full and makes writers wait says so, and goes on when it has room") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M"};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  std::future<Result<void>> writer = std::async(std::launch::async, [&] {
    auto own = lab.storage();
    return write_all(own, volume);
  });
  std::vector<std::string> health;
  for (int look = 0; look < 50 && health.empty(); ++look) health = must(storage.status()).health;
  REQUIRE_FALSE(health.empty());
  CHECK(health[0].find("out_of_data") != std::string::npos);
  CHECK(health[0].find("writers wait") != std::string::npos);
  CHECK(elapsed([&] { refused(storage.snapshot(volume, s1), Errc::no_space); }) < 10s);
  CHECK(elapsed([&] { refused(storage.create({.vmid = guest, .size = 4_MiB}), Errc::no_space); }) < 10s);
  CHECK(elapsed([&] { CHECK(must(storage.list()).size() == 1); }) < 10s);
  CHECK(writer.wait_for(0s) == std::future_status::timeout);
  sh("lvextend -qq -y -L 64M " + lab.spec("pool") + " 2>&1");
  must(writer.get());
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> bytes(4 << 20);
  for (Bytes at{}; at < device.size(); at += 4_MiB) {
    must(device.read_at(at, bytes));
    CHECK(bytes == pattern(1, bytes.size()));
  }
  CHECK(must(storage.status()).health.empty());
}

TEST_CASE("writers wait for room as long as the kernel lets them, and get no_space") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M"};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  const Patience patience{2};
  CHECK(elapsed([&] { refused(write_all(storage, volume), Errc::no_space); }) < 30s);
  must(storage.remove(volume));  // which makes room
  CHECK(must(storage.status()).available.value() > 15_MiB);
}

TEST_CASE("a pool whose metadata is full: new volumes are refused, the status says it, extending heals it") {
  LvmLab lab{"-L 64M --poolmetadatasize 4M"};
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  int thin = 1000;  // LVM counts from 1
  const auto crowd = [&](int more) {
    for (const int last = thin + more; thin < last; ++thin) {
      if (tell_device("lab1-pool-tpool", "create_thin " + std::to_string(thin)) != 0) return;
    }
  };
  crowd(800);
  const auto full = [&](const auto& result) { CHECK(says(refusal_of(result, Errc::no_space), " of 4M)")); };
  CHECK(elapsed([&] { full(storage.create({.vmid = guest, .size = 4_MiB})); }) < 30s);
  CHECK(elapsed([&] { full(storage.snapshot(volume, s1)); }) < 30s);
  lab.options.limits.metadata = 60;
  CHECK(says(refusal_of(lab.storage().create({.vmid = guest, .size = 4_MiB}), Errc::no_space), "the limit is 60 %"));
  crowd(400);
  const Status status = must(storage.status());
  REQUIRE_FALSE(status.health.empty());
  CHECK(status.health[0].find("metadata") != std::string::npos);
  CHECK(status.metadata_used.value().count * 10 > status.metadata_total.value().count * 8);
  CHECK_FALSE(must(storage.check()).empty());
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  sh("lvextend -qq -y --poolmetadatasize +8M " + lab.spec("pool") + " 2>&1");
  CHECK(must(storage.status()).health.empty());
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  CHECK(content(must(storage.open_volume(volume, s1))) == 1);
}

TEST_CASE("a pool and LVM that count its transactions differently: both numbers are named, and nothing is changed") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  const std::string expected = std::to_string(must(storage.backend().pool()).transaction.value());
  REQUIRE(tell_device("lab1-pool-tpool", "set_transaction_id " + expected + " 77") == 0);
  const std::vector<Finding> findings = must(storage.check());
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].problem.find("the pool has 77, LVM expects " + expected) != std::string::npos);
  const std::string both = "the pool has 77, LVM expects " + expected;
  const Status mismatch = must(storage.status());
  REQUIRE(mismatch.health.size() == 1);
  CHECK(mismatch.health[0].find(both) != std::string::npos);
  const auto refuses = [&](const auto& result) { CHECK(says(refusal_of(result, Errc::corrupt), both)); };
  CHECK(elapsed([&] { refuses(storage.create({.vmid = guest, .size = 4_MiB})); }) < 30s);
  CHECK(elapsed([&] { refuses(storage.snapshot(volume, s1)); }) < 30s);
  CHECK(elapsed([&] { refuses(storage.remove(volume)); }) < 30s);
  CHECK(must(storage.list()).size() == 1);
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  REQUIRE(tell_device("lab1-pool-tpool", "set_transaction_id 77 " + expected) == 0);
  CHECK(must(storage.check()).empty());
  CHECK(must(storage.status()).health.empty());
  must(storage.snapshot(volume, s1));
}
