#pragma once
// Many requests in flight on a block device or a file.

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/io/queue_parts.hpp>
#include <stowage/io/uring_call.hpp>
#include <stowage/io/uring_file.hpp>
#include <stowage/io/uring_threads.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>

namespace stowage {

struct UringOptions {
  bool io_uring = true;  ///< false: threads make the calls, as they do where the kernel refuses io_uring
  /// Of a block device: what is discarded in whole blocks of that size reads as zeros, and zeros are written so. Of
  /// zero, or more than 1 GiB, it is not used: the kernel knows another way for the device, or writes them.
  Bytes zero_chunk{};
};

namespace detail {

/// What a `UringQueue` is made of. The kernel and threads hold addresses in it, so it does not move.
class UringEngine {
 public:
  UringEngine(UringFile file, std::size_t depth, Fd event)
      : file_{std::move(file)}, ops_{depth}, done_{std::move(event)}, threads_{file_.fd.get(), done_} {}
  UringEngine(const UringEngine&) = delete;
  UringEngine& operator=(const UringEngine&) = delete;
  ~UringEngine() {
    IoCompletion out[16];
    while (in_flight() > 0) {
      sleep(std::chrono::hours{1});
      reap(out);
    }
    if (has_ring_) ::io_uring_queue_exit(&ring_);
  }

  Result<void> begin(const UringOptions& options) {
    zero_chunk_ = options.zero_chunk.count;
    has_ring_ = options.io_uring && open_ring();
    constexpr std::size_t most_threads = 16;
    if (!has_ring_) return threads_.grow(std::min(depth(), most_threads));
    return threads_.grow(file_.is_block_device && file_.target.writable ? 1 : 0);
  }

  Submitted submit(const IoRequest& request) {
    const auto length = request_length(request, file_.target);
    if (!length || !suits_direct(request)) return Submitted::invalid;
    UringOp* const op = ops_.take();
    if (op == nullptr) return Submitted::queue_full;
    op->begin(request, *length, file_.is_block_device, zero_chunk_);
    if (!has_ring_) {
      threads_.start(op);
      return Submitted::yes;
    }
    if (op->needs_thread()) {
      threads_.start(op);
      ++in_threads_;
      listen();
    } else {
      prepare(op);
    }
    if (::io_uring_sq_ready(&ring_) >= batch_) enter();
    return Submitted::yes;
  }

  std::size_t reap(std::span<IoCompletion> out) {
    if (!has_ring_) return reap_threads(out);
    enter();  // before it looks: what is in the page cache completes at once
    std::size_t count = reap_ring(out);
    if (in_threads_ > 0) {
      const std::size_t more = reap_threads(out.subspan(count));
      count += more;
      in_threads_ -= more;
      listen();
    }
    enter();
    return count;
  }

  [[nodiscard]] Readiness ready() noexcept {
    if (!has_ring_) return readiness(done_.fd());
    enter();
    Readiness ready = readiness(ring_.ring_fd);
    // The kernel had no memory just now.
    if (::io_uring_sq_ready(&ring_) > 0) ready.tick = std::min(ready.tick, std::chrono::milliseconds{1});
    return ready;
  }

  /// Submits and waits in one system call.
  void sleep(std::chrono::milliseconds most) noexcept {
    if (!has_ring_ || done_.more() || (ring_.features & IORING_FEAT_EXT_ARG) == 0) return poll_for(ready(), most);
    if (spin()) return;
    const auto seconds = std::chrono::floor<std::chrono::seconds>(most);
    ::__kernel_timespec limit{seconds.count(), std::chrono::nanoseconds{most - seconds}.count()};
    ::io_uring_cqe* entry = nullptr;
    const int entered = ::io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &limit, nullptr);
    if (entered == -EAGAIN || entered == -EBUSY) poll_for(ready(), most);
  }
  [[nodiscard]] std::size_t in_flight() const noexcept { return ops_.busy(); }
  [[nodiscard]] std::size_t depth() const noexcept { return ops_.count(); }
  [[nodiscard]] const QueueTarget& target() const noexcept { return file_.target; }
  [[nodiscard]] bool has_ring() const noexcept { return has_ring_; }

 private:
  /// False where the kernel forbids it (io_uring_disabled, seccomp), is older than what we need, or has no memory left.
  bool open_ring() noexcept {
    const auto entries = static_cast<unsigned>(depth() + 1);  // one to listen to the threads
    // COOP_TASKRUN, of 5.19: completions wait until we enter the kernel anyway.
    if (::io_uring_queue_init(entries, &ring_, IORING_SETUP_COOP_TASKRUN) < 0 &&
        ::io_uring_queue_init(entries, &ring_, 0) < 0) {
      return false;
    }
    bool good = false;
    if (::io_uring_probe* const probe = ::io_uring_get_probe_ring(&ring_); probe != nullptr) {
      good = ::io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
             ::io_uring_opcode_supported(probe, IORING_OP_FALLOCATE) != 0 &&
             ::io_uring_get_events(&ring_) >= 0;  // seccomp may forbid each of the three system calls alone
      ::io_uring_free_probe(probe);
    }
    if (!good) ::io_uring_queue_exit(&ring_);
    return good;
  }

  [[nodiscard]] bool suits_direct(const IoRequest& request) const noexcept {
    if (!file_.direct || (request.op != IoOp::read && request.op != IoOp::write)) return true;
    const std::uint64_t block = file_.target.block_size.count;
    return std::all_of(request.buffers.begin(), request.buffers.end(), [&](const ::iovec& buffer) {
      return (reinterpret_cast<std::uintptr_t>(buffer.iov_base) | buffer.iov_len) % block == 0;
    });
  }

  std::size_t reap_ring(std::span<IoCompletion> out) {
    std::size_t count = 0;
    ::io_uring_cqe* entry = nullptr;
    while (count < out.size() && ::io_uring_peek_cqe(&ring_, &entry) == 0) {
      auto* const op = static_cast<UringOp*>(::io_uring_cqe_get_data(entry));
      const std::int64_t result = entry->res;
      ::io_uring_cqe_seen(&ring_, entry);
      if (op == nullptr) {
        listening_ = false;
      } else if (op->advance(result)) {
        out[count++] = op->completion();
        ops_.give_back(op);
      } else {
        prepare(op);
      }
    }
    return count;
  }

  std::size_t reap_threads(std::span<IoCompletion> out) {
    std::size_t count = 0;
    while (count < out.size()) {
      UringOp* const op = done_.receive();
      if (op == nullptr) break;
      out[count++] = op->completion();
      ops_.give_back(op);
    }
    return count;
  }

  /// Looks for a single request for a moment before it sleeps: a fast device is done before a thread has gone to sleep
  /// and was woken. The more often it was not, the longer it sleeps at once: of a slow one it costs a microsecond each.
  bool spin() noexcept {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::microseconds moment{50};
    constexpr unsigned longest = 63;
    if (in_flight() != 1 || (sleeps_ > 0 && sleeps_-- > 0)) return false;
    ::io_uring_submit_and_get_events(&ring_);
    for (const Clock::time_point end = Clock::now() + moment; ::io_uring_cq_ready(&ring_) == 0;) {
      if (Clock::now() > end) {
        sleeps_ = pause_ = std::min(2 * pause_ + 1, longest);
        return false;
      }
      ::io_uring_get_events(&ring_);
    }
    pause_ = 0;
    return true;
  }

  /// The next call of `op` as an entry of the ring. There is one for every request and one to listen.
  void prepare(UringOp* op) noexcept {
    ::io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    const UringCall call = op->call();
    const int fd = file_.fd.get();
    const auto length = static_cast<unsigned>(call.length);
    const auto count = static_cast<unsigned>(call.buffers.size());
    switch (call.what) {
      case UringCall::What::read:
        if (count > 0) ::io_uring_prep_readv(entry, fd, call.buffers.data(), count, call.offset);
        if (count == 0) ::io_uring_prep_read(entry, fd, call.memory, length, call.offset);
        break;
      case UringCall::What::write:
        if (count > 0) ::io_uring_prep_writev(entry, fd, call.buffers.data(), count, call.offset);
        if (count == 0) ::io_uring_prep_write(entry, fd, call.memory, length, call.offset);
        break;
      case UringCall::What::sync: ::io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC); break;
      case UringCall::What::allocate:
        ::io_uring_prep_fallocate(entry, fd, call.mode, static_cast<::off_t>(call.offset),
                                  static_cast<::off_t>(call.length));
        break;
      case UringCall::What::discard: break;  // needs_thread
    }
    ::io_uring_sqe_set_data(entry, op);
  }

  /// Makes the ring ready when a thread has done something.
  void listen() noexcept {
    if (listening_ || in_threads_ == 0) return;
    ::io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    ::io_uring_prep_poll_add(entry, done_.fd(), POLLIN);
    ::io_uring_sqe_set_data(entry, nullptr);
    listening_ = true;
  }

  /// It takes what it can; the rest is tried again by the next call.
  void enter() noexcept {
    if (::io_uring_sq_ready(&ring_) > 0) ::io_uring_submit(&ring_);
  }

  [[nodiscard]] Readiness readiness(int fd) const noexcept {
    Readiness ready{.fd = fd, .events = POLLIN};
    if (done_.more()) ready.tick = ready.tick.zero();
    return ready;
  }

  UringFile file_;
  std::uint64_t zero_chunk_ = 0;
  Slots<UringOp> ops_;
  // The device should not stand idle while we prepare more. Of 64 requests in flight 4 at a time are a tenth faster
  // than 32, of 16 in flight 2 are as much faster than all at once; one alone goes with the call that waits for it.
  unsigned batch_ = std::clamp(static_cast<unsigned>(ops_.count() / 8), 2U, 4U);
  Mailbox<UringOp> done_;
  ::io_uring ring_{};
  bool has_ring_ = false;
  bool listening_ = false;
  unsigned sleeps_ = 0;  // left until it spins again
  unsigned pause_ = 0;   // how many they were
  std::size_t in_threads_ = 0;
  UringThreads threads_;  // ends before what it works on
};

}  // namespace detail

/// An `IoQueue` over io_uring, on a block device or a file. Opened with O_DIRECT, its requests go around the page
/// cache, and buffers that do not lie on whole blocks in memory are `invalid`: nothing is copied.
///
/// Where io_uring is forbidden, at most 16 threads make the calls. A block device that can be written has one thread in
/// any case: io_uring before Linux 6.12 cannot discard.
///
/// Its destructor waits as long as the kernel does for the requests in flight (see `KernelDevice`).
///
/// Cost: one system call for up to four requests that were submitted; in `wait` the call for the last of them sleeps.
/// None to reap what is there.
class UringQueue {
 public:
  /// On a descriptor that was opened to read, or to read and write, and neither to append nor without blocking.
  /// Errors: invalid_argument (depth; neither a block device nor a file; a file that O_DIRECT does not suit; opened in
  /// another way); permission_denied (a read-only device); unavailable (the device has gone); backend_failed (no
  /// descriptor or thread is left).
  [[nodiscard]] static Result<UringQueue> over(Fd fd, std::size_t depth, UringOptions options = {}) {
    return detail::UringFile::of(std::move(fd)).and_then([&](detail::UringFile&& file) {
      return make(std::move(file), depth, options);
    });
  }

  /// On a block device, which is claimed for writing as `KernelDevice` does, or on a file, as large as it is. Goes
  /// around the page cache where that can be.
  /// Errors: also not_found, in_use.
  [[nodiscard]] static Result<UringQueue> open(const std::string& path, Access access, std::size_t depth,
                                               UringOptions options = {}) {
    return detail::UringFile::open(path, access).and_then([&](detail::UringFile&& file) {
      return make(std::move(file), depth, options);
    });
  }

  Submitted submit(const IoRequest& request) { return engine_->submit(request); }
  Result<std::size_t> reap(std::span<IoCompletion> out) { return engine_->reap(out); }
  [[nodiscard]] Readiness ready() const noexcept { return engine_->ready(); }
  /// What `wait` sleeps by.
  void sleep(std::chrono::milliseconds most) noexcept { engine_->sleep(most); }
  [[nodiscard]] std::size_t in_flight() const noexcept { return engine_->in_flight(); }
  [[nodiscard]] std::size_t depth() const noexcept { return engine_->depth(); }
  [[nodiscard]] Bytes size() const noexcept { return engine_->target().size; }
  [[nodiscard]] Bytes block_size() const noexcept { return engine_->target().block_size; }
  /// False: threads do the work.
  [[nodiscard]] bool uses_io_uring() const noexcept { return engine_->has_ring(); }

 private:
  explicit UringQueue(std::unique_ptr<detail::UringEngine> engine) noexcept : engine_{std::move(engine)} {}

  static Result<UringQueue> make(detail::UringFile file, std::size_t depth, UringOptions options) {
    if (auto good = detail::check_depth(depth); !good) return fail(std::move(good.error()));
    Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!event) return fail(Errc::backend_failed, "no eventfd for a queue", native_errno(errno));
    auto engine = std::make_unique<detail::UringEngine>(std::move(file), depth, std::move(event));
    if (auto begun = engine->begin(options); !begun) return fail(std::move(begun.error()));
    return UringQueue{std::move(engine)};
  }

  std::unique_ptr<detail::UringEngine> engine_;
};

static_assert(IoQueue<UringQueue>);

}  // namespace stowage
