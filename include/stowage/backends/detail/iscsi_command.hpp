#pragma once
// One SCSI command and its answer.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
// From 1.20 on the last one defines `static_assert` as a macro, as for an old C; no header after it would compile.
#undef static_assert

namespace stowage::detail {

class IscsiSession;

/// A command descriptor block, filled from the front.
struct Cdb {
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t size = 0;

  constexpr Cdb(std::uint8_t opcode, std::uint8_t length) noexcept : size{length} { bytes[0] = opcode; }

  /// Writes `value` big-endian into `count` bytes at `at`.
  constexpr Cdb& put(std::size_t at, std::size_t count, std::uint64_t value) noexcept {
    for (std::size_t i = at + count; i-- > at; value >>= 8U) bytes[i] = static_cast<std::uint8_t>(value & 0xffU);
    return *this;
  }

  static constexpr Cdb report_luns(std::uint32_t room) noexcept { return Cdb{0xa0, 12}.put(6, 4, room); }
  static constexpr Cdb inquiry(std::uint16_t room) noexcept { return Cdb{0x12, 6}.put(3, 2, room); }
  static constexpr Cdb vpd(std::uint8_t page, std::uint16_t room) noexcept {
    return Cdb{0x12, 6}.put(1, 1, 1).put(2, 1, page).put(3, 2, room);
  }
  static constexpr Cdb read_capacity(std::uint32_t room) noexcept {
    return Cdb{0x9e, 16}.put(1, 1, 0x10).put(10, 4, room);
  }
  /// All pages, without block descriptors: only the head is of interest.
  static constexpr Cdb mode_sense(std::uint8_t room) noexcept {
    return Cdb{0x1a, 6}.put(1, 1, 8).put(2, 1, 0x3f).put(4, 1, room);
  }
  static constexpr Cdb read(std::uint64_t block, std::uint32_t blocks) noexcept {
    return Cdb{0x88, 16}.put(2, 8, block).put(10, 4, blocks);
  }
  static constexpr Cdb write(std::uint64_t block, std::uint32_t blocks) noexcept {
    return Cdb{0x8a, 16}.put(2, 8, block).put(10, 4, blocks);
  }
  static constexpr Cdb write_same(std::uint64_t block, std::uint32_t blocks, bool unmap) noexcept {
    return Cdb{0x93, 16}.put(1, 1, unmap ? 8 : 0).put(2, 8, block).put(10, 4, blocks);
  }
  static constexpr Cdb lba_status(std::uint64_t block, std::uint32_t room) noexcept {
    return Cdb{0x9e, 16}.put(1, 1, 0x12).put(2, 8, block).put(10, 4, room);
  }
  static constexpr Cdb unmap(std::uint16_t list_length) noexcept { return Cdb{0x42, 10}.put(7, 2, list_length); }
  /// The whole cache.
  static constexpr Cdb synchronize_cache() noexcept { return Cdb{0x35, 10}; }
  static constexpr Cdb synchronize_cache_16() noexcept { return Cdb{0x91, 16}; }
};

/// A command, where its data are, and what came back. It must stay where it is while it is in flight, as libiscsi keeps
/// the addresses of `data` and of the memory behind it.
struct IscsiCommand {
  enum class Direction : std::uint8_t { none, in, out };
  enum class State : std::uint8_t { idle, waiting, in_flight, finished };

  std::uint16_t lun = 0;  ///< as on the wire
  Cdb cdb{0, 6};
  Direction direction = Direction::none;
  ::scsi_iovec data{};
  std::span<::scsi_iovec> scatter{};          ///< where `data` are, if not in one place: exactly its length together
  std::array<std::uint8_t, 24> parameters{};  ///< room for the parameter list of UNMAP
  std::size_t tag = 0;                        ///< the caller's
  /// Told that the answer is there. It is called from within libiscsi, so it only takes note.
  void (*on_answer)(IscsiCommand& command) noexcept = nullptr;

  int status = SCSI_STATUS_GOOD;
  int sense_key = 0;
  int sense_code = 0;        ///< additional sense code and qualifier
  std::size_t received = 0;  ///< bytes of `data` that the target filled

  // the session's
  State state = State::idle;
  int repeats = 0;
  std::chrono::steady_clock::time_point when{};  ///< in flight: the deadline; waiting: when to send it again
  IscsiSession* session = nullptr;

  /// Makes it a new command.
  IscsiCommand& set(std::uint16_t to, const Cdb& what) noexcept {
    lun = to;
    cdb = what;
    direction = Direction::none;
    data = {};
    scatter = {};
    return *this;
  }
  /// UNMAP, with one descriptor behind a head of 8 bytes (SBC-4, 5.35.2).
  IscsiCommand& set_unmap(std::uint16_t to, std::uint64_t block, std::uint32_t blocks) noexcept {
    parameters = {0, 22, 0, 16};
    for (std::size_t i = 0; i < 8; ++i) parameters[8 + i] = static_cast<std::uint8_t>(block >> (56 - 8 * i) & 0xffU);
    for (std::size_t i = 0; i < 4; ++i) parameters[16 + i] = static_cast<std::uint8_t>(blocks >> (24 - 8 * i) & 0xffU);
    return set(to, Cdb::unmap(24)).from(std::as_bytes(std::span{parameters}));
  }
  IscsiCommand& into(std::span<std::byte> buffer) noexcept {
    direction = Direction::in;
    data = {buffer.data(), buffer.size()};
    return *this;
  }
  IscsiCommand& from(std::span<const std::byte> buffer) noexcept {
    direction = Direction::out;
    data = {const_cast<std::byte*>(buffer.data()), buffer.size()};  // NOLINT: the C API has one iovec for both ways
    return *this;
  }

  [[nodiscard]] bool good() const noexcept { return status == SCSI_STATUS_GOOD; }
  /// It came back without an answer: the session was lost.
  [[nodiscard]] bool cancelled() const noexcept {
    return status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || status == SCSI_STATUS_TIMEOUT;
  }
  [[nodiscard]] bool attention() const noexcept { return has_sense(SCSI_SENSE_UNIT_ATTENTION); }
  /// The LUN does not know this command, or not with these fields. Some tgt answers carry no sense data at all.
  [[nodiscard]] bool unknown_to_lun() const noexcept {
    return status == SCSI_STATUS_CHECK_CONDITION && !no_such_lun() &&
           (sense_key == SCSI_SENSE_ILLEGAL_REQUEST || sense_key == 0);
  }
  [[nodiscard]] bool no_such_lun() const noexcept {
    return has_sense(SCSI_SENSE_ILLEGAL_REQUEST) && sense_code >> 8 == 0x25;
  }
  [[nodiscard]] bool busy() const noexcept {
    return status == SCSI_STATUS_BUSY || status == SCSI_STATUS_TASK_SET_FULL || status == SCSI_STATUS_TASK_ABORTED ||
           has_sense(SCSI_SENSE_COMMAND_ABORTED);
  }

  /// Why it is not good. Pre: it came back, and is not.
  [[nodiscard]] Error error() const {
    if (no_such_lun()) return Error{Errc::not_found, "the target has no such LUN"};
    if (status == SCSI_STATUS_RESERVATION_CONFLICT) {
      return Error{Errc::in_use, "another initiator has a reservation on the LUN"};
    }
    if (busy()) return Error{Errc::unavailable, "the target stayed busy"};
    if (status != SCSI_STATUS_CHECK_CONDITION) {
      return Error{Errc::backend_failed, "SCSI status " + std::to_string(status)};
    }
    return Error{sense_errc(), sense_text()};
  }

 private:
  [[nodiscard]] bool has_sense(int key) const noexcept {
    return status == SCSI_STATUS_CHECK_CONDITION && sense_key == key;
  }

  [[nodiscard]] Errc sense_errc() const noexcept {
    switch (sense_key) {
      case SCSI_SENSE_DATA_PROTECTION: return sense_code == 0x2707 ? Errc::no_space : Errc::permission_denied;
      case SCSI_SENSE_NOT_READY: return Errc::unavailable;
      default: return Errc::backend_failed;
    }
  }

  [[nodiscard]] std::string sense_text() const {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string text = "the target answered sense key " + std::to_string(sense_key) + ", code 0x";
    for (int shift = 12; shift >= 0; shift -= 4) text += hex[static_cast<unsigned>(sense_code) >> shift & 0xfU];
    const char* words = ::scsi_sense_ascq_str(sense_code);
    return words != nullptr ? text + " " + words : text;
  }
};

static_assert(Cdb::read(0x0102030405060708, 9).bytes[2] == 1 && Cdb::read(0x0102030405060708, 9).bytes[9] == 8);
static_assert(Cdb::read(1, 0x01020304).bytes[13] == 4);

}  // namespace stowage::detail
