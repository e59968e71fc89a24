#pragma once
// A stream as one side of a copy: it moves in the order of its bytes, whatever the order of the other side. Each `reap`
// blocks as long as the stream does, for one request; what the other side has in flight goes on meanwhile. A sink that
// can write without waiting does not block: a target wants to be looked after while the reader of a pipe sleeps.

#include <poll.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Fills the buffer, or as much of it as there is.
template <ByteSource Source>
Result<std::size_t> read_fully(Source& source, std::span<std::byte> buffer) {
  std::size_t have = 0;
  while (have < buffer.size()) {
    auto got = source.read(buffer.subspan(have));
    if (!got) return got;
    if (*got == 0) break;
    have += *got;
  }
  return have;
}

/// What both directions are: requests that wait until the stream has come to their offset.
class StreamRequests {
 public:
  static constexpr bool in_order = true;  ///< a request is done when those before it are: a copy goes from begin to end

  StreamRequests(Bytes size, std::size_t depth, bool writable) : target_{size, Bytes{1}, writable}, depth_{depth} {
    waiting_.reserve(depth);
  }

  [[nodiscard]] Submitted submit(const IoRequest& request) {
    if (waiting_.size() == depth_) return Submitted::queue_full;
    const auto length = request_length(request, target_);
    if (!length || request.op == IoOp::discard || (request.op == IoOp::read) == target_.writable) {
      return Submitted::invalid;
    }
    waiting_.push_back({request, *length});
    return Submitted::yes;
  }
  /// What has not begun comes back as that: its turn may never come.
  void cancel() noexcept { cancelled_ = true; }

  [[nodiscard]] std::size_t in_flight() const noexcept { return waiting_.size(); }
  [[nodiscard]] std::size_t depth() const noexcept { return depth_; }
  [[nodiscard]] Bytes block_size() const noexcept { return target_.block_size; }
  [[nodiscard]] Bytes size() const noexcept { return target_.size; }

 protected:
  /// Has `move(request, length)` do the request whose turn it is; false: there is more to do, later. An error ends the
  /// stream.
  template <class Move>
  Result<std::size_t> reap(std::span<IoCompletion> out, Move move) {
    const auto found = next();
    if (out.empty() || found == waiting_.end()) return 0;
    const Waiting turn = *found;
    if (!cancelled_) {
      const auto moved = move(turn.request, turn.length);
      if (!moved) {
        waiting_.clear();
        return fail(moved.error());
      }
      if (!*moved) return 0;
      at_ += turn.length;
    }
    waiting_.erase(found);
    out[0] = {turn.request.token, cancelled_ ? -ECANCELED : static_cast<std::int64_t>(turn.length)};
    return 1;
  }
  [[nodiscard]] bool has_turn() const noexcept { return next() != waiting_.end(); }
  [[nodiscard]] std::uint64_t at() const noexcept { return at_; }
  /// What lies before is not asked for.
  void skip_to(std::uint64_t offset) noexcept { at_ = offset; }

 private:
  struct Waiting {
    IoRequest request;
    std::uint64_t length;
  };
  [[nodiscard]] std::vector<Waiting>::const_iterator next() const noexcept {
    return std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) {
      return cancelled_ || w.request.op == IoOp::flush || w.request.offset.count == at_;
    });
  }

  QueueTarget target_;
  std::size_t depth_;
  std::vector<Waiting> waiting_;
  std::uint64_t at_ = 0;
  bool cancelled_ = false;
};

/// Writes to a sink.
template <ByteSink Sink>
class SinkQueue : public StreamRequests {
 public:
  SinkQueue(Sink& sink, Bytes size, std::size_t depth) : StreamRequests{size, depth, true}, sink_{&sink} {}

  [[nodiscard]] Result<std::size_t> reap(std::span<IoCompletion> out) {
    blocked_ = false;
    return StreamRequests::reap(out, [&](const IoRequest& request, std::uint64_t length) -> Result<bool> {
      while (done_ < length) {
        const auto some = put(rest_of(request, length));
        if (!some) return fail(some.error());
        done_ += *some;
        if (blocked_) return false;
      }
      done_ = 0;
      return true;
    });
  }
  [[nodiscard]] Readiness ready() const noexcept {
    if (!has_turn()) return {};
    if constexpr (waits) {
      if (blocked_) return {.fd = sink_->fd(), .events = POLLOUT};
    }
    return {.tick = std::chrono::milliseconds{0}};
  }

 protected:
  /// Writes the begin of `data`, and says how much that was. When it was not all, `ready` tells when there is room.
  Result<std::size_t> put(std::span<const std::byte> data) {
    if constexpr (waits) {
      auto some = sink_->write_some(data);
      blocked_ = some && *some < data.size();
      return some;
    } else {
      return sink_->write(data).map([&] { return data.size(); });
    }
  }

 private:
  /// It can write without waiting.
  static constexpr bool waits = requires(Sink& sink, std::span<const std::byte> data) {
    { sink.write_some(data) } -> std::same_as<Result<std::size_t>>;
    { sink.fd() } -> std::same_as<int>;
  };

  /// What of the request is not yet written, or the begin of that.
  [[nodiscard]] std::span<const std::byte> rest_of(const IoRequest& request, std::uint64_t length) const noexcept {
    static constexpr std::array<std::byte, 65536> zeros{};
    if (request.op == IoOp::write_zeroes) {
      return {zeros.data(), static_cast<std::size_t>(std::min<std::uint64_t>(length - done_, zeros.size()))};
    }
    std::uint64_t before = done_;
    for (const ::iovec& buffer : request.buffers) {
      if (before < buffer.iov_len) {
        return {static_cast<const std::byte*>(buffer.iov_base) + before,
                static_cast<std::size_t>(buffer.iov_len - before)};
      }
      before -= buffer.iov_len;
    }
    return {};
  }

  Sink* sink_;
  std::uint64_t done_ = 0;  // of the request whose turn it is
  bool blocked_ = false;
};

/// Reads from a source, which has to have `size` bytes: one request at a time, as a stream has nothing to be asked for
/// ahead. Errors of `reap`: corrupt (it ends before).
template <ByteSource Source>
class SourceQueue : public StreamRequests {
 public:
  SourceQueue(Source& source, Bytes size) : StreamRequests{size, 1, false}, source_{&source} {}

  [[nodiscard]] Result<std::size_t> reap(std::span<IoCompletion> out) {
    return StreamRequests::reap(out, [&](const IoRequest& request, std::uint64_t) { return read(request.buffers); });
  }
  [[nodiscard]] Readiness ready() const noexcept {
    return has_turn() ? Readiness{.tick = std::chrono::milliseconds{0}} : Readiness{};
  }

 private:
  Result<bool> read(std::span<const ::iovec> buffers) {
    std::uint64_t end = at();
    for (const ::iovec& buffer : buffers) {
      const auto got = read_fully(*source_, {static_cast<std::byte*>(buffer.iov_base), buffer.iov_len});
      if (!got) return fail(got.error());
      end += *got;
      if (*got == buffer.iov_len) continue;
      return fail(Errc::corrupt,
                  "the stream ends after " + std::to_string(end) + " of " + std::to_string(size().count) + " bytes");
    }
    return true;
  }

  Source* source_;
};

}  // namespace stowage::detail
