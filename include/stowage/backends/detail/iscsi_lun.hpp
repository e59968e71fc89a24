#pragma once
// What a target's LUNs are: asked for all of them at once, over one session.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/backends/detail/iscsi_command.hpp>
#include <stowage/backends/detail/iscsi_pages.hpp>
#include <stowage/backends/detail/iscsi_session.hpp>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// One LUN of a target.
struct IscsiLun {
  std::uint16_t number = 0;
  std::uint16_t wire = 0;
  Inquiry inquiry;
  Capacity capacity;
  std::string wwid;
  std::optional<Error> problem;  ///< why the rest is not known
};

inline ScsiBytes answer_of(const IscsiCommand& command) noexcept {
  return {static_cast<const std::uint8_t*>(command.data.iov_base), command.received};
}

/// The LUNs that the target shows us, as on the wire and in its order.
inline Result<std::vector<std::uint16_t>> report_luns(IscsiSession& session) {
  std::vector<std::byte> buffer(4096);
  for (;;) {
    IscsiCommand command;
    command.set(0, Cdb::report_luns(static_cast<std::uint32_t>(buffer.size()))).into(buffer);
    if (auto good = session.run(command); !good) return fail(std::move(good.error()).during("REPORT LUNS"));
    ReportedLuns luns = parse_report_luns(answer_of(command));
    constexpr std::size_t all = 8 + std::size_t{8} * 65536;  // more than that no target has
    if (luns.length <= buffer.size() || buffer.size() == all) return std::move(luns.wire);
    buffer.assign(luns.length < all ? luns.length : all, std::byte{});
  }
}

/// Asks LUNs what they are: INQUIRY, page 0x83 and READ CAPACITY(16) to each, and page 0x80 to those whose page 0x83
/// names nothing. A LUN that does not answer well has a `problem`; it does not stop the others.
/// Errors: the session's.
class LunSurvey {
 public:
  static Result<std::vector<IscsiLun>> take(IscsiSession& session, std::span<const std::uint16_t> wire) {
    LunSurvey survey;
    survey.luns_.resize(wire.size());
    for (std::size_t i = 0; i < wire.size(); ++i) {
      survey.luns_[i].wire = wire[i];
      survey.luns_[i].number = iscsi_lun_number(wire[i]).value_or(wire[i]);
    }
    if (auto good = survey.ask(session, {0, 1, 2}); !good) return fail(std::move(good.error()));
    survey.nameless_only_ = true;
    if (auto good = survey.ask(session, {3}); !good) return fail(std::move(good.error()));
    return std::move(survey.luns_);
  }

 private:
  enum Question : std::size_t { standard, page_83, capacity, page_80, questions };
  // As fast as all at once, and a fifth faster than 64 (200 LUNs of tgt). Each answer is small.
  static constexpr std::size_t depth = 192;
  // In its low byte too a usable length, for old targets that read only that one.
  static constexpr std::uint16_t page_room = 0x3fc;

  Result<void> ask(IscsiSession& session, std::initializer_list<std::size_t> what) {
    std::vector<std::size_t> todo;  // LUN and question in one number
    for (std::size_t i = 0; i < luns_.size(); ++i) {
      if (nameless_only_ && (luns_[i].problem || !luns_[i].inquiry.is_disk() || !luns_[i].wwid.empty())) continue;
      for (const std::size_t question : what) todo.push_back(i * questions + question);
    }
    if (todo.empty()) return {};
    const std::size_t width = todo.size() < depth ? todo.size() : depth;
    std::vector<IscsiCommand> slots(width);
    std::vector<std::array<std::byte, page_room>> buffers(width);
    std::size_t begun = 0;
    const auto next = [&](IscsiCommand& slot) {
      if (begun == todo.size()) return false;
      slot.tag = todo[begun++];
      buffers[static_cast<std::size_t>(&slot - slots.data())] = {};
      put(slot, buffers[static_cast<std::size_t>(&slot - slots.data())]);
      return true;
    };
    auto good = session.run(slots, IscsiSession::Attention::repeat, next, [&](const IscsiCommand& slot) {
      learn(luns_[slot.tag / questions], static_cast<Question>(slot.tag % questions), slot);
      return Result<void>{};
    });
    if (!good) return good;
    for (IscsiLun& lun : luns_) name(lun);
    return {};
  }

  void put(IscsiCommand& slot, std::span<std::byte> buffer) const {
    const std::uint16_t lun = luns_[slot.tag / questions].wire;
    switch (static_cast<Question>(slot.tag % questions)) {
      case standard: slot.set(lun, Cdb::inquiry(96)).into(buffer.first(96)); break;
      case page_83: slot.set(lun, Cdb::vpd(0x83, page_room)).into(buffer); break;
      case page_80: slot.set(lun, Cdb::vpd(0x80, page_room)).into(buffer); break;
      default: slot.set(lun, Cdb::read_capacity(32)).into(buffer.first(32)); break;
    }
  }

  void learn(IscsiLun& lun, Question question, const IscsiCommand& command) {
    const ScsiBytes answer = answer_of(command);
    if (question == page_83 || question == page_80) {  // a LUN need not have them
      auto& page = question == page_83 ? page_83_ : page_80_;
      page.resize(luns_.size());
      if (command.good()) page[static_cast<std::size_t>(&lun - luns_.data())].assign(answer.begin(), answer.end());
      return;
    }
    if (!command.good()) {
      if (!lun.problem || question == standard) {
        lun.problem = command.error().during(question == standard ? "INQUIRY" : "READ CAPACITY(16)");
      }
      return;
    }
    if (question == standard) {
      lun.inquiry = parse_inquiry(answer);
      return;
    }
    if (auto known = parse_capacity(answer)) {
      lun.capacity = *known;
    } else if (!lun.problem) {
      lun.problem = std::move(known.error());
    }
  }

  /// With vendor and model known, whichever came first.
  void name(IscsiLun& lun) const {
    const auto i = static_cast<std::size_t>(&lun - luns_.data());
    if (lun.wwid.empty() && i < page_83_.size()) lun.wwid = wwid_from_page_83(page_83_[i], lun.inquiry);
    if (lun.wwid.empty() && i < page_80_.size()) lun.wwid = wwid_from_page_80(page_80_[i], lun.inquiry);
  }

  std::vector<IscsiLun> luns_;
  std::vector<std::vector<std::uint8_t>> page_83_;
  std::vector<std::vector<std::uint8_t>> page_80_;
  bool nameless_only_ = false;
};

/// One disk. Errors: not_found (there is no such LUN, or it is no disk), and what the LUN says.
inline Result<IscsiLun> find_disk(IscsiSession& session, std::uint16_t number) {
  const auto wire = report_luns(session);
  if (!wire) return fail(wire.error());
  for (const std::uint16_t one : *wire) {
    if (iscsi_lun_number(one) != number) continue;
    auto luns = LunSurvey::take(session, {&one, 1});
    if (!luns) return fail(std::move(luns.error()));
    IscsiLun& lun = luns->front();
    if (lun.problem && lun.problem->code() == Errc::not_found) break;
    if (lun.inquiry.qualifier == 3) break;  // went between the two questions
    if (!lun.inquiry.is_disk()) {
      return fail(Error{Errc::not_found, "LUN " + std::to_string(number) + " is not a disk (device type " +
                                             std::to_string(lun.inquiry.device_type) + ")"}
                      .during(session.where()));
    }
    if (lun.problem) return fail(std::move(*lun.problem).during(session.where()));
    return std::move(lun);
  }
  return fail(Error{Errc::not_found, "there is no LUN " + std::to_string(number)}.during(session.where()));
}

/// A LUN that was opened: which one it is, and what may be asked of it.
struct OpenedLun {
  std::uint16_t number = 0;
  Access access = Access::read_only;
  IscsiLun disk;
  BlockLimits limits;

  // 256 KiB is where reads and writes of one session are fastest (reference/lab/iscsi.md, 3).
  static constexpr std::uint64_t best_transfer = 256 * 1024;
  // Long enough to be cheap, short enough that slow targets answer in time: tgt takes 20 ms for 8 MiB of WRITE SAME.
  static constexpr std::uint64_t most_written_same = 8 << 20U;
  static constexpr std::uint64_t most_unmapped = 1 << 30U;

  /// How many bytes one command may read or write, give back by UNMAP, or fill by WRITE SAME: whole blocks.
  [[nodiscard]] std::uint64_t transfer() const noexcept { return at_most(best_transfer, limits.max_transfer); }
  [[nodiscard]] std::uint64_t unmap_length() const noexcept { return at_most(most_unmapped, limits.max_unmap); }
  [[nodiscard]] std::uint64_t write_same_length(bool give_back) const noexcept {
    return at_most(give_back ? most_unmapped : most_written_same, limits.max_write_same);
  }

  /// `now` is what the LUN says it is now. Errors: identity_changed.
  [[nodiscard]] Result<void> same(const IscsiLun& now, const std::string& where) const {
    const bool is_same =
        now.wwid == disk.wwid && now.capacity.size == disk.capacity.size && now.capacity.block == disk.capacity.block;
    if (is_same) return {};
    const auto words = [](const IscsiLun& lun) {
      return (lun.wwid.empty() ? std::string{"a LUN without identity"} : lun.wwid) + " of " +
             std::to_string(lun.capacity.size.count) + " bytes";
    };
    return fail(Error{Errc::identity_changed,
                      "LUN " + std::to_string(number) + " was " + words(disk) + ", and is now " + words(now)}
                    .during(where)
                    .advise("open the volume anew, if this is the one you want"));
  }

 private:
  /// `limit` is in blocks; zero is none.
  [[nodiscard]] std::uint64_t at_most(std::uint64_t most, std::uint64_t limit) const noexcept {
    const std::uint64_t block = disk.capacity.block.count;
    const std::uint64_t blocks = most / block > 0 ? most / block : 1;
    return (limit != 0 && limit < blocks ? limit : blocks) * block;
  }
};

}  // namespace stowage::detail
