#pragma once
// Whether a queue sleeps for a moment before it looks for answers, and for how long.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

namespace stowage::detail {

/// With many requests in flight, a fast target has the next answer ready before the last one was dealt with, and to
/// wake us for each costs both sides more than the answers do. So the queue sleeps, for as long as an eighth of what is
/// in flight takes, and finds them together. The more often that brought no two answers, the less often it does so: a
/// slow target wakes us with each.
class IscsiPace {
 public:
  static constexpr std::size_t many = 16;  ///< requests in flight; with 8 it was no faster

  /// Whether to sleep for a `moment` now: not twice for the same answers.
  [[nodiscard]] bool rests(std::size_t in_flight) noexcept {
    if (in_flight < many || rested_) return false;
    if (skips_ > 0) return --skips_, false;
    return rested_ = true;
  }
  /// The kernel adds up to 50 us.
  [[nodiscard]] std::chrono::nanoseconds moment() const noexcept { return moment_; }

  /// What came, and what is still in flight.
  void answered(std::size_t count, std::size_t in_flight) noexcept {
    if (count == 0 || !std::exchange(rested_, false)) return;
    pause_ = count > 1 ? 0 : std::min(2 * pause_ + 1, longest_pause);
    skips_ = pause_;
    const std::size_t wanted = (count + in_flight) / 8;
    if (count == 1 || count >= 2 * wanted) {
      moment_ = std::max(moment_ / 2, shortest);
    } else if (count < wanted) {
      moment_ = std::min(2 * moment_, longest);
    }
  }

 private:
  static constexpr std::chrono::nanoseconds shortest = std::chrono::microseconds{10};
  static constexpr std::chrono::nanoseconds longest = std::chrono::microseconds{160};
  static constexpr unsigned longest_pause = 63;

  std::chrono::nanoseconds moment_ = std::chrono::microseconds{20};
  bool rested_ = false;
  unsigned pause_ = 0;  // so many times it does not rest after one answer alone
  unsigned skips_ = 0;  // of those, still to come
};

}  // namespace stowage::detail
