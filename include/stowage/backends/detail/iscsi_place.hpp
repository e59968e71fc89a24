#pragma once
// Where a session was made: what decides whether a new login ends it.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace stowage::detail {

/// A portal of a target, after redirects.
struct IscsiPlace {
  std::size_t portal = 0;                ///< which of the configured ones
  std::string address{};                 ///< numeric
  std::optional<std::uint16_t> group{};  ///< the target's portal group tag, if it named one

  /// Whether a login here with the same initiator name and ISID ends a session that was made `there` (RFC 7143, 6.3.5
  /// and 4.4.2: the portal group is a part of a session's identity). When a target does not name its groups, only the
  /// same portal counts.
  [[nodiscard]] bool reinstates(const IscsiPlace& there) const noexcept {
    return group && there.group ? group == there.group : address == there.address;
  }
};

/// The portal group that a Login Response names (RFC 7143, 13.9: the first one does). `bytes` begin with its header.
inline std::optional<std::uint16_t> portal_group_of(std::string_view bytes) noexcept {
  constexpr std::size_t header = 48;
  constexpr std::string_view key = "TargetPortalGroupTag=";
  if (bytes.size() < header || (static_cast<unsigned char>(bytes[0]) & 0x3fU) != 0x23) return {};
  const auto octet = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[at])); };
  std::string_view text = bytes.substr(header).substr(0, octet(5) << 16U | octet(6) << 8U | octet(7));
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos) return {};  // the rest has not come yet
    if (text.substr(0, key.size()) == key) {
      std::string_view digits = text.substr(key.size(), end - key.size());
      const bool hex = digits.size() > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
      if (hex) digits.remove_prefix(2);
      std::uint32_t number = 0;
      const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, hex ? 16 : 10);
      if (error != std::errc{} || stop != digits.data() + digits.size() || number > 0xffff) return {};
      return static_cast<std::uint16_t>(number);
    }
    text.remove_prefix(end + 1);
  }
  return {};
}

}  // namespace stowage::detail
