#pragma once
// Being told when a storage fills up or goes away, once for each time that it does.

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/volume.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// What of a `Status` is watched.
enum class Gauge : std::uint8_t {
  used,         ///< in percent of the total
  metadata,     ///< of the total of metadata
  provisioned,  ///< what volumes may grow to, in percent of the total: above 100 is overcommitment
  down,         ///< 100 when the storage does not answer or is not active, else 0
};

/// The enumerator as text: a stable word for JSON and logs.
constexpr std::string_view name(Gauge gauge) noexcept {
  constexpr std::array<std::string_view, 4> names{"used", "metadata", "provisioned", "down"};
  return names[static_cast<std::size_t>(gauge)];
}

/// A gauge that is worth a word from `percent` upwards, and again when it has fallen `hysteresis` below that.
struct Threshold {
  Gauge gauge = Gauge::used;
  double percent = 90;
  double hysteresis = 2;
};

/// A gauge went over its threshold, or came back.
struct Crossing {
  Threshold threshold;
  bool above = false;
  double percent = 0;  ///< now
};

/// Remembers on which side of each threshold a storage is. It takes any storage to be below all of them at first.
class StatusWatch {
 public:
  explicit StatusWatch(const std::vector<Threshold>& thresholds) {
    for (const Threshold& threshold : thresholds) gauges_.emplace_back(threshold, false);
  }

  /// What this status, or failure to get one, has crossed, in the order of the thresholds. What it does not tell stays
  /// on its side.
  [[nodiscard]] std::vector<Crossing> look(const Result<Status>& status) {
    std::vector<Crossing> crossed;
    for (auto& [threshold, above] : gauges_) {
      const auto now = percent(threshold.gauge, status);
      if (!now) continue;
      const bool is = *now >= threshold.percent || (above && *now > threshold.percent - threshold.hysteresis);
      if (std::exchange(above, is) != is) crossed.push_back({threshold, is, *now});
    }
    return crossed;
  }

 private:
  static std::optional<double> share(const std::optional<Bytes>& part, const std::optional<Bytes>& whole) {
    if (!part || !whole || whole->count == 0) return std::nullopt;
    return 100 * static_cast<double>(part->count) / static_cast<double>(whole->count);
  }
  static std::optional<double> percent(Gauge gauge, const Result<Status>& status) {
    if (gauge == Gauge::down) return status && status->active ? 0 : 100;
    if (!status) return std::nullopt;
    if (gauge == Gauge::metadata) return share(status->metadata_used, status->metadata_total);
    return share(gauge == Gauge::used ? status->used : status->provisioned, status->total);
  }

  std::vector<std::pair<Threshold, bool>> gauges_;
};

/// Asks a storage for its status every `interval`, and calls `on(crossing)` for what has been crossed, from the
/// caller's thread. In a thread of its own: `start([&](const Work& work) { return watch(storage, ..., work.stop, on);
/// })`. Errors: cancelled, when it was told to stop; there is no other end. Blocks: until then.
template <class Storage, class On>
Result<void> watch(const Storage& storage, StatusWatch thresholds, std::chrono::milliseconds interval,
                   const std::stop_token& stop, On on) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  for (auto next = std::chrono::steady_clock::now(); !stop.stop_requested();) {
    for (const Crossing& crossing : thresholds.look(storage.status())) on(crossing);
    next = std::max(next + interval, std::chrono::steady_clock::now());  // a slow storage is not asked twice for it
    std::unique_lock lock{mutex};
    stopped.wait_until(lock, stop, next, [] { return false; });
  }
  return fail(Errc::cancelled, "watching: told to stop");
}

}  // namespace stowage
