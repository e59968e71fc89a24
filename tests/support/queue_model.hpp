#pragma once
// What a volume must hold after a storm of requests through an `IoQueue`, and the storm itself. The same for every
// engine.

#include <catch2/catch.hpp>

#include <stowage/io/queue.hpp>

#include <sys/uio.h>
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace stowage::testing {

using namespace std::chrono_literals;

/// Memory that lies on pages, as O_DIRECT wants it.
class PageBuffer {
 public:
  explicit PageBuffer(std::size_t size, std::byte fill = std::byte{0})
      : memory_{static_cast<std::byte*>(std::aligned_alloc(4096, (size + 4095) / 4096 * 4096)), &std::free},
        size_{size} {
    std::memset(memory_.get(), static_cast<int>(fill), size);
  }
  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() const { return {data(), size_}; }
  ::iovec iov() const { return {data(), size_}; }
  ::iovec iov(std::size_t from, std::size_t length) const { return {data() + from, length}; }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
  std::size_t size_;
};

inline IoRequest read_request(Bytes at, std::span<const ::iovec> buffers, std::uint64_t token = 0) {
  return {.op = IoOp::read, .offset = at, .buffers = buffers, .token = token};
}
inline IoRequest write_request(Bytes at, std::span<const ::iovec> buffers, std::uint64_t token = 0) {
  return {.op = IoOp::write, .offset = at, .buffers = buffers, .token = token};
}
inline IoRequest range_request(IoOp op, Bytes at, Bytes length, std::uint64_t token = 0) {
  return {.op = op, .offset = at, .length = length, .token = token};
}
inline IoRequest flush_request(std::uint64_t token = 0) { return {.op = IoOp::flush, .token = token}; }

/// Submits one request to an idle queue and gives its result.
template <IoQueue Q>
std::int64_t perform(Q& queue, IoRequest request, std::chrono::milliseconds limit = 60s) {
  REQUIRE(queue.in_flight() == 0);
  request.token = 0x5eed'0000'0000'0001;
  REQUIRE(queue.submit(request) == Submitted::yes);
  IoCompletion done[2];
  const auto reaped = wait(queue, done, limit);
  INFO((reaped ? std::string{} : reaped.error().message()));
  REQUIRE(reaped.has_value());
  REQUIRE(*reaped == 1);
  REQUIRE(done[0].token == request.token);
  REQUIRE(queue.in_flight() == 0);
  return done[0].result;
}

/// The model: what every block of a window of a volume may hold.
class QueueModel {
 public:
  struct Storm {
    unsigned requests = 2000;
    std::size_t longest = 256 * 1024;  ///< of one request, in bytes
    bool errors_allowed = false;  ///< requests may fail; what they meant to change is then unknown until it is read
    bool changes = true;          ///< else only reads and flushes
    std::chrono::milliseconds patience = 60s;
  };

  /// The window must lie on blocks. A volume that is new reads as zeros; of another, nothing is known until it is read.
  QueueModel(Bytes at, Bytes size, bool zeroed, std::uint32_t seed = 1)
      : at_{at},
        bytes_(size.count),
        blocks_(size.count / grain, zeroed ? Knowledge::exact : Knowledge::nothing),
        random_{seed} {}

  /// Random requests, many at once. Requests that run at the same time do not overlap, unless all of them read.
  template <IoQueue Q>
  void storm(Q& queue, const Storm& storm) {
    Slots slots{queue.depth(), storm.longest};
    std::vector<IoCompletion> done(queue.depth());
    unsigned submitted = 0;
    while (submitted < storm.requests || !slots.busy.empty()) {
      if (submitted < storm.requests && slots.busy.size() < queue.depth()) {
        Request request = draw(queue.block_size().count, storm);
        const bool clear = std::none_of(slots.busy.begin(), slots.busy.end(),
                                        [&](const auto& other) { return request.collides(other.second); });
        if (clear) {
          launch(queue, slots, std::move(request));
          ++submitted;
          continue;
        }
      }
      // Sometimes only a few are taken, so that completions wait.
      const std::size_t most = pick(4) == 0 ? 1 + pick(3) : done.size();
      const auto reaped = wait(queue, std::span{done}.first(std::min(most, done.size())), storm.patience);
      if (!reaped) FAIL(reaped.error().message());
      if (*reaped == 0) FAIL("requests are in flight, but wait() says that there are none");
      for (std::size_t i = 0; i < *reaped; ++i) complete(slots, done[i], storm);
      if (queue.in_flight() != slots.busy.size()) FAIL("in_flight() has lost count");
    }
    CHECK(queue.in_flight() == 0);
    CHECK(submitted == storm.requests);
  }

  /// The whole window through `read(Bytes at, std::span<std::byte>) -> Result<void>`, against the model.
  template <class Read>
  void verify(Read read) {
    PageBuffer buffer{std::min<std::size_t>(bytes_.size(), 1U << 20U)};
    for (std::size_t from = 0; from < bytes_.size(); from += buffer.size()) {
      const auto piece = buffer.span().first(std::min(buffer.size(), bytes_.size() - from));
      const auto good = read(Bytes{at_.count + from}, piece);
      if (!good) FAIL(good.error().message());
      compare(from, piece);
    }
    CHECK(bytes_.size() % grain == 0);
  }

  /// The whole window through the queue, against the model.
  template <IoQueue Q>
  void verify_through(Q& queue) {
    verify([&](Bytes at, std::span<std::byte> piece) -> Result<void> {
      const ::iovec iov{piece.data(), piece.size()};
      const std::int64_t result = perform(queue, read_request(at, {&iov, 1}));
      if (result < 0) return fail(Errc::backend_failed, "reading back", native_errno(static_cast<int>(result)));
      return {};
    });
  }

  /// What is written from now on is not what a copy of this model writes.
  void reseed(std::uint32_t seed) { random_.seed(seed); }
  unsigned failed() const { return failed_; }
  unsigned count(IoOp op) const { return counts_[static_cast<std::size_t>(op)]; }

 private:
  static constexpr std::size_t grain = 512;

  /// What a block holds: what stands in `bytes_`; that or zeros (discarded); anything (a change of it failed).
  enum class Knowledge : std::uint8_t { exact, or_zero, nothing };

  struct Request {
    IoOp op = IoOp::read;
    std::size_t from = 0;  // in the window
    std::size_t length = 0;
    std::size_t slot = 0;
    std::vector<::iovec> buffers{};

    bool collides(const Request& other) const {
      if (op == IoOp::flush || other.op == IoOp::flush) return false;
      if (op == IoOp::read && other.op == IoOp::read) return false;
      return from < other.from + other.length && other.from < from + length;
    }
  };

  struct Slots {
    Slots(std::size_t depth, std::size_t longest) {
      for (std::size_t i = 0; i < depth; ++i) {
        memory.emplace_back(longest);
        free.push_back(i);
      }
    }
    std::vector<PageBuffer> memory{};
    std::vector<std::size_t> free{};
    std::map<std::uint64_t, Request> busy{};
  };

  std::size_t pick(std::size_t below) { return std::uniform_int_distribution<std::size_t>{0, below - 1}(random_); }

  Request draw(std::size_t block, const Storm& storm) {
    Request request;
    const std::size_t die = pick(100);
    request.op = !storm.changes ? (die < 95 ? IoOp::read : IoOp::flush)
                 : die < 40     ? IoOp::write
                 : die < 80     ? IoOp::read
                 : die < 88     ? IoOp::discard
                 : die < 96     ? IoOp::write_zeroes
                                : IoOp::flush;
    if (request.op == IoOp::flush) return request;
    // Mostly small, now and then as long as it may be.
    const std::size_t longest = pick(3) == 0 ? storm.longest : std::min<std::size_t>(storm.longest, 16 * block);
    const std::size_t blocks = bytes_.size() / block;
    const std::size_t count = 1 + pick(std::min(longest / block, blocks));
    request.length = count * block;
    request.from = pick(blocks - count + 1) * block;
    return request;
  }

  template <IoQueue Q>
  void launch(Q& queue, Slots& slots, Request request) {
    request.slot = slots.free.back();
    slots.free.pop_back();
    const PageBuffer& memory = slots.memory[request.slot];
    if (request.op == IoOp::read || request.op == IoOp::write) scatter(memory, request, queue.block_size().count);
    if (request.op == IoOp::write) fill(memory.span().first(request.length), request.from);
    if (request.op == IoOp::read) std::memset(memory.data(), 0xa5, request.length);
    const std::uint64_t token = (std::uint64_t{random_()} << 32U) | ++serial_;
    ++counts_[static_cast<std::size_t>(request.op)];
    const auto placed = slots.busy.emplace(token, std::move(request)).first;
    const Request& sent = placed->second;
    const bool moves = sent.op == IoOp::read || sent.op == IoOp::write;
    const IoRequest asked{.op = sent.op,
                          .offset = Bytes{sent.op == IoOp::flush ? 0 : at_.count + sent.from},
                          .buffers = sent.buffers,
                          .length = Bytes{moves ? 0 : sent.length},
                          .token = token};
    if (queue.submit(asked) != Submitted::yes) FAIL("a good request was refused");
    if (queue.in_flight() != slots.busy.size()) FAIL("in_flight() has lost count");
  }

  /// The memory of the request in one to eight pieces, in order.
  void scatter(const PageBuffer& memory, Request& request, std::size_t block) {
    std::size_t begin = 0;
    for (std::size_t pieces = 1 + (pick(2) == 0 ? 0 : pick(8)); pieces > 1 && request.length - begin > block;
         --pieces) {
      const std::size_t length = (1 + pick((request.length - begin) / block - 1)) * block;
      request.buffers.push_back(memory.iov(begin, length));
      begin += length;
    }
    request.buffers.push_back(memory.iov(begin, request.length - begin));
  }

  /// Every block says where it belongs and which write it came with.
  void fill(std::span<std::byte> memory, std::size_t from) {
    std::uint64_t word = (std::uint64_t{random_()} << 32U) | random_();
    for (std::size_t at = 0; at < memory.size(); at += sizeof word) {
      word = at % grain == 0 ? word ^ (from + at) : word * 6364136223846793005U + 1442695040888963407U;
      std::memcpy(memory.data() + at, &word, sizeof word);
    }
  }

  void complete(Slots& slots, const IoCompletion& done, const Storm& storm) {
    const auto found = slots.busy.find(done.token);
    if (found == slots.busy.end()) FAIL("a completion with a token that is not in flight: " << done.token);
    const Request request = std::move(found->second);
    slots.busy.erase(found);
    slots.free.push_back(request.slot);
    if (done.result != static_cast<std::int64_t>(request.length)) {
      if (done.result >= 0 || !storm.errors_allowed) {
        FAIL("operation " << static_cast<int>(request.op) << " at " << request.from << "+" << request.length << " gave "
                          << done.result);
      }
      ++failed_;
      if (request.op != IoOp::read && request.op != IoOp::flush) mark(request, Knowledge::nothing);
      return;
    }
    const auto memory = slots.memory[request.slot].span().first(request.length);
    switch (request.op) {
      case IoOp::read: compare(request.from, memory); break;
      case IoOp::write:
        std::copy(memory.begin(), memory.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(request.from));
        mark(request, Knowledge::exact);
        break;
      case IoOp::write_zeroes:
        std::memset(bytes_.data() + request.from, 0, request.length);
        mark(request, Knowledge::exact);
        break;
      case IoOp::discard:
        for (std::size_t at = request.from; at < request.from + request.length; at += grain) {
          if (blocks_[at / grain] == Knowledge::exact) blocks_[at / grain] = Knowledge::or_zero;
        }
        break;
      case IoOp::flush: break;
    }
  }

  void mark(const Request& request, Knowledge knowledge) {
    std::fill_n(blocks_.begin() + static_cast<std::ptrdiff_t>(request.from / grain), request.length / grain, knowledge);
  }

  /// What was read is what may be there, and from now on what must be there.
  void compare(std::size_t from, std::span<const std::byte> seen) {
    static const std::vector<std::byte> zeros(grain);
    for (std::size_t at = 0; at < seen.size(); at += grain) {
      std::byte* expected = bytes_.data() + from + at;
      Knowledge& knowledge = blocks_[(from + at) / grain];
      const bool same = std::memcmp(expected, seen.data() + at, grain) == 0;
      const bool zero = std::memcmp(zeros.data(), seen.data() + at, grain) == 0;
      if (!same && knowledge != Knowledge::nothing && !(zero && knowledge == Knowledge::or_zero)) {
        FAIL("the block at " << at_.count + from + at << " holds something else" << (zero ? ": zeros" : ""));
      }
      if (!same) std::memcpy(expected, seen.data() + at, grain);
      knowledge = Knowledge::exact;
    }
  }

  Bytes at_;
  std::vector<std::byte> bytes_;
  std::vector<Knowledge> blocks_;
  std::mt19937 random_;
  std::uint32_t serial_ = 0;
  unsigned failed_ = 0;
  unsigned counts_[5] = {};
};

}  // namespace stowage::testing
