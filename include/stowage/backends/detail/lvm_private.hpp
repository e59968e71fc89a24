#pragma once
// Private names: what a volume is called that must not be opened, cloned or listed under the name of a volume.
//
// `remove-NONCE-PLACE-SECTORS-VOLUME` is a volume that is being removed. Taking the name away is the step by which a
// removal commits: one command, also for an active volume, and the new name is the record of it, for LVM cannot tag and
// rename in one step. PLACE is the machine and pid namespace of the process that removes it, SECTORS what the volume
// held when it began.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/intent/owner.hpp>
#include <stowage/intent/record.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

inline constexpr std::size_t lvm_longest_name = 127;
/// On a volume, or on the copy that a rollback puts aside: the record of an unfinished verb (lvm_record.hpp). On a
/// pool: `metadata-snapshot`.
inline constexpr std::string_view lvm_intent_tag = "stowage.intent=";
inline constexpr std::string_view lvm_removal_prefix = "remove-";
inline constexpr std::string_view lvm_import_prefix = "import-";
/// On a volume that is being removed, and whose name is too long for a private one: that name.
inline constexpr std::string_view lvm_was_tag = "stowage.was=";

/// A number as lower-case hexadecimal digits, `digits` of them at least.
inline std::string lvm_hex(std::uint64_t number, std::size_t digits) {
  std::string text;
  for (; number != 0 || text.size() < digits; number >>= 4U)
    text.insert(text.begin(), "0123456789abcdef"[number & 0xFU]);
  return text;
}

/// Where a process runs, as far as this host can see: it sees other processes of the same place only.
inline std::string lvm_place_of(const IntentOwner& owner) {
  const auto hash = lock_place(owner.machine + "/" + std::to_string(owner.pid_namespace));
  return lvm_hex(static_cast<std::uint64_t>(hash) & 0xFFFFFFFFU, 8);
}

/// A volume that is being removed.
struct LvmRemoval {
  std::string nonce;
  std::string place;
  std::uint64_t sectors = 0;
  std::string was;       ///< its name before: the volume's, or a private one if it was being filled
  std::string volume{};  ///< that it was, or would have been

  /// The private name; without the name before where that is too long.
  [[nodiscard]] std::string name() const {
    const std::string begin = std::string{lvm_removal_prefix} + nonce + "-" + place + "-" + lvm_hex(sectors, 1) + "-";
    return begin.size() + was.size() <= lvm_longest_name ? begin + was : begin.substr(0, begin.size() - 1);
  }
};

/// Nothing, when its name is no such name.
inline std::optional<LvmRemoval> lvm_removal(const LvmVolume& lv) {
  std::string_view text = lv.name;
  if (!text.starts_with(lvm_removal_prefix)) return std::nullopt;
  text.remove_prefix(lvm_removal_prefix.size());
  const auto next = [&] {
    const std::string_view part = text.substr(0, text.find('-'));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    return part;
  };
  LvmRemoval removal;
  removal.nonce = next();
  removal.place = next();
  const std::string_view sectors = next();
  const auto [end, code] = std::from_chars(sectors.data(), sectors.data() + sectors.size(), removal.sectors, 16);
  removal.was = text.empty() ? lv.tag(lvm_was_tag).value_or("") : std::string{text};
  removal.volume = removal.was;
  if (const auto tag = lv.tag(lvm_intent_tag); tag && removal.was.starts_with(lvm_import_prefix)) {
    removal.volume = parse_intent(*tag).argument(0);
  }
  const bool good = removal.nonce.size() == 16 && removal.place.size() == 8 && code == std::errc{} &&
                    end == sectors.data() + sectors.size() && !removal.volume.empty();
  return good ? std::optional{removal} : std::nullopt;
}

}  // namespace stowage::detail
