#pragma once
// A deadline for librbd's management calls, which have none of their own and cannot be cut short: they run in a thread
// that is left behind when it does not come back, and cleans up after itself when it does.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace stowage::detail {

/// What the worker tells about itself, and what it is told.
class RbdProgress {
 public:
  /// To be given to librbd with `this`: a negative answer stops the work there. Called from librbd's threads.
  static int report(std::uint64_t done, std::uint64_t total, void* self) noexcept {
    auto& progress = *static_cast<RbdProgress*>(self);
    const std::lock_guard lock{progress.mutex_};
    progress.done_ = done;
    progress.total_ = total;
    ++progress.beats_;
    progress.changed_.notify_all();
    return progress.cancelled_ ? -ECANCELED : 0;
  }

  /// A sign of life between two calls.
  void beat() { static_cast<void>(report(0, 0, this)); }

  /// Who may be waited for: told when the deadline passes.
  void note(std::string who) {
    const std::lock_guard lock{mutex_};
    note_ = std::move(who);
  }
  [[nodiscard]] bool cancelled() const {
    const std::lock_guard lock{mutex_};
    return cancelled_;
  }

  /// From now on the verb only looks, up to `begin`: a deadline that passes meanwhile leaves everything as it is.
  void look() {
    const std::lock_guard lock{mutex_};
    looks_ = true;
  }
  /// Now it changes something. Errors: cancelled, when nobody wants that any more.
  Result<void> begin() {
    const std::lock_guard lock{mutex_};
    if (cancelled_) return fail(Errc::cancelled, "stopped before anything was changed");
    looks_ = false;
    return {};
  }

 protected:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t beats_ = 0;
  bool cancelled_ = false;
  bool looks_ = false;
  std::string note_;
};

/// One call of `Verb`, shared between its worker and the one who waits for it.
template <class T>
class RbdCall : public RbdProgress {
 public:
  void finish(Result<T> result) {
    const std::lock_guard lock{mutex_};
    result_ = std::move(result);
    changed_.notify_all();
  }

  void cancel() {
    const std::lock_guard lock{mutex_};
    cancelled_ = true;
    changed_.notify_all();
  }

  /// Waits as long as there are signs of life, and passes them on in the caller's thread.
  Result<T> wait(std::chrono::milliseconds timeout, const Progress& progress, const std::string& doing) {
    std::unique_lock lock{mutex_};
    std::uint64_t seen = 0;
    for (;;) {
      const bool alive = changed_.wait_for(lock, timeout, [&] { return result_ || beats_ != seen; });
      if (!alive) break;
      const bool news = beats_ != seen && total_ != 0;
      seen = beats_;
      if (news) {
        const std::uint64_t done = done_;
        const std::uint64_t total = total_;
        lock.unlock();  // the worker must not wait for the user's code
        progress(done, total);
        lock.lock();
      }
      if (result_) return std::move(*result_);
    }
    cancelled_ = true;  // nobody wants it any more
    return fail(Error{looks_ ? Errc::timed_out : Errc::outcome_unknown,
                      doing + ": no answer within " + std::to_string(timeout.count()) + " ms" +
                          (note_.empty() ? "" : ", perhaps because of " + note_),
                      native_errno(ETIMEDOUT)}
                    .advise(looks_ ? rbd_hint(ETIMEDOUT)
                                   : "look at the volume before you repeat it; a client that died is given up after "
                                     "30 s"));
  }

 private:
  std::optional<Result<T>> result_;
};

/// Runs `verb(RbdProgress&)`, also when the program was asked to stop: for what must happen, like closing.
template <class Verb>
auto rbd_run_always(const RbdPoolPtr& pool, const std::string& doing, const Work& work, Verb verb)
    -> std::invoke_result_t<Verb&, RbdProgress&> {
  using T = typename std::invoke_result_t<Verb&, RbdProgress&>::value_type;
  const auto call = std::make_shared<RbdCall<T>>();
  try {
    std::thread{[call, keep = pool, verb = std::optional<Verb>{std::move(verb)}]() mutable {
      auto result = (*verb)(*call);
      if (!result && result.error().native() == native_errno(ESHUTDOWN)) keep->cluster->retire();
      // All references go before the caller hears of it: the last one disconnects, and a program that ends while
      // another thread does that finds librados without its statics.
      verb.reset();
      keep.reset();
      call->finish(std::move(result));
    }}.detach();
  } catch (const std::system_error& error) {
    return fail(Errc::backend_failed, doing + ": no thread for it", error.code());
  }
  const std::stop_callback by_work{work.stop, [&] { call->cancel(); }};
  const std::stop_callback by_program{pool->options.stop, [&] { call->cancel(); }};
  return call->wait(pool->options.timeout, work.progress, doing);
}

/// Runs `verb(RbdProgress&)` and comes back at the latest when it showed no sign of life for `OpenOptions::timeout`.
/// `verb` holds copies: it may outlive the caller. It keeps the pool alive, and closes what it opened.
/// Errors: those of `verb`; when it did not come back outcome_unknown, or timed_out while it only looked; cancelled,
/// before it began.
template <class Verb>
auto rbd_run(const RbdPoolPtr& pool, const std::string& doing, const Work& work, Verb verb)
    -> std::invoke_result_t<Verb&, RbdProgress&> {
  if (work.stop.stop_requested() || pool->options.stop.stop_requested()) {
    return fail(Errc::cancelled, doing + ": stopped before it began");
  }
  return rbd_run_always(pool, doing, work, std::move(verb));
}

}  // namespace stowage::detail
