// Streams as sides of a copy: the order of their bytes, and what becomes of requests whose turn does not come.

#include <catch2/catch.hpp>

#include <stowage/core/handle.hpp>
#include <stowage/transfer/stream_queues.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "support/pipes.hpp"

using namespace stowage;
using detail::SinkQueue;
using detail::SourceQueue;

namespace {

struct TextSink {
  std::string text{};
  std::size_t room = 100;
  Result<void> write(std::span<const std::byte> data) {
    if (text.size() + data.size() > room) return fail(Errc::no_space, "the sink is full");
    for (const std::byte b : data) text.push_back(static_cast<char>(b));
    return {};
  }
};

struct TextSource {
  std::string text;
  Result<std::size_t> read(std::span<std::byte> buffer) {
    const std::size_t n = std::min({buffer.size(), text.size(), std::size_t{3}});
    std::memcpy(buffer.data(), text.data(), n);
    text.erase(0, n);
    return n;
  }
  std::optional<Bytes> size() const { return std::nullopt; }
};

/// A request for the bytes at `at`, which are `text`'s.
struct Part {
  std::string text;
  ::iovec memory{};
  IoRequest request{};

  Part(IoOp op, std::uint64_t at, std::string what) : text{std::move(what)} {
    memory = {text.data(), text.size()};
    request = {.op = op, .offset = Bytes{at}, .buffers = {&memory, 1}, .token = at};
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
};

/// The tokens of all that can be reaped, and what failed.
template <class Q>
std::string reaped(Q& queue) {
  std::string text;
  std::array<IoCompletion, 1> done{};
  for (;;) {
    const auto count = queue.reap(done);
    if (!count) return text + "failed: " + count.error().detail();
    if (*count == 0) return text;
    text += std::to_string(done[0].token) + (done[0].result < 0 ? "! " : " ");
  }
}

}  // namespace

TEST_CASE("a sink gets its bytes in order, whatever the order of the writes") {
  TextSink sink;
  SinkQueue queue{sink, Bytes{12}, 3};
  Part first{IoOp::write, 0, "abc"};
  Part second{IoOp::write, 3, "def"};
  Part last{IoOp::write, 10, "kl"};
  CHECK(queue.submit(last.request) == Submitted::yes);
  CHECK(queue.submit(second.request) == Submitted::yes);
  CHECK(reaped(queue).empty());
  CHECK(sink.text.empty());
  CHECK(queue.ready().tick > std::chrono::seconds{1});  // nothing will come of itself
  CHECK(queue.submit(first.request) == Submitted::yes);
  CHECK(queue.submit(first.request) == Submitted::queue_full);
  CHECK(queue.ready().tick.count() == 0);
  CHECK(reaped(queue) == "0 3 ");
  CHECK(queue.in_flight() == 1);
  CHECK(queue.submit({.op = IoOp::write_zeroes, .offset = Bytes{6}, .length = Bytes{4}, .token = 6}) == Submitted::yes);
  CHECK(reaped(queue) == "6 10 ");
  CHECK((sink.text == std::string_view{"abcdef\0\0\0\0kl", 12}));
  CHECK(queue.submit({.op = IoOp::flush, .token = 99}) == Submitted::yes);
  CHECK(reaped(queue) == "99 ");
  CHECK(queue.in_flight() == 0);
}

TEST_CASE("a sink that fails ends the stream, and one that is called off gives everything back") {
  TextSink sink{.room = 4};
  SinkQueue queue{sink, Bytes{12}, 4};
  Part first{IoOp::write, 0, "abc"};
  Part second{IoOp::write, 3, "def"};
  Part last{IoOp::write, 9, "jkl"};
  SECTION("full") {
    for (const Part* part : {&first, &second, &last}) CHECK(queue.submit(part->request) == Submitted::yes);
    CHECK(reaped(queue) == "0 failed: the sink is full");
    CHECK(queue.in_flight() == 0);
  }
  SECTION("called off") {
    CHECK(queue.submit(last.request) == Submitted::yes);
    CHECK(queue.submit(first.request) == Submitted::yes);
    queue.cancel();
    CHECK(reaped(queue) == "9! 0! ");
    CHECK(sink.text.empty());
  }
  SECTION("what no stream can do") {
    Part read{IoOp::read, 0, "abc"};
    CHECK(queue.submit(read.request) == Submitted::invalid);
    CHECK(queue.submit({.op = IoOp::discard, .length = Bytes{3}}) == Submitted::invalid);
    Part behind{IoOp::write, 11, "lm"};
    CHECK(queue.submit(behind.request) == Submitted::invalid);
  }
}

TEST_CASE("a pipe that nobody reads does not block its queue, and goes on when somebody does") {
  const auto [out, into] = stowage::testing::pipe_ends(GENERATE(false, true));
  FdSink sink{into.get()};
  SinkQueue queue{sink, Bytes{300'000}, 2};
  Part text{IoOp::write, 0, std::string(200'000, 'a')};
  CHECK(queue.submit(text.request) == Submitted::yes);
  CHECK(queue.submit({.op = IoOp::write_zeroes, .offset = Bytes{200'000}, .length = Bytes{100'000}, .token = 1}) ==
        Submitted::yes);
  CHECK(queue.ready().tick.count() == 0);
  CHECK(reaped(queue).empty());
  CHECK(queue.ready().fd == into.get());
  CHECK(queue.ready().events == POLLOUT);
  std::string got;
  std::string ended;
  while (got.size() < 300'000) {
    std::array<char, 10'000> part{};
    const ::ssize_t n = ::read(out.get(), part.data(), part.size());
    REQUIRE(n > 0);
    got.append(part.data(), static_cast<std::size_t>(n));
    ended += reaped(queue);
  }
  CHECK(ended == "0 1 ");
  CHECK((got == std::string(200'000, 'a') + std::string(100'000, '\0')));
  CHECK(queue.ready().fd == -1);
}

TEST_CASE("a source gives its bytes in order, and has as many as it should") {
  TextSource source{"abcdefgh"};
  SourceQueue queue{source, Bytes{10}};
  Part first{IoOp::read, 0, "....."};
  Part second{IoOp::read, 5, "....."};
  CHECK(queue.submit(first.request) == Submitted::yes);
  CHECK(queue.submit(second.request) == Submitted::queue_full);
  CHECK(reaped(queue) == "0 ");
  CHECK(queue.submit(second.request) == Submitted::yes);
  CHECK(reaped(queue) == "failed: the stream ends after 8 of 10 bytes");
  CHECK(first.text == "abcde");
  CHECK(queue.in_flight() == 0);
  CHECK(queue.submit({.op = IoOp::write_zeroes, .length = Bytes{3}}) == Submitted::invalid);
}
