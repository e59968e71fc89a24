#pragma once
// Coroutines over an `IoQueue`: `co_await loop.io(request)`.

#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// Runs coroutines in one thread over one queue, which is then for nobody else to submit to or reap from.
///
///     IoLoop<RbdQueue>::Task copy_block(IoLoop<RbdQueue>& loop, Bytes from, Bytes to, std::span<std::byte> memory) {
///       const iovec buffer{memory.data(), memory.size()};
///       const IoRequest read{.op = IoOp::read, .offset = from, .buffers = {&buffer, 1}};
///       const IoRequest write{.op = IoOp::write, .offset = to, .buffers = {&buffer, 1}};
///       if (auto done = co_await loop.io(read); !done) co_return;
///       if (auto done = co_await loop.io(write); !done) co_return;
///     }
///
/// Name a request before you await it: g++ 12 has trouble with temporaries inside a `co_await`.
template <IoQueue Q>
class IoLoop {
 public:
  explicit IoLoop(Q& queue) : queue_{queue}, done_(queue.depth()) {}
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;
  /// Waits for the tasks, whose memory the queue has borrowed. Those of a queue that fails are never destroyed.
  ~IoLoop() {
    for (bool alive = true; alive && tasks_ > 0;) {
      const auto ran = run(std::chrono::minutes{1});
      alive = ran || ran.error().code() == Errc::timed_out;
    }
  }

  /// What a coroutine returns whose first parameter is the loop, or its second if it is a member or a lambda. It starts
  /// at once and goes when it ends.
  struct Task {
    struct promise_type {  // NOLINT(readability-identifier-naming): the language wants that name
      template <class... Arguments>
      explicit promise_type(IoLoop& owner, Arguments&&... /*arguments*/) noexcept : loop{owner} {
        ++loop.tasks_;
      }
      template <class Self, class... Arguments>
      promise_type(Self&& /*self*/, IoLoop& owner, Arguments&&... /*arguments*/) noexcept : loop{owner} {
        ++loop.tasks_;
      }
      promise_type(const promise_type&) = delete;
      promise_type& operator=(const promise_type&) = delete;
      ~promise_type() { --loop.tasks_; }
      Task get_return_object() const noexcept { return {}; }
      std::suspend_never initial_suspend() const noexcept { return {}; }
      std::suspend_never final_suspend() const noexcept { return {}; }
      void return_void() const noexcept {}
      void unhandled_exception() const noexcept { std::terminate(); }

      IoLoop& loop;
    };
  };

  /// Awaited, does one request; waits for room where the queue is full. Gives `Result<void>`.
  /// Errors: invalid_argument (`Submitted::invalid`), and what the errno of the completion means.
  class Io {
   public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) {
      waiter_ = waiter;
      request_.token = reinterpret_cast<std::uintptr_t>(this);
      return loop_.launch(*this);
    }
    Result<void> await_resume() const { return detail::request_result(loop_.queue_, request_, result_); }

   private:
    friend class IoLoop;
    Io(IoLoop& loop, const IoRequest& request) noexcept : loop_{loop}, request_{request} {}

    IoLoop& loop_;
    IoRequest request_;
    std::coroutine_handle<> waiter_{};
    std::int64_t result_ = 0;
    Io* next_ = nullptr;
  };
  [[nodiscard]] Io io(const IoRequest& request) noexcept { return Io{*this, request}; }

  /// Runs until every task has ended.
  /// Errors: timed_out (no completion for so long; it may be called again); what `reap` fails with; wrong_state (a task
  /// waits for something else than this queue).
  Result<void> run(std::chrono::milliseconds patience) {
    while (tasks_ > 0) {
      const auto reaped = wait(queue_, std::span{done_}, patience);
      if (!reaped) return fail(reaped.error());
      if (*reaped == 0) {
        return fail(Errc::wrong_state, std::to_string(tasks_) + " tasks wait, but not for this queue");
      }
      for (std::size_t i = 0; i < *reaped; ++i) {
        Io* io = reinterpret_cast<Io*>(done_[i].token);  // NOLINT(performance-no-int-to-ptr): the way back
        io->result_ = done_[i].result;
        while (first_ != nullptr) {  // they came before what `io` will ask for
          Io* const next = first_;
          const Submitted submitted = queue_.submit(next->request_);
          if (submitted == Submitted::queue_full) break;
          first_ = next->next_;
          if (submitted == Submitted::invalid) {
            next->result_ = -EINVAL;
            next->waiter_.resume();
          }
        }
        io->waiter_.resume();
      }
    }
    return {};
  }

 private:
  /// False: it is over already.
  bool launch(Io& io) {
    const Submitted submitted = first_ == nullptr ? queue_.submit(io.request_) : Submitted::queue_full;
    if (submitted == Submitted::invalid) io.result_ = -EINVAL;
    if (submitted == Submitted::queue_full) {
      io.next_ = nullptr;
      (first_ == nullptr ? first_ : last_->next_) = &io;
      last_ = &io;
    }
    return submitted != Submitted::invalid;
  }

  Q& queue_;
  std::vector<IoCompletion> done_;
  std::size_t tasks_ = 0;
  Io* first_ = nullptr;  // those that wait for room
  Io* last_ = nullptr;
};

}  // namespace stowage
