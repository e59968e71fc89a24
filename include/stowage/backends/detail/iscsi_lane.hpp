#pragma once
// One session of a queue: how it comes up, how it is put in order again without anybody waiting, and that the LUN
// behind it is still the one that was opened.

#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/backends/detail/iscsi_place.hpp>
#include <stowage/backends/detail/iscsi_session.hpp>
#include <stowage/core/error.hpp>
#include <system_error>
#include <thread>
#include <utility>

namespace stowage::detail {

/// A session, and what carries commands over it. It is up; or down, with a time to try again; or away: a thread logs in
/// and asks the LUN who it is, which takes many round trips, and then `wake` becomes readable.
///
/// Once a second before a command is sent, and after a UNIT ATTENTION, the LUN is asked who it is, because tgt puts
/// another LUN into the place of an open one without a word.
/// Threads: one; the thread of its own has the session only while it is away.
class IscsiLane {
 public:
  using Clock = IscsiSession::Clock;
  enum class State : std::uint8_t { down, up, away };

  IscsiLane(std::shared_ptr<const IscsiConnector> connector, OpenedLun lun, int wake)
      : connector_{std::move(connector)}, lun_{std::move(lun)}, wake_{wake}, isid_{random_isid()} {}
  IscsiLane(const IscsiLane&) = delete;
  IscsiLane& operator=(const IscsiLane&) = delete;
  ~IscsiLane() {
    stop_.request_stop();
    if (helper_.joinable()) helper_.join();
  }

  /// Makes the first session. Blocks: as long as a login does. Errors: of a login; identity_changed.
  Result<void> open() { return take(establish(nullptr)); }

  [[nodiscard]] State state() const noexcept { return state_; }
  /// Null when the last try for one failed.
  [[nodiscard]] const IscsiSession* session() const noexcept { return session_.get(); }
  [[nodiscard]] ::pollfd socket() const noexcept { return session_->socket(); }
  /// Another number: the session was made in another portal group than the one before, and so has not ended that one.
  [[nodiscard]] std::uint32_t nexus() const noexcept { return nexus_; }
  /// What the owner has an epoll watch its socket for; its own affair.
  std::uint32_t watched = 0;
  /// How many commands of the caller are on their way.
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  /// When it is to be looked at again, whatever happens.
  [[nodiscard]] Clock::time_point wake_at() const noexcept {
    if (state_ == State::down) return retry_at_;
    return state_ == State::up && probing() ? probe_.when : Clock::time_point::max();
  }
  /// When it is to be asked again whether it takes commands, if there are any.
  [[nodiscard]] Clock::time_point calm_at() const noexcept {
    return state_ == State::up && too_busy() ? probe_.when : Clock::time_point::max();
  }

  /// Whether a command may be sent. If it is time to ask the LUN who it is, that is done first.
  [[nodiscard]] bool takes_commands(Clock::time_point now) {
    constexpr std::chrono::seconds trust{1};  // in what the LUN said of itself
    if (state_ != State::up || suspicious_) return false;
    if (probing()) {
      if (probe_.when <= now) give_up(Errc::timed_out, "the LUN does not say who it is", now);
      return false;
    }
    if (too_busy() && now < probe_.when) return false;
    if (now - verified_ < trust) return true;
    probe_.set(lun_.disk.wire, identity_page).into(answer_);
    session_->submit(probe_, now);
    if (probe_.state != IscsiCommand::State::in_flight) lost(now);
    return false;
  }

  /// Pre: `takes_commands`. False: the session was lost, and the command was not sent.
  bool send(IscsiCommand& command, Clock::time_point now) {
    command.lun = lun_.disk.wire;
    session_->submit(command, now);
    if (command.state == IscsiCommand::State::in_flight) {
      ++in_flight_;
      return true;
    }
    lost(now);
    return false;
  }
  void answered() noexcept { --in_flight_; }

  /// The LUN has said that something happened to it: it is asked who it is before it gets another command.
  void suspect() noexcept { suspicious_ = true; }

  /// Lets libiscsi read or write. Commands may come back, all of them if the session is lost.
  void service(short events, Clock::time_point now, bool together = false) {
    if (state_ != State::up) return;
    if (!session_->service(events, together)) lost(now);
    if (probe_.state == IscsiCommand::State::finished) judge_probe(now);
  }

  /// Ends the session; all its commands come back.
  void give_up(Errc code, std::string why, Clock::time_point now) {
    if (state_ != State::up) return;
    session_->lose(code, std::move(why));
    lost(now);
  }

  /// Whether `restore` would do something: the session is down and it is time, or the LUN is to be asked and all
  /// commands have come back.
  [[nodiscard]] bool needs_restoring(Clock::time_point now) const noexcept {
    return (state_ == State::down && now >= retry_at_) ||
           (state_ == State::up && suspicious_ && in_flight_ == 0 && !probing());
  }
  /// Errors: backend_failed (there is no thread left): the lane is down, and `restore` is wanted again after a while.
  Result<void> restore() {
    finished_.store(false, std::memory_order_relaxed);
    try {
      helper_ = std::thread{[this] {
        outcome_ = establish(std::move(session_));
        finished_.store(true, std::memory_order_release);
        const std::uint64_t one = 1;
        static_cast<void>(::write(wake_, &one, sizeof one) == sizeof one);
      }};
    } catch (const std::system_error& error) {
      session_.reset();
      return take(fail(Errc::backend_failed, "no thread to log in by", error.code()));
    }
    state_ = State::away;
    return {};
  }
  /// The thread has come to an end.
  [[nodiscard]] bool restored() const noexcept {
    return state_ == State::away && finished_.load(std::memory_order_acquire);
  }
  /// What it came to; then the lane is up or down. Pre: `restored`. Errors: as `open`.
  Result<void> finish_restoring() {
    helper_.join();
    return take(*std::exchange(outcome_, std::nullopt));
  }

 private:
  static constexpr std::size_t page_room = 252;
  static constexpr Cdb identity_page = Cdb::vpd(0x83, page_room);
  static constexpr std::chrono::milliseconds pause{100};
  using Page = std::array<std::byte, page_room>;

  struct Established {
    std::unique_ptr<IscsiSession> session;
    std::uint16_t wire = 0;
    Page page{};
    std::size_t page_length = 0;
  };

  /// On the session that there is, or on a new one if it is lost: proves that the LUN is the one that was opened.
  Result<Established> establish(std::unique_ptr<IscsiSession> session) const {
    if (session && !session->lost()) {
      auto same = identify(session);
      if (same || !session->lost()) return same;
    }
    session.reset();
    auto fresh = connector_->connect(isid_, Clock::now() + connector_->options().timeout, stop_.get_token(), home());
    if (!fresh) return fail(std::move(fresh.error()));
    session = *std::move(fresh);
    return identify(session);
  }

  /// Where the session before was made; nothing if there was none.
  [[nodiscard]] std::optional<std::size_t> home() const noexcept {
    return place_ ? std::optional{place_->portal} : std::nullopt;
  }

  Result<Established> identify(std::unique_ptr<IscsiSession>& session) const {
    auto disk = find_disk(*session, lun_.number);
    if (!disk) return fail(std::move(disk.error()));
    if (auto same = lun_.same(*disk, session->where()); !same) return fail(std::move(same.error()));
    Established established;
    IscsiCommand question;  // as the probe will be: a LUN need not have the page
    question.set(disk->wire, identity_page).into(established.page);
    auto answer = session->run(question);
    if (session->lost()) return fail(std::move(answer.error()));
    established.page_length = answer ? question.received : 0;
    established.wire = disk->wire;
    established.session = std::move(session);
    return established;
  }

  Result<void> take(Result<Established> outcome) {
    suspicious_ = false;
    if (!outcome) {
      state_ = State::down;
      retry_at_ = Clock::now() + pause;
      return fail(std::move(outcome.error()));
    }
    session_ = std::move(outcome->session);
    if (place_ && !session_->place().reinstates(*place_)) ++nexus_;
    place_ = session_->place();
    lun_.disk.wire = outcome->wire;
    page_ = outcome->page;
    page_length_ = outcome->page_length;
    verified_ = Clock::now();
    probe_.state = IscsiCommand::State::idle;
    state_ = State::up;
    return {};
  }

  [[nodiscard]] bool probing() const noexcept { return probe_.state == IscsiCommand::State::in_flight; }
  [[nodiscard]] bool too_busy() const noexcept { return probe_.state == IscsiCommand::State::waiting; }

  void lost(Clock::time_point now) {
    if (state_ != State::up || !session_->lost()) return;
    probe_.state = IscsiCommand::State::idle;
    state_ = State::down;
    retry_at_ = now;
  }

  void judge_probe(Clock::time_point now) {
    if (probe_.busy()) {  // which says nothing of who it is
      probe_.state = IscsiCommand::State::waiting;
      probe_.when = now + pause;
      return;
    }
    probe_.state = IscsiCommand::State::idle;
    const std::size_t length = probe_.good() ? probe_.received : 0;
    if (length == page_length_ && std::equal(answer_.begin(), answer_.begin() + length, page_.begin())) {
      verified_ = now;
    } else {
      suspicious_ = true;
    }
  }

  std::shared_ptr<const IscsiConnector> connector_;
  OpenedLun lun_;
  int wake_;
  std::uint32_t isid_;
  std::uint32_t nexus_ = 0;
  std::optional<IscsiPlace> place_;
  State state_ = State::down;
  bool suspicious_ = false;
  std::size_t in_flight_ = 0;
  Clock::time_point verified_{};
  Clock::time_point retry_at_{};
  Page page_{};
  std::size_t page_length_ = 0;
  Page answer_{};
  IscsiCommand probe_;
  std::unique_ptr<IscsiSession> session_;  // goes before the probe, which it points into

  std::stop_source stop_;
  std::atomic<bool> finished_ = false;
  std::optional<Result<Established>> outcome_;
  std::thread helper_;
};

}  // namespace stowage::detail
