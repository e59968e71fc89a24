#pragma once
// Many requests in flight on an open RBD image.

#include <poll.h>
#include <rbd/librbd.h>
#include <sys/eventfd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/io/queue_parts.hpp>
#include <stowage/volume.hpp>
#include <utility>

namespace stowage {
namespace detail {

/// How much of an image lies in one object before the next: the size of an object, unless the image is striped finer.
inline Bytes rbd_stripe(::rbd_image_t image) noexcept {
  std::uint64_t unit = 0;
  return Bytes{::rbd_get_stripe_unit(image, &unit) < 0 ? 0 : unit};
}

}  // namespace detail

/// An `IoQueue` over librbd. Memory of any alignment will do.
///
/// Its destructor, like every request, waits no longer than `rados_osd_op_timeout` of the connection, which `Rbd` sets
/// to `OpenOptions::timeout`.
///
/// | result | meaning |
/// |---|---|
/// | -ETIMEDOUT | of a read or flush: no answer in time |
/// | -EINPROGRESS | the same of a write, discard or write_zeroes: it may have been done, or still be; do it again |
/// | -ENOSPC, -EDQUOT | the cluster is full; the quota of the pool is used up (without `Rbd`, librados would wait) |
/// | -EBUSY, -ESHUTDOWN | another client has the exclusive lock; this one is on the block list |
///
/// Cost: what librbd allocates for a request, nothing of ours; an eventfd is written when the first of a batch of
/// completions comes, and read when there are no more.
class RbdQueue {
 public:
  /// The image stays open as long as the queue.
  /// Errors: invalid_argument (depth); backend_failed (no descriptor is left).
  [[nodiscard]] static Result<RbdQueue> over(::rbd_image_t image, Bytes size, Access access, std::size_t depth) {
    if (auto good = detail::check_depth(depth); !good) return fail(std::move(good.error()));
    // Not that of rbd_set_image_notification: of 16.2, compare-and-write never shows up there.
    Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!event) return fail(Errc::backend_failed, "no eventfd for a queue", native_errno(errno));
    const detail::QueueTarget target{size, Bytes{size.count % 512 == 0 ? 512U : 1U}, access == Access::read_write};
    return RbdQueue{std::make_unique<State>(image, target, detail::rbd_stripe(image), depth, std::move(event))};
  }

  RbdQueue(RbdQueue&&) noexcept = default;
  RbdQueue& operator=(RbdQueue&&) noexcept = default;
  ~RbdQueue() = default;

  Submitted submit(const IoRequest& request) noexcept {
    const auto length = detail::request_length(request, state_->target);
    if (!length) return Submitted::invalid;
    Op* const op = state_->ops.take();
    if (op == nullptr) return Submitted::queue_full;
    op->done = &state_->done;
    op->token = request.token;
    op->result = static_cast<std::int64_t>(*length);
    op->what = request.op;
    if (request.op == IoOp::flush && !state_->target.writable) {
      op->done->post(op);  // nothing to flush, and librbd would say EROFS
    } else {
      start(request, *length, op);
    }
    return Submitted::yes;
  }

  Result<std::size_t> reap(std::span<IoCompletion> out) noexcept {
    std::size_t count = 0;
    while (count < out.size()) {
      Op* const op = state_->done.receive();
      if (op == nullptr) break;
      out[count++] = {op->token, op->result};
      state_->ops.give_back(op);
    }
    return count;
  }

  [[nodiscard]] Readiness ready() const noexcept {
    Readiness ready{.fd = state_->done.fd(), .events = POLLIN};
    if (state_->done.more()) ready.tick = ready.tick.zero();
    return ready;
  }
  [[nodiscard]] std::size_t in_flight() const noexcept { return state_->ops.busy(); }
  [[nodiscard]] std::size_t depth() const noexcept { return state_->ops.count(); }
  [[nodiscard]] Bytes size() const noexcept { return state_->target.size; }
  [[nodiscard]] Bytes block_size() const noexcept { return state_->target.block_size; }
  /// So much lies in one object: see `stripe_of`.
  [[nodiscard]] Bytes stripe() const noexcept { return state_->stripe; }

 private:
  struct Op {
    Op* next = nullptr;
    detail::Mailbox<Op>* done = nullptr;
    std::uint64_t token = 0;
    std::int64_t result = 0;
    IoOp what = IoOp::read;
  };

  /// librbd's callbacks hold addresses in it, so it does not move.
  struct State {
    State(::rbd_image_t open_image, const detail::QueueTarget& about, Bytes unit, std::size_t depth, Fd event)
        : image{open_image}, target{about}, stripe{unit}, ops{depth}, done{std::move(event)} {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
      while (ops.busy() > 0) {
        if (Op* const op = done.receive(); op != nullptr) {
          ops.give_back(op);
        } else {
          ::pollfd poll{done.fd(), POLLIN, 0};
          ::poll(&poll, 1, -1);
        }
      }
    }

    ::rbd_image_t image;
    detail::QueueTarget target;
    Bytes stripe;
    detail::Slots<Op> ops;
    detail::Mailbox<Op> done;
  };

  explicit RbdQueue(std::unique_ptr<State> state) noexcept : state_{std::move(state)} {}

  void start(const IoRequest& request, std::uint64_t length, Op* op) noexcept {
    ::rbd_completion_t completion = nullptr;
    int code = ::rbd_aio_create_completion(op, &RbdQueue::completed, &completion);
    if (code >= 0) code = hand_over(request, length, completion);
    if (code >= 0) return;
    if (completion != nullptr) ::rbd_aio_release(completion);
    op->result = code;
    op->done->post(op);
  }

  int hand_over(const IoRequest& request, std::uint64_t length, ::rbd_completion_t completion) noexcept {
    const ::rbd_image_t image = state_->image;
    const std::uint64_t at = request.offset.count;
    const std::span<const ::iovec> buffers = request.buffers;
    const int count = static_cast<int>(buffers.size());
    switch (request.op) {
      case IoOp::read:
        if (count > 1) return ::rbd_aio_readv(image, buffers.data(), count, at, completion);
        return ::rbd_aio_read(image, at, length, static_cast<char*>(buffers[0].iov_base), completion);
      case IoOp::write:
        if (count > 1) return ::rbd_aio_writev(image, buffers.data(), count, at, completion);
        return ::rbd_aio_write(image, at, length, static_cast<const char*>(buffers[0].iov_base), completion);
      case IoOp::flush: return ::rbd_aio_flush(image, completion);
      case IoOp::discard: return ::rbd_aio_discard(image, at, length, completion);
      case IoOp::write_zeroes: return ::rbd_aio_write_zeroes(image, at, length, completion, 0, 0);
    }
    return -EINVAL;
  }

  /// In a thread of librbd.
  static void completed(::rbd_completion_t completion, void* argument) noexcept {
    Op* const op = static_cast<Op*>(argument);
    const ::ssize_t code = ::rbd_aio_get_return_value(completion);
    ::rbd_aio_release(completion);
    if (code < 0) {
      op->result = failure(op->what, code);
    } else if (op->what == IoOp::read && code != op->result) {
      op->result = -ENXIO;  // the image became smaller while it was open
    }
    op->done->post(op);
  }

  /// librbd's errno, as all queues mean it.
  static std::int64_t failure(IoOp what, std::int64_t code) noexcept {
    if (what == IoOp::read || what == IoOp::flush) return code;
    return code == -ETIMEDOUT ? -EINPROGRESS : code == -EROFS ? -EBUSY : code;
  }

  std::unique_ptr<State> state_;
};

static_assert(IoQueue<RbdQueue>);

}  // namespace stowage
