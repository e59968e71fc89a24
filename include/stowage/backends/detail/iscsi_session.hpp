#pragma once
// A session with a target: commands are run over it.

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <stowage/backends/detail/iscsi_command.hpp>
#include <stowage/backends/detail/iscsi_link.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/sigpipe.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// A session that is logged in, or was. Threads: one at a time.
class IscsiSession : public IscsiLink {
 public:
  /// What to do with a UNIT ATTENTION: something happened to the LUN, and the command was not executed.
  enum class Attention : bool { repeat, report };

  /// Errors: see `IscsiLink::log_in`.
  static Result<std::unique_ptr<IscsiSession>> login(const IscsiLogin& who, const std::string& address,
                                                     Clock::time_point deadline, std::chrono::milliseconds timeout,
                                                     const std::stop_token& stop) {
    const NoSigpipe quiet;
    std::unique_ptr<IscsiSession> session{new IscsiSession{who.where, timeout, stop}};
    if (auto good = session->log_in(who, address, deadline); !good) return fail(std::move(good.error()));
    return session;
  }

  /// Runs commands, as many at a time as there are slots. `next(slot)` makes a slot the next command, or says false;
  /// `finish(slot)` gets it back with its answer, in any order, and may fail: then no more are begun.
  /// A busy target is asked again, and so is one that reports a UNIT ATTENTION, if wanted.
  /// Errors: those of `finish`; timed_out (no answer to a command within the timeout), unavailable (lost), cancelled.
  /// After an error of our own the session is `lost`.
  template <class Next, class Finish>
  Result<void> run(std::span<IscsiCommand> slots, Attention attention, Next next, Finish finish) {
    const NoSigpipe quiet;
    Result<void> result;
    bool more = true;
    for (IscsiCommand& slot : slots) slot.state = IscsiCommand::State::idle;
    for (;;) {
      if (result && stop_.stop_requested()) {  // writes are let through to their end, so that nothing is half-written
        more = false;
        result = fail(cancelled());
        if (!writes(slots)) lose(Errc::cancelled, "stopped by the caller");
      }
      for (IscsiCommand& slot : slots) {
        if (slot.state == IscsiCommand::State::finished && !repeats(slot, attention)) {
          slot.state = IscsiCommand::State::idle;
          if (auto good = !lost() ? finish(slot) : Result<void>{}; !good) {
            if (result) result = std::move(good);
            more = false;
          }
        }
        if (slot.state == IscsiCommand::State::idle && more && !lost()) {
          more = next(slot);
          if (more) {
            slot.repeats = 0;
            submit(slot);
          }
        }
      }
      if (lost()) return fail(loss());
      Clock::time_point until{};
      if (!wake_at(slots, until)) return result;
      const bool overdue = Clock::now() >= until && !resume(slots);
      if (!turn(until)) return fail(loss());
      // It was looked for once more: on a busy machine the answer may have waited for us.
      if (overdue && !resume(slots)) {
        lose(Errc::timed_out, "no answer within " + std::to_string(timeout_.count()) + " ms");
        return fail(loss());
      }
    }
  }

  /// One command. Errors: as `run`, and what the command's answer means.
  Result<void> run(IscsiCommand& command, Attention attention = Attention::repeat) {
    bool begun = false;
    return run(
        {&command, 1}, attention, [&](IscsiCommand&) { return !std::exchange(begun, true); },
        [](IscsiCommand& done) -> Result<void> {
          if (done.good()) return {};
          return fail(done.error());
        });
  }

  /// Queues a command for `service` to send; its time begins `now`, as a clock costs something when it is read for
  /// each. If the session is lost on the way, it is not `in_flight` afterwards.
  void submit(IscsiCommand& command, Clock::time_point now = Clock::now()) {
    using Direction = IscsiCommand::Direction;
    const auto length = static_cast<int>(command.data.iov_len);
    const int way = command.direction == Direction::in    ? SCSI_XFER_READ
                    : command.direction == Direction::out ? SCSI_XFER_WRITE
                                                          : SCSI_XFER_NONE;
    ::scsi_task* const task = ::scsi_create_task(command.cdb.size, command.cdb.bytes.data(), way, length);
    if (task == nullptr) return lose(Errc::backend_failed, "libiscsi has no memory");
    // Exactly as long as the transfer: with less room the queue would be stuck for ever.
    const std::span<::scsi_iovec> places =
        command.scatter.empty() ? std::span{&command.data, 1} : std::span{command.scatter};
    const auto count = static_cast<int>(places.size());
    if (command.direction == Direction::in) ::scsi_task_set_iov_in(task, places.data(), count);
    if (command.direction == Direction::out) ::scsi_task_set_iov_out(task, places.data(), count);
    command.session = this;
    command.state = IscsiCommand::State::in_flight;
    command.when = now + timeout_;
    if (::iscsi_scsi_command_async(context(), command.lun, task, &answered, nullptr, &command) != 0) {
      ::scsi_free_scsi_task(task);
      command.state = IscsiCommand::State::idle;
      lose(Errc::unavailable, "the session is gone: " + library_text());
    }
  }

  /// For discovery sessions: SendTargets. `each(target name, portal)` is called for every pair.
  template <class Each>
  Result<void> send_targets(Clock::time_point deadline, Each each) {
    const NoSigpipe quiet;
    struct Answer {
      Each* each;
      std::optional<int> status;
    } answer{&each, {}};
    const auto take = [](::iscsi_context*, int status, void* data, void* user) noexcept {
      auto& to = *static_cast<Answer*>(user);
      to.status = status;
      if (status != SCSI_STATUS_GOOD) return;
      for (auto* t = static_cast<::iscsi_discovery_address*>(data); t != nullptr; t = t->next) {
        for (auto* p = t->portals; p != nullptr; p = p->next) (*to.each)(t->target_name, p->portal);
        if (t->portals == nullptr) (*to.each)(t->target_name, "");
      }
    };
    if (::iscsi_discovery_async(context(), take, &answer) != 0) lose(Errc::backend_failed, library_text());
    while (!lost() && !answer.status) {
      if (Clock::now() >= deadline) lose(Errc::timed_out, "no answer to SendTargets");
      if (stop_.stop_requested()) lose(Errc::cancelled, "stopped by the caller");
      if (!lost()) static_cast<void>(turn(deadline));
    }
    if (lost()) return fail(loss());
    if (*answer.status != SCSI_STATUS_GOOD) return fail(Errc::backend_failed, "SendTargets: " + library_text());
    return {};
  }

 private:
  static constexpr int most_attentions = 10;
  static constexpr int most_busy = 60;

  using IscsiLink::IscsiLink;

  static void answered(::iscsi_context*, int status, void* data, void* user) {
    auto& command = *static_cast<IscsiCommand*>(user);
    command.status = status;
    command.sense_key = 0;
    command.sense_code = 0;
    command.received = 0;
    command.state = IscsiCommand::State::finished;
    if (command.cancelled()) command.session->broken_ = true;
    if (data != nullptr) read_answer(command, static_cast<::scsi_task*>(data));
    if (command.on_answer != nullptr) command.on_answer(command);
  }

  static void read_answer(IscsiCommand& command, ::scsi_task* task) {
    if (command.status == SCSI_STATUS_CHECK_CONDITION) {
      command.sense_key = static_cast<int>(task->sense.key);
      command.sense_code = task->sense.ascq;
    }
    const std::size_t room = command.data.iov_len;
    const std::size_t missing = task->residual_status == SCSI_RESIDUAL_UNDERFLOW ? task->residual : 0;
    command.received = missing < room ? room - missing : 0;
    ::scsi_free_scsi_task(task);
  }

  /// Whether the command is to be sent once more; then it waits or is on its way.
  bool repeats(IscsiCommand& command, Attention attention) {
    if (lost()) return false;
    if (command.attention() && attention == Attention::repeat && command.repeats < most_attentions) {
      ++command.repeats;
      submit(command);
      return command.state == IscsiCommand::State::in_flight;
    }
    if (command.busy() && command.repeats < most_busy) {
      ++command.repeats;
      command.state = IscsiCommand::State::waiting;
      command.when = Clock::now() + timeout_ / most_busy;
      return true;
    }
    return false;
  }

  static bool writes(std::span<const IscsiCommand> slots) noexcept {
    for (const IscsiCommand& slot : slots) {
      const bool out = slot.direction == IscsiCommand::Direction::out;
      if (out && slot.state == IscsiCommand::State::in_flight) return true;
    }
    return false;
  }

  /// When something is due. False: nothing is under way.
  static bool wake_at(std::span<const IscsiCommand> slots, Clock::time_point& until) noexcept {
    bool any = false;
    for (const IscsiCommand& slot : slots) {
      if (slot.state != IscsiCommand::State::in_flight && slot.state != IscsiCommand::State::waiting) continue;
      if (!any || slot.when < until) until = slot.when;
      any = true;
    }
    return any;
  }

  /// Sends again what has waited long enough. False: what is due is an answer that did not come.
  bool resume(std::span<IscsiCommand> slots) {
    const Clock::time_point now = Clock::now();
    for (const IscsiCommand& slot : slots) {
      if (slot.state == IscsiCommand::State::in_flight && slot.when <= now) return false;
    }
    for (IscsiCommand& slot : slots) {
      if (slot.state == IscsiCommand::State::waiting && slot.when <= now && !lost()) submit(slot);
    }
    return true;
  }
};

}  // namespace stowage::detail
