#pragma once
// A queue for tests of what is built on queues: over any device, without a server and without a thread.

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/queue.hpp>
#include <utility>
#include <vector>

namespace stowage::testing {

/// Requests are done one by one, by blocking calls inside `reap`, in an order that nobody can rely on (but which is the
/// same every time). A failure of the device is the errno behind it, else one that fits its `Errc`.
template <class Device>
class SerialQueue {
  static_assert(BlockDevice<Device>);

 public:
  /// Errors: invalid_argument (depth); backend_failed (no descriptor is left).
  [[nodiscard]] static Result<SerialQueue> over(Device device, bool writable, std::size_t depth) {
    if (auto good = ::stowage::detail::check_depth(depth); !good) return fail(std::move(good.error()));
    Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!event) return fail(Errc::backend_failed, "no eventfd for a queue", native_errno(errno));
    return SerialQueue{std::move(device), writable, depth, std::move(event)};
  }

  SerialQueue(SerialQueue&&) noexcept = default;
  SerialQueue& operator=(SerialQueue&& other) noexcept {
    if (this != &other) {
      finish();
      target_ = other.target_;
      device_ = std::move(other.device_);
      depth_ = other.depth_;
      waiting_ = std::exchange(other.waiting_, {});
      order_ = other.order_;
      event_ = std::move(other.event_);
    }
    return *this;
  }
  ~SerialQueue() { finish(); }

  Submitted submit(const IoRequest& request) {
    if (!::stowage::detail::request_length(request, target_)) return Submitted::invalid;
    if (waiting_.size() == depth_) return Submitted::queue_full;
    waiting_.push_back(request);
    if (waiting_.size() == 1) ::eventfd_write(event_.get(), 1);
    return Submitted::yes;
  }

  Result<std::size_t> reap(std::span<IoCompletion> out) {
    std::size_t done = 0;
    for (; done < out.size() && !waiting_.empty(); ++done) {
      std::swap(waiting_[order_() % waiting_.size()], waiting_.back());
      const IoRequest request = waiting_.back();
      waiting_.pop_back();
      out[done] = {request.token, perform(request)};
    }
    ::eventfd_t count = 0;
    if (done > 0 && waiting_.empty()) ::eventfd_read(event_.get(), &count);
    return done;
  }

  [[nodiscard]] Readiness ready() const noexcept { return {.fd = event_.get(), .events = POLLIN}; }
  [[nodiscard]] std::size_t in_flight() const noexcept { return waiting_.size(); }
  [[nodiscard]] std::size_t depth() const noexcept { return depth_; }
  [[nodiscard]] Bytes size() const noexcept { return target_.size; }
  [[nodiscard]] Bytes block_size() const noexcept { return target_.block_size; }

 private:
  SerialQueue(Device device, bool writable, std::size_t depth, Fd event)
      : target_{device.size(), device.block_size(), writable},
        device_{std::move(device)},
        depth_{depth},
        event_{std::move(event)} {
    waiting_.reserve(depth);
  }

  static std::int64_t code_of(const Error& error) {
    if (error.code() == Errc::outcome_unknown) return -EINPROGRESS;  // whatever it is natively
    if (error.native().value() != 0) return -error.native().value();
    switch (error.code()) {
      case Errc::no_space: return -ENOSPC;
      case Errc::timed_out: return -ETIMEDOUT;
      case Errc::unavailable: return -ENOTCONN;
      case Errc::permission_denied: return -EPERM;
      default: return -EIO;
    }
  }

  void finish() {
    for (const IoRequest& request : std::exchange(waiting_, {})) static_cast<void>(perform(request));
  }

  std::int64_t perform(const IoRequest& request) {
    if (request.op == IoOp::flush) return outcome(device_.flush(), 0);
    if (request.op == IoOp::discard)
      return outcome(device_.discard(request.offset, request.length), request.length.count);
    if (request.op == IoOp::write_zeroes) {
      return outcome(device_.write_zeroes(request.offset, request.length), request.length.count);
    }
    Bytes at = request.offset;
    for (const ::iovec& buffer : request.buffers) {
      const std::span memory{static_cast<std::byte*>(buffer.iov_base), buffer.iov_len};
      auto good = request.op == IoOp::read ? device_.read_at(at, memory) : device_.write_at(at, memory);
      if (!good) return code_of(good.error());
      at += Bytes{buffer.iov_len};
    }
    return static_cast<std::int64_t>(at.count - request.offset.count);
  }
  static std::int64_t outcome(const Result<void>& result, std::uint64_t length) {
    return result ? static_cast<std::int64_t>(length) : code_of(result.error());
  }

  ::stowage::detail::QueueTarget target_;
  Device device_;
  std::size_t depth_;
  std::vector<IoRequest> waiting_;
  std::minstd_rand order_{1};
  Fd event_;
};

}  // namespace stowage::testing
