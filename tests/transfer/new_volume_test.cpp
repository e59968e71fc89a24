// Full clones, and other volumes that come to be with their content or not at all.

#include <catch2/catch.hpp>

#include <stowage/any_storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/new_volume.hpp>

#include <stop_token>
#include <vector>

using namespace stowage;
using namespace stowage::testing;

namespace {

const VmId owner{100};
const VmId other{200};

struct Lab {
  MemoryBackend memory{};
  Storage<MemoryBackend> storage{*StorageId::parse("mem"), memory};

  /// A volume of 8 MiB with 64 KiB of data in the middle.
  VolumeName filled() {
    VolumeName name = must(storage.create({.vmid = owner, .size = 8_MiB}));
    auto device = must(storage.open_volume(name, Access::read_write));
    must(device.write_at(3_MiB, pattern(1, 65536)));
    must(device.close());
    return name;
  }
  std::vector<std::byte> content(const VolumeName& name) {
    auto device = must(storage.open_volume(name, Access::read_only));
    std::vector<std::byte> all(device.size().count);
    must(device.read_at(Bytes{}, all));
    return all;
  }
  std::size_t of_other() { return must(storage.list({.vmid = other})).size(); }
};

}  // namespace

TEST_CASE("a full clone has all bytes and no zeros, under the next free name or the one asked for") {
  Lab from;
  Lab to;
  const VolumeName volume = from.filled();
  auto source = must(from.storage.open_volume(volume, Access::read_only));
  const VolumeName first = must(full_clone(source, to.storage, {.vmid = other}));
  CHECK(first.str() == "vm-200-disk-0");
  CHECK((to.content(first) == from.content(volume)));
  CHECK(must(to.storage.status()).used.value() <= 128_KiB);
  CHECK_FALSE(must(to.storage.info(first)).incomplete());
  const VolumeName named = *VolumeName::parse("vm-200-data");
  CHECK(must(full_clone(source, to.storage, {.vmid = other, .name = named})) == named);
  refused(full_clone(source, to.storage, {.vmid = other, .name = named}), Errc::already_exists);
  CHECK(to.of_other() == 2);
}

TEST_CASE("a full clone of a snapshot, beside the volume, on a storage whose type is chosen at run time") {
  Lab lab;
  const VolumeName volume = lab.filled();
  must(lab.storage.snapshot(volume, snapshot_name("s1")));
  const auto before = lab.content(volume);
  {
    auto device = must(lab.storage.open_volume(volume, Access::read_write));
    must(device.write_at(Bytes{}, pattern(2, 65536)));
    must(device.close());
  }
  BasicAnyStorage<MemoryBackend> any{Storage<MemoryBackend>{*StorageId::parse("mem"), lab.memory}};
  auto source = must(any.open_volume(volume, snapshot_name("s1")));
  const VolumeName clone = must(full_clone(source, any, {.vmid = other}));
  CHECK((lab.content(clone) == before));
}

TEST_CASE("a full clone that is stopped or fails leaves no volume that looks whole") {
  for (unsigned after = 0; after < 30; ++after) {
    CAPTURE(after);
    Lab from;
    Lab to;
    const VolumeName volume = from.filled();
    auto source = must(from.storage.open_volume(volume, Access::read_only));
    to.memory.fail_next(Errc::timed_out, after);
    const auto made = full_clone(source, to.storage, {.vmid = other}, {.chunk = 64_KiB});
    to.memory.fail_next(Errc::timed_out, 1'000'000);
    if (!made) CHECK(made.error().code() == Errc::timed_out);
    for (const VolumeInfo& info : must(to.storage.list())) CHECK(info.incomplete() != made.has_value());
  }
  Lab lab;
  const VolumeName volume = lab.filled();
  auto source = must(lab.storage.open_volume(volume, Access::read_only));
  std::stop_source stop;
  stop.request_stop();
  refused(full_clone(source, lab.storage, {.vmid = other}, {.stop = stop.get_token()}), Errc::cancelled);
  CHECK(lab.of_other() == 0);
}
