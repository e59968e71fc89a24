#pragma once
// The names by which storages, guests, volumes and snapshots are known.

#include <compare>
#include <cstdint>
#include <limits>
#include <stowage/core/error.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

namespace detail {

struct StorageIdTag {
  static constexpr std::string_view name =
      "storage id (two or more letters, digits, '-', '_' or '.'; first a letter, last a letter or digit)";
  static constexpr bool valid(std::string_view text) noexcept {
    return text.size() >= 2 && is_alpha(text.front()) && is_alnum(text.back()) &&
           all_of(text, [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
  }
};

struct VolumeNameTag {
  static constexpr std::string_view name = "volume name (not empty, no control characters)";
  static constexpr bool valid(std::string_view text) noexcept { return !text.empty() && printable(text); }
};

struct SnapshotNameTag {
  static constexpr std::string_view name = "snapshot name (not empty, no control characters)";
  static constexpr bool valid(std::string_view text) noexcept { return !text.empty() && printable(text); }
};

}  // namespace detail

/// The id of a section of storage.cfg.
using StorageId = Text<detail::StorageIdTag>;

/// Any name that a volume may really bear on a storage; the grammar of ours is in names.hpp.
using VolumeName = Text<detail::VolumeNameTag>;

/// Any name that a snapshot may really bear; those for new ones obey `check_new_snapshot_name` (names.hpp).
using SnapshotName = Text<detail::SnapshotNameTag>;

/// The number of a guest.
class VmId {
 public:
  constexpr explicit VmId(std::uint64_t number) noexcept : number_{number} {}

  /// The numbers that Proxmox VE gives to guests: 100 to 999999999. (Volumes of others are listed all the same.)
  /// Errors: parse_failed.
  [[nodiscard]] static Result<VmId> parse(std::string_view text, SourceLoc at = SourceLoc::here()) {
    std::uint64_t number = 0;
    bool good = detail::all_digits(text) && text.size() <= 9 && text.front() != '0';
    for (const char c : text) number = good ? number * 10 + static_cast<std::uint64_t>(c - '0') : 0;
    good = good && number >= 100;
    if (!good) {
      return fail(Errc::parse_failed, "not a VMID (100 to 999999999): " + detail::quoted(text), {}, at);
    }
    return VmId{number};
  }

  [[nodiscard]] constexpr std::uint64_t number() const noexcept { return number_; }
  friend constexpr auto operator<=>(VmId, VmId) = default;

 private:
  std::uint64_t number_;
};

inline std::string to_string(VmId vmid) { return std::to_string(vmid.number()); }

/// `<storage>:<volume>`, the name of a volume across storages.
struct VolumeId {
  StorageId storage;
  VolumeName volume;

  /// Splits at the first colon; the volume's part may hold colons and slashes. A path is never one.
  /// Errors: parse_failed.
  [[nodiscard]] static Result<VolumeId> parse(std::string_view text, SourceLoc at = SourceLoc::here()) {
    const std::size_t colon = text.find(':');
    const auto storage = StorageId::parse(text.substr(0, colon));
    const auto volume = VolumeName::parse(colon == text.npos ? std::string_view{} : text.substr(colon + 1));
    if (!storage || !volume) {
      return fail(Errc::parse_failed, "not a volume id (STORAGE:VOLUME): " + detail::quoted(text), {}, at);
    }
    return VolumeId{*storage, *volume};
  }
  [[nodiscard]] std::string str() const { return storage.str() + ":" + volume.str(); }
  friend auto operator<=>(const VolumeId&, const VolumeId&) = default;
};

static_assert(!std::is_convertible_v<int, VmId> && !std::is_constructible_v<VolumeName, SnapshotName>);

}  // namespace stowage
