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
  explicit Lab(Bytes unzeroed_block = Bytes{}) : memory{MemoryBackend::Config{.unzeroed_block = unzeroed_block}} {}

  MemoryBackend memory;
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

TEST_CASE("a volume is whole before it is closed: nobody can take it for an abandoned one in between") {
  struct Watched : Storage<MemoryBackend> {
    using Storage::Storage;
    bool held = false;
    Result<void> end_import(const VolumeName& volume) {
      held = !open_volume(volume, Access::read_write);
      return Storage::end_import(volume);
    }
  };
  Watched storage{*StorageId::parse("mem"), MemoryBackend{}};
  const auto filling = [](auto& device) { return device.write_at(Bytes{}, pattern(1, 65536)); };
  must(make_filled_volume(storage, {.vmid = other, .size = 1_MiB}, filling));
  CHECK(storage.held);
}

TEST_CASE("whichever last step of a new volume fails, it is whole or nobody's") {
  for (unsigned after = 0; after < 30; ++after) {
    CAPTURE(after);
    Lab lab;
    bool writing = false;
    const auto filling = [&](auto& device) -> Result<void> {
      auto written = device.write_at(Bytes{}, pattern(1, 65536));
      if (!written) return written;
      writing = true;
      const Recovery beside = must(lab.storage.recover());
      CHECK((beside.done.empty() && beside.busy.size() == 1 && beside.left.empty()));
      lab.memory.fail_next(Errc::timed_out, after);  // of what comes now: flush, end, close
      return {};
    };
    const auto made = make_filled_volume(lab.storage, {.vmid = other, .size = 1_MiB}, filling);
    lab.memory.fail_next(Errc::timed_out, 1'000'000);
    REQUIRE(writing);
    CHECK(made.has_value() == (after >= 2));  // what fails once it is durable and whole is no failure
    if (made) CHECK_FALSE(must(lab.storage.info(*made)).incomplete());
    for (const VolumeInfo& info : must(lab.storage.list())) {
      if (!made) CHECK(must(lab.storage.recover(info.name)).done.size() == 1);
    }
    CHECK(lab.of_other() == (made ? 1 : 0));
  }
}

TEST_CASE("a full clone has the zeros too where new blocks are not zeroed, and takes no more blocks than it must") {
  for (const Bytes block : {Bytes{}, 64_KiB, 256_KiB, 320_KiB, 4_MiB}) {
    for (const bool known : {false, true}) {
      CAPTURE(block.count, known);
      Lab from;
      const VolumeName volume = must(from.storage.create({.vmid = owner, .size = 6_MiB + 4_KiB}));
      {
        auto device = must(from.storage.open_volume(volume, Access::read_write));
        for (Bytes at = 1_MiB; at < 2_MiB; at += 128_KiB) must(device.write_at(at, pattern(at.count, 65536)));
        must(device.write_at(6_MiB, pattern(2, 4096)));
      }
      Lab to{block};
      // `begin_import` may make it larger than was asked for.
      auto source = must(from.storage.open_volume(volume, Access::read_only));
      const auto filling = [&](auto& device) -> Result<void> {
        const std::vector<Extent> extents{
            {Bytes{}, 1_MiB, false}, {1_MiB, 1_MiB, true}, {2_MiB, 4_MiB, false}, {6_MiB, 4_KiB, true}};
        auto a = must(source.queue(4));
        auto b = must(device.queue(4));
        const auto options = onto_new(to.storage, device, {.queue_depth = 4});
        return copy_queues(a, b, known ? std::span{extents} : std::span<const Extent>{}, options)
            .map([](const Copied&) {});
      };
      const VolumeName made = must(make_filled_volume(to.storage, {.vmid = other, .size = 6_MiB + 4_KiB}, filling));
      CHECK((to.content(made) == from.content(volume)));
      if (block <= 320_KiB) CHECK(must(to.storage.status()).used.value() <= 2_MiB);
      const VolumeName whole = must(full_clone(source, to.storage, {.vmid = other}));
      CHECK((to.content(whole) == from.content(volume)));
      BasicAnyStorage<MemoryBackend> any{Storage<MemoryBackend>{*StorageId::parse("mem"), to.memory}};
      CHECK((to.content(must(full_clone(source, any, {.vmid = other}))) == from.content(volume)));
    }
  }
}

TEST_CASE("what lies behind the data of a new volume is zeros, also where new blocks are not zeroed") {
  Lab to{256_KiB};
  for (const std::size_t size : {std::size_t{512}, std::size_t{300'000} / 512 * 512, std::size_t{1} << 20U}) {
    CAPTURE(size);
    const auto filling = [&](auto& device) { return device.write_at(Bytes{}, pattern(1, size)); };
    const VolumeName made = must(make_filled_volume(to.storage, {.vmid = other, .size = Bytes{size}}, filling));
    const auto all = to.content(made);
    CHECK(all_zero(std::span{all}.subspan(size)));
  }
}
