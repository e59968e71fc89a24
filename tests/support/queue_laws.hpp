#pragma once
// What every `IoQueue` owes its user, besides right bytes (queue_model.hpp).

#include <stowage/io/queue.hpp>

#include <poll.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "support/queue_model.hpp"

namespace stowage::testing {

/// Every law on one queue over a volume of at least 1 MiB that may be overwritten. Call it inside one test case: the
/// sections are those of the laws.
///
/// `open(depth)` gives a new queue on the same volume.
template <class Open>
void check_queue_laws(Open open) {
  SECTION("invalid requests are refused and leave nothing behind") {
    auto queue = open(4);
    const std::uint64_t block = queue.block_size().count;
    const std::uint64_t size = queue.size().count;
    const PageBuffer memory{2 * block};
    const ::iovec one = memory.iov(0, block);
    const ::iovec two = memory.iov();
    const ::iovec none{memory.data(), 0};
    const std::vector<::iovec> many(IoRequest::max_buffers + 1, one);
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    CHECK(queue.submit(read_request(Bytes{size}, {&one, 1})) == Submitted::invalid);
    CHECK(queue.submit(write_request(Bytes{size - block}, {&two, 1})) == Submitted::invalid);
    CHECK(queue.submit(read_request(Bytes{most - block + 1}, {&one, 1})) == Submitted::invalid);
    CHECK(queue.submit(read_request(Bytes{0}, {})) == Submitted::invalid);
    CHECK(queue.submit(write_request(Bytes{0}, {&none, 1})) == Submitted::invalid);
    CHECK(queue.submit(read_request(Bytes{0}, many)) == Submitted::invalid);
    for (const IoOp op : {IoOp::discard, IoOp::write_zeroes}) {
      CHECK(queue.submit(range_request(op, Bytes{0}, Bytes{0})) == Submitted::invalid);
      CHECK(queue.submit(range_request(op, Bytes{0}, Bytes{size + block})) == Submitted::invalid);
      CHECK(queue.submit(range_request(op, Bytes{block}, Bytes{most})) == Submitted::invalid);
    }
    if (block > 1) {
      const ::iovec half = memory.iov(0, block / 2);
      CHECK(queue.submit(read_request(Bytes{block / 2}, {&one, 1})) == Submitted::invalid);
      CHECK(queue.submit(write_request(Bytes{0}, {&half, 1})) == Submitted::invalid);
      CHECK(queue.submit(range_request(IoOp::discard, Bytes{block / 2}, Bytes{block})) == Submitted::invalid);
      CHECK(queue.submit(range_request(IoOp::write_zeroes, Bytes{0}, Bytes{block / 2})) == Submitted::invalid);
    }
    CHECK(queue.in_flight() == 0);
    std::array<IoCompletion, 1> out;
    CHECK(wait(queue, out, 0ms).value() == 0);
    CHECK(perform(queue, read_request(Bytes{size - block}, {&one, 1})) == static_cast<std::int64_t>(block));
  }

  SECTION("a queue takes as many requests as its depth, and every token comes back once") {
    for (const std::size_t depth : {std::size_t{1}, std::size_t{5}, std::size_t{64}}) {
      auto queue = open(depth);
      REQUIRE(queue.depth() == depth);
      const std::uint64_t block = queue.block_size().count;
      const PageBuffer memory{(depth + 1) * block};
      std::set<std::uint64_t> tokens;
      std::vector<::iovec> buffers;
      for (std::size_t i = 0; i <= depth; ++i) buffers.push_back(memory.iov(i * block, block));
      for (std::uint64_t round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < depth; ++i) {
          const std::uint64_t token = i == 0 ? 0 : ~((round << 32U) + i - 1);  // 0 and ~0 are tokens like any other
          tokens.insert(token);
          REQUIRE(queue.submit(read_request(Bytes{i * block}, {&buffers[i], 1}, token)) == Submitted::yes);
        }
        CHECK(queue.in_flight() == depth);
        CHECK(queue.submit(read_request(Bytes{0}, {&buffers[depth], 1}, 12345)) == Submitted::queue_full);
        CHECK(queue.submit(flush_request(12345)) == Submitted::queue_full);
        // One at a time: what does not fit into `out` waits.
        while (!tokens.empty()) {
          std::array<IoCompletion, 1> out;
          REQUIRE(wait(queue, out, 60s).value() == 1);
          CHECK(out[0].result == static_cast<std::int64_t>(block));
          CHECK(tokens.erase(out[0].token) == 1);
          CHECK(queue.in_flight() == tokens.size());
          CHECK(queue.reap({}).value() == 0);
        }
      }
    }
  }

  SECTION("its readiness is enough to sleep on") {
    auto queue = open(8);
    const std::uint64_t block = queue.block_size().count;
    const PageBuffer memory{8 * block};
    std::vector<::iovec> buffers;
    for (std::size_t i = 0; i < 8; ++i) buffers.push_back(memory.iov(i * block, block));
    std::array<IoCompletion, 3> out;
    unsigned done = 0;
    unsigned rounds = 0;
    for (unsigned sent = 0; done < 400; ++rounds) {
      while (sent < 400 && queue.in_flight() < 1 + sent % 8) {
        const IoOp op = sent % 3 == 0 ? IoOp::write : IoOp::read;
        REQUIRE(queue.submit({.op = op, .offset = Bytes{(sent % 8) * block}, .buffers = {&buffers[sent % 8], 1}}) ==
                Submitted::yes);
        ++sent;
      }
      const Readiness ready = queue.ready();
      REQUIRE(ready.fd >= 0);
      ::pollfd poll{ready.fd, ready.events, 0};
      const int bound = static_cast<int>(std::min<std::chrono::milliseconds>(ready.tick, 30s).count());
      const int woken = ::poll(&poll, 1, bound);
      // A poll that ends only by its bound has missed a completion.
      if (woken == 0) REQUIRE(ready.tick < 30s);
      done += static_cast<unsigned>(queue.reap(out).value());
    }
    CHECK(done == 400);
    CHECK(rounds < 400 * 8);  // it sleeps, and does not spin
    // Idle: nothing is ready.
    const Readiness idle = queue.ready();
    static_cast<void>(queue.reap(out));
    ::pollfd poll{queue.ready().fd, idle.events, 0};
    if (idle.events == POLLIN) CHECK(::poll(&poll, 1, 20) == 0);
  }

  SECTION("scatter lists keep their order") {
    auto queue = open(2);
    const std::uint64_t block = queue.block_size().count;
    const std::size_t count = std::min<std::size_t>(IoRequest::max_buffers, (1U << 20U) / block);
    const PageBuffer out{count * block};
    const PageBuffer in{count * block};
    std::vector<::iovec> backwards;
    for (std::size_t i = 0; i < count; ++i) {
      std::memset(out.data() + i * block, static_cast<int>(i % 251 + 1), block);
      backwards.push_back(out.iov((count - 1 - i) * block, block));
    }
    const auto length = static_cast<std::int64_t>(count * block);
    CHECK(perform(queue, write_request(Bytes{0}, backwards)) == length);
    const ::iovec whole = in.iov();
    CHECK(perform(queue, read_request(Bytes{0}, {&whole, 1})) == length);
    bool same = true;
    for (std::size_t i = 0; i < count; ++i) {
      same = same && std::memcmp(in.data() + i * block, out.data() + (count - 1 - i) * block, block) == 0;
    }
    CHECK(same);
    // Pieces of different length, none of them of a length of its own.
    const std::vector<::iovec> pieces{
        in.iov(0, block), {in.data(), 0}, in.iov(block, 5 * block), in.iov(6 * block, 2 * block)};
    CHECK(perform(queue, read_request(Bytes{2 * block}, pieces)) == static_cast<std::int64_t>(8 * block));
    CHECK(std::memcmp(in.data(), out.data() + (count - 3) * block, block) == 0);
    CHECK(std::memcmp(in.data() + 7 * block, out.data() + (count - 10) * block, block) == 0);
  }

  SECTION("zeros are zeros, and a discard gives old bytes or zeros") {
    auto queue = open(2);
    const std::uint64_t block = queue.block_size().count;
    const PageBuffer ones{64 * block, std::byte{0x11}};
    const PageBuffer seen{64 * block};
    const ::iovec from = ones.iov();
    const ::iovec into = seen.iov();
    const auto length = static_cast<std::int64_t>(64 * block);
    CHECK(perform(queue, write_request(Bytes{0}, {&from, 1})) == length);
    CHECK(perform(queue, range_request(IoOp::write_zeroes, Bytes{3 * block}, Bytes{50 * block})) ==
          static_cast<std::int64_t>(50 * block));
    CHECK(perform(queue, range_request(IoOp::discard, Bytes{60 * block}, Bytes{2 * block})) ==
          static_cast<std::int64_t>(2 * block));
    CHECK(perform(queue, flush_request()) == 0);
    CHECK(perform(queue, read_request(Bytes{0}, {&into, 1})) == length);
    const auto all = [&](std::uint64_t first, std::uint64_t end, std::byte value) {
      return std::all_of(seen.data() + first * block, seen.data() + end * block,
                         [&](std::byte b) { return b == value; });
    };
    CHECK(all(0, 3, std::byte{0x11}));
    CHECK(all(3, 53, std::byte{0}));
    CHECK(all(53, 60, std::byte{0x11}));
    CHECK((all(60, 62, std::byte{0}) || all(60, 62, std::byte{0x11})));
    CHECK(all(62, 64, std::byte{0x11}));
  }

  SECTION("a queue that goes waits for what is in flight") {
    const PageBuffer data{1U << 20U, std::byte{0x77}};
    std::vector<::iovec> buffers;
    {
      auto queue = open(16);
      for (std::size_t i = 0; i < 16; ++i) buffers.push_back(data.iov(i << 16U, 1U << 16U));
      for (std::size_t i = 0; i < 16; ++i) {
        REQUIRE(queue.submit(write_request(Bytes{i << 16U}, {&buffers[i], 1})) == Submitted::yes);
      }
    }
    // The memory is ours again, and all of it was written.
    std::memset(data.data(), 0, data.size());
    auto queue = open(1);
    const ::iovec whole = data.iov();
    CHECK(perform(queue, read_request(Bytes{0}, {&whole, 1})) == static_cast<std::int64_t>(data.size()));
    CHECK(std::all_of(data.data(), data.data() + data.size(), [](std::byte b) { return b == std::byte{0x77}; }));
  }

  SECTION("it moves with its requests") {
    auto first = open(4);
    const std::uint64_t block = first.block_size().count;
    const PageBuffer memory{4 * block};
    const ::iovec one = memory.iov(0, block);
    const ::iovec two = memory.iov(block, block);
    REQUIRE(first.submit(read_request(Bytes{0}, {&one, 1}, 7)) == Submitted::yes);
    auto second = std::move(first);
    CHECK(second.in_flight() == 1);
    std::array<IoCompletion, 4> out;
    REQUIRE(wait(second, out, 60s).value() == 1);
    CHECK(out[0].token == 7);
    REQUIRE(second.submit(read_request(Bytes{0}, {&two, 1}, 8)) == Submitted::yes);
    second = open(2);  // what it had in flight ends first
    CHECK(second.in_flight() == 0);
    CHECK(second.depth() == 2);
    CHECK(perform(second, read_request(Bytes{0}, {&one, 1})) == static_cast<std::int64_t>(block));
  }

  SECTION("wait says when nothing comes") {
    auto queue = open(1);
    std::array<IoCompletion, 1> out;
    CHECK(wait(queue, out, 60s).value() == 0);  // nothing in flight: at once
  }
}

/// A queue on a volume that was opened to read takes no changes.
template <IoQueue Q>
void check_read_only_queue(Q& queue) {
  const std::uint64_t block = queue.block_size().count;
  const PageBuffer memory{block};
  const ::iovec one = memory.iov();
  CHECK(queue.submit(write_request(Bytes{0}, {&one, 1})) == Submitted::invalid);
  CHECK(queue.submit(range_request(IoOp::discard, Bytes{0}, Bytes{block})) == Submitted::invalid);
  CHECK(queue.submit(range_request(IoOp::write_zeroes, Bytes{0}, Bytes{block})) == Submitted::invalid);
  CHECK(perform(queue, read_request(Bytes{0}, {&one, 1})) == static_cast<std::int64_t>(block));
  CHECK(perform(queue, flush_request()) == 0);
}

}  // namespace stowage::testing
