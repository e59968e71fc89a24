#pragma once
// The runs of verbs that go on in this process. A run lives as long as its `Run`, whatever thread holds that: also when
// its caller was told `outcome_unknown`, and the library below has the call still.

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/intent/record.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// A call that its caller no longer waits for, and that may still have its effect.
struct PendingCall {
  std::string verb;
  std::string object;
  std::chrono::steady_clock::time_point since;
};

namespace detail {

/// All runs of this process, by nonce.
class RunRegistry {
 public:
  /// Never destroyed: a run may end in a thread that outlives main.
  static RunRegistry& of_process() {
    static auto& registry = *new RunRegistry;
    return registry;
  }

  void begin(const std::string& nonce, std::string verb, std::string object) {
    const std::lock_guard lock{mutex_};
    runs_.emplace(nonce, PendingCall{std::move(verb), std::move(object), {}});
  }
  void end(const std::string& nonce) {
    const std::lock_guard lock{mutex_};
    runs_.erase(nonce);
  }
  void abandon(const std::string& nonce) {
    const std::lock_guard lock{mutex_};
    if (const auto found = runs_.find(nonce); found != runs_.end()) {
      found->second.since = std::chrono::steady_clock::now();
    }
  }
  bool has(const std::string& nonce) {
    const std::lock_guard lock{mutex_};
    return runs_.contains(nonce);
  }
  std::vector<PendingCall> pending() {
    const std::lock_guard lock{mutex_};
    std::vector<PendingCall> calls;
    for (const auto& [nonce, call] : runs_) {
      if (call.since != std::chrono::steady_clock::time_point{}) calls.push_back(call);
    }
    return calls;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, PendingCall> runs_;
};

}  // namespace detail

/// A run of a verb: alive from `begin` until it is destroyed.
class Run {
 public:
  /// Errors: backend_failed.
  [[nodiscard]] static Result<Run> begin(std::string verb, std::string object) {
    return new_nonce().map([&](std::string nonce) {
      return Run{std::move(nonce), std::move(verb), std::move(object)};
    });
  }
  Run(Run&& other) noexcept : nonce_{std::exchange(other.nonce_, {})} {}
  Run& operator=(Run&& other) noexcept {
    std::swap(nonce_, other.nonce_);
    return *this;
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    if (!nonce_.empty()) detail::RunRegistry::of_process().end(nonce_);
  }

  [[nodiscard]] const std::string& nonce() const noexcept { return nonce_; }
  /// Its caller gives up waiting; `pending_calls` names it from now on.
  void abandon() const { detail::RunRegistry::of_process().abandon(nonce_); }

 private:
  Run(std::string nonce, std::string verb, std::string object) : nonce_{std::move(nonce)} {
    detail::RunRegistry::of_process().begin(nonce_, std::move(verb), std::move(object));
  }

  std::string nonce_;
};

/// The calls of this process, on all storages, that nobody waits for any more and that have not come back.
inline std::vector<PendingCall> pending_calls() { return detail::RunRegistry::of_process().pending(); }

/// Whether the run that a record names goes on. `elsewhere`: what the storage itself knows of runs of other hosts (a
/// lease, say), for those that this host cannot judge.
inline Liveness liveness(const Intent& intent, Liveness elsewhere = Liveness::unknown) {
  if (intent.format != IntentFormat::current) return Liveness::unknown;
  if (intent.owner.same_process(this_process())) {
    return detail::RunRegistry::of_process().has(intent.nonce) ? Liveness::live : Liveness::dead;
  }
  const Liveness here = liveness_here(intent.owner);
  return here == Liveness::unknown ? elsewhere : here;
}

}  // namespace stowage
