#pragma once
// The pieces that are still to be sent, and which of them may be sent by one session only.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stowage/backends/detail/iscsi_lane.hpp>
#include <stowage/backends/detail/iscsi_piece.hpp>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A change that was sent and got no answer may still be carried out by the session that it was sent on, until that
/// session has ended. A login with the same initiator name and ISID to the same portal group ends it (RFC 7143, 6.3.5);
/// a login of another lane does not. So such a piece is repeated by its own lane only; and when its request has failed
/// meanwhile, a later change of the same range waits for that lane, too: the caller may have built on its completion.
class IscsiBacklog {
 public:
  using Clock = IscsiLane::Clock;

  void reserve(std::size_t pieces) { open_.reserve(pieces); }

  /// Any lane may send it.
  void push(IscsiPiece& piece) noexcept { unsent_.push(piece); }
  /// Any lane, from then on.
  void push_later(IscsiPiece& piece, Clock::time_point when) noexcept {
    piece.when = when;
    later_.push(piece);
  }
  /// Only `piece.lane` may send it.
  void push_bound(IscsiPiece& piece) noexcept { bound_.push(piece); }

  [[nodiscard]] bool has_unsent() const noexcept { return !unsent_.empty(); }
  [[nodiscard]] bool has_bound() const noexcept { return !bound_.empty(); }
  /// Pre: `has_unsent`.
  IscsiPiece& pop() noexcept { return *unsent_.pop(); }
  /// All that are bound to a lane; those that cannot be sent yet are to be pushed again.
  [[nodiscard]] Fifo<IscsiPiece> take_bound() noexcept { return std::exchange(bound_, {}); }
  /// Those whose time has come may be sent now.
  void ripen(Clock::time_point now) noexcept {
    while (!later_.empty() && later_.front()->when <= now) unsent_.push(*later_.pop());
  }
  [[nodiscard]] Clock::time_point ripens_at() const noexcept {
    return later_.empty() ? Clock::time_point::max() : later_.front()->when;
  }

  /// Gives all pieces of a request to `each`.
  template <class Each>
  void remove(const IscsiRequest& request, Each each) {
    for (auto* pieces : {&unsent_, &later_, &bound_}) {
      pieces->remove_if([&](IscsiPiece& piece) {
        if (piece.request != &request) return false;
        each(piece);
        return true;
      });
    }
  }

  /// The request of `piece` fails, and its lane may still carry the piece out until it is logged in again.
  void leave_open(const IscsiPiece& piece) {
    if (piece.lane->state() == IscsiLane::State::up) return;
    const IscsiRequest& request = *piece.request;
    open_.push_back({piece.lane, request.what.offset.count, request.what.offset.count + request.length});
  }
  /// The lane is logged in again.
  void settle(const IscsiLane& lane) {
    if (open_.empty()) return;
    open_.erase(std::remove_if(open_.begin(), open_.end(), [&](const Open& each) { return each.lane == &lane; }),
                open_.end());
  }
  /// The lane that may still change what this request changes. Null: none.
  [[nodiscard]] IscsiLane* awaited_by(const IscsiRequest& request) const noexcept {
    if (open_.empty() || !request.writes()) return nullptr;
    const std::uint64_t begin = request.what.offset.count;
    const std::uint64_t end = begin + request.length;
    const auto found = std::find_if(open_.begin(), open_.end(),
                                    [&](const Open& each) { return each.begin < end && begin < each.end; });
    return found == open_.end() ? nullptr : found->lane;
  }

 private:
  struct Open {
    IscsiLane* lane;
    std::uint64_t begin;
    std::uint64_t end;
  };

  Fifo<IscsiPiece> unsent_;
  Fifo<IscsiPiece> later_;  // for a busy target
  Fifo<IscsiPiece> bound_;
  std::vector<Open> open_;
};

}  // namespace stowage::detail
