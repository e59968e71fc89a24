#pragma once
// The sessions of a queue, and the one descriptor that watches them all.

#include <poll.h>
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_lane.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/backends/detail/iscsi_watch.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <utility>
#include <vector>

namespace stowage::detail {

class IscsiLanes {
 public:
  using Clock = IscsiLane::Clock;

  /// Logs in so many times. Errors: of a login; identity_changed; backend_failed (no descriptor is left).
  Result<void> open(const std::shared_ptr<const IscsiConnector>& connector, const OpenedLun& lun,
                    std::size_t sessions) {
    if (auto good = watch_.open(sessions); !good) return good;
    lanes_.reserve(sessions);
    for (std::size_t n = 0; n < sessions; ++n) {
      lanes_.push_back(std::make_unique<IscsiLane>(connector, lun, watch_.wake()));
      if (auto good = lanes_.back()->open(); !good) return good;
      watch_.add(*lanes_.back());
    }
    return {};
  }

  [[nodiscard]] auto begin() const noexcept { return lanes_.begin(); }
  [[nodiscard]] auto end() const noexcept { return lanes_.end(); }
  [[nodiscard]] std::size_t size() const noexcept { return lanes_.size(); }
  [[nodiscard]] std::size_t count(IscsiLane::State state) const noexcept {
    return static_cast<std::size_t>(
        std::count_if(begin(), end(), [&](const auto& lane) { return lane->state() == state; }));
  }
  /// There is one, and it has no command in flight.
  [[nodiscard]] bool only_one_and_idle() const noexcept { return size() == 1 && lanes_.front()->in_flight() == 0; }
  [[nodiscard]] Readiness ready() const noexcept { return watch_.ready(*lanes_.front()); }

  /// The one with the least to do. Nothing: none is up.
  IscsiLane* choose(Clock::time_point now) {
    IscsiLane* best = nullptr;
    for (const auto& lane : lanes_) {
      if (lane->takes_commands(now) && (best == nullptr || lane->in_flight() < best->in_flight())) best = lane.get();
    }
    return best;
  }

  void flush(Clock::time_point now, bool together) {
    for (const auto& lane : lanes_) {
      if (lane->state() != IscsiLane::State::up) continue;
      if ((lane->socket().events & POLLOUT) != 0) lane->service(POLLOUT, now, together);
      if (lane->state() == IscsiLane::State::up) watch_.update(*lane);
    }
  }

  void receive(Clock::time_point now) {
    watch_.for_readable(lanes_, [&](IscsiLane& lane) { lane.service(POLLIN, now); });
  }

  /// Has those that need it put in order by threads of their own. What was the matter with them goes into `trouble`.
  void restore(Clock::time_point now, std::optional<Error>& trouble) {
    for (const auto& lane : lanes_) {
      if (!lane->needs_restoring(now)) continue;
      if (lane->state() == IscsiLane::State::down && lane->session() != nullptr) trouble = lane->session()->loss();
      if (lane->state() == IscsiLane::State::up) watch_.remove(*lane);
      if (auto begun = lane->restore(); !begun) trouble = std::move(begun.error());
    }
  }

  /// Takes lanes back from their threads: `each(lane, outcome)`. The descriptor is read before the look, and a thread
  /// ends after it has written: so nothing is missed, and nothing is left in it.
  template <class Each>
  void take_back(Each each) {
    for (bool more = count(IscsiLane::State::away) > 0; std::exchange(more, false);) {
      watch_.drain_wake();
      for (const auto& lane : lanes_) {
        if (!lane->restored()) continue;
        more = true;
        auto outcome = lane->finish_restoring();
        if (outcome) watch_.add(*lane);
        each(*lane, std::move(outcome));
      }
    }
  }

 private:
  IscsiWatch watch_;
  std::vector<std::unique_ptr<IscsiLane>> lanes_;
};

}  // namespace stowage::detail
