// Copies from, to and between RBD images, and where images have data.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <stop_token>
#include <stowage/io/kernel_extents.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/transfer/copy.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::must;
using testing::pattern;
using testing::RbdLab;
using testing::refused;

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

TEST_CASE("an image with stripes knows where it has data, with fast-diff and without") {
  RbdLab lab;
  auto storage = lab.storage();
  const bool fast_diff = GENERATE(true, false);
  CreateSpec spec{.vmid = testing::guest, .size = 64_MiB};
  spec.object_size = 1_MiB;
  spec.stripe_unit = 64_KiB;
  spec.stripe_count = 4;
  const VolumeName volume = must(storage.create(spec));
  if (!fast_diff) lab.rbd("feature disable " + lab.spec(volume.str()) + " fast-diff object-map");
  auto device = edit(storage, volume);
  for (const Bytes at : {64_KiB, 128_KiB, 320_KiB, 13_MiB}) must(device.write_at(at, pattern(at.count, 65536)));
  must(device.flush());
  const Ranges data = data_of(must(device.extents()), 64_MiB);
  const auto known = [&](Bytes at) {
    return std::any_of(data.begin(), data.end(),
                       [&](const auto& range) { return range.first <= at.count && at.count + 65536 <= range.second; });
  };
  for (const Bytes at : {64_KiB, 128_KiB, 320_KiB, 13_MiB}) CHECK(known(at));
  CHECK_FALSE(known(32_MiB));
}

TEST_CASE("asking where an image has data can be stopped, also where it has none") {
  RbdLab lab;
  const bool fast_diff = GENERATE(true, false);
  const bool full = GENERATE(true, false);
  CreateSpec spec{.vmid = testing::guest, .size = 64_MiB};
  spec.object_size = 4_KiB;  // 16384 objects
  VolumeName volume = must(VolumeName::parse("vm-990000101-disk-0"));
  {
    auto storage = lab.storage();
    volume = must(storage.create(spec));
    if (!fast_diff) lab.rbd("feature disable " + lab.spec(volume.str()) + " fast-diff object-map");
    auto device = edit(storage, volume);
    if (full) must(device.write_at(Bytes{}, pattern(1, 4 << 20)));
    must(device.close());
    must(storage.snapshot(volume, testing::snapshot_name("s1")));
  }
  std::stop_source program;
  lab.options.stop = program.get_token();
  auto storage = lab.storage();
  auto device = must(storage.open_volume(volume, Access::read_only));
  const SnapshotName s1 = testing::snapshot_name("s1");
  CHECK(device.extents());
  CHECK(device.changes_since(s1));

  std::stop_source asked;
  if (!fast_diff) {  // takes long enough to be stopped in the middle
    std::jthread later{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
      asked.request_stop();
    }};
    refused(device.extents(asked.get_token()), Errc::cancelled);
  }
  asked.request_stop();
  refused(device.extents(asked.get_token()), Errc::cancelled);
  refused(device.changes_since(s1, asked.get_token()), Errc::cancelled);
  refused(detail::known_extents(device, asked.get_token()), Errc::cancelled);
  CHECK(device.extents());
  program.request_stop();
  refused(device.extents(), Errc::cancelled);
  refused(device.changes_since(s1), Errc::cancelled);
}

TEST_CASE("a copy of an image is stopped while it asks where the data are") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName from = make(storage, 4_MiB);
  const VolumeName to = make(storage, 4_MiB);
  auto source = must(storage.open_volume(from, Access::read_only));
  auto destination = edit(storage, to);
  std::stop_source stop;
  stop.request_stop();
  const Error error = testing::refusal_of(copy(source, destination, {.stop = stop.get_token()}), Errc::cancelled);
  CHECK(error.message().find("asking the source where its data are") != std::string::npos);
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
