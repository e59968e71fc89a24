#pragma once
// Texts of the IscsiDirect backend: LUN numbers, QEMU's URL, initiator names, libiscsi's login errors. Pure functions,
// no libiscsi.

#include <cstdint>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/net.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

/// The first two bytes of a LUN on the wire, which is also what libiscsi and QEMU take: below 256 by peripheral, above
/// by flat addressing (SAM-5, 4.7.7). LUN 300 is 0x412c; targets refuse a plain 300.
/// Pre: number <= 16383.
constexpr std::uint16_t iscsi_wire_lun(std::uint16_t number) noexcept {
  return number < 256 ? number : static_cast<std::uint16_t>(0x4000U | number);
}

/// The number that people call a LUN by. Nothing for addressing that a 16-bit LUN cannot hold, and for well known LUNs.
constexpr std::optional<std::uint16_t> iscsi_lun_number(std::uint16_t wire) noexcept {
  if ((wire >> 14U) > 1) return std::nullopt;
  return static_cast<std::uint16_t>(wire & 0x3fffU);
}

/// A LUN's digits as a number. Errors: invalid_argument above 16383.
inline Result<std::uint16_t> iscsi_lun_from(std::string_view digits) {
  std::uint32_t number = 0;
  bool good = all_digits(digits);
  for (const char c : digits) {
    number = good ? number * 10 + static_cast<std::uint32_t>(c - '0') : 0;
    good = good && number <= 16383;
  }
  if (good) return static_cast<std::uint16_t>(number);
  return fail(Errc::invalid_argument, "not a LUN (0 to 16383): '" + std::string{digits} + "'");
}

/// A portal as QEMU and libiscsi read it: an IPv6 address in brackets, all else as it was written.
inline std::string iscsi_portal(const Portal& portal) { return portal.is_ipv6() ? portal.bracketed() : portal.str(); }

/// What QEMU opens the LUN by: portal and digits as they were written, except that an IPv6 address needs brackets, and
/// that QEMU passes the number on as it is, so LUNs from 256 on need their wire form.
inline std::string iscsi_url(const Portal& portal, const Iqn& target, std::string_view digits, std::uint16_t number) {
  return "iscsi://" + iscsi_portal(portal) + "/" + target.str() + "/" +
         (number < 256 ? std::string{digits} : std::to_string(iscsi_wire_lun(number)));
}

/// The name in a text like /etc/iscsi/initiatorname.iscsi; nothing when there is none.
inline std::optional<std::string> parse_initiator_name(std::string_view text) {
  constexpr std::string_view key = "InitiatorName=";
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
    while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
    if (!line.empty() && line.size() <= 223 && printable(line)) return std::string{line};
  }
  return std::nullopt;
}

/// The name of a host that has none configured: stable, and of the form that QEMU uses for its guests
/// (`iqn.2008-11.org.linux-kvm:NAME`), so that one ACL pattern on the target fits both.
inline std::string default_initiator_name(std::string_view host) {
  std::string name = "iqn.2008-11.org.linux-kvm";
  if (!host.empty()) name += ':';
  for (const char c : host.substr(0, 64)) {
    const bool upper = c >= 'A' && c <= 'Z';
    name += upper ? static_cast<char>(c - 'A' + 'a') : is_alnum(c) || c == '.' || c == '-' ? c : '-';
  }
  return name;
}

/// The status class and detail of a login answer (RFC 7143, 11.13.5), from the only place where libiscsi tells it: the
/// number that ends "Failed to log in to target. Status: Authentication failure(513)".
inline std::optional<unsigned> iscsi_login_status(std::string_view text) noexcept {
  if (text.find("Status: ") == text.npos || !text.ends_with(')')) return std::nullopt;
  text.remove_suffix(1);
  const std::size_t open = text.rfind('(');
  if (open == text.npos) return std::nullopt;
  const std::string_view digits = text.substr(open + 1);
  if (!all_digits(digits) || digits.size() > 5) return std::nullopt;
  unsigned status = 0;
  for (const char c : digits) status = status * 10 + static_cast<unsigned>(c - '0');
  return status;
}

/// What a failed login means. `text` is libiscsi's.
inline Errc iscsi_login_errc(std::string_view text) noexcept {
  switch (iscsi_login_status(text).value_or(0)) {
    case 0x0201:  // authentication failure
    case 0x0202:  // authorization failure
      return Errc::permission_denied;
    case 0x0203:  // target not found
    case 0x0204:  // target removed
      return Errc::not_found;
    case 0x0206:  // too many connections
    case 0x0300:  // target error
    case 0x0301:  // service unavailable
    case 0x0302:  // out of resources
      return Errc::unavailable;
    case 0: break;
    default: return Errc::backend_failed;
  }
  // "Invalid CHAP_R response from the target", "Wrong CHAP targetname": the target could not prove who it is
  return text.find("CHAP") != text.npos ? Errc::permission_denied : Errc::unavailable;
}

}  // namespace stowage::detail
