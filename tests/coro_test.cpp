// Coroutines over queues: of a memory volume and of a file.

#include <catch2/catch.hpp>

#include <stowage/coro.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

#include <sys/eventfd.h>
#include <unistd.h>
#include <array>
#include <coroutine>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/queue_model.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::MemoryBackend;
using testing::MemoryQueue;
using testing::PageBuffer;

namespace {

struct Seen {
  unsigned good = 0;
  std::vector<Errc> bad{};

  void take(const Result<void>& result) {
    if (result) {
      ++good;
    } else {
      bad.push_back(result.error().code());
    }
  }
};

/// Writes a block of its own, reads it back and compares.
template <IoQueue Q>
typename IoLoop<Q>::Task write_and_read(IoLoop<Q>& loop, Bytes at, unsigned char value, Seen& seen) {
  const PageBuffer memory{4096, std::byte{value}};
  const ::iovec buffer = memory.iov();
  const IoRequest write = testing::write_request(at, {&buffer, 1});
  const IoRequest read = testing::read_request(at, {&buffer, 1});
  const auto written = co_await loop.io(write);
  seen.take(written);
  if (!written) co_return;
  std::memset(memory.data(), 0, memory.size());
  seen.take(co_await loop.io(read));
  if (memory.data()[4095] == std::byte{value}) ++seen.good;
}

template <IoQueue Q>
void many_at_once(Q queue) {
  Seen seen;
  IoLoop<Q> loop{queue};
  for (unsigned i = 0; i < 100; ++i) {
    write_and_read(loop, Bytes{i * 8192}, static_cast<unsigned char>(i + 1), seen);
  }
  CHECK(queue.in_flight() == queue.depth());  // the others wait for room
  REQUIRE(loop.run(60s).has_value());
  CHECK(seen.good == 300);
  CHECK(seen.bad.empty());
  CHECK(queue.in_flight() == 0);
  REQUIRE(loop.run(0s).has_value());  // nothing left to do
}

struct MemoryLab {
  MemoryBackend memory;
  Storage<MemoryBackend> storage{StorageId::parse("test").value(), memory};
  VolumeName volume = storage.create({.vmid = VmId{100}, .size = 4_MiB}).value();

  MemoryQueue queue(std::size_t depth) {
    return storage.open_volume(volume, Access::read_write).value().queue(depth).value();
  }
};

}  // namespace

TEST_CASE("a hundred coroutines share a queue of four", "[coro]") {
  SECTION("of a memory volume") { many_at_once(MemoryLab{}.queue(4)); }
  SECTION("of a file") {
    std::string path = "/tmp/stowage-coro-XXXXXX";
    const Fd file{::mkstemp(path.data())};
    REQUIRE(::ftruncate(file.get(), 4 << 20) == 0);
    auto queue = UringQueue::open(path, Access::read_write, 4).value();
    ::unlink(path.c_str());
    many_at_once(std::move(queue));
  }
}

TEST_CASE("a coroutine gets the error of its request", "[coro]") {
  MemoryLab lab;
  auto queue = lab.queue(2);
  Seen seen;
  IoLoop<MemoryQueue> loop{queue};
  SECTION("that the queue refuses") {
    write_and_read(loop, 3_B, 1, seen);
    write_and_read(loop, 4_MiB, 1, seen);
    CHECK(seen.bad == std::vector{Errc::invalid_argument, Errc::invalid_argument});
  }
  SECTION("that the queue refuses later, for it was full") {
    for (const Bytes at : {0_B, 8_KiB, 16_KiB, 3_B}) write_and_read(loop, at, 1, seen);
    CHECK(seen.bad.empty());
    REQUIRE(loop.run(60s).has_value());
    CHECK(seen.bad == std::vector{Errc::invalid_argument});
    CHECK(seen.good == 9);
  }
  SECTION("that fails") {
    lab.memory.fail_next(Errc::no_space);
    write_and_read(loop, 0_B, 1, seen);
    REQUIRE(loop.run(60s).has_value());
    CHECK(seen.bad == std::vector{Errc::no_space});
  }
}

TEST_CASE("a loop that goes waits for its coroutines", "[coro]") {
  MemoryLab lab;
  auto queue = lab.queue(2);
  Seen seen;
  {
    IoLoop<MemoryQueue> loop{queue};
    for (unsigned i = 0; i < 5; ++i) write_and_read(loop, Bytes{i * 4096}, 7, seen);
  }
  CHECK(seen.good == 15);
  CHECK(queue.in_flight() == 0);
}

TEST_CASE("a coroutine that waits for something else is told, and a lambda is a coroutine too", "[coro]") {
  MemoryLab lab;
  auto queue = lab.queue(2);
  std::coroutine_handle<> elsewhere;
  struct Elsewhere {
    std::coroutine_handle<>& where;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const noexcept { where = waiter; }
    void await_resume() const noexcept {}
  };
  IoLoop<MemoryQueue> loop{queue};
  bool ended = false;
  const auto wait_elsewhere = [&](IoLoop<MemoryQueue>& /*loop*/) -> IoLoop<MemoryQueue>::Task {
    co_await Elsewhere{elsewhere};
    ended = true;
  };
  wait_elsewhere(loop);
  CHECK(loop.run(1s).error().code() == Errc::wrong_state);
  elsewhere.resume();
  CHECK(ended);
  CHECK(loop.run(1s).has_value());
}
