#pragma once
// What is behind an `IscsiQueue`: requests are cut into pieces, one SCSI command each, which go over whichever session
// is up. When a session was lost, its pieces are sent again: changes by that session only, the others by any.

#include <poll.h>
#include <time.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stowage/backends/detail/iscsi_backlog.hpp>
#include <stowage/backends/detail/iscsi_lane.hpp>
#include <stowage/backends/detail/iscsi_lanes.hpp>
#include <stowage/backends/detail/iscsi_pace.hpp>
#include <stowage/backends/detail/iscsi_piece.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/sigpipe.hpp>
#include <stowage/io/queue.hpp>
#include <utility>
#include <vector>

namespace stowage::detail {

/// It stays where it is: libiscsi has the addresses of its commands. See `IscsiQueue` for what it does.
class IscsiEngine {
 public:
  using Clock = IscsiLane::Clock;

  IscsiEngine(std::shared_ptr<const IscsiConnector> connector, OpenedLun lun, std::size_t depth)
      : connector_{std::move(connector)},
        timeout_{connector_->options().timeout},
        cutter_{std::move(lun)},
        target_{cutter_.lun().disk.capacity.size, cutter_.lun().disk.capacity.block,
                cutter_.lun().access == Access::read_write},
        requests_(depth),
        pieces_(std::max(depth, fewest_pieces)) {
    backlog_.reserve(pieces_.size());
    for (IscsiRequest& request : requests_) free_requests_.push(request);
    for (IscsiPiece& piece : pieces_) {
      piece.engine = this;
      piece.on_answer = [](IscsiCommand& command) noexcept {
        auto& answered = static_cast<IscsiPiece&>(command);
        static_cast<IscsiEngine*>(answered.engine)->answered_.push(answered);
      };
      free_pieces_.push(piece);
    }
  }
  IscsiEngine(const IscsiEngine&) = delete;
  IscsiEngine& operator=(const IscsiEngine&) = delete;
  /// Waits for what is in flight: the buffers are lent. Blocks: at most until the last deadline.
  ~IscsiEngine() {
    while (unfinished_ > 0) {
      static_cast<void>(reap({}));
      const Readiness wanted = ready();
      ::pollfd poll{wanted.fd, wanted.events, 0};
      if (unfinished_ > 0) static_cast<void>(::poll(&poll, 1, static_cast<int>(wanted.tick.count())));
    }
  }

  /// Logs in so many times. Errors: as `IscsiLanes::open`.
  Result<void> open(std::size_t sessions) { return lanes_.open(connector_, cutter_.lun(), sessions); }

  Submitted submit(const IoRequest& what) noexcept {
    const auto length = request_length(what, target_);
    if (!length) return Submitted::invalid;
    if (free_requests_.empty()) return Submitted::queue_full;
    IscsiRequest& request = *free_requests_.pop();
    request.begin(what, *length, Clock::now() + timeout_);
    if (unfinished_ == 0 || request.deadline < look_at_) look_at_ = request.deadline;
    ++in_flight_;
    ++unfinished_;
    if (request.writes()) ++writers_;
    if (changed_) {
      fail_request(request, -ESTALE);
    } else if (!cutter_.has_work(request)) {
      complete(request);
    } else {
      uncut_.push(request);
    }
    fresh_ = true;
    return Submitted::yes;
  }

  std::size_t reap(std::span<IoCompletion> out) {
    const Clock::time_point now = Clock::now();
    fresh_ = false;
    take_back(now);
    std::optional<NoSigpipe> quiet;
    if (writers_ > 0) quiet.emplace();
    const std::size_t up = lanes_.count(IscsiLane::State::up);
    // What was sent only now has no answer yet: the read that would tell so is saved.
    const bool was_idle = lanes_.only_one_and_idle();
    const bool sent = send(now);
    if (!was_idle || !sent) lanes_.receive(now);
    settle(now);
    if (unfinished_ > 0 && now >= look_at_) expire(now);
    static_cast<void>(send(now));
    settle(now);  // a lane is restored only after it is known what it has lost
    if (quiet && lanes_.count(IscsiLane::State::up) == up) quiet->calm();
    if (unfinished_ > 0 && !changed_) lanes_.restore(now, trouble_);
    last_reap_ = now;
    std::size_t count = 0;
    for (; count < out.size() && !done_.empty(); ++count) {
      IscsiRequest& request = *done_.pop();
      out[count] = {request.what.token, request.result()};
      free_requests_.push(request);
      --in_flight_;
    }
    pace_.answered(count, in_flight_);
    return count;
  }

  /// Waits until there may be something to reap: for a moment, see `IscsiPace`, or until something comes.
  void sleep(std::chrono::milliseconds most) {
    const Readiness wanted = ready();
    if (wanted.tick.count() == 0 || !pace_.rests(in_flight_)) return poll_for(wanted, most);
    const ::timespec moment{0, pace_.moment().count()};
    static_cast<void>(::nanosleep(&moment, nullptr));
  }

  [[nodiscard]] Readiness ready() const noexcept {
    Readiness ready = lanes_.ready();
    if (fresh_ || !done_.empty()) {
      ready.tick = {};
    } else if (unfinished_ > 0) {
      Clock::time_point until = std::min(look_at_, backlog_.ripens_at());
      for (const auto& lane : lanes_) {
        until = std::min(until, lane->wake_at());
        if (has_commands() || backlog_.has_bound()) until = std::min(until, lane->calm_at());
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      ready.tick = std::clamp(left, std::chrono::milliseconds{}, ready.tick);
    }
    return ready;
  }

  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] std::size_t depth() const noexcept { return requests_.size(); }
  [[nodiscard]] const QueueTarget& target() const noexcept { return target_; }
  [[nodiscard]] const Error* trouble() const noexcept { return trouble_ ? &*trouble_ : nullptr; }

 private:
  using Piece = IscsiPiece;
  using Request = IscsiRequest;

  // A large request has several pieces on their way, also in a queue of depth 1.
  static constexpr std::size_t fewest_pieces = 8;
  static constexpr std::chrono::milliseconds busy_pause{50};  // before a busy target is asked again

  [[nodiscard]] bool has_commands() const noexcept {
    return backlog_.has_unsent() || (!uncut_.empty() && !free_pieces_.empty());
  }

  /// Sends what there is to be sent, as far as there are sessions and pieces. Says whether it did.
  bool send(Clock::time_point now) {
    backlog_.ripen(now);
    std::size_t sent = backlog_.has_bound() ? send_bound(now) : 0;
    while (has_commands()) {
      IscsiLane* const lane = lanes_.choose(now);
      if (lane == nullptr) break;
      if (send_by(*lane, backlog_.has_unsent() ? backlog_.pop() : cut(), now)) ++sent;
    }
    lanes_.flush(now, sent > lanes_.size() && in_flight_ >= IscsiPace::many);
    return sent > 0;
  }

  /// Repeats what was lost by lanes that are up again. Says how many.
  std::size_t send_bound(Clock::time_point now) {
    std::size_t sent = 0;
    for (Fifo<Piece> pieces = backlog_.take_bound(); !pieces.empty();) {
      Piece& piece = *pieces.pop();
      IscsiLane& lane = *piece.lane;
      if (piece.request->error != 0) {
        finish(piece, 0);
      } else if (piece.in_doubt && lane.nexus() != piece.nexus) {
        piece.request->unanswered = true;
        finish(piece, -EINPROGRESS);
      } else if (!lane.takes_commands(now)) {
        backlog_.push_bound(piece);
      } else if (send_by(lane, piece, now)) {
        ++sent;
      }
    }
    return sent;
  }

  /// Says whether it is sent; if not, it is in the backlog. Pre: the lane takes commands.
  bool send_by(IscsiLane& lane, Piece& piece, Clock::time_point now) {
    IscsiLane* const awaited = backlog_.awaited_by(*piece.request);
    piece.lane = awaited != nullptr ? awaited : &lane;
    piece.nexus = piece.lane->nexus();
    if (awaited == nullptr && lane.send(piece, now)) return true;
    if (awaited != nullptr || piece.in_doubt) {
      backlog_.push_bound(piece);
    } else {
      backlog_.push(piece);
    }
    return false;
  }

  Piece& cut() {
    Request& request = *uncut_.front();
    Piece& piece = *free_pieces_.pop();
    piece.request = &request;
    piece.in_doubt = false;
    ++request.outstanding;
    if (!cutter_.cut(request, piece)) static_cast<void>(uncut_.pop());
    return piece;
  }

  /// Looks at what came back.
  void settle(Clock::time_point now) {
    while (!answered_.empty()) {
      Piece& piece = *answered_.pop();
      piece.lane->answered();
      judge(piece, now);
    }
  }

  void judge(Piece& piece, Clock::time_point now) {
    Request& request = *piece.request;
    if (piece.good()) {
      const bool short_read = piece.direction == IscsiCommand::Direction::in && piece.received != piece.data.iov_len;
      return finish(piece, short_read ? -EIO : 0);
    }
    if (piece.cancelled()) {  // the session was lost, and with it the answer
      piece.in_doubt = piece.in_doubt || request.writes();
      if (request.error != 0) return finish(piece, 0);
      return piece.in_doubt ? backlog_.push_bound(piece) : backlog_.push(piece);
    }
    if (request.error != 0) return finish(piece, 0);
    if (piece.attention()) {  // it was not executed
      piece.lane->suspect();
      return backlog_.push(piece);
    }
    if (piece.busy()) return backlog_.push_later(piece, now + busy_pause);
    if (piece.unknown_to_lun() && cutter_.another_way(piece)) {
      request.again = true;
      uncut_.remove(request);
      return finish(piece, 0);
    }
    const bool no_cache = request.what.op == IoOp::flush && piece.unknown_to_lun();
    finish(piece, no_cache ? 0 : errno_of_answer(piece));
  }

  /// The piece will not be sent again.
  void finish(Piece& piece, int error) {
    Request& request = *piece.request;
    if (!piece.good()) note_doubt(piece);
    --request.outstanding;
    free_pieces_.push(piece);
    if (error != 0) return fail_request(request, error);
    if (request.outstanding > 0) return;
    if (request.error == 0 && request.again) {
      request.restart();
      uncut_.push(request);
    } else if (request.error != 0 || cutter_.is_cut(request)) {
      complete(request);
    }
  }

  void note_doubt(const Piece& piece) {
    if (!piece.in_doubt) return;
    piece.request->in_doubt = true;
    backlog_.leave_open(piece);
  }

  /// Takes the request out of everything but the sessions; it is complete when those have given it back.
  void fail_request(Request& request, int error) {
    if (request.error == 0) request.error = error;
    uncut_.remove(request);
    backlog_.remove(request, [&](Piece& piece) {
      note_doubt(piece);
      --request.outstanding;
      free_pieces_.push(piece);
    });
    if (request.outstanding == 0) complete(request);
  }

  void complete(Request& request) {
    request.finished = true;
    --unfinished_;
    if (request.writes()) --writers_;
    done_.push(request);
  }

  /// Fails what is over its time. A command cannot be taken back, so the sessions that still have some of it end.
  void expire(Clock::time_point now) {
    look_at_ = Clock::time_point::max();
    for (Request& request : requests_) {
      if (!request.pending()) continue;
      // Handed over since the last `reap`, which comes late: its time begins now.
      if (request.deadline - timeout_ >= last_reap_) request.deadline = std::max(request.deadline, now + timeout_);
      if (request.deadline > now) {
        look_at_ = std::min(look_at_, request.deadline);
        continue;
      }
      request.error = outage_ != 0 ? outage_ : -ETIMEDOUT;
      request.unanswered = true;
      uncut_.remove(request);
    }
    for (const Piece& piece : pieces_) {
      if (piece.state == IscsiCommand::State::in_flight && piece.request->unanswered) {
        piece.lane->give_up(Errc::timed_out, "no answer within " + std::to_string(timeout_.count()) + " ms", now);
      }
    }
    settle(now);
    fail_all([](const Request& request) { return request.unanswered; }, 0);
  }

  template <class Which>
  void fail_all(Which which, int error) {
    for (Request& request : requests_) {
      if (request.pending() && which(request)) fail_request(request, error != 0 ? error : request.error);
    }
  }

  void take_back(Clock::time_point now) {
    lanes_.take_back([&](const IscsiLane& lane, Result<void> outcome) {
      if (!outcome) return learn(std::move(outcome.error()), now);
      outage_ = 0;
      backlog_.settle(lane);
    });
  }

  /// Why a lane could not be restored.
  void learn(Error error, Clock::time_point now) {
    trouble_ = std::move(error);
    const Errc code = trouble_->code();
    outage_ = errno_of_outage(code);
    if (code == Errc::identity_changed) {
      changed_ = true;
      for (const auto& lane : lanes_) lane->give_up(code, trouble_->detail(), now);
      settle(now);
      return fail_all([](const Request&) { return true; }, outage_);
    }
    if (retryable(code) || code == Errc::not_found) return;  // it may come back
    if (lanes_.count(IscsiLane::State::down) == lanes_.size())
      fail_all([](Request& request) { return request.unanswered = true; }, outage_);
  }

  std::shared_ptr<const IscsiConnector> connector_;
  std::chrono::milliseconds timeout_;
  IscsiCutter cutter_;
  QueueTarget target_;
  std::size_t in_flight_ = 0;   // not yet reaped
  std::size_t unfinished_ = 0;  // of those, not yet done
  std::size_t writers_ = 0;     // of those, which change something
  bool fresh_ = false;          // something was submitted since the last `reap`
  bool changed_ = false;        // the LUN is another one
  int outage_ = 0;              // what the last try for a session came to
  IscsiPace pace_;
  std::optional<Error> trouble_;
  Clock::time_point last_reap_{};
  Clock::time_point look_at_ = Clock::time_point::max();  // when the next request may be over its time

  std::vector<Request> requests_;
  std::vector<Piece> pieces_;
  Fifo<Request> free_requests_;
  Fifo<Request> uncut_;  // of which there are pieces to be made
  Fifo<Request> done_;
  Fifo<Piece> free_pieces_;
  Fifo<Piece> answered_;  // and not yet looked at
  IscsiBacklog backlog_;
  IscsiLanes lanes_;  // last, so that they go first: commands in flight point into all
};

}  // namespace stowage::detail
