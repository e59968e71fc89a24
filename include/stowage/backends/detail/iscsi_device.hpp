#pragma once
// An open LUN.

#include <poll.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/backends/detail/iscsi_place.hpp>
#include <stowage/backends/detail/iscsi_queue.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// A LUN, open over a session of its own.
///
/// When the session is lost, a new one is made for as long as the timeout lasts, and the request is repeated on it. Of
/// a change, that is safe with a target that ends the old session, and the commands that are still on their way, when
/// the same initiator logs in again: RFC 7143 demands it (6.3.5), LIO does it, tgt does not (see `IscsiQueue`). A
/// change that was sent is not repeated when only another portal group of the target lets us in, where a login ends
/// nothing: it is `outcome_unknown`. First the LUN is asked who it is, and so it is after a UNIT ATTENTION, and once a
/// second while requests come (tgt puts another LUN into the place of an open one without a word); if identity or size
/// are not those it was opened with, every request fails with identity_changed from then on. A write to which no answer
/// came at all is `outcome_unknown`. `discard` gives space back where the LUN can (UNMAP, or WRITE SAME with the UNMAP
/// bit), and does nothing elsewhere. A flush cannot tell whether the target lost its volatile cache between two
/// sessions; no initiator can.
class IscsiDirectDevice {
 public:
  /// Opens LUN `number`. Errors: not_found, permission_denied (write-protected, and to be written), not_supported.
  static Result<IscsiDirectDevice> open(std::shared_ptr<const detail::IscsiConnector> connector, std::uint16_t number,
                                        Access access) {
    IscsiDirectDevice device{std::move(connector), number, access};
    auto session = device.connector_->connect(device.isid_, device.deadline());
    if (!session) return fail(std::move(session.error()));
    device.session_ = *std::move(session);
    device.place_ = device.session_->place();
    auto disk = detail::find_disk(*device.session_, number);
    if (!disk) return fail(std::move(disk.error()));
    device.lun_.disk = *std::move(disk);
    device.verified_ = Clock::now();
    if (auto good = device.look_closer(); !good) return fail(std::move(good.error()));
    return device;
  }

  [[nodiscard]] Bytes size() const { return lun_.disk.capacity.size; }
  [[nodiscard]] Bytes block_size() const { return lun_.disk.capacity.block; }
  [[nodiscard]] IoSizes io_sizes() const noexcept {
    const std::uint64_t block = block_size().count;
    return {.smallest = Bytes{block * lun_.limits.granularity}, .optimal = Bytes{block * lun_.limits.optimal_transfer}};
  }
  /// The WWID; empty when the LUN has none.
  [[nodiscard]] const std::string& identity() const noexcept { return lun_.disk.wwid; }

  Result<void> read_at(Bytes at, std::span<std::byte> buffer) {
    return carry(Verb::read, at, buffer.size(), lun_.transfer(), [&](Command& command, const Piece& piece) {
      command.set(lun_.disk.wire, Cdb::read(piece.block, piece.blocks)).into(buffer.subspan(piece.done, piece.length));
    });
  }

  Result<void> write_at(Bytes at, std::span<const std::byte> data) {
    return carry(Verb::write, at, data.size(), lun_.transfer(), [&](Command& command, const Piece& piece) {
      command.set(lun_.disk.wire, Cdb::write(piece.block, piece.blocks)).from(data.subspan(piece.done, piece.length));
    });
  }

  Result<void> discard(Bytes at, Bytes length) {
    if (lun_.limits.unmap) return unmap(at, length);
    if (lun_.limits.write_same_unmaps) return write_same(at, length, true);
    return may_write(at, length.count);  // nothing that could be given back
  }

  Result<void> write_zeroes(Bytes at, Bytes length) {
    const bool sparse = lun_.limits.write_same_unmaps && lun_.limits.unmapped_reads_zeros;
    if (write_same_works_ || sparse) {
      auto done = write_same(at, length, sparse);
      if (done || !refused_) return done;
      write_same_works_ = false;
      if (sparse) lun_.limits.write_same_unmaps = false;
    }
    constexpr std::size_t piece = 256 * 1024;
    if (zeros_.empty()) zeros_.resize(std::max<std::size_t>(piece, block_size().count));
    return carry(Verb::write, at, length.count, std::min<std::uint64_t>(lun_.transfer(), zeros_.size()),
                 [&](Command& command, const Piece& p) {
                   command.set(lun_.disk.wire, Cdb::write(p.block, p.blocks)).from(std::span{zeros_}.first(p.length));
                 });
  }

  Result<void> flush() {
    if (lun_.access == Access::read_only) return {};
    for (const Cdb& cdb : {Cdb::synchronize_cache(), Cdb::synchronize_cache_16()}) {
      auto done = carry(Verb::flush, Bytes{}, block_size().count, block_size().count,
                        [&](Command& command, const Piece&) { command.set(lun_.disk.wire, cdb); });
      if (done || !refused_) return done;
    }
    return {};  // knows neither: there is no cache
  }

  /// Many requests in flight, over `sessions` of its own with the target; the device may go before it.
  /// Errors: invalid_argument; those of a login, identity_changed.
  [[nodiscard]] Result<IscsiQueue> queue(std::size_t depth, std::size_t sessions = 1) const {
    if (changed_) return fail(*changed_);
    return IscsiQueue::open(connector_, lun_, depth, sessions);
  }

  /// Where it has data, see `MappedDevice` (GET LBA STATUS). All of it, where the LUN does not tell, or may read what
  /// was given back as something else than zeros.
  [[nodiscard]] Result<std::vector<Extent>> extents() {
    if (changed_) return fail(*changed_);
    detail::ExtentMap map;
    refused_ = !lun_.disk.capacity.reads_zeros;
    if (!refused_) {
      const bool changes_nothing = false;
      auto asked = persist(Verb::read, changes_nothing, [&] { return ask_extents(map); });
      if (!asked && !refused_) return fail(std::move(asked.error()));
    }
    if (refused_) map.add(map.known(), size(), true);
    return map.take(size());
  }

  Result<void> close() {
    auto done = flush();
    session_.reset();
    return done;
  }

 private:
  using Command = detail::IscsiCommand;
  using Cdb = detail::Cdb;
  using Session = detail::IscsiSession;
  using Clock = Session::Clock;
  enum class Verb : std::uint8_t { read, write, flush };

  /// A part of a request that one command does.
  struct Piece {
    std::size_t done = 0;  ///< of the request, before this one
    std::size_t length = 0;
    std::uint64_t block = 0;
    std::uint32_t blocks = 0;
  };

  static constexpr std::size_t width = 8;          // see OpenedLun::best_transfer
  static constexpr std::chrono::seconds trust{1};  // in what the LUN said of itself

  IscsiDirectDevice(std::shared_ptr<const detail::IscsiConnector> connector, std::uint16_t number, Access access)
      : connector_{std::move(connector)}, isid_{detail::random_isid()}, lun_{number, access, {}, {}} {}

  [[nodiscard]] Clock::time_point deadline() const { return Clock::now() + connector_->options().timeout; }

  /// Limits and, to write, whether we may. The pages and bits are optional: no answer is no limit.
  Result<void> look_closer() {
    const std::uint64_t block = lun_.disk.capacity.block.count;
    if (block < 512 || block > 65536 || (block & (block - 1)) != 0) {
      return fail(Errc::not_supported, "the LUN has blocks of " + std::to_string(block) + " bytes");
    }
    std::array<std::array<std::byte, 252>, 3> answers{};
    std::array<detail::ScsiBytes, 3> pages{};
    for (std::size_t i = 0; i < answers.size(); ++i) {
      constexpr std::array cdbs{Cdb::vpd(0xb0, 252), Cdb::vpd(0xb2, 252), Cdb::mode_sense(252)};
      Command& command = slots_[0];
      command.set(lun_.disk.wire, cdbs[i]).into(answers[i]);
      auto good = session_->run(command);
      if (session_->lost()) return good;
      if (good) pages[i] = detail::answer_of(command);
    }
    lun_.limits = detail::parse_block_limits(pages[0], pages[1]);
    if (lun_.access == Access::read_write && detail::is_write_protected(pages[2])) {
      return fail(Error{Errc::permission_denied, "the LUN is write-protected"}.during(session_->where()));
    }
    return {};
  }

  Result<void> may_write(Bytes at, std::uint64_t length) const {
    if (lun_.access == Access::read_only) return fail(Errc::wrong_state, "the volume was opened to read");
    return detail::check_range(size(), block_size(), at, length);
  }

  /// As far as the LUN tells, from where it is known on; sets `refused_` if it tells no more.
  Result<void> ask_extents(detail::ExtentMap& map) {
    const std::uint64_t block = block_size().count;
    std::array<std::byte, 4096> answer{};
    while (map.known() < size()) {
      const Bytes before = map.known();
      Command& command = slots_[0];
      command.set(lun_.disk.wire, Cdb::lba_status(before.count / block, answer.size())).into(answer);
      bool begun = false;
      auto good = session_->run(
          std::span{slots_}.first(1), Session::Attention::report, [&](Command&) { return !std::exchange(begun, true); },
          [&](const Command& done) { return done.good() ? Result<void>{} : judge(done); });
      if (!good) return good;
      for (const detail::LbaRange& range : detail::parse_lba_status(detail::answer_of(command))) {
        const std::uint64_t last = size().count / block;
        const bool goes_on = range.block <= map.known().count / block;  // a gap is no hole
        if (!goes_on || range.block > last || range.blocks > last - range.block) break;
        map.add(Bytes{range.block * block}, Bytes{(range.block + range.blocks) * block}, range.mapped);
      }
      refused_ = map.known() == before;
      if (refused_) return {};
    }
    return {};
  }

  Result<void> unmap(Bytes at, Bytes length) {
    return carry(Verb::write, at, length.count, lun_.unmap_length(), [&](Command& command, const Piece& piece) {
      command.set_unmap(lun_.disk.wire, piece.block, piece.blocks);
    });
  }

  /// One block of zeros, again and again. With `give_back`, the target need not keep them.
  Result<void> write_same(Bytes at, Bytes length, bool give_back) {
    const std::uint64_t block = block_size().count;
    if (zeros_.empty()) zeros_.resize(block);
    return carry(Verb::write, at, length.count, lun_.write_same_length(give_back),
                 [&](Command& command, const Piece& piece) {
                   command.set(lun_.disk.wire, Cdb::write_same(piece.block, piece.blocks, give_back))
                       .from(std::span{zeros_}.first(block));
                 });
  }

  /// Does a request in pieces of at most `most` bytes, `prepare(command, piece)` each, several at a time.
  /// Sets `refused_` when the LUN does not know such commands.
  template <class Prepare>
  Result<void> carry(Verb verb, Bytes at, std::uint64_t length, std::uint64_t most, Prepare prepare) {
    refused_ = false;
    auto good = verb == Verb::read ? detail::check_range(size(), block_size(), at, length) : may_write(at, length);
    if (!good) return good;
    if (changed_) return fail(*changed_);
    most = std::max(most / block_size().count, std::uint64_t{1}) * block_size().count;

    bool sent = false;
    return persist(verb, sent, [&] {
      std::uint64_t done = 0;
      const auto next = [&](Command& command) {
        if (done == length) return false;
        const std::uint64_t part = std::min(most, length - done);
        const Piece piece{done, part, (at.count + done) / block_size().count,
                          static_cast<std::uint32_t>(part / block_size().count)};
        prepare(command, piece);
        done += part;
        sent = true;
        return true;
      };
      return session_->run(slots_, Session::Attention::report, next,
                           [&](const Command& command) { return judge(command); });
    });
  }

  Result<void> judge(const Command& command) {
    if (command.attention()) {
      attention_ = true;
      return fail(command.error());
    }
    if (!command.good()) {
      refused_ = command.unknown_to_lun();
      return fail(command.error().during(session_->where()));
    }
    if (command.direction == Command::Direction::in && command.received != command.data.iov_len) {
      return fail(Error{Errc::corrupt, "the target sent " + std::to_string(command.received) + " of " +
                                           std::to_string(command.data.iov_len) + " bytes"}
                      .during(session_->where()));
    }
    return {};
  }

  /// Repeats `work` on a new session while the old one is lost, and after a UNIT ATTENTION: something may have become
  /// another, so the LUN must first say that it is the same.
  template <class Work>
  Result<void> persist(Verb verb, const bool& sent, Work work) {
    constexpr int most_turns = 20;
    const auto unanswered = [&](Error error) {
      const bool in_doubt = verb == Verb::write && sent && error.code() != Errc::identity_changed;
      if (!in_doubt) return fail(std::move(error));
      return fail(Error{Errc::outcome_unknown, "sent, but no answer came: " + error.detail(), error.native()}.advise(
          "the range holds its old or its new content; write it again before you rely on it"));
    };
    Clock::time_point give_up = deadline();
    bool lost_some = false;
    for (int turn = 0;; ++turn) {
      if (!session_ || session_->lost()) {
        const detail::IscsiPlace before = place_;
        if (auto again = reconnect(give_up); !again) return unanswered(std::move(again.error()));
        if (verb == Verb::write && sent && !place_.reinstates(before)) {
          return unanswered(Error{Errc::unavailable,
                                  "the target lets us in by another portal group only, which does "
                                  "not end the old session"}
                                .during(session_->where()));
        }
      }
      attention_ = false;
      auto done = Clock::now() - verified_ < trust ? Result<void>{} : verify();
      if (done) done = work();
      if (done) return done;
      const bool last = turn == most_turns;
      if (session_->lost()) {
        lost_some = sent;
        if (last || done.error().code() != Errc::unavailable) return unanswered(std::move(done.error()));
        if (turn == 0) give_up = deadline();  // what went before it had its own time
        continue;
      }
      if (attention_ && !last) {
        done = verify();
        if (done || session_->lost()) continue;
      }
      // An answer settles it, unless it only says that the LUN cannot be reached any more.
      const bool unreachable = done.error().code() == Errc::not_found || done.error().code() == Errc::unavailable;
      return lost_some && unreachable ? unanswered(std::move(done.error())) : done;
    }
  }

  /// A new session, once there is a target again: one that starts shows itself before it has its LUNs.
  /// Errors: the last try's; identity_changed.
  Result<void> reconnect(Clock::time_point give_up) {
    constexpr std::chrono::milliseconds pause{100};
    for (;;) {
      auto ready = begin_session(give_up);
      if (ready) return ready;
      const Errc code = ready.error().code();
      const bool may_come_back = code == Errc::unavailable || code == Errc::not_found;
      if (!may_come_back || Clock::now() + pause >= give_up) return ready;
      static_cast<void>(::poll(nullptr, 0, static_cast<int>(pause.count())));
    }
  }

  Result<void> begin_session(Clock::time_point give_up) {
    session_.reset();
    auto fresh = connector_->connect(isid_, give_up, connector_->options().stop, place_.portal);
    if (!fresh) return fail(std::move(fresh.error()));
    session_ = *std::move(fresh);
    auto same = verify();
    if (same) {
      place_ = session_->place();
    } else {
      session_.reset();
    }
    return same;
  }

  /// The LUN is still the one that was opened. Errors: identity_changed, not_found, the session's.
  Result<void> verify() {
    auto now = detail::find_disk(*session_, lun_.number);
    if (!now) return fail(std::move(now.error()));
    auto same = lun_.same(*now, session_->where());
    if (same) {
      lun_.disk.wire = now->wire;
      verified_ = Clock::now();
      return {};
    }
    changed_ = std::move(same.error());
    return fail(*changed_);
  }

  std::shared_ptr<const detail::IscsiConnector> connector_;
  std::uint32_t isid_;
  detail::OpenedLun lun_;
  bool write_same_works_ = true;
  bool refused_ = false;
  bool attention_ = false;
  Clock::time_point verified_{};
  detail::IscsiPlace place_;  // of the last session that worked
  std::optional<Error> changed_;
  std::vector<std::byte> zeros_;
  std::array<Command, width> slots_;
  std::unique_ptr<Session> session_;  // last, so that it goes first: commands in flight point into all the others
};

static_assert(QueuedDevice<IscsiDirectDevice> && SizedDevice<IscsiDirectDevice> && MappedDevice<IscsiDirectDevice>);

}  // namespace stowage
