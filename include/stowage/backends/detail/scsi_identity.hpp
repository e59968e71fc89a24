#pragma once
// Who a LUN is: INQUIRY and the pages 0x80 and 0x83, and the serial numbers that udev makes of them. The bytes come
// from the network: nothing in them is believed before it was checked against the length of what really arrived.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>
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

/// The serial numbers that page 0x83 has for the LUN, as udev writes them; best first, none twice. The first is the one
/// that udev's scsi_id takes, ID_SERIAL: "3600000000ef49c45...".
inline std::vector<std::string> serials_from_page_83(ScsiBytes answer, const Inquiry& inquiry) {
  const auto body = vpd_body(answer, 0x83);
  if (!body) return {};
  // Some old Symmetrix answer as in SCSI-2: a bare WWN where the third byte of the first designator should be zero.
  if (body->size() > 2 && (*body)[2] != 0) return {"3" + lower_hex(*body)};

  constexpr int any = -1;
  struct Wanted {
    unsigned type;
    int naa;
  };
  std::vector<std::string> serials;
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
        serial = udev_serial(serial);
        if (std::find(serials.begin(), serials.end(), serial) == serials.end()) serials.push_back(std::move(serial));
      }
    }
  }
  return serials;
}

/// The WWID that udev's scsi_id makes of page 0x83, ID_SERIAL of the same LUN on a host with a kernel initiator.
/// Empty when the page names nothing.
inline std::string wwid_from_page_83(ScsiBytes answer, const Inquiry& inquiry) {
  auto serials = serials_from_page_83(answer, inquiry);
  return serials.empty() ? std::string{} : std::move(serials.front());
}

/// The WWID of a LUN that has no page 0x83: "S", vendor, model and the serial number of page 0x80.
inline std::string wwid_from_page_80(ScsiBytes answer, const Inquiry& inquiry) {
  const auto body = vpd_body(answer, 0x80);
  if (!body || inquiry.vendor_and_model.empty()) return {};
  return udev_serial("S" + inquiry.vendor_and_model + std::string{body->begin(), body->end()});
}

}  // namespace stowage::detail
