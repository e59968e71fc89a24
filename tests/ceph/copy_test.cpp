// Copies from, to and between RBD images, and where images have data.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stowage/io/kernel_extents.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/transfer/copy.hpp>
#include <string>
#include <vector>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::must;
using testing::pattern;
using testing::RbdLab;

namespace {

VolumeName make(Storage<Rbd>& storage, Bytes size) {
  return must(storage.create({.vmid = testing::guest, .size = size}));
}
RbdDevice edit(Storage<Rbd>& storage, const VolumeName& volume) {
  return must(storage.open_volume(volume, Access::read_write));
}

/// What of the extents is allocated, as begin and end.
std::vector<std::pair<std::uint64_t, std::uint64_t>> data_of(const std::vector<Extent>& extents, Bytes size) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> data;
  std::uint64_t at = 0;
  for (const Extent& extent : extents) {
    CHECK(extent.offset.count == at);
    at += extent.length.count;
    if (extent.allocated) data.emplace_back(extent.offset.count, at);
  }
  CHECK(at == size.count);
  return data;
}
using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
constexpr std::uint64_t object = 4 << 20;

/// QEMU's opinion of two images, files or RBD.
void same(const std::string& one, const std::string& other) {
  static_cast<void>(testing::shell("qemu-img compare -f raw -F raw " + one + " " + other));
}
std::string image_of(const RbdLab& lab, const VolumeName& volume) {
  return "rbd:" + lab.spec(volume.str()) + ":conf=" + lab.server()["CONF"];
}

}  // namespace

TEST_CASE("an image knows where it has data, and so do its snapshots and clones") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 64_MiB);
  auto device = edit(storage, volume);
  CHECK(data_of(must(device.extents()), 64_MiB).empty());
  must(device.write_at(9_MiB, pattern(1, 4096)));
  must(device.write_at(63_MiB, pattern(2, 1 << 20)));
  must(device.flush());
  const Ranges expected{{2 * object, 3 * object}, {15 * object, 16 * object}};
  CHECK((data_of(must(device.extents()), 64_MiB) == expected));

  const SnapshotName snapshot = testing::snapshot_name("s1");
  must(storage.snapshot(volume, snapshot));
  must(device.write_at(30_MiB, pattern(3, 4096)));
  must(device.flush());
  CHECK(data_of(must(device.extents()), 64_MiB).size() == 3);
  auto old = must(storage.open_volume(volume, snapshot));
  CHECK((data_of(must(old.extents()), 64_MiB) == expected));
  const VolumeName clone = must(storage.clone(volume, snapshot, {.vmid = testing::guest}));
  auto copy_of_it = edit(storage, clone);
  CHECK((data_of(must(copy_of_it.extents()), 64_MiB) == expected));  // its parent's
  must(copy_of_it.write_at(Bytes{}, pattern(4, 4096)));
  must(copy_of_it.flush());
  CHECK(data_of(must(copy_of_it.extents()), 64_MiB).size() == 3);
}

TEST_CASE("a file is copied to an image, the image to another, and that to a file") {
  RbdLab lab;
  auto storage = lab.storage();
  const std::string file = lab.priv.path() + "/image.raw";
  const std::string back = lab.priv.path() + "/back.raw";
  {
    const Fd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    REQUIRE(::ftruncate(fd.get(), 64 << 20) == 0);
    for (std::uint64_t n = 0; n < 8; ++n) {
      const auto data = pattern(n, 300'000);
      const auto at = static_cast<::off_t>(n * 7'654'321);
      REQUIRE(::pwrite(fd.get(), data.data(), data.size(), at) == static_cast<::ssize_t>(data.size()));
    }
  }
  const VolumeName first = make(storage, 64_MiB);
  const VolumeName second = make(storage, 80_MiB);
  {
    auto device = edit(storage, first);
    auto from = must(UringQueue::open(file, Access::read_only, 16));
    auto to = must(device.queue(16));
    const Fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
    const Copied copied = must(copy_queues(from, to, must(file_extents(fd.get())), {.fresh = true, .verify = true}));
    CHECK(copied.size == 64_MiB);
    CHECK(copied.written < 4_MiB);
    auto larger = edit(storage, second);
    const auto expected_rest = pattern(77, 20 << 20);
    must(larger.write_at(60_MiB, expected_rest));  // something to be replaced, and to be left alone
    must(copy(device, larger, {.verify = true}));
    std::vector<std::byte> rest(16 << 20);
    must(larger.read_at(64_MiB, rest));
    CHECK(std::ranges::equal(rest, std::span{expected_rest}.last(16 << 20)));
    must(larger.close());
    must(device.close());
  }
  lab.rbd("export --no-progress " + lab.spec(first.str()) + " " + back);
  static_cast<void>(testing::shell("cmp " + file + " " + back));
  same(file, image_of(lab, first));
  lab.rbd("resize --no-progress --allow-shrink --size 64M " + lab.spec(second.str()));
  static_cast<void>(testing::shell("rm " + back));
  lab.rbd("export --no-progress " + lab.spec(second.str()) + " " + back);
  static_cast<void>(testing::shell("cmp " + file + " " + back));
  same(image_of(lab, first), image_of(lab, second));

  static_cast<void>(testing::shell("rm " + back));
  static_cast<void>(testing::shell("truncate -s 64M " + back));
  auto device = must(storage.open_volume(first, Access::read_only));
  auto from = must(device.queue(16));
  auto to = must(UringQueue::open(back, Access::read_write, 16));
  const Copied copied = must(copy_queues(from, to, must(device.extents()), {.fresh = true, .verify = true}));
  CHECK(copied.written < 4_MiB);
  static_cast<void>(testing::shell("cmp " + file + " " + back));
  same(back, image_of(lab, first));
}

TEST_CASE("a copy onto an image that is open to be read is refused") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 8_MiB);
  auto source = edit(storage, volume);
  must(source.write_at(Bytes{}, pattern(1, 4096)));
  const VolumeName other = make(storage, 8_MiB);
  auto destination = must(storage.open_volume(other, Access::read_only));
  testing::refused(copy(source, destination), Errc::invalid_argument);
}
