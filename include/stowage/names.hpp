#pragma once
// The grammar of volume names by storage type, and how the next free name is found. (Proxmox VE's rules; where its
// patterns let through what can only be a mistake, we are strict.)

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/text.hpp>
#include <stowage/features.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

/// A volume name taken apart.
struct VolumeParts {
  std::string name;                 ///< the part behind the base; of a LUN its number or its by-id name
  std::string vmid;                 ///< the owner's digits as written; empty for LUNs
  std::optional<std::string> base;  ///< the template in front of the slash: `base-100-disk-0/vm-101-disk-0`
  std::optional<std::string> base_vmid;
  bool is_base = false;

  [[nodiscard]] State state() const noexcept { return is_base ? State::base : State::current; }

  /// The owner as a number; nothing for a LUN, and for digits that 64 bits do not hold.
  [[nodiscard]] std::optional<VmId> owner() const {
    if (vmid.empty() || vmid.size() > 19) return std::nullopt;
    std::uint64_t number = 0;
    for (const char c : vmid) number = number * 10 + static_cast<std::uint64_t>(c - '0');
    return VmId{number};
  }
};

namespace detail {

/// What LVM's volume groups, pools and volumes may be called in storage.cfg.
constexpr bool is_lvm_name(std::string_view text) noexcept {
  return text.size() >= 2 && is_alnum(text.front()) && is_alnum(text.back()) &&
         all_of(text, [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
}

struct GuestName {
  std::string_view vmid;
  bool is_base = false;
};

/// `vm-<n>-<rest>` or `base-<n>-<rest>`, with a rest that cannot be mistaken for a path or a snapshot.
constexpr std::optional<GuestName> split_guest_name(std::string_view text) noexcept {
  const bool is_base = text.starts_with("base-");
  if (!is_base && !text.starts_with("vm-")) return std::nullopt;
  text.remove_prefix(is_base ? 5 : 3);
  const std::size_t dash = text.find('-');
  if (dash == text.npos || !all_digits(text.substr(0, dash))) return std::nullopt;
  const std::string_view rest = text.substr(dash + 1);
  if (rest.empty()) return std::nullopt;
  for (const char c : rest) {
    if (c == '/' || c == '@' || is_space(c) || is_control(c)) return std::nullopt;
  }
  return GuestName{text.substr(0, dash), is_base};
}

inline std::optional<VolumeParts> split_guest_volume(std::string_view text) {
  VolumeParts parts;
  if (const std::size_t slash = text.find('/'); slash != text.npos) {
    const auto base = split_guest_name(text.substr(0, slash));
    if (!base || !base->is_base) return std::nullopt;
    parts.base = text.substr(0, slash);
    parts.base_vmid = base->vmid;
    text.remove_prefix(slash + 1);
  }
  const auto own = split_guest_name(text);
  if (!own) return std::nullopt;
  parts.name = text;
  parts.vmid = own->vmid;
  parts.is_base = own->is_base;
  return parts;
}

/// `<channel>.<id>.<lun>.<by-id name>`; the name may not leave its folder.
inline std::optional<VolumeParts> split_by_id_volume(std::string_view text) {
  for (int number = 0; number < 3; ++number) {
    const std::size_t dot = text.find('.');
    if (dot == text.npos || !all_digits(text.substr(0, dot))) return std::nullopt;
    text.remove_prefix(dot + 1);
  }
  if (text.empty() || text == "." || text == "..") return std::nullopt;
  if (!all_of(text, [](char c) { return c != '/' && !is_space(c) && !is_control(c); })) return std::nullopt;
  VolumeParts parts;
  parts.name = text;
  return parts;
}

/// `lun<n>`: flat space addressing (SAM-5, 4.7.7) ends at 16383.
inline std::optional<VolumeParts> split_lun_volume(std::string_view text) {
  if (!text.starts_with("lun")) return std::nullopt;
  text.remove_prefix(3);
  if (!all_digits(text)) return std::nullopt;
  std::uint32_t number = 0;
  for (const char c : text) {
    number = number * 10 + static_cast<std::uint32_t>(c - '0');
    if (number > 16383) return std::nullopt;
  }
  VolumeParts parts;
  parts.name = text;
  return parts;
}

constexpr std::string_view volume_grammar(StorageType type) noexcept {
  switch (type) {
    case StorageType::lvmthin: return "vm-<vmid>-<name> or base-<vmid>-<name>, as LVM allows";
    case StorageType::iscsi: return "<channel>.<id>.<lun>.<name in /dev/disk/by-id>";
    case StorageType::iscsidirect: return "lun<0 to 16383>";
    case StorageType::rbd:
    case StorageType::other: break;
  }
  return "[base-<vmid>-<name>/]vm-<vmid>-<name> or base-<vmid>-<name>";
}

}  // namespace detail

/// Takes a volume name apart by the grammar of its storage type.
/// Errors: parse_failed, with the name and the grammar.
inline Result<VolumeParts> parse_volume_name(StorageType type, const VolumeName& volume,
                                             SourceLoc at = SourceLoc::here()) {
  const std::string& text = volume.str();
  std::optional<VolumeParts> parts;
  switch (type) {
    case StorageType::lvmthin:
      if (detail::is_lvm_name(text)) parts = detail::split_guest_volume(text);
      break;
    case StorageType::iscsi: parts = detail::split_by_id_volume(text); break;
    case StorageType::iscsidirect: parts = detail::split_lun_volume(text); break;
    case StorageType::rbd:
    case StorageType::other: parts = detail::split_guest_volume(text); break;
  }
  if (parts) return *std::move(parts);
  return fail(Errc::parse_failed,
              "not a volume name: " + detail::quoted(text) + ", expected " + std::string{detail::volume_grammar(type)},
              {}, at);
}

/// The name under which users know `image`: a linked clone of a template shows it, `base-1-x/vm-2-y`, where the type
/// does that (not on LVM).
inline VolumeName linked_name(StorageType type, const std::optional<VolumeName>& base, const VolumeName& image) {
  if (!base || type == StorageType::lvmthin) return image;
  return *VolumeName::parse(base->str() + "/" + image.str());
}

/// The name of the template that a volume becomes: `vm-100-disk-0` becomes `base-100-disk-0`.
/// Pre: `image` is the name of a current volume, without base.
inline VolumeName template_name(const VolumeName& image) { return *VolumeName::parse("base" + image.str().substr(2)); }

/// A name for a new volume of guest `vmid`: `vm-<vmid>-<something>`, and a legal name of its type.
/// Errors: parse_failed.
inline Result<void> check_new_volume_name(StorageType type, VmId vmid, const VolumeName& volume) {
  const auto parts = parse_volume_name(type, volume);
  if (!parts) return fail(parts.error());
  if (!volume.str().starts_with("vm-" + to_string(vmid) + "-")) {
    return fail(Errc::parse_failed, "illegal name " + detail::quoted(volume.str()) + " for a volume of guest " +
                                        to_string(vmid) + ", expected vm-" + to_string(vmid) + "-<name>");
  }
  return {};
}

/// A name for a new snapshot: a letter, then letters, digits, '_' and '-'; 2 to 40 characters.
/// Errors: parse_failed.
inline Result<void> check_new_snapshot_name(const SnapshotName& snapshot) {
  const std::string& text = snapshot.str();
  const bool good = text.size() >= 2 && text.size() <= 40 && detail::is_alpha(text.front()) &&
                    detail::all_of(text, [](char c) { return detail::is_alnum(c) || c == '_' || c == '-'; });
  if (good) return {};
  return fail(Errc::parse_failed, "not a name for a snapshot: " + detail::quoted(text) +
                                      ", expected a letter, then letters, digits, '_' or '-', 2 to 40 in all");
}

namespace detail {

/// The number that `text` takes from `vmid`: the digits behind the first `vm-<vmid>-disk-` or `base-<vmid>-disk-`
/// anywhere in it, so that an orphaned snapshot or a volume being wiped blocks its number too.
inline std::optional<std::string_view> taken_number(std::string_view text, std::string_view owner_disk) noexcept {
  for (std::size_t at = text.find(owner_disk); at != text.npos; at = text.find(owner_disk, at + 1)) {
    const std::string_view before = text.substr(0, at);
    if (!before.ends_with("vm") && !before.ends_with("base")) continue;
    std::string_view digits = text.substr(at + owner_disk.size());
    std::size_t length = 0;
    while (length < digits.size() && is_digit(digits[length])) ++length;
    if (length > 0) return digits.substr(0, length);
  }
  return std::nullopt;
}

}  // namespace detail

/// `vm-<vmid>-disk-<n>` with the smallest n below 1024 that no name in `existing` takes.
/// Errors: no_space, when all are taken.
inline Result<VolumeName> next_free_name(VmId vmid, std::span<const std::string> existing) {
  constexpr std::size_t limit = 1024;
  const std::string owner_disk = "-" + to_string(vmid) + "-disk-";
  std::array<bool, limit> taken{};
  for (const std::string& name : existing) {
    const auto digits = detail::taken_number(name, owner_disk);
    // A number with leading zeros is another name: "disk-00" does not take 0.
    if (!digits || digits->size() > 4 || (digits->size() > 1 && digits->front() == '0')) continue;
    std::size_t number = 0;
    for (const char c : *digits) number = number * 10 + static_cast<std::size_t>(c - '0');
    if (number < limit) taken[number] = true;
  }
  const auto free = std::find(taken.begin(), taken.end(), false);
  if (free == taken.end()) {
    return fail(Errc::no_space, "guest " + to_string(vmid) + " already has 1024 volumes here");
  }
  return VolumeName::parse("vm" + owner_disk + std::to_string(free - taken.begin()));
}

}  // namespace stowage
