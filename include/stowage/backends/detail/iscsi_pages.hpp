#pragma once
// What targets say of themselves and their LUNs, read out of raw bytes. The bytes come from the network: nothing in
// them is believed before it was checked against the length of what really arrived. Pure functions, no libiscsi.

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/core/bytes.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

using ScsiBytes = std::span<const std::uint8_t>;

/// `count` bytes at `at`, big-endian; zero for those beyond the end.
constexpr std::uint64_t big_endian(ScsiBytes bytes, std::size_t at, std::size_t count) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = at; i < at + count; ++i) value = (value << 8U) | (i < bytes.size() ? bytes[i] : 0U);
  return value;
}

/// Whether bit `bit` of byte `at` is there and set.
constexpr bool bit_set(ScsiBytes bytes, std::size_t at, unsigned bit) noexcept {
  return at < bytes.size() && ((bytes[at] >> bit) & 1U) != 0;
}

/// REPORT LUNS.
struct ReportedLuns {
  std::vector<std::uint16_t> wire;  ///< as the target wrote them, without those that 16 bits do not hold
  std::size_t length = 0;           ///< of the whole answer, were there room for it
};

inline ReportedLuns parse_report_luns(ScsiBytes answer) {
  ReportedLuns luns;
  if (answer.size() < 8) return luns;
  luns.length = big_endian(answer, 0, 4) + 8;
  const std::size_t end = luns.length < answer.size() ? luns.length : answer.size();
  for (std::size_t at = 8; at + 8 <= end; at += 8) {
    const auto wire = static_cast<std::uint16_t>(big_endian(answer, at, 2));
    const bool one_level = big_endian(answer, at + 2, 6) == 0;
    if (one_level && iscsi_lun_number(wire)) luns.wire.push_back(wire);
  }
  return luns;
}

/// INQUIRY, the standard page.
struct Inquiry {
  std::uint8_t qualifier = 3;       ///< 0: the LUN is there; 3: there is none
  std::uint8_t device_type = 0x1f;  ///< 0: disk
  std::string vendor_and_model;     ///< 24 bytes with their blanks; empty when they did not arrive

  [[nodiscard]] bool is_disk() const noexcept { return qualifier == 0 && device_type == 0; }
};

inline Inquiry parse_inquiry(ScsiBytes answer) {
  Inquiry inquiry;
  if (answer.empty()) return inquiry;
  inquiry.qualifier = static_cast<std::uint8_t>(answer[0] >> 5U);
  inquiry.device_type = static_cast<std::uint8_t>(answer[0] & 0x1fU);
  if (answer.size() >= 32) inquiry.vendor_and_model.assign(answer.begin() + 8, answer.begin() + 32);
  return inquiry;
}

/// A vital product data page without its head; nothing when this is not page `code`.
inline std::optional<ScsiBytes> vpd_body(ScsiBytes answer, std::uint8_t code) noexcept {
  if (answer.size() < 4 || answer[1] != code) return std::nullopt;
  const std::size_t length = big_endian(answer, 2, 2);
  return answer.subspan(4, length < answer.size() - 4 ? length : answer.size() - 4);
}

/// What udev does to a serial number: no blanks around it, one '_' for the blanks within it and for each character that
/// a file name in /dev should not have.
inline std::string udev_serial(std::string_view raw) {
  raw = raw.substr(0, raw.find('\0'));
  std::string serial;
  bool blank = false;
  for (const char c : raw) {
    if (is_space(c)) {
      blank = true;
      continue;
    }
    if (blank && !serial.empty()) serial += '_';
    blank = false;
    const bool safe = is_alnum(c) || std::string_view{"#+-.:=@_"}.find(c) != std::string_view::npos;
    serial += safe ? c : '_';
  }
  return serial;
}

inline std::string lower_hex(ScsiBytes bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) text.append({digits[byte >> 4U], digits[byte & 0xfU]});
  return text;
}

/// The WWID that udev's scsi_id makes of page 0x83, ID_SERIAL of the same LUN on a host with a kernel initiator:
/// "3600000000ef49c45...". Empty when the page names nothing.
inline std::string wwid_from_page_83(ScsiBytes answer, const Inquiry& inquiry) {
  const auto body = vpd_body(answer, 0x83);
  if (!body) return {};
  // Some old Symmetrix answer as in SCSI-2: a bare WWN where the third byte of the first designator should be zero.
  if (body->size() > 2 && (*body)[2] != 0) return "3" + lower_hex(*body);

  constexpr int any = -1;
  struct Wanted {
    unsigned type;
    int naa;
  };
  // The order of scsi_serial.c: NAA 6, NAA 5, any NAA, EUI-64, T10 vendor id, vendor specific.
  for (const Wanted wanted :
       {Wanted{3, 6}, Wanted{3, 5}, Wanted{3, any}, Wanted{2, any}, Wanted{1, any}, Wanted{0, any}}) {
    for (const unsigned code_set : {1U, 2U}) {  // binary before ASCII
      for (ScsiBytes rest = *body; rest.size() >= 4 && rest.size() - 4 >= rest[3]; rest = rest.subspan(4U + rest[3])) {
        const ScsiBytes id = rest.subspan(4, rest[3]);
        const bool of_the_lun = (rest[1] & 0x30U) == 0;
        if (!of_the_lun || (rest[1] & 0xfU) != wanted.type || (rest[0] & 0xfU) != code_set || id.empty()) continue;
        if (wanted.naa != any && id[0] >> 4U != wanted.naa) continue;
        std::string serial{static_cast<char>('0' + wanted.type)};
        if (wanted.type == 0) {  // unique only within a vendor's model
          if (inquiry.vendor_and_model.empty()) continue;
          serial += inquiry.vendor_and_model;
        }
        serial += code_set == 1 ? lower_hex(id) : std::string{id.begin(), id.end()};
        return udev_serial(serial);
      }
    }
  }
  return {};
}

/// The WWID of a LUN that has no page 0x83: "S", vendor, model and the serial number of page 0x80.
inline std::string wwid_from_page_80(ScsiBytes answer, const Inquiry& inquiry) {
  const auto body = vpd_body(answer, 0x80);
  if (!body || inquiry.vendor_and_model.empty()) return {};
  return udev_serial("S" + inquiry.vendor_and_model + std::string{body->begin(), body->end()});
}

/// READ CAPACITY(16).
struct Capacity {
  Bytes size{};
  Bytes block{};
  bool thin = false;         ///< LBPME: blocks can be given back
  bool reads_zeros = false;  ///< LBPRZ: what was given back reads as zeros
};

/// Errors: corrupt, when the numbers cannot be.
inline Result<Capacity> parse_capacity(ScsiBytes answer) {
  const std::uint64_t last = big_endian(answer, 0, 8);
  const std::uint64_t block = big_endian(answer, 8, 4);
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  if (answer.size() < 12 || block == 0 || last >= most / block) {
    return fail(Errc::corrupt, "the target says that the last block is " + std::to_string(last) + " and a block has " +
                                   std::to_string(block) + " bytes");
  }
  return Capacity{Bytes{(last + 1) * block}, Bytes{block}, bit_set(answer, 14, 7), bit_set(answer, 14, 6)};
}

/// Pages 0xb0 and 0xb2: how large a request may be, and which ones give space back. Zero: the target sets no limit, or
/// did not say.
struct BlockLimits {
  std::uint32_t max_transfer = 0;  ///< all in blocks
  std::uint32_t max_unmap = 0;
  std::uint64_t max_write_same = 0;
  bool unmap = false;                 ///< LBPU, and a range of at least one block
  bool write_same_unmaps = false;     ///< LBPWS
  bool unmapped_reads_zeros = false;  ///< LBPRZ
};

inline BlockLimits parse_block_limits(ScsiBytes page_b0, ScsiBytes page_b2) noexcept {
  BlockLimits limits;
  if (const auto body = vpd_body(page_b0, 0xb0)) {
    limits.max_transfer = static_cast<std::uint32_t>(big_endian(*body, 4, 4));
    limits.max_unmap = static_cast<std::uint32_t>(big_endian(*body, 16, 4));
    limits.max_write_same = big_endian(*body, 32, 8);
  }
  if (const auto body = vpd_body(page_b2, 0xb2)) {
    limits.unmap = bit_set(*body, 1, 7) && limits.max_unmap != 0;
    limits.write_same_unmaps = bit_set(*body, 1, 6);
    limits.unmapped_reads_zeros = (big_endian(*body, 1, 1) >> 2U & 7U) == 1;
  }
  return limits;
}

/// MODE SENSE(6): the write-protect bit of the head.
inline bool is_write_protected(ScsiBytes answer) noexcept { return bit_set(answer, 2, 7); }

}  // namespace stowage::detail
