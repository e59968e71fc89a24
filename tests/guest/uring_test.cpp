// UringQueue, and KernelDevice's way to it, on block devices: loops with sectors of both sizes, thin volumes, devices
// that are slow, full or broken.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/storage.hpp>

#include <sys/stat.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/guest_lab.hpp"
#include "support/lvm_lab.hpp"
#include "support/queue_laws.hpp"
#include "support/queue_model.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::elapsed;
using testing::flush_request;
using testing::LvmLab;
using testing::must;
using testing::PageBuffer;
using testing::perform;
using testing::QueueModel;
using testing::range_request;
using testing::read_request;
using testing::sh;
using testing::write_request;

namespace {

/// A loop device over a file in memory.
class Loop {
 public:
  explicit Loop(unsigned sector = 512, unsigned mebibytes = 16) {
    file_ = sh("mktemp -p /dev/shm");
    file_.pop_back();
    sh("truncate -s " + std::to_string(mebibytes) + "M " + file_);
    path_ = sh("modprobe -q loop; losetup -f --show -b " + std::to_string(sector) + " " + file_);
    path_.pop_back();
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() { testing::ask("blockdev --setrw " + path_ + "; losetup -d " + path_ + "; rm -f " + file_); }

  const std::string& path() const { return path_; }
  Bytes allocated() const {
    struct ::stat status {};
    REQUIRE(::stat(file_.c_str(), &status) == 0);
    return Bytes{static_cast<std::uint64_t>(status.st_blocks) * 512};
  }

 private:
  std::string file_;
  std::string path_;
};

/// A device-mapper device, of `dmsetup`'s table.
class Mapped {
 public:
  Mapped(std::string name, const std::string& table) : name_{std::move(name)} {
    sh("dmsetup create " + name_ + " --table '" + table + "' && udevadm settle");
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  ~Mapped() { testing::ask("dmsetup remove --retry " + name_); }

  std::string path() const { return "/dev/mapper/" + name_; }

 private:
  std::string name_;
};

KernelDevice open(const std::string& path, Access access = Access::read_write) {
  return must(KernelDevice::open(path, access, path));
}

template <class Device>
auto reader(Device& device) {
  return [&](Bytes at, std::span<std::byte> piece) { return device.read_at(at, piece); };
}

}  // namespace

TEST_CASE("the queue of a block device keeps the laws") {
  const Loop loop;
  auto device = open(loop.path());
  CHECK(must(device.queue(1)).uses_io_uring());
  CHECK(must(device.queue(1)).block_size() == 512_B);
  testing::check_queue_laws([&](std::size_t depth) { return must(device.queue(depth)); });
}

TEST_CASE("the queue of a block device with sectors of 4096 bytes keeps the laws") {
  const Loop loop{4096};
  auto device = open(loop.path());
  CHECK(must(device.queue(1)).block_size() == 4096_B);
  testing::check_queue_laws([&](std::size_t depth) { return must(device.queue(depth)); });
}

TEST_CASE("the queue of a block device keeps the laws with threads") {
  const Loop loop;
  const std::optional<KernelDevice> claimed = open(loop.path());
  const auto again = [&](std::size_t depth) {
    return must(
        UringQueue::over(Fd{::open(loop.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)}, depth, {.io_uring = false}));
  };
  CHECK_FALSE(again(1).uses_io_uring());
  testing::check_queue_laws(again);
}

TEST_CASE("a storm of requests leaves on a block device what the model says") {
  for (const unsigned sector : {512U, 4096U}) {
    const Loop loop{sector};
    QueueModel model{4_MiB, 8_MiB, true, sector};
    {
      auto device = open(loop.path());
      auto queue = must(device.queue(16));
      model.storm(queue, {.requests = 1000});
      model.verify(reader(device));
    }
    {
      auto queue = must(UringQueue::open(loop.path(), Access::read_write, 16, {.io_uring = false}));
      model.storm(queue, {.requests = 500});
      model.verify_through(queue);
    }
    CHECK(model.count(IoOp::discard) > 50);
  }
}

TEST_CASE("a discard reaches what lies below the block device, and zeros give its space back too") {
  const Loop loop;
  auto device = open(loop.path());
  auto queue = must(device.queue(4));
  const PageBuffer data{8U << 20U, std::byte{1}};
  const ::iovec whole = data.iov();
  REQUIRE(perform(queue, write_request(0_B, {&whole, 1})) == 8 << 20);
  CHECK(loop.allocated() == 8_MiB);
  CHECK(perform(queue, range_request(IoOp::write_zeroes, 0_B, 4_MiB)) == 4 << 20);
  CHECK(loop.allocated() == 4_MiB);
  must(device.write_zeroes(4_MiB, 1_MiB));
  CHECK(loop.allocated() == 3_MiB);
  CHECK(perform(queue, range_request(IoOp::discard, 0_B, 8_MiB)) == 8 << 20);
  CHECK(loop.allocated() == 0_B);
}

TEST_CASE("a request to a block device allocates nothing") {
  const Loop loop;
  auto device = open(loop.path());
  auto queue = must(device.queue(4));
  const PageBuffer memory{8192};
  const ::iovec one = memory.iov();
  std::array<IoCompletion, 4> out;
  const std::uint64_t before = testing::allocations();
  for (std::uint64_t i = 0; i < 300; ++i) {
    const Bytes at{(i % 100) * 8192};
    const IoRequest request = i % 4 == 0   ? range_request(IoOp::discard, at, 8_KiB, i)
                              : i % 4 == 1 ? range_request(IoOp::write_zeroes, at, 8_KiB, i)
                              : i % 4 == 2 ? write_request(at, {&one, 1}, i)
                                           : read_request(at, {&one, 1}, i);
    if (queue.submit(request) != Submitted::yes) FAIL("refused");
    if (wait(queue, out, 60s).value_or(0) != 1 || out[0].result != 8192) FAIL("failed");
  }
  CHECK(testing::allocations() == before);
}

TEST_CASE("a block device that was opened to read is only read") {
  const Loop loop;
  sh("blockdev --setro " + loop.path());
  auto device = open(loop.path(), Access::read_only);
  auto queue = must(device.queue(4));
  testing::check_read_only_queue(queue);
  CHECK(UringQueue::open(loop.path(), Access::read_write, 4).error().code() == Errc::permission_denied);
}

TEST_CASE("a queue keeps the claim on its block device, also when the device was closed") {
  const Loop loop;
  std::optional<UringQueue> queue;
  {
    auto device = open(loop.path());
    queue = must(device.queue(4));
    must(device.close());
    CHECK(device.queue(4).error().code() == Errc::invalid_argument);
  }
  CHECK(KernelDevice::open(loop.path(), Access::read_write, "again").error().code() == Errc::in_use);
  CHECK(UringQueue::open(loop.path(), Access::read_write, 4).error().code() == Errc::in_use);
  queue.reset();
  CHECK(UringQueue::open(loop.path(), Access::read_write, 4).has_value());
}

TEST_CASE("a queue on a slow device waits for its requests when it goes") {
  const Loop loop;
  sh("modprobe dm_delay");
  const Mapped slow{"stowage-slow", "0 32768 delay " + loop.path() + " 0 0 " + loop.path() + " 0 500"};
  const PageBuffer data{64U << 10U, std::byte{5}};
  std::vector<::iovec> buffers;
  for (std::size_t i = 0; i < 16; ++i) buffers.push_back(data.iov(i * 4096, 4096));
  for (const bool threads : {false, true}) {
    std::optional<KernelDevice> device = open(slow.path());
    std::optional<UringQueue> queue = must(device->queue(16));
    if (threads) {
      queue.reset();
      device.reset();
      queue = must(UringQueue::open(slow.path(), Access::read_write, 16, {.io_uring = false}));
    }
    std::memset(data.data(), threads ? 6 : 5, data.size());
    for (std::size_t i = 0; i < 16; ++i) {
      REQUIRE(queue->submit(write_request(Bytes{i * 4096}, {&buffers[i], 1})) == Submitted::yes);
    }
    std::array<IoCompletion, 1> out;
    CHECK(wait(*queue, out, 20ms).error().code() == Errc::timed_out);
    device.reset();  // closed while requests are in flight
    CHECK(elapsed([&] { queue.reset(); }) > 200ms);
    std::memset(data.data(), 0xee, data.size());
    auto plain = open(slow.path(), Access::read_only);
    must(plain.read_at(0_B, data.span()));
    CHECK(std::all_of(data.data(), data.data() + data.size(),
                      [&](std::byte b) { return b == std::byte{threads ? std::uint8_t{6} : std::uint8_t{5}}; }));
  }
}

TEST_CASE("an error of the disk is that of the request, and of no other") {
  const Loop loop;
  // 4 MiB that work, 4 KiB that do not, and the rest.
  const Mapped broken{"stowage-broken",
                      "0 8192 linear " + loop.path() + " 0\n8192 8 error\n8200 24568 linear " + loop.path() + " 8200"};
  for (const bool ring : {true, false}) {
    auto queue = must(UringQueue::open(broken.path(), Access::read_write, 8, {.io_uring = ring}));
    const PageBuffer memory{8192};
    const ::iovec two = memory.iov();
    const ::iovec one = memory.iov(0, 4096);
    CHECK(perform(queue, read_request(4_MiB, {&one, 1})) == -EIO);
    CHECK(perform(queue, write_request(4_MiB - 4_KiB, {&two, 1})) == -EIO);
    CHECK(perform(queue, range_request(IoOp::write_zeroes, 4_MiB, 4_KiB)) == -EIO);
    CHECK(perform(queue, read_request(4_MiB - 4_KiB, {&one, 1})) == 4096);
    CHECK(perform(queue, read_request(4_MiB + 4_KiB, {&two, 1})) == 8192);
    QueueModel model{3_MiB, 2_MiB, false, ring ? 1U : 2U};
    model.storm(queue, {.requests = 500, .longest = 64 << 10, .errors_allowed = true});
    CHECK(model.failed() > 0);
    // Reading the good half tells what failed writes left there; from then on it is known.
    QueueModel good{0_B, 3_MiB, false};
    good.verify_through(queue);
    good.storm(queue, {.requests = 200, .longest = 64 << 10});
    good.verify_through(queue);
  }
}

TEST_CASE("a file system that is full says so through the queue") {
  sh("mkdir -p /run/stowage-full && mount -t tmpfs -o size=1m none /run/stowage-full && truncate -s 4M "
     "/run/stowage-full/f");
  for (const bool ring : {true, false}) {
    auto queue = must(UringQueue::open("/run/stowage-full/f", Access::read_write, 4, {.io_uring = ring}));
    const PageBuffer data{2U << 20U, std::byte{1}};
    const ::iovec whole = data.iov();
    const ::iovec little = data.iov(0, 4096);
    CHECK(perform(queue, write_request(0_B, {&whole, 1})) == -ENOSPC);
    CHECK(perform(queue, range_request(IoOp::discard, 0_B, 4_MiB)) == 4 << 20);
    CHECK(perform(queue, write_request(0_B, {&little, 1})) == 4096);
  }
  sh("umount /run/stowage-full");
}

TEST_CASE("a storm leaves on a thin volume what the model says, and its snapshot as it was") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = testing::guest, .size = 16_MiB}));
  const SnapshotName snapshot = testing::snapshot_name("before");
  QueueModel model{0_B, 8_MiB, true};
  const auto storm = [&] {
    auto device = must(storage.open_volume(volume, Access::read_write));
    auto queue = must(device.queue(16));
    model.storm(queue, {.requests = 500});
    model.verify_through(queue);
    model.verify(reader(device));
  };
  storm();
  QueueModel before = model;
  must(storage.snapshot(volume, snapshot));
  storm();
  auto device = must(storage.open_volume(volume, snapshot));
  auto queue = must(device.queue(16));
  testing::check_read_only_queue(queue);
  before.verify_through(queue);
}

TEST_CASE("discards give the space of a thin volume back, and a full pool is ENOSPC") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M"};
  sh("lvchange -qq --errorwhenfull y " + lab.spec("pool"));
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = testing::guest, .size = 32_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  auto queue = must(device.queue(4));
  const PageBuffer data{8U << 20U, std::byte{1}};
  const ::iovec whole = data.iov();
  for (unsigned round = 0; round < 4; ++round) {  // more than the pool has, but for the discards
    CHECK(perform(queue, write_request(Bytes{round * (8U << 20U)}, {&whole, 1})) == 8 << 20);
    CHECK(perform(queue, range_request(IoOp::discard, 0_B, 32_MiB)) == 32 << 20);
    // dm-thin gives a freed block away again when it has committed, and errors who comes before: a flush is a commit.
    CHECK(perform(queue, flush_request()) == 0);
    CHECK(lab.lvs("pool", "data_percent") == "0.00");
  }
  CHECK(perform(queue, write_request(0_B, {&whole, 1})) == 8 << 20);
  CHECK(perform(queue, write_request(8_MiB, {&whole, 1})) == 8 << 20);
  CHECK(perform(queue, write_request(16_MiB, {&whole, 1})) == -ENOSPC);
}

TEST_CASE("zeros give whole chunks of a thin volume back, and what lies beside them stays") {
  for (const bool ignored : {false, true}) {
    const LvmLab lab{"-L 16M --poolmetadatasize 4M --chunksize 64k --discards " +
                     std::string{ignored ? "ignore" : "passdown"}};
    auto storage = lab.storage();
    const VolumeName volume = must(storage.create({.vmid = testing::guest, .size = 8_MiB}));
    auto device = must(storage.open_volume(volume, Access::read_write));
    auto queue = must(device.queue(4));
    const PageBuffer data{8U << 20U, std::byte{1}};
    const PageBuffer seen{8U << 20U};
    const ::iovec whole = data.iov();
    const ::iovec all = seen.iov();
    for (const bool queued : {true, false}) {
      REQUIRE(perform(queue, write_request(0_B, {&whole, 1})) == 8 << 20);
      if (queued) {
        CHECK(perform(queue, range_request(IoOp::write_zeroes, 4_KiB, 4_MiB)) == 4 << 20);
      } else {
        must(device.write_zeroes(4_KiB, 4_MiB));
      }
      CHECK(perform(queue, flush_request()) == 0);                              // until then the pool tells what it had
      CHECK(lab.lvs("pool", "data_percent") == (ignored ? "50.00" : "25.39"));  // of 128 chunks 63 have gone
      REQUIRE(perform(queue, read_request(0_B, {&all, 1})) == 8 << 20);
      std::vector<std::byte> expected(8U << 20U, std::byte{1});
      std::fill_n(expected.begin() + 4096, 4 << 20, std::byte{0});
      CHECK(std::equal(expected.begin(), expected.end(), seen.data()));
    }
  }
}

TEST_CASE("zeros on a volume with an external origin are zeros, and not what the origin has") {
  const LvmLab lab{"-L 16M --poolmetadatasize 4M --chunksize 64k"};
  sh("lvcreate -qq -y -kn -Zn -Wn -n outside -L 8M " + lab.vg());
  sh("tr '\\0' x < /dev/zero | dd of=" + lab.device("outside") +
     " bs=1M count=8 oflag=direct status=none iflag=fullblock");
  sh("lvchange -qq -an -pr " + lab.spec("outside"));
  sh("lvcreate -qq -y -s --thinpool " + lab.spec("pool") + " -n vm-990000101-disk-9 " + lab.spec("outside"));
  auto storage = lab.storage();
  auto device = must(storage.open_volume(testing::volume_name("vm-990000101-disk-9"), Access::read_write));
  auto queue = must(device.queue(4));
  CHECK(perform(queue, range_request(IoOp::write_zeroes, 0_B, 1_MiB)) == 1 << 20);
  must(device.write_zeroes(1_MiB, 1_MiB));
  std::vector<std::byte> seen(3U << 20U);
  must(device.read_at(0_B, seen));
  std::vector<std::byte> expected(3U << 20U, std::byte{'x'});
  std::fill_n(expected.begin(), 2 << 20, std::byte{0});
  CHECK((seen == expected));
}
