#pragma once
// An `IoQueue` in the event loop of Asio (the standalone library): its requests are asynchronous operations.

#include <poll.h>
#include <algorithm>
#include <array>
#include <asio/any_io_executor.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <system_error>
#include <utility>

namespace stowage {

namespace detail {

/// An operation that has begun. What it is told is its completion handler's matter.
class AsioOperation {
 public:
  explicit AsioOperation(const IoRequest& asked) noexcept : request{asked} {}
  AsioOperation(const AsioOperation&) = delete;
  AsioOperation& operator=(const AsioOperation&) = delete;
  virtual ~AsioOperation() = default;
  /// Has the handler called later, by its executor.
  virtual void post(Result<void> result) = 0;

  IoRequest request;
  AsioOperation* next = nullptr;
  AsioOperation** here = nullptr;  // what points to it
};

/// Operations that nobody else holds.
class AsioRow {
 public:
  AsioRow() = default;
  AsioRow(const AsioRow&) = delete;
  AsioRow& operator=(const AsioRow&) = delete;
  ~AsioRow() {
    while (front() != nullptr) static_cast<void>(take(*front()));
  }

  [[nodiscard]] AsioOperation* front() const noexcept { return first_; }
  void push(std::unique_ptr<AsioOperation> operation) noexcept {
    operation->next = nullptr;
    operation->here = end_;
    end_ = &(*end_ = operation.release())->next;
  }
  std::unique_ptr<AsioOperation> take(AsioOperation& operation) noexcept {
    *operation.here = operation.next;
    (operation.next == nullptr ? end_ : operation.next->here) = operation.here;
    return std::unique_ptr<AsioOperation>{&operation};
  }

 private:
  AsioOperation* first_ = nullptr;
  AsioOperation** end_ = &first_;
};

template <class Handler, class Executor>
class AsioHandler final : public AsioOperation {
 public:
  AsioHandler(const IoRequest& asked, Handler handler, const Executor& fallback)
      : AsioOperation{asked}, work_{::asio::get_associated_executor(handler, fallback)}, handler_{std::move(handler)} {}
  void post(Result<void> result) override {
    const auto executor = work_.get_executor();
    ::asio::post(executor, [handler = std::move(handler_), result = std::move(result)]() mutable {
      std::move(handler)(std::move(result));
    });
  }

 private:
  ::asio::executor_work_guard<::asio::associated_executor_t<Handler, Executor>> work_;
  Handler handler_;
};

}  // namespace detail

/// Requests of one queue, awaited in an event loop that also does other things:
///
///     asio::awaitable<Result<void>> copy_block(AsioQueue<RbdQueue>& queue, Bytes from, Bytes to, std::span<std::byte>
///     memory) {
///       const iovec buffer{memory.data(), memory.size()};
///       const IoRequest read{.op = IoOp::read, .offset = from, .buffers = {&buffer, 1}};
///       const IoRequest write{.op = IoOp::write, .offset = to, .buffers = {&buffer, 1}};
///       if (auto done = co_await queue.async_io(read, asio::use_awaitable); !done) co_return done;
///       co_return co_await queue.async_io(write, asio::use_awaitable);
///     }
///
/// What is begun in one turn of the loop is handed over together, at its end; what finds the queue full waits for room.
/// Nobody else submits to the queue or reaps from it. The queue and the loop outlive this.
/// A request cannot be called off: its memory is lent. When this goes it waits for those in flight; their handlers are
/// not called any more.
/// Threads: one at a time, that of the executor (a strand, if several threads run the loop).
/// Cost: an allocation for each request.
template <IoQueue Q>
class AsioQueue {
 public:
  using executor_type = ::asio::any_io_executor;  // NOLINT(readability-identifier-naming): as Asio looks for it

  AsioQueue(const executor_type& executor, Q& queue) : state_{std::make_shared<State>(executor, queue)} {}
  AsioQueue(const AsioQueue&) = delete;
  AsioQueue& operator=(const AsioQueue&) = delete;
  ~AsioQueue() { state_->close(); }

  [[nodiscard]] executor_type get_executor() const noexcept { return state_->executor; }

  /// Does one request. The signature of its completion is `void(Result<void>)`.
  /// Errors: invalid_argument (`Submitted::invalid`), what the errno of the completion means, and what `reap` fails
  /// with, by which those end that wait, and those in flight if their memory is lent no more.
  template <class Token>
  auto async_io(const IoRequest& request, Token&& token) {
    return ::asio::async_initiate<Token, void(Result<void>)>(
        [state = state_](auto handler, const IoRequest& asked) {
          using Handler = detail::AsioHandler<decltype(handler), executor_type>;
          state->begin(std::make_unique<Handler>(asked, std::move(handler), state->executor));
        },
        token, request);
  }

 private:
  struct State : std::enable_shared_from_this<State> {
    State(const executor_type& loop, Q& q) : executor{loop}, queue{&q}, readable{loop}, clock{loop} {}

    void begin(std::unique_ptr<detail::AsioOperation> operation) {
      waiting.push(std::move(operation));
      turn_later();
    }

    /// Once for all that is begun until then.
    void turn_later() {
      if (std::exchange(turning, true)) return;
      ::asio::post(executor, [self = this->shared_from_this()] { self->turn(); });
    }

    void turn() {
      turning = false;
      if (queue == nullptr) return;
      rest();
      submit();
      std::array<IoCompletion, 64> done{};
      for (;;) {
        const auto reaped = queue->reap(done);
        if (!reaped) return break_off(reaped.error());
        for (std::size_t i = 0; i < *reaped; ++i) end(flying, operation_of(done[i]), done[i].result);
        if (*reaped == 0) break;
        submit();
      }
      if (queue->in_flight() > 0) sleep();
    }

    /// What waits for room, as far as there is some.
    void submit() {
      while (waiting.front() != nullptr) {
        detail::AsioOperation& next = *waiting.front();
        next.request.token = reinterpret_cast<std::uintptr_t>(&next);
        const Submitted submitted = queue->submit(next.request);
        if (submitted == Submitted::queue_full) return;
        if (submitted == Submitted::invalid) {
          end(waiting, next, -EINVAL);
        } else {
          flying.push(waiting.take(next));
        }
      }
    }

    /// Until the queue has something: another turn.
    void sleep() {
      Readiness ready = queue->ready();
      const std::uint64_t now = sleeps;
      const auto wake = [self = this->shared_from_this(), now](std::error_code) {
        if (self->sleeps == now && self->queue != nullptr) self->turn_later();
      };
      if (ready.fd >= 0) {
        std::error_code failed;
        readable.assign(ready.fd, failed);  // NOLINT(bugprone-unused-return-value): it is in `failed`
        if (failed) ready.tick = std::min(ready.tick, std::chrono::milliseconds{10});  // no memory just now
        if (!failed && (ready.events & POLLIN) != 0)
          readable.async_wait(::asio::posix::descriptor_base::wait_read, wake);
        if (!failed && (ready.events & POLLOUT) != 0)
          readable.async_wait(::asio::posix::descriptor_base::wait_write, wake);
      }
      clock.expires_after(ready.tick);
      clock.async_wait(wake);
    }

    /// What was waited for does not count any more, and keeps no loop running.
    void rest() noexcept {
      ++sleeps;
      if (readable.is_open()) static_cast<void>(readable.release());
      clock.cancel();
    }

    static detail::AsioOperation& operation_of(const IoCompletion& done) noexcept {
      return *reinterpret_cast<detail::AsioOperation*>(done.token);  // NOLINT(performance-no-int-to-ptr): the way back
    }
    void end(detail::AsioRow& row, detail::AsioOperation& operation, std::int64_t result) {
      row.take(operation)->post(detail::request_result(*queue, operation.request, result));
    }
    void break_off(const Error& error) {
      const auto fail_all = [&](detail::AsioRow& row) {
        while (row.front() != nullptr) row.take(*row.front())->post(fail(error));
      };
      fail_all(waiting);
      if (queue->in_flight() == 0) fail_all(flying);
    }

    /// The owner goes: nothing is in flight behind that, or the queue has failed, and then what was lent stays.
    void close() noexcept {
      std::array<IoCompletion, 64> done{};
      for (bool alive = true; alive && queue->in_flight() > 0;) {
        const auto reaped = wait(*queue, std::span{done}, std::chrono::minutes{1});
        alive = reaped || reaped.error().code() == Errc::timed_out;
        for (std::size_t i = 0; i < reaped.value_or(0); ++i) static_cast<void>(flying.take(operation_of(done[i])));
      }
      if (queue->in_flight() > 0) {
        while (flying.front() != nullptr) static_cast<void>(flying.take(*flying.front()).release());
      }
      queue = nullptr;
      rest();
      while (waiting.front() != nullptr) static_cast<void>(waiting.take(*waiting.front()));
    }

    detail::AsioRow waiting;  // for room
    detail::AsioRow flying;
    executor_type executor;
    Q* queue;
    ::asio::posix::stream_descriptor readable;
    ::asio::steady_timer clock;
    bool turning = false;
    std::uint64_t sleeps = 0;
  };

  std::shared_ptr<State> state_;
};

}  // namespace stowage
