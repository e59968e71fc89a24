#pragma once
// Verbs off the caller's thread: each in a thread of its own, to be waited for, followed, stopped, or polled for.

#include <sys/eventfd.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage {

/// How far a task has come, in the verb's own units; both zero as long as it has not said.
struct TaskProgress {
  std::uint64_t done = 0;
  std::uint64_t total = 0;
};

namespace detail {

/// What a task and its thread share.
template <class T>
struct TaskState {
  explicit TaskState(Fd fd) : event{std::move(fd)} {}

  const Fd event;
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::optional<Result<T>> result;
  std::atomic<std::uint64_t> progress_done{0};
  std::atomic<std::uint64_t> progress_total{0};

  static void report(void* self, std::uint64_t done, std::uint64_t total) {
    auto& state = *static_cast<TaskState*>(self);
    state.progress_done.store(done, std::memory_order_relaxed);
    state.progress_total.store(total, std::memory_order_relaxed);
  }

  void finish(Result<T> with) {
    const std::lock_guard lock{mutex};
    result = std::move(with);
    done = true;
    changed.notify_all();
    static_cast<void>(::eventfd_write(event.get(), 1));  // never full: it is written once
  }
};

template <class Verb>
auto call_verb(Verb& verb, const Work& work) {
  if constexpr (std::is_invocable_v<Verb&, const Work&>) {
    return verb(work);
  } else {
    return verb();
  }
}

/// What `verb` gives, without the `Result`.
template <class Verb>
using TaskValue = typename decltype(call_verb(std::declval<Verb&>(), std::declval<const Work&>()))::value_type;

/// An exception must not end the program from a thread that nobody sees.
template <class T, class Verb>
Result<T> guarded(Verb& verb, const Work& work) {
  std::string what = "something that is no std::exception";
  try {
    return call_verb(verb, work);
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {  // NOLINT(bugprone-empty-catch): told below
  }
  return fail(Error{Errc::outcome_unknown, "the task ended with an exception: " + what}.advise(
      "look how far it came before you repeat it"));
}

}  // namespace detail

/// A verb that is running, or has run. Made by `start`.
///
/// Dropping it while it runs asks the verb to stop and waits until it has: what the verb refers to may go right after
/// the task. Whoever must not wait calls `detach` first.
/// Threads: one at a time, but for `cancel` and `progress`.
template <class T>
class [[nodiscard]] Task {
 public:
  /// It has a result.
  [[nodiscard]] bool done() const {
    const std::lock_guard lock{state_->mutex};
    return state_->done;
  }
  /// For poll, epoll, asio: readable as soon as there is a result, and from then on. Progress does not make it
  /// readable: it comes too often; ask for it at your own pace. It is the task's: not to be read from, nor closed.
  [[nodiscard]] int fd() const noexcept { return state_->event.get(); }
  [[nodiscard]] TaskProgress progress() const noexcept {
    return {state_->progress_done.load(std::memory_order_relaxed),
            state_->progress_total.load(std::memory_order_relaxed)};
  }

  /// Asks the verb to stop where that leaves nothing half-done. Its result is then mostly `cancelled`.
  void cancel() noexcept { thread_.request_stop(); }

  /// The result, once. Errors: those of the verb; outcome_unknown, when it threw; wrong_state, the second time.
  /// Blocks: until the verb ends.
  [[nodiscard]] Result<T> wait() {
    std::unique_lock lock{state_->mutex};
    state_->changed.wait(lock, [&] { return state_->done; });
    return take();
  }
  /// The same, or nothing: it still runs. Blocks: up to `patience`.
  [[nodiscard]] std::optional<Result<T>> wait_for(std::chrono::milliseconds patience) {
    return wait_until(std::chrono::steady_clock::now() + patience);
  }
  [[nodiscard]] std::optional<Result<T>> wait_until(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock{state_->mutex};
    if (!state_->changed.wait_until(lock, deadline, [&] { return state_->done; })) return std::nullopt;
    return take();
  }

  /// Lets it go on alone. Pre: the verb owns all that it uses. A `main` that returns meanwhile pulls globals away under
  /// it: end the program with `std::_Exit`, or wait.
  void detach() && {
    if (thread_.joinable()) thread_.detach();
  }

 private:
  template <class Verb, class Done>
  friend auto start(Verb verb, Done done) -> Result<Task<detail::TaskValue<Verb>>>;

  explicit Task(std::shared_ptr<detail::TaskState<T>> state) : state_{std::move(state)} {}

  /// Pre: done, and the mutex is held.
  Result<T> take() {
    if (!state_->result) return fail(Errc::wrong_state, "the result of this task has been taken already");
    return *std::exchange(state_->result, std::nullopt);
  }

  std::shared_ptr<detail::TaskState<T>> state_;
  std::jthread thread_;  // its destructor asks to stop, and waits
};

/// Runs `verb(const Work&)` or `verb()`, which gives a `Result<T>`, in a thread of its own; its copy of `verb` is gone
/// when the task is done. If there is a `done`, it is called in that thread with the result, `done(Result<T>&)`, before
/// anybody else sees it; it must not throw, nor wait for the task.
///
///     auto task = start([&](const Work& work) { return storage.flatten(disk, work); });
///
/// Errors: unavailable (no descriptor, no thread). Cost: a thread, an eventfd, three allocations.
template <class Verb, class Done>
auto start(Verb verb, Done done) -> Result<Task<detail::TaskValue<Verb>>> {
  using T = detail::TaskValue<Verb>;
  Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!event) return fail(Errc::unavailable, "no descriptor for a task", native_errno(errno));
  Task<T> task{std::make_shared<detail::TaskState<T>>(std::move(event))};
  try {
    task.thread_ = std::jthread{[state = task.state_, verb = std::optional<Verb>{std::move(verb)},
                                 done = std::move(done)](const std::stop_token& stop) mutable {
      Result<T> result = detail::guarded<T>(*verb, {stop, {&detail::TaskState<T>::report, state.get()}});
      verb.reset();
      [&]() noexcept { done(result); }();
      state->finish(std::move(result));
    }};
  } catch (const std::system_error& error) {
    return fail(Errc::unavailable, "no thread for a task", error.code());
  }
  return task;
}
template <class Verb>
auto start(Verb verb) {
  return start(std::move(verb), [](const auto&) {});
}

/// Asks all of `items` side by side, `ask(item)` or `ask(item, work)`, each in a thread of its own, and gives the
/// answers in their order. Who has not answered after `patience` is asked to stop and left behind, and its answer is
/// `timed_out`: one that hangs costs the others nothing. `ask` and items are copied, and own what they use.
/// Blocks: up to `patience`; without one, until the last has answered.
template <class Item, class Ask>
auto ask_all(const std::vector<Item>& items, std::optional<std::chrono::milliseconds> patience, Ask ask) {
  const auto asking = [&ask](const Item& item) {
    return [ask, item](const Work& work) mutable {
      if constexpr (std::is_invocable_v<Ask&, Item&, const Work&>) {
        return ask(item, work);
      } else {
        return ask(item);
      }
    };
  };
  using Answer = decltype(asking(items.front())(Work{}));
  using Running = Task<typename Answer::value_type>;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Result<Running>> tasks;
  tasks.reserve(items.size());
  for (const Item& item : items) tasks.push_back(start(asking(item)));
  std::vector<Answer> answers;
  answers.reserve(items.size());
  for (Result<Running>& task : tasks) {
    if (!task) {
      answers.emplace_back(fail(task.error()));
    } else if (!patience) {
      answers.push_back(task->wait());
    } else if (auto answer = task->wait_until(begin + *patience)) {
      answers.push_back(*std::move(answer));
    } else {
      task->cancel();
      std::move(*task).detach();
      answers.emplace_back(fail(Errc::timed_out, "no answer in time"));
    }
  }
  return answers;
}

}  // namespace stowage
