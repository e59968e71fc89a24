#pragma once
// Portals and iSCSI names.

#include <arpa/inet.h>
#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

namespace detail {

inline bool is_ipv6(std::string_view text) noexcept {
  std::array<char, INET6_ADDRSTRLEN + 1> copy{};
  if (text.size() >= copy.size() || text.find('\0') != text.npos) return false;  // inet_pton stops at a NUL
  text.copy(copy.data(), text.size());
  ::in6_addr parsed{};
  return ::inet_pton(AF_INET6, copy.data(), &parsed) == 1;
}

constexpr bool is_host_name(std::string_view text) noexcept {  // also an IPv4 address
  return !text.empty() && all_of(text, [](char c) { return is_alnum(c) || c == '-' || c == '.'; });
}

}  // namespace detail

/// Host and port of a server, in any spelling of storage.cfg: `10.0.0.1`, `nas.example:3260`, `[fd00::1]:3260`,
/// `fd00::1`, and the reference's `fd00::1.3260`.
class Portal {
 public:
  /// Errors: parse_failed. The range of the port is checked by `port_or`, as the reference accepts any digits.
  [[nodiscard]] static Result<Portal> parse(std::string_view text, SourceLoc at = SourceLoc::here()) {
    if (auto portal = split(text)) return *std::move(portal);
    return fail(Errc::parse_failed, "not a portal (HOST, HOST:PORT or [IPv6]:PORT): " + detail::quoted(text), {}, at);
  }

  /// As it was written.
  [[nodiscard]] const std::string& str() const noexcept { return text_; }
  /// Without brackets.
  [[nodiscard]] const std::string& host() const noexcept { return host_; }
  /// The digits as written; empty when none were.
  [[nodiscard]] const std::string& port_text() const noexcept { return port_; }
  [[nodiscard]] bool is_ipv6() const noexcept { return host_.find(':') != host_.npos; }

  /// The port to connect to. Errors: invalid_argument, when it is not in 1 to 65535.
  [[nodiscard]] Result<std::uint16_t> port_or(std::uint16_t standard) const {
    if (port_.empty()) return standard;
    std::uint32_t number = 0;
    for (const char c : port_) {
      number = number * 10 + static_cast<std::uint32_t>(c - '0');
      if (number > 65535) break;
    }
    if (number == 0 || number > 65535) {
      return fail(Errc::invalid_argument, "port out of range in portal " + detail::quoted(text_));
    }
    return static_cast<std::uint16_t>(number);
  }

  /// `host`, `[ipv6]`, `host:port` or `[ipv6]:port`: the port only if one was written.
  [[nodiscard]] std::string bracketed() const {
    std::string out = is_ipv6() ? "[" + host_ + "]" : host_;
    if (!port_.empty()) out += ":" + port_;
    return out;
  }

  friend auto operator<=>(const Portal&, const Portal&) = default;

 private:
  Portal(std::string_view text, std::string_view host, std::string_view port) : text_{text}, host_{host}, port_{port} {}

  static std::optional<Portal> split(std::string_view text) {
    if (text.starts_with('[')) {
      const std::size_t close = text.find(']');
      if (close == text.npos) return std::nullopt;
      const std::string_view host = text.substr(1, close - 1);
      const std::string_view rest = text.substr(close + 1);
      if (!detail::is_host_name(host) && !detail::is_ipv6(host)) return std::nullopt;
      if (rest.empty()) return Portal{text, host, {}};
      if (rest.front() != ':' || !detail::all_digits(rest.substr(1))) return std::nullopt;
      return Portal{text, host, rest.substr(1)};
    }
    if (detail::is_host_name(text) || detail::is_ipv6(text)) return Portal{text, text, {}};
    if (const std::size_t colon = text.find(':'); colon != text.npos && detail::is_host_name(text.substr(0, colon)) &&
                                                  detail::all_digits(text.substr(colon + 1))) {
      return Portal{text, text.substr(0, colon), text.substr(colon + 1)};
    }
    if (const std::size_t dot = text.rfind('.');
        dot != text.npos && detail::is_ipv6(text.substr(0, dot)) && detail::all_digits(text.substr(dot + 1))) {
      return Portal{text, text.substr(0, dot), text.substr(dot + 1)};
    }
    return std::nullopt;
  }

  std::string text_;
  std::string host_;
  std::string port_;
};

namespace detail {

/// RFC 7143, 4.2.7: iqn.yyyy-mm.domain[:text], eui.16 hex digits, naa.16 or 32 hex digits; at most 223 bytes.
constexpr bool is_rfc_iscsi_name(std::string_view text) noexcept {
  if (text.size() > 223) return false;
  const std::string_view rest = text.substr(text.size() < 4 ? text.size() : 4);
  if (text.starts_with("eui.")) return rest.size() == 16 && all_of(rest, is_hex);
  if (text.starts_with("naa.")) return (rest.size() == 16 || rest.size() == 32) && all_of(rest, is_hex);
  if (!text.starts_with("iqn.") || rest.size() < 9) return false;
  const std::string_view month = rest.substr(5, 2);
  if (!all_digits(rest.substr(0, 4)) || rest[4] != '-' || rest[7] != '.') return false;
  if (!all_digits(month) || month < "01" || month > "12") return false;
  const std::string_view authority = rest.substr(8, rest.find(':', 8) - 8);
  return !authority.empty() && is_alnum(authority.front()) && all_of(rest.substr(8), [](char c) {
    return static_cast<unsigned char>(c) >= 0x80 || is_alnum(c) || c == '-' || c == '.' || c == ':';
  });
}

struct IqnTag {
  static constexpr std::string_view name = "target name (not empty, no control characters)";
  static constexpr bool valid(std::string_view text) noexcept { return !text.empty() && printable(text); }
};

}  // namespace detail

/// The name of an iSCSI target or initiator, as storage.cfg accepts it: any text. `is_rfc_name` tells a good one.
using Iqn = Text<detail::IqnTag>;

/// The name obeys RFC 7143. Targets with other names exist, so this is a reason to warn, not to refuse.
inline bool is_rfc_name(const Iqn& iqn) noexcept { return detail::is_rfc_iscsi_name(iqn.str()); }

}  // namespace stowage
