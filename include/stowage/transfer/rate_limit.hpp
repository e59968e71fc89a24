#pragma once
// So many bytes a second, and no more.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stowage/core/bytes.hpp>

namespace stowage {

/// Says when work may begin. It is told the time, and asks no clock. What was not used in a pause is lost, but for a
/// tenth of a second.
class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;

  /// Zero: no limit.
  explicit RateLimit(Bytes per_second = Bytes{}) noexcept : per_second_{per_second.count} {}

  /// When the next work may begin. Never later than what was begun takes at that rate.
  [[nodiscard]] Clock::time_point next() const noexcept { return next_; }
  [[nodiscard]] bool allows(Clock::time_point now) const noexcept { return now >= next_; }

  /// `bytes` are begun now. Pre: `allows(now)`.
  void begin(Clock::time_point now, std::uint64_t bytes) noexcept {
    if (per_second_ == 0) return;
    constexpr std::chrono::milliseconds burst{100};
    const std::chrono::duration<double> cost{static_cast<double>(bytes) / static_cast<double>(per_second_)};
    next_ = std::max(next_, now - burst) + std::chrono::duration_cast<Clock::duration>(cost);
  }

 private:
  std::uint64_t per_second_;
  Clock::time_point next_{};
};

}  // namespace stowage
