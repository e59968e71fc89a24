// The queue of MemoryBackend's volumes: what is built on queues is tested on it, so it must be as strict as the others.

#include <catch2/catch.hpp>

#include <optional>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <utility>

#include "support/queue_laws.hpp"
#include "support/queue_model.hpp"

using namespace stowage;
using testing::MemoryBackend;
using testing::MemoryDevice;
using testing::PageBuffer;
using testing::QueueModel;

namespace {

struct MemoryVolumeLab {
  explicit MemoryVolumeLab(Bytes block_size = 512_B, Bytes capacity = 1_TiB)
      : memory{{.capacity = capacity, .block_size = block_size}} {}

  MemoryDevice open(Access access = Access::read_write) { return storage.open_volume(volume, access).value(); }

  MemoryBackend memory;
  Storage<MemoryBackend> storage{StorageId::parse("test").value(), memory};
  VolumeName volume = storage.create({.vmid = VmId{100}, .size = 4_MiB}).value();
};

}  // namespace

TEST_CASE("the queue of a memory volume keeps the laws", "[queue]") {
  MemoryVolumeLab lab;
  auto device = lab.open();
  testing::check_queue_laws([&](std::size_t depth) { return device.queue(depth).value(); });
}

TEST_CASE("the queue of a memory volume with blocks of 4096 bytes keeps the laws", "[queue]") {
  MemoryVolumeLab lab{4_KiB};
  auto device = lab.open();
  testing::check_queue_laws([&](std::size_t depth) { return device.queue(depth).value(); });
}

TEST_CASE("a storm of requests leaves in memory what the model says", "[queue]") {
  MemoryVolumeLab lab;
  auto device = lab.open();
  QueueModel model{512_B, 2_MiB, true};
  auto queue = device.queue(32).value();
  model.storm(queue, {.requests = 5000});
  model.verify_through(queue);
  model.verify([&](Bytes at, std::span<std::byte> piece) { return device.read_at(at, piece); });
  CHECK(model.count(IoOp::write) > 1000);
  CHECK(model.count(IoOp::discard) > 100);
}

TEST_CASE("the queue of a memory volume says when the storage is full", "[queue]") {
  MemoryVolumeLab lab{512_B, 1_MiB};
  auto device = lab.open();
  auto queue = device.queue(4).value();
  const PageBuffer data{2U << 20U};
  const ::iovec whole = data.iov();
  CHECK(testing::perform(queue, testing::write_request(0_B, {&whole, 1})) == -ENOSPC);
  QueueModel model{0_B, 4_MiB, true};
  model.storm(queue, {.requests = 500, .errors_allowed = true});
  CHECK(model.failed() > 0);
  model.verify_through(queue);
}

TEST_CASE("the queue of a memory volume passes on planned failures", "[queue]") {
  MemoryVolumeLab lab;
  auto device = lab.open();
  auto queue = device.queue(4).value();
  const PageBuffer data{512};
  const ::iovec one = data.iov();
  lab.memory.fail_next(Errc::unavailable);
  CHECK(testing::perform(queue, testing::read_request(0_B, {&one, 1})) == -ENOTCONN);
  CHECK(testing::perform(queue, testing::read_request(0_B, {&one, 1})) == 512);
}

TEST_CASE("the queue of a memory volume outlives its device and keeps the volume open", "[queue]") {
  MemoryVolumeLab lab;
  std::optional<testing::MemoryQueue> queue = lab.open().queue(4).value();
  CHECK(lab.storage.open_volume(lab.volume, Access::read_write).error().code() == Errc::in_use);
  queue.reset();
  CHECK(lab.storage.open_volume(lab.volume, Access::read_write).has_value());
}

TEST_CASE("the queue of a memory volume that was opened to read refuses changes", "[queue]") {
  MemoryVolumeLab lab;
  auto device = lab.open(Access::read_only);
  auto queue = device.queue(4).value();
  testing::check_read_only_queue(queue);
}

TEST_CASE("a closed memory volume and a senseless depth give no queue", "[queue]") {
  MemoryVolumeLab lab;
  auto device = lab.open();
  CHECK(device.queue(0).error().code() == Errc::invalid_argument);
  CHECK(device.queue(5000).error().code() == Errc::invalid_argument);
  REQUIRE(device.close());
  CHECK(device.queue(1).error().code() == Errc::wrong_state);
}
