#pragma once
// What is behind an `IscsiQueue`: requests are cut into pieces, one SCSI command each, which go over whichever session
// is up and are sent again when a session was lost.

#include <poll.h>
#include <time.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <stowage/backends/detail/iscsi_lane.hpp>
#include <stowage/backends/detail/iscsi_pace.hpp>
#include <stowage/backends/detail/iscsi_piece.hpp>
#include <stowage/backends/detail/iscsi_watch.hpp>
#include <stowage/core/error.hpp>
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

  /// Logs in so many times. Errors: of a login; identity_changed; backend_failed (no descriptor is left).
  Result<void> open(std::size_t sessions) {
    if (auto good = watch_.open(sessions); !good) return good;
    lanes_.reserve(sessions);
    for (std::size_t n = 0; n < sessions; ++n) {
      lanes_.push_back(std::make_unique<IscsiLane>(connector_, cutter_.lun(), watch_.wake()));
      if (auto good = lanes_.back()->open(); !good) return good;
      watch_.add(*lanes_.back());
    }
    return {};
  }

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
    std::optional<SigpipeBlock> quiet;
    if (writers_ > 0) quiet.emplace();
    const auto up = lanes_in(IscsiLane::State::up);
    // What was sent only now has no answer yet: the read that would tell so is saved.
    const bool was_idle = lanes_.size() == 1 && lanes_.front()->in_flight() == 0;
    const bool sent = send(now);
    if (!was_idle || !sent) receive(now);
    settle(now);
    if (unfinished_ > 0 && now >= look_at_) expire(now);
    static_cast<void>(send(now));
    if (quiet && lanes_in(IscsiLane::State::up) == up) quiet->calm();
    for (const auto& lane : lanes_) {
      if (unfinished_ > 0 && !changed_ && lane->needs_restoring(now)) restore(*lane);
    }
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
    Readiness ready = watch_.ready(*lanes_.front());
    if (fresh_ || !done_.empty()) {
      ready.tick = {};
    } else if (unfinished_ > 0) {
      Clock::time_point until = look_at_;
      if (!waiting_.empty()) until = std::min(until, waiting_.front()->when);
      for (const auto& lane : lanes_) {
        until = std::min(until, lane->wake_at());
        if (has_commands()) until = std::min(until, lane->calm_at());
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

  [[nodiscard]] std::ptrdiff_t lanes_in(IscsiLane::State state) const noexcept {
    return std::count_if(lanes_.begin(), lanes_.end(), [&](const auto& lane) { return lane->state() == state; });
  }

  [[nodiscard]] bool has_commands() const noexcept {
    return !unsent_.empty() || (!uncut_.empty() && !free_pieces_.empty());
  }

  /// Sends what there is to be sent, as far as there are sessions and pieces. Says whether it did.
  bool send(Clock::time_point now) {
    while (!waiting_.empty() && waiting_.front()->when <= now) unsent_.push(*waiting_.pop());
    std::size_t sent = 0;
    while (has_commands()) {
      IscsiLane* const lane = choose_lane(now);
      if (lane == nullptr) break;
      Piece& piece = unsent_.empty() ? cut() : *unsent_.pop();
      piece.lane = lane;
      if (lane->send(piece, now)) {
        ++sent;
      } else {
        unsent_.push(piece);
      }
    }
    flush(now, sent > lanes_.size() && in_flight_ >= IscsiPace::many);
    return sent > 0;
  }

  /// The one with the least to do. Nothing: none is up.
  IscsiLane* choose_lane(Clock::time_point now) {
    IscsiLane* best = nullptr;
    for (const auto& lane : lanes_) {
      if (lane->takes_commands(now) && (best == nullptr || lane->in_flight() < best->in_flight())) best = lane.get();
    }
    return best;
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
      return request.error != 0 ? finish(piece, 0) : unsent_.push(piece);
    }
    if (request.error != 0) return finish(piece, 0);
    if (piece.attention()) {  // it was not executed
      piece.lane->suspect();
      return unsent_.push(piece);
    }
    if (piece.busy()) {
      piece.when = now + busy_pause;
      return waiting_.push(piece);
    }
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
    request.in_doubt = request.in_doubt || (piece.in_doubt && !piece.good());
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

  /// Takes the request out of everything but the sessions; it is complete when those have given it back.
  void fail_request(Request& request, int error) {
    if (request.error == 0) request.error = error;
    uncut_.remove(request);
    for (auto* pieces : {&unsent_, &waiting_}) {
      pieces->remove_if([&](Piece& piece) {
        if (piece.request != &request) return false;
        request.in_doubt = request.in_doubt || piece.in_doubt;
        --request.outstanding;
        free_pieces_.push(piece);
        return true;
      });
    }
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

  void restore(IscsiLane& lane) {
    if (lane.state() == IscsiLane::State::down && lane.session() != nullptr) trouble_ = lane.session()->loss();
    if (lane.state() == IscsiLane::State::up) watch_.remove(lane);
    lane.restore();
  }

  /// Takes lanes back from their threads. The descriptor is read before the look, and a thread ends after it has
  /// written: so nothing is missed, and nothing is left in it.
  void take_back(Clock::time_point now) {
    for (bool more = lanes_in(IscsiLane::State::away) > 0; std::exchange(more, false);) {
      watch_.drain_wake();
      for (const auto& lane : lanes_) {
        if (!lane->restored()) continue;
        more = true;
        if (auto good = lane->finish_restoring(); !good) {
          learn(std::move(good.error()), now);
        } else {
          outage_ = 0;
          watch_.add(*lane);
        }
      }
    }
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
    if (lanes_in(IscsiLane::State::down) == std::ssize(lanes_))
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
  Fifo<Piece> unsent_;
  Fifo<Piece> waiting_;   // for a busy target
  Fifo<Piece> answered_;  // and not yet looked at
  IscsiWatch watch_;
  std::vector<std::unique_ptr<IscsiLane>> lanes_;  // last, so that they go first: commands in flight point into all
};

}  // namespace stowage::detail
