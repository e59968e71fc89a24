// RbdQueue on a real cluster.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

#include <rbd/librbd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <future>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/locks.hpp"
#include "support/queue_laws.hpp"
#include "support/queue_model.hpp"
#include "support/rbd_lab.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::elapsed;
using testing::guest;
using testing::must;
using testing::PageBuffer;
using testing::perform;
using testing::QueueModel;
using testing::range_request;
using testing::RbdLab;
using testing::read_request;
using testing::Server;
using testing::snapshot_name;
using testing::write_request;

namespace {

auto reader(RbdDevice& device) {
  return [&](Bytes at, std::span<std::byte> piece) { return device.read_at(at, piece); };
}

}  // namespace

TEST_CASE("the queue of an image keeps the laws") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  testing::check_queue_laws([&](std::size_t depth) { return must(device.queue(depth)); });
}

TEST_CASE("an image tells how much of it lies in one object") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName plain = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(plain, Access::read_only));
  CHECK(device.io_sizes() == IoSizes{Bytes{}, 4_MiB});
  CHECK(must(device.queue(1)).stripe() == 4_MiB);
  CreateSpec spec{.vmid = guest, .size = 8_MiB};
  spec.stripe_unit = 64_KiB;
  spec.stripe_count = 4;
  const auto striped = must(storage.open_volume(must(storage.create(spec)), Access::read_only));
  CHECK(striped.io_sizes().optimal == 64_KiB);
}

TEST_CASE("a storm of requests leaves in an image what the model says") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 32_MiB}));
  // Over the borders of objects of 4 MiB.
  QueueModel model{3_MiB, 10_MiB, true};
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    {
      auto queue = must(device.queue(32));
      model.storm(queue, {.requests = 3000, .longest = 1U << 20U});
      model.verify_through(queue);
    }
    model.verify(reader(device));
    must(device.close());
  }
  // Another client sees the same.
  auto device = must(lab.storage("other").open_volume(volume, Access::read_only));
  model.verify(reader(device));
  CHECK(model.count(IoOp::discard) > 100);
}

TEST_CASE("a storm on a clone leaves its parent alone, whose snapshot is only read") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName parent = must(storage.create({.vmid = guest, .size = 8_MiB}));
  QueueModel before{0_B, 8_MiB, true, 2};
  {
    auto device = must(storage.open_volume(parent, Access::read_write));
    auto queue = must(device.queue(16));
    before.storm(queue, {.requests = 300, .longest = 1U << 20U});
    before.verify_through(queue);
  }
  const SnapshotName snapshot = snapshot_name("before");
  must(storage.snapshot(parent, snapshot));
  const VolumeName child = must(storage.clone(parent, snapshot, {.vmid = guest}));
  QueueModel after = before;
  {
    auto device = must(storage.open_volume(child, Access::read_write));
    auto queue = must(device.queue(16));
    after.verify_through(queue);
    after.storm(queue, {.requests = 600});
    after.verify_through(queue);
  }
  auto device = must(storage.open_volume(parent, snapshot));
  auto queue = must(device.queue(16));
  testing::check_read_only_queue(queue);
  before.storm(queue, {.requests = 300, .changes = false});
  before.verify_through(queue);
}

TEST_CASE("ranges of more than 4 GiB are discarded and zeroed in one request") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 10_GiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  auto queue = must(device.queue(4));
  const PageBuffer ones{1U << 20U, std::byte{1}};
  const PageBuffer seen{1U << 20U};
  const ::iovec from = ones.iov();
  const ::iovec into = seen.iov();
  for (const IoOp op : {IoOp::discard, IoOp::write_zeroes}) {
    for (const Bytes at : {0_GiB, 5_GiB, 9_GiB}) {
      REQUIRE(perform(queue, write_request(at, {&from, 1})) == 1 << 20);
    }
    REQUIRE(perform(queue, range_request(op, 0_B, 9_GiB)) == std::int64_t{9} << 30);
    for (const Bytes at : {0_GiB, 5_GiB, 9_GiB}) {
      REQUIRE(perform(queue, read_request(at, {&into, 1})) == 1 << 20);
      const std::byte left{at == 9_GiB ? std::uint8_t{1} : std::uint8_t{0}};
      CHECK(std::all_of(seen.data(), seen.data() + seen.size(), [&](std::byte b) { return b == left; }));
    }
  }
}

TEST_CASE("an image that has no whole number of sectors has blocks of one byte") {
  RbdLab lab;
  lab.rbd("create --size 1000001B " + lab.spec("vm-990000101-disk-0"));
  auto device = must(lab.storage().open_volume(testing::volume_name("vm-990000101-disk-0"), Access::read_write));
  auto queue = must(device.queue(4));
  CHECK(queue.block_size() == 1_B);
  const PageBuffer memory{64, std::byte{7}};
  const ::iovec odd = memory.iov(3, 7);
  CHECK(perform(queue, write_request(Bytes{1'000'001 - 7}, {&odd, 1})) == 7);
  std::memset(memory.data(), 0, memory.size());
  CHECK(perform(queue, read_request(Bytes{1'000'001 - 7}, {&odd, 1})) == 7);
  CHECK(memory.data()[9] == std::byte{7});
  CHECK(memory.data()[10] == std::byte{0});
}

TEST_CASE("an image that became smaller fails the reads beyond its end") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_only));
  auto queue = must(device.queue(4));
  lab.rbd("resize --allow-shrink --no-progress --size 4M " + lab.spec(volume.str()));
  auto later = must(lab.storage("later").open_volume(volume, Access::read_only));
  auto queue_of_old_size = must(RbdQueue::over(later.native(), 8_MiB, Access::read_only, 4));
  const PageBuffer memory{1U << 20U};
  const ::iovec whole = memory.iov();
  CHECK(perform(queue_of_old_size, read_request(4_MiB - 512_KiB, {&whole, 1})) == -ENXIO);
  CHECK(perform(queue_of_old_size, read_request(5_MiB, {&whole, 1})) < 0);
  CHECK(perform(queue_of_old_size, read_request(3_MiB, {&whole, 1})) == 1 << 20);
}

TEST_CASE("a request allocates and locks what librbd does, and nothing of ours") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  auto queue = must(device.queue(8));
  const PageBuffer memory{4096};
  const ::iovec one = memory.iov();
  constexpr unsigned rounds = 200;

  const auto through_us = [&] {
    std::array<IoCompletion, 8> out;
    const std::uint64_t before = testing::allocations();
    for (unsigned i = 0; i < rounds; ++i) {
      if (queue.submit(read_request(Bytes{i * 4096U}, {&one, 1}, i)) != Submitted::yes) FAIL("refused");
      if (wait(queue, out, 60s).value() != 1) FAIL("not one completion");
    }
    return testing::allocations() - before;
  };
  const auto bare = [&] {
    const std::uint64_t before = testing::allocations();
    for (unsigned i = 0; i < rounds; ++i) {
      ::rbd_completion_t completion = nullptr;
      ::rbd_aio_create_completion(nullptr, nullptr, &completion);
      ::rbd_aio_read(device.native(), i * 4096U, 4096, reinterpret_cast<char*>(memory.data()), completion);
      ::rbd_aio_wait_for_complete(completion);
      ::rbd_aio_release(completion);
    }
    return testing::allocations() - before;
  };
  static_cast<void>(through_us());
  static_cast<void>(bare());
  const std::uint64_t locked = testing::locks();
  const std::uint64_t ours = through_us();
  CHECK(testing::locks() == locked);
  const std::uint64_t theirs = bare();
  CHECK(theirs > 0);  // it does count
  // librbd's own pools now and then take another piece; one of ours per request would be 200 more.
  CHECK(ours < theirs + rounds / 4);
}

TEST_CASE("requests outlast an OSD that dies and comes back", "[own]") {
  RbdLab lab{Server::own_cluster("queue"), RbdLab::Where::whole_pool};
  lab.options.timeout = 60s;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 16_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  QueueModel model{0_B, 8_MiB, true};
  auto queue = must(device.queue(16));
  model.storm(queue, {.requests = 200});

  auto faults = std::async(std::launch::async, [&] {
    std::this_thread::sleep_for(100ms);
    lab.server().command("kill", "osd.0");
    std::this_thread::sleep_for(1s);
    lab.server().command("up");
  });
  model.storm(queue, {.requests = 2000});
  faults.get();
  model.storm(queue, {.requests = 200});
  model.verify_through(queue);
  CHECK(model.failed() == 0);
}

TEST_CASE("an OSD that stays away fails the requests at their deadline, and a queue with requests still goes",
          "[own]") {
  RbdLab lab{Server::own_cluster("gone"), RbdLab::Where::whole_pool};
  lab.options.timeout = 2s;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 16_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  QueueModel model{0_B, 4_MiB, true};
  std::optional<RbdQueue> queue = must(device.queue(8));
  model.storm(*queue, {.requests = 200});
  const PageBuffer memory{8 * 4096};
  std::vector<::iovec> buffers;
  for (std::size_t i = 0; i < 8; ++i) buffers.push_back(memory.iov(i * 4096, 4096));
  REQUIRE(perform(*queue, write_request(8_MiB, {&buffers[0], 1})) == 4096);  // so that there is an object

  lab.server().command("kill", "osd.0");
  CHECK(elapsed([&] { CHECK(perform(*queue, read_request(8_MiB, {&buffers[0], 1})) == -ETIMEDOUT); }) < 6s);
  CHECK(elapsed([&] { CHECK(perform(*queue, write_request(8_MiB, {&buffers[0], 1})) == -EINPROGRESS); }) < 6s);
  REQUIRE(queue->submit(range_request(IoOp::discard, 8_MiB, 64_KiB)) == Submitted::yes);
  REQUIRE(queue->submit(range_request(IoOp::write_zeroes, 8_MiB + 64_KiB, 64_KiB)) == Submitted::yes);
  CHECK(elapsed([&] {
          std::array<IoCompletion, 1> done{};
          while (queue->in_flight() > 0) {
            REQUIRE(must(stowage::wait(*queue, std::span{done}, 10s)) == 1);
            CHECK(done[0].result == -EINPROGRESS);
          }
        }) < 6s);
  CHECK(elapsed([&] { model.storm(*queue, {.requests = 8, .errors_allowed = true}); }) < 12s);
  CHECK(model.failed() > 0);
  for (const ::iovec& buffer : buffers) {
    REQUIRE(queue->submit(write_request(8_MiB, {&buffer, 1})) == Submitted::yes);
  }
  CHECK(elapsed([&] { queue.reset(); }) < 6s);

  lab.server().command("up");
  queue = must(device.queue(8));
  model.storm(*queue, {.requests = 200, .errors_allowed = true});
  model.verify_through(*queue);
}

TEST_CASE("large writes keep their deadline with an OSD that hangs, also where the conf wants them not to be copied",
          "[own]") {
  RbdLab lab{Server::own_cluster("hung"), RbdLab::Where::whole_pool};
  lab.options.timeout = 2s;
  lab.priv.write("hung.conf",
                 testing::shell("cat " + lab.options.ceph_conf) + "\n[client]\nrbd_disable_zero_copy_writes = false\n");
  lab.options.ceph_conf = lab.priv.file("hung.conf");
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 64_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  constexpr std::size_t count = 16;
  auto queue = must(device.queue(count));
  const PageBuffer memory{2 << 20U};
  const ::iovec buffer = memory.iov(0, 2 << 20U);
  REQUIRE(perform(queue, write_request(0_B, {&buffer, 1})) == 2 << 20);

  lab.server().command("kill", "osd.0 STOP");
  for (std::size_t i = 0; i < count; ++i) {
    REQUIRE(queue.submit(write_request(Bytes{i << 21U}, {&buffer, 1})) == Submitted::yes);
  }
  std::array<IoCompletion, count> done{};
  const auto until = std::chrono::steady_clock::now() + 6s;
  std::size_t failed = 0;
  while (queue.in_flight() > 0 && std::chrono::steady_clock::now() < until) {
    const std::size_t more = wait(queue, done, 100ms).value_or(0);
    failed += static_cast<std::size_t>(
        std::count_if(done.begin(), done.begin() + more, [](const auto& one) { return one.result == -EINPROGRESS; }));
  }
  CHECK(failed == count);
  lab.server().command("kill", "osd.0 CONT");
}
