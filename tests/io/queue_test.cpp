// What is common to all queues: the check of a request, and waiting.

#include <catch2/catch.hpp>

#include <stowage/core/handle.hpp>
#include <stowage/io/queue.hpp>

#include <sys/eventfd.h>
#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

#include "support/queue_model.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using stowage::detail::QueueTarget;
using stowage::detail::request_length;
using testing::range_request;
using testing::read_request;
using testing::write_request;

namespace {

/// Nothing ever completes.
struct DeafQueue {
  Submitted submit(const IoRequest& /*request*/) { return Submitted::yes; }
  Result<std::size_t> reap(std::span<IoCompletion> /*out*/) {
    ++reaped;
    return 0;
  }
  Readiness ready() const { return {.fd = event.get(), .events = POLLIN, .tick = tick}; }
  std::size_t in_flight() const { return 1; }
  std::size_t depth() const { return 1; }
  Bytes block_size() const { return 512_B; }
  Bytes size() const { return 1_MiB; }

  Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::chrono::milliseconds tick = 1h;
  unsigned reaped = 0;
};
static_assert(IoQueue<DeafQueue>);

}  // namespace

TEST_CASE("a request is checked against size, blocks and access", "[queue]") {
  const QueueTarget target{1_MiB, 4_KiB, true};
  const QueueTarget read_only{1_MiB, 4_KiB, false};
  std::array<std::byte, 1> memory{};
  const auto buffer = [&](std::size_t length) { return ::iovec{memory.data(), length}; };
  const std::vector<::iovec> good{buffer(1000), buffer(3096), buffer(4096)};

  SECTION("the length is that of the buffers") {
    CHECK(request_length(read_request(0_B, good), target) == 8192U);
    CHECK(request_length(write_request(1_MiB - 8_KiB, good), target) == 8192U);
    CHECK(request_length(range_request(IoOp::discard, 0_B, 1_MiB), target) == 1U << 20U);
    CHECK(request_length({.op = IoOp::flush}, target) == 0U);
    CHECK(request_length({.op = IoOp::flush, .offset = 3_B}, read_only) == 0U);
  }
  SECTION("ranges that would wrap around are out of range") {
    constexpr Bytes most{~std::uint64_t{0} - 4095};
    const std::vector<::iovec> wrapping{buffer(4096), buffer(~std::size_t{0} - 4095), buffer(4096)};
    CHECK_FALSE(request_length(read_request(0_B, wrapping), target));
    CHECK_FALSE(request_length(read_request(most, good), target));
    CHECK_FALSE(request_length(range_request(IoOp::write_zeroes, 4_KiB, most), target));
    CHECK_FALSE(request_length(range_request(IoOp::write_zeroes, most, 4_KiB), target));
  }
  SECTION("the end of the volume is not passed") {
    CHECK(request_length(range_request(IoOp::discard, 1_MiB - 4_KiB, 4_KiB), target));
    CHECK_FALSE(request_length(range_request(IoOp::discard, 1_MiB, 4_KiB), target));
    CHECK_FALSE(request_length(write_request(1_MiB - 4_KiB, good), target));
  }
  SECTION("blocks") {
    const std::vector<::iovec> crooked{buffer(4096), buffer(512)};
    CHECK_FALSE(request_length(read_request(512_B, good), target));
    CHECK_FALSE(request_length(read_request(0_B, crooked), target));
    CHECK_FALSE(request_length(range_request(IoOp::discard, 0_B, 512_B), target));
  }
  SECTION("what was opened to read is only read") {
    CHECK(request_length(read_request(0_B, good), read_only) == 8192U);
    CHECK_FALSE(request_length(write_request(0_B, good), read_only));
    CHECK_FALSE(request_length(range_request(IoOp::discard, 0_B, 4_KiB), read_only));
  }
}

TEST_CASE("waiting ends at its time, and looks after the queue at every tick", "[queue]") {
  DeafQueue queue;
  std::array<IoCompletion, 1> out;
  SECTION("no tick: it sleeps all the time") {
    const auto begin = std::chrono::steady_clock::now();
    const auto reaped = wait(queue, out, 50ms);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
    REQUIRE_FALSE(reaped);
    CHECK(reaped.error().code() == Errc::timed_out);
    CHECK(queue.reaped < 5);
  }
  SECTION("a tick") {
    queue.tick = 5ms;
    CHECK(wait(queue, out, 60ms).error().code() == Errc::timed_out);
    CHECK(queue.reaped >= 3);
  }
  SECTION("no time at all: one look") {
    CHECK(wait(queue, out, 0ms).error().code() == Errc::timed_out);
    CHECK(queue.reaped == 1);
  }
}
