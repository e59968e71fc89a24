#pragma once
// Texts of the OpenIscsi backend: what iscsiadm prints and what its exit statuses mean, node records, names of sysfs
// and of /dev/disk/by-id. Pure functions: they believe nothing, and leave out what they do not know.

#include <arpa/inet.h>
#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/core/net.hpp>
#include <stowage/core/text.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A target at a portal.
struct IscsiRecord {
  Portal portal;
  std::string group;  ///< the tag of the portal group; -1: unknown
  std::string target;
};

/// The lines `10.0.0.1:3260,1 iqn.a:1` of `iscsiadm --mode node` and of discovery. Others are left out.
inline std::vector<IscsiRecord> parse_iscsi_nodes(std::string_view text) {
  std::vector<IscsiRecord> nodes;
  for_each_line(text, [&](std::string_view line) {
    const auto words = words_of(line, 3);
    if (words.size() != 2 || is_space(line.front())) return;
    const std::size_t comma = words[0].rfind(',');
    if (comma == line.npos) return;
    const std::string_view group = words[0].substr(comma + 1);
    const auto portal = Portal::parse(words[0].substr(0, comma));
    if (!portal || portal->port_text().empty() || (!all_digits(group) && group != "-1")) return;
    if (!Iqn::parse(words[1])) return;
    nodes.push_back({*portal, std::string{group}, std::string{words[1]}});
  });
  return nodes;
}

/// One spelling for each portal: port 3260 where none is written, host names in lower case, IPv6 as the kernel writes
/// it.
inline std::string canonical_portal(const Portal& portal) {
  std::string host = portal.host();
  for (char& c : host) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  ::in6_addr address{};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (portal.is_ipv6() && ::inet_pton(AF_INET6, host.c_str(), &address) == 1 &&
      ::inet_ntop(AF_INET6, &address, text.data(), text.size()) != nullptr) {
    host = "[" + std::string{text.data()} + "]";
  }
  return host + ":" + (portal.port_text().empty() ? "3260" : portal.port_text());
}

/// What iscsiadm said on its standard error that tells most: the daemon's verdict, or else the last line.
inline std::string iscsiadm_words(std::string_view err) {
  std::string words;
  bool verdict = false;
  for_each_line(err, [&](std::string_view line) {
    if (line.starts_with("iscsiadm: ")) line.remove_prefix(10);
    const bool says_why = line.find("reported error") != line.npos;
    if (line.empty() || (verdict && !says_why)) return;
    verdict = verdict || says_why;
    words = line.substr(0, 300);
  });
  return words;
}

/// Why iscsiadm failed (its statuses: iscsi_err.h of open-iscsi). Pre: `output.exit_code` is not 0.
inline Error iscsiadm_error(const CommandOutput& output, const std::string& doing) {
  const std::string words = iscsiadm_words(output.err);
  const std::string detail =
      doing + ": " + (words.empty() ? "iscsiadm ended with " + std::to_string(output.exit_code) : words);
  const std::error_code native{output.exit_code, std::generic_category()};
  switch (output.exit_code) {
    case 2:   // session not found
    case 21:  // no records, targets, sessions or portals
      return {Errc::not_found, detail, native};
    case 4:   // the connection failed
    case 5:   // it broke off while logging in
    case 8:   // or was not made in time
    case 11:  // a PDU got no answer
    case 29:  // try again
    case 32:  // the session is not connected
    case 33:  // iscsid did not answer in time
      return {Errc::unavailable, detail, native};
    case 12:
      return Error{Errc::unavailable, doing + ": the kernel module iscsi_tcp is not loaded", native}.advise(
          "modprobe iscsi_tcp");
    case 13: return Error{Errc::permission_denied, detail, native}.advise("this takes root");
    case 18:  // iscsid did not answer
    case 20:  // iscsid is not there
      return Error{Errc::unavailable, doing + ": iscsid does not run", native}.advise("systemctl start iscsid");
    case 24: return {Errc::permission_denied, detail, native};
    case 28: return {Errc::in_use, detail, native};
    default: return {Errc::command_failed, detail, native};
  }
}

/// A line of a node record; without a value the line goes.
struct RecordSetting {
  std::string_view name;
  std::string_view value;
};

/// A node record with these settings in place of those that it has.
inline std::string with_settings(std::string_view record, std::span<const RecordSetting> settings) {
  std::string text;
  std::string added;
  for (const RecordSetting& setting : settings) {
    if (setting.value.empty()) continue;
    added.append(setting.name).append(" = ").append(setting.value).append("\n");
  }
  bool ended = false;
  for_each_line(record, [&](std::string_view line) {
    const std::string_view name = line.substr(0, line.find_first_of(" \t="));
    const bool replaced = std::any_of(settings.begin(), settings.end(), [&](const auto& s) { return s.name == name; });
    if (replaced) return;
    if (line.starts_with("# END RECORD") && !std::exchange(ended, true)) text += added;
    text.append(line).append("\n");
  });
  return ended ? text : text + added;
}

/// A link in /dev/disk/by-id.
struct ByIdLink {
  std::string name;
  std::string device;  ///< "sdb", "dm-0"
};

/// `NAME-part1` and the like.
constexpr bool is_partition_name(std::string_view name) noexcept {
  const std::size_t at = name.rfind("-part");
  return at != name.npos && all_digits(name.substr(at + 5));
}

/// The name that a disk is listed by: the link of its WWID, for that is the same on every host whatever rules its udev
/// has. Else, as the reference does, the last one in byte order. Nothing when it has no name that may be one.
inline std::optional<std::string> stable_name(std::span<const ByIdLink> links, std::span<const std::string> devices,
                                              std::string_view wwid) {
  std::optional<std::string> best;
  for (const ByIdLink& link : links) {
    if (std::find(devices.begin(), devices.end(), link.device) == devices.end()) continue;
    const std::string_view name = link.name;
    if (name.starts_with("scsi-") && !wwid.empty() && name.substr(5) == wwid) return link.name;
    if ((!name.starts_with("scsi-") && !name.starts_with("dm-uuid-mpath-")) || is_partition_name(name)) continue;
    if (!best || *best < link.name) best = link.name;
  }
  return best;
}

/// Whether a LUN with these serial numbers can bear `name`; nothing when the name tells no serial number.
inline std::optional<bool> can_be_named(std::span<const std::string> serials, std::string_view name) {
  std::string serial;
  if (name.starts_with("scsi-")) serial = name.substr(5);
  if (name.starts_with("wwn-0x")) serial = "3" + std::string{name.substr(6)};
  if (name.starts_with("dm-uuid-mpath-")) serial = name.substr(14);
  if (serial.empty()) return std::nullopt;
  return std::find(serials.begin(), serials.end(), serial) != serials.end();
}

/// `2:0:0:1`, as sysfs calls a SCSI device, without the host: "0.0.1", as our volumes begin.
inline std::optional<std::string> lun_address(std::string_view device) {
  std::string address;
  for (int number = 0; number < 4; ++number) {
    const std::size_t end = number < 3 ? device.find(':') : device.size();
    if (end == device.npos || !all_digits(device.substr(0, end))) return std::nullopt;
    if (number > 0) address.append(address.empty() ? "" : ".").append(device.substr(0, end));
    device.remove_prefix(number < 3 ? end + 1 : end);
  }
  return address;
}

/// A volume `C.I.L.NAME`, taken apart. Pre: its grammar was checked.
struct LunName {
  std::string address;  ///< "0.0.1"
  std::string by_id;
};
inline LunName split_lun_name(const std::string& volume) {
  std::size_t dot = volume.find('.');
  for (int more = 0; more < 2; ++more) dot = volume.find('.', dot + 1);
  return {volume.substr(0, dot), volume.substr(dot + 1)};
}

}  // namespace stowage::detail
