#pragma once
// One line on stderr that says how far long work has come: bytes, rate, time left.

#include "command.hpp"

#include <unistd.h>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

namespace stowctl {

/// 1234567890 -> "1.1 GiB"
inline std::string human_size(double bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < units.size(); ++unit) bytes /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text.data();
}

class ProgressLine {
 public:
  enum class Unit { bytes, steps };  // what the numbers count: only bytes have a rate

  ProgressLine(const Options& options, std::string what, Unit unit)
      : what_{std::move(what)},
        unit_{unit},
        shown_{options.progress == "always" || (options.progress == "auto" && ::isatty(STDERR_FILENO) != 0)} {}
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }

  [[nodiscard]] stowage::Progress progress() noexcept {
    if (!shown_) return {};
    return {[](void* self, std::uint64_t done, std::uint64_t total) {
              static_cast<ProgressLine*>(self)->draw(static_cast<double>(done), static_cast<double>(total));
            },
            this};
  }

 private:
  using Clock = std::chrono::steady_clock;

  void draw(double done, double total) {
    const Clock::time_point now = Clock::now();
    if (drawn_ && now - last_ < std::chrono::milliseconds{200} && done < total) return;
    last_ = now;
    drawn_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    std::string line = what_;
    if (unit_ == Unit::bytes) {
      line += "  " + human_size(done) + " of " + human_size(total);
      if (seconds > 0.5) line += "  " + human_size(done / seconds) + "/s";
    }
    if (total > 0) line += "  " + std::to_string(static_cast<int>(100 * done / total)) + "%";
    if (seconds > 0.5 && done > 0 && total > done) {
      const auto left = static_cast<std::int64_t>(seconds / done * (total - done)) + 1;
      std::array<char, 32> clock{};
      std::snprintf(clock.data(), clock.size(), "%lld:%02lld", static_cast<long long>(left / 60),
                    static_cast<long long>(left % 60));
      line += "  " + std::string{clock.data()} + " left";
    }
    std::fprintf(stderr, "\r%s\033[K", line.c_str());
  }

  std::string what_;
  Unit unit_;
  bool shown_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_{};
};

}  // namespace stowctl
