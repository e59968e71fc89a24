// Queues in Asio's event loop: of a memory volume and of a file.

#include <catch2/catch.hpp>

#include <stowage/asio.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

#include <unistd.h>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>
#include <cstring>
#include <future>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/queue_model.hpp"

using namespace stowage;
using testing::MemoryBackend;
using testing::MemoryQueue;
using testing::PageBuffer;

namespace {

struct MemoryLab {
  MemoryBackend memory;
  Storage<MemoryBackend> storage{StorageId::parse("test").value(), memory};
  VolumeName volume = storage.create({.vmid = VmId{100}, .size = 4_MiB}).value();

  MemoryQueue queue(std::size_t depth) {
    return storage.open_volume(volume, Access::read_write).value().queue(depth).value();
  }
};

/// One that gives nothing back as long as it is held.
struct HeldQueue {
  MemoryQueue queue;
  const bool* held;
  Submitted submit(const IoRequest& request) { return queue.submit(request); }
  Result<std::size_t> reap(std::span<IoCompletion> out) { return *held ? 0 : queue.reap(out); }
  Readiness ready() const { return *held ? Readiness{} : queue.ready(); }
  std::size_t in_flight() const { return queue.in_flight(); }
  std::size_t depth() const { return queue.depth(); }
  Bytes block_size() const { return queue.block_size(); }
  Bytes size() const { return queue.size(); }
};

/// Writes a block of its own, reads it back and compares.
template <IoQueue Q>
asio::awaitable<void> write_and_read(AsioQueue<Q>& queue, Bytes at, unsigned char value, unsigned& good) {
  const PageBuffer memory{4096, std::byte{value}};
  const ::iovec buffer = memory.iov();
  const IoRequest write = testing::write_request(at, {&buffer, 1});
  const IoRequest read = testing::read_request(at, {&buffer, 1});
  const Result<void> written = co_await queue.async_io(write, asio::use_awaitable);
  if (!written) co_return;
  std::memset(memory.data(), 0, memory.size());
  const Result<void> done = co_await queue.async_io(read, asio::use_awaitable);
  if (done && memory.data()[4095] == std::byte{value}) ++good;
}

template <IoQueue Q>
void many_at_once(Q queue) {
  asio::io_context loop;
  unsigned good = 0;
  {
    AsioQueue<Q> operations{loop.get_executor(), queue};
    for (unsigned i = 0; i < 100; ++i) {
      asio::co_spawn(loop, write_and_read(operations, Bytes{i * 8192}, static_cast<unsigned char>(i + 1), good),
                     asio::detached);
    }
    loop.run();  // it ends by itself when nothing is left to do
  }
  CHECK(good == 100);
  CHECK(queue.in_flight() == 0);
}

}  // namespace

TEST_CASE("a hundred coroutines of Asio share a queue of four") {
  SECTION("of a memory volume") { many_at_once(MemoryLab{}.queue(4)); }
  SECTION("of a file") {
    std::string path = "/tmp/stowage-asio-XXXXXX";
    const Fd file{::mkstemp(path.data())};
    REQUIRE(::ftruncate(file.get(), 4 << 20) == 0);
    auto queue = UringQueue::open(path, Access::read_write, 4).value();
    ::unlink(path.c_str());
    many_at_once(std::move(queue));
  }
}

TEST_CASE("an operation of Asio is not completed before it has returned, and its errors are values") {
  MemoryLab lab;
  auto queue = lab.queue(2);
  asio::io_context loop;
  AsioQueue<MemoryQueue> operations{loop.get_executor(), queue};
  std::vector<std::optional<Errc>> ends;
  const auto take = [&](Result<void> result) {
    ends.push_back(result ? std::nullopt : std::optional{result.error().code()});
  };
  PageBuffer memory{4096, std::byte{1}};
  const ::iovec buffer = memory.iov();
  operations.async_io(testing::write_request(3_B, {&buffer, 1}), take);
  CHECK(ends.empty());
  loop.run();
  REQUIRE(ends.size() == 1);
  CHECK(ends[0] == Errc::invalid_argument);
  lab.memory.fail_next(Errc::no_space);
  operations.async_io(testing::write_request(0_B, {&buffer, 1}), take);
  loop.restart();
  loop.run();
  CHECK(ends.back() == Errc::no_space);
  lab.memory.fail_next(Errc::no_space, 1'000'000);
  std::future<Result<void>> flushed = operations.async_io(testing::flush_request(), asio::use_future);
  loop.restart();
  loop.run();
  CHECK(flushed.get().has_value());
}

TEST_CASE("what goes while requests are in flight waits for them, and calls nobody any more") {
  MemoryLab lab;
  bool held = true;
  HeldQueue queue{lab.queue(2), &held};
  asio::io_context loop;
  int called = 0;
  const PageBuffer memory{4096, std::byte{1}};
  const ::iovec buffer = memory.iov();
  {
    AsioQueue<HeldQueue> operations{loop.get_executor(), queue};
    for (const Bytes at : {0_B, 4_KiB, 8_KiB}) {
      operations.async_io(testing::write_request(at, {&buffer, 1}), [&](const Result<void>&) { ++called; });
    }
    CHECK(queue.in_flight() == 0);  // all of a turn are handed over together
    CHECK(loop.poll_one() == 1);
    CHECK(queue.in_flight() == 2);
    held = false;
  }
  CHECK(queue.in_flight() == 0);
  loop.restart();
  loop.run();
  CHECK(called == 0);
}
