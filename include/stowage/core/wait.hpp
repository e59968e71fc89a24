#pragma once
// Waiting for something that nobody announces.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace stowage::detail {

/// How a wait ended.
enum class Waited { done, timed_out, stopped };

/// Calls `done` until it says yes. The pauses grow with the wait, from a millisecond to 20; a stop ends them at once.
/// `done` is asked once at least, and once more when the time is over.
template <class Done>
Waited wait_until(Done done, std::chrono::steady_clock::time_point deadline, const std::stop_token& stop) {
  using std::chrono::milliseconds;
  std::mutex mutex;
  std::condition_variable_any sleep;
  std::unique_lock lock{mutex};
  for (milliseconds pause{1};; pause = std::min(2 * pause, milliseconds{20})) {
    if (done()) return Waited::done;
    if (stop.stop_requested()) return Waited::stopped;
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return Waited::timed_out;
    sleep.wait_until(lock, stop, std::min<std::chrono::steady_clock::time_point>(now + pause, deadline),
                     [] { return false; });
  }
}

}  // namespace stowage::detail
