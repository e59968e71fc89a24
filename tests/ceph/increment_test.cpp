// Streams of snapshots from RBD images, to them, and to a storage of another type; QEMU compares.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <random>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/rbd_lab.hpp"
#include "support/streams.hpp"

using namespace stowage;
using testing::CollectedBytes;
using testing::GivenBytes;
using testing::MemoryBackend;
using testing::must;
using testing::pattern;
using testing::RbdLab;
using testing::refused;
using testing::Server;
using testing::snapshot_name;

namespace {

template <class S>
std::vector<std::byte> content(S& storage, const VolumeName& volume) {
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> data(static_cast<std::size_t>(device.size().count));
  must(device.read_at(Bytes{}, data));
  return data;
}

void compare(const RbdLab& a, const RbdLab& b, const VolumeName& volume) {
  const auto image = [&](const RbdLab& lab) {
    return "rbd:" + lab.spec(volume.str()) + ":conf=" + lab.server()["CONF"];
  };
  static_cast<void>(testing::shell("qemu-img compare -f raw -F raw " + image(a) + " " + image(b)));
}

/// A few writes, zeros and discards at random places.
void change(Storage<Rbd>& storage, const VolumeName& volume, std::mt19937& random) {
  auto device = must(storage.open_volume(volume, Access::read_write));
  const std::uint64_t blocks = device.size().count / 512;
  for (int n = 0; n < 12; ++n) {
    const Bytes at{random() % (blocks - 4000) * 512};
    const Bytes length{(1 + random() % 3999) * 512};
    switch (random() % 4) {
      case 0: must(device.discard(at, length)); break;
      case 1: must(device.write_zeroes(at, length)); break;
      default: must(device.write_at(at, pattern(random(), static_cast<std::size_t>(length.count))));
    }
  }
  must(device.close());
}

SnapshotName numbered(int n) { return snapshot_name("s" + std::to_string(n)); }

}  // namespace

TEST_CASE("a chain of snapshots goes from an image through a file to an image of another pool") {
  RbdLab lab;
  RbdLab other{Server::shared("ceph"), RbdLab::Where::name_space, "other"};
  auto from = lab.storage("from");
  auto to = other.storage("to");
  std::mt19937 random{3};
  const VolumeName volume = must(from.create({.vmid = testing::guest, .size = 48_MiB}));
  const std::string file = lab.priv.path() + "/stream";
  for (int step = 0; step < 6; ++step) {
    change(from, volume, random);
    if (step == 3) must(from.resize(volume, 61_MiB));
    if (step == 4) must(from.rollback(volume, numbered(1)));
    must(from.snapshot(volume, numbered(step)));
    if (step == 4) {  // smaller than before
      FdSink nowhere{-1};
      refused(send_snapshot(from, volume, numbered(4), nowhere, {.since = numbered(3)}), Errc::wrong_state);
      must(from.rollback(volume, numbered(3)));
      must(from.remove_snapshot(volume, numbered(4)));
      change(from, volume, random);
      must(from.snapshot(volume, numbered(4)));
    }
    const Fd out{::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    FdSink sink{out.get()};
    SendOptions options;
    if (step > 0) options.since = numbered(step - 1);
    must(send_snapshot(from, volume, numbered(step), sink, options));
    REQUIRE(::lseek(out.get(), 0, SEEK_SET) == 0);
    FdSource source{out.get()};
    const Received got = must(receive_snapshot(to, volume, source));
    CHECK(got.snapshot == numbered(step));
    compare(lab, other, volume);
  }
  CHECK(must(to.snapshots(volume)).size() == 6);
  // The other way, on the same chain.
  change(to, volume, random);
  must(to.snapshot(volume, numbered(9)));
  CollectedBytes out;
  must(send_snapshot(to, volume, numbered(9), out, {.since = numbered(5)}));
  GivenBytes in{out.data};
  must(receive_snapshot(from, volume, in));
  compare(lab, other, volume);
  // A copy of the image has snapshots of its own, whatever its metadata say.
  other.rbd("deep cp --no-progress " + other.spec(volume.str()) + " " + other.spec("vm-990000101-disk-7"));
  GivenBytes again{out.data};
  refused(receive_snapshot(to, testing::volume_name("vm-990000101-disk-7"), again), Errc::identity_changed);
}

TEST_CASE("a stream goes from an image to a storage of another type and back") {
  RbdLab lab;
  auto images = lab.storage();
  MemoryBackend memory;
  Storage<MemoryBackend> mem{must(StorageId::parse("mem")), memory};
  std::mt19937 random{4};
  const VolumeName volume = must(images.create({.vmid = testing::guest, .size = 24_MiB}));
  for (int step = 0; step < 3; ++step) {
    change(images, volume, random);
    must(images.snapshot(volume, numbered(step)));
    CollectedBytes out;
    SendOptions options;
    if (step > 0) options.since = numbered(step - 1);
    must(send_snapshot(images, volume, numbered(step), out, options));
    GivenBytes in{out.data};
    must(receive_snapshot(mem, volume, in));
    CHECK((content(mem, volume) == content(images, volume)));
  }
  auto device = must(mem.open_volume(volume, Access::read_write));
  must(device.write_at(5_MiB, pattern(8, 12'800)));
  must(device.discard(Bytes{}, 4_MiB));
  must(device.close());
  must(mem.snapshot(volume, numbered(3)));
  CollectedBytes out;
  must(send_snapshot(mem, volume, numbered(3), out, {.since = numbered(2)}));
  GivenBytes in{out.data};
  must(receive_snapshot(images, volume, in));
  CHECK((content(mem, volume) == content(images, volume)));
}

TEST_CASE("what has changed in an image is known without fast-diff, with stripes, and in a clone") {
  RbdLab lab;
  auto storage = lab.storage();
  const SnapshotName s1 = numbered(1);
  const auto changes = [&](const VolumeName& volume) {
    auto device = must(storage.open_volume(volume, Access::read_only));
    return must(device.changes_since(s1));
  };
  const auto write = [&](const VolumeName& volume, Bytes at, std::size_t length) {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(at, pattern(1, length)));
    must(device.close());
  };
  SECTION("object by object, up to where each has data") {
    const VolumeName volume = must(storage.create({.vmid = testing::guest, .size = 24_MiB}));
    lab.rbd("feature disable " + lab.spec(volume.str()) + " fast-diff object-map");
    write(volume, 1_MiB, 4096);
    must(storage.snapshot(volume, s1));
    write(volume, 9_MiB, 8192);
    CHECK((changes(volume) == std::vector<Extent>{{8_MiB, 1_MiB + 8_KiB, true}}));
  }
  SECTION("with stripes") {
    CreateSpec spec{.vmid = testing::guest, .size = 24_MiB};
    spec.stripe_unit = 64_KiB;
    spec.stripe_count = 4;
    const VolumeName volume = must(storage.create(spec));
    must(storage.snapshot(volume, s1));
    write(volume, 1_MiB, 128 << 10);
    Bytes at{};
    bool found = false;
    for (const Extent& extent : changes(volume)) {
      CHECK(extent.offset >= at);
      at = extent.offset + extent.length;
      found = found || (extent.allocated && extent.offset <= 1_MiB && at >= 1_MiB + 64_KiB);
    }
    CHECK(found);
    CollectedBytes out;
    must(storage.snapshot(volume, numbered(2)));
    must(send_snapshot(storage, volume, numbered(2), out));
    MemoryBackend memory;
    Storage<MemoryBackend> mem{must(StorageId::parse("mem")), memory};
    GivenBytes in{out.data};
    must(receive_snapshot(mem, volume, in));
    CHECK((content(mem, volume) == content(storage, volume)));
  }
  SECTION("of a clone, and when it is flattened") {
    const VolumeName parent = must(storage.create({.vmid = testing::guest, .size = 24_MiB}));
    write(parent, 1_MiB, 4096);
    must(storage.snapshot(parent, s1));
    const VolumeName clone = must(storage.clone(parent, s1, {.vmid = testing::guest}));
    must(storage.snapshot(clone, s1));
    CHECK(changes(clone).empty());
    CollectedBytes out;
    must(send_snapshot(storage, clone, s1, out));
    write(clone, 9_MiB, 4096);
    must(storage.flatten(clone));
    must(storage.snapshot(clone, numbered(2)));
    CollectedBytes more;
    must(send_snapshot(storage, clone, numbered(2), more, {.since = s1}));
    MemoryBackend memory;
    Storage<MemoryBackend> mem{must(StorageId::parse("mem")), memory};
    GivenBytes first{out.data};
    must(receive_snapshot(mem, clone, first));
    GivenBytes second{more.data};
    must(receive_snapshot(mem, clone, second));
    CHECK((content(mem, clone) == content(storage, clone)));
  }
}
