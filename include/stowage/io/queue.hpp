#pragma once
// Many requests in flight on one open volume: what is asked for, what comes back, and what every engine must give.

#include <poll.h>
#include <sys/uio.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <string>

namespace stowage {

enum class IoOp : std::uint8_t { read, write, flush, discard, write_zeroes };

/// What became of a request that was handed over. Only `yes` leads to a completion.
enum class Submitted : std::uint8_t {
  yes,
  queue_full,  ///< `depth()` requests are in flight: reap first
  invalid,     ///< empty, out of range, misaligned, or a change of what was opened to read: the same again is no better
};

/// One request. `buffers` and the memory that they name are borrowed until the completion is reaped; a write only reads
/// from them. Buffers that begin and end on whole blocks suit every engine.
struct IoRequest {
  IoOp op = IoOp::read;
  Bytes offset{};
  std::span<const ::iovec> buffers{};  ///< of reads and writes, at most `max_buffers`: they give the length
  Bytes length{};                      ///< of discard and write_zeroes
  std::uint64_t token = 0;             ///< comes back untouched

  static constexpr std::size_t max_buffers = 1024;  ///< what one system call takes (IOV_MAX)
};

/// The end of one request. It was done as a whole, or failed; a write that failed may have reached the volume in part.
/// A change that was sent, but to which no answer came, is -EINPROGRESS: it may have been done. At -ETIMEDOUT it was
/// not.
struct IoCompletion {
  std::uint64_t token = 0;
  std::int64_t result = 0;  ///< the length of the request in bytes, 0 for a flush; or -errno
};

/// What to `poll` for before `reap` can find more, but never longer than `tick`: libiscsi has timeouts to look after.
struct Readiness {
  int fd = -1;
  short events = 0;
  std::chrono::milliseconds tick = std::chrono::hours{1};
};

namespace detail {

/// Blocks: until `ready`, at most its tick, at most `most`.
inline void poll_for(const Readiness& ready, std::chrono::milliseconds most) noexcept {
  constexpr std::chrono::milliseconds hour = std::chrono::hours{1};  // what poll takes is an int
  ::pollfd poll{ready.fd, ready.events, 0};
  ::poll(&poll, 1, static_cast<int>(std::min({most, ready.tick, hour}).count()));
}

}  // namespace detail

/// Many requests in flight on one open volume. It belongs to one thread at a time.
///
/// | Expression | Meaning |
/// |---|---|
/// | `submit(request)` | hands a request over, which may start only with the next `reap` or `ready`; never blocks |
/// | `reap(out)` | moves completions into `out`, in the order in which they came; never blocks |
/// | `ready()` | what to poll for until the next completion; ask again after every call |
/// | `in_flight()`, `depth()` | requests submitted and not yet reaped; how many there may be |
/// | `size()`, `block_size()` | of the volume; offsets and lengths are multiples of the block size |
///
/// Requests run side by side and in any order: what must come after another request is submitted after its completion.
/// A flush covers the writes that were *completed* before it was submitted. The volume stays open as long as the queue.
/// The destructor waits for what is in flight, as the buffers are lent.
template <class Q>
concept IoQueue =
    std::movable<Q> && requires(Q& q, const Q& seen, const IoRequest& request, std::span<IoCompletion> out) {
      { q.submit(request) } -> std::same_as<Submitted>;
      { q.reap(out) } -> std::same_as<Result<std::size_t>>;
      { seen.ready() } -> std::same_as<Readiness>;
      { seen.in_flight() } -> std::same_as<std::size_t>;
      { seen.depth() } -> std::same_as<std::size_t>;
      { seen.block_size() } -> std::same_as<Bytes>;
      { seen.size() } -> std::same_as<Bytes>;
    };

/// So much of the volume lies together, and what follows somewhere else: requests of one stripe wait for each other,
/// those of several are done side by side. Zero: its queue has no `stripe()`, and it makes no difference.
template <IoQueue Q>
[[nodiscard]] Bytes stripe_of(const Q& queue) noexcept {
  if constexpr (requires { queue.stripe(); }) return queue.stripe();
  return Bytes{};
}

/// Reaps at least one completion; none only if nothing is in flight, or `out` is empty. A queue that knows a better way
/// to sleep than `poll` has a `sleep(most)`, which comes back when there may be something to reap.
/// Errors: timed_out; what `reap` fails with.
/// Blocks: until a request completes, at most `timeout`.
template <IoQueue Q>
[[nodiscard]] Result<std::size_t> wait(Q& queue, std::span<IoCompletion> out, std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  constexpr bool has_sleep = requires { queue.sleep(timeout); };
  const Clock::time_point end = Clock::now() + timeout;
  for (auto left = timeout;; left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now())) {
    if constexpr (has_sleep) {
      if (left.count() > 0 && queue.in_flight() > 0) queue.sleep(left);
    }
    auto reaped = queue.reap(out);
    if (!reaped || *reaped > 0 || queue.in_flight() == 0 || out.empty()) return reaped;
    if (left.count() <= 0) {
      return fail(Errc::timed_out,
                  "none of " + std::to_string(queue.in_flight()) + " requests completed in " +
                      std::to_string(timeout.count()) + " ms",
                  native_errno(ETIMEDOUT));
    }
    if constexpr (!has_sleep) detail::poll_for(queue.ready(), left);
  }
}

namespace detail {

/// Errors: invalid_argument.
inline Result<void> check_depth(std::size_t depth) {
  constexpr std::size_t most = 4096;
  if (depth >= 1 && depth <= most) return {};
  return fail(Errc::invalid_argument,
              "a queue holds 1 to " + std::to_string(most) + " requests, not " + std::to_string(depth));
}

/// What a queue knows of its volume when it looks at a request.
struct QueueTarget {
  Bytes size{};
  Bytes block_size{512};
  bool writable = false;
};

/// How many bytes `request` is about, 0 for a flush; nothing if it is `invalid`.
constexpr std::optional<std::uint64_t> request_length(const IoRequest& request, const QueueTarget& target) noexcept {
  if (request.op == IoOp::flush) return 0;
  if (request.op != IoOp::read && !target.writable) return std::nullopt;
  const std::uint64_t at = request.offset.count;
  if (at > target.size.count) return std::nullopt;
  const std::uint64_t room = target.size.count - at;
  std::uint64_t length = 0;
  if (request.op == IoOp::read || request.op == IoOp::write) {
    if (request.buffers.size() > IoRequest::max_buffers) return std::nullopt;
    for (const ::iovec& buffer : request.buffers) {
      if (buffer.iov_len > room - length) return std::nullopt;
      length += buffer.iov_len;
    }
  } else {
    length = request.length.count;
    if (length > room) return std::nullopt;
  }
  if (length == 0 || at % target.block_size.count != 0 || length % target.block_size.count != 0) return std::nullopt;
  return length;
}

}  // namespace detail
}  // namespace stowage
