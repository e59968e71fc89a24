#pragma once
// What the words of LVM's tools mean. All failures have exit status 5, so there is nothing else to tell them by.

#include <array>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/error.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

struct LvmWords {
  std::string_view words;
  Errc code;
  std::string_view hint;
};

/// The first row whose words stand in the output counts. (Read in the sources of lvm2 2.03.16 and seen in its output.)
inline constexpr std::array<LvmWords, 33> lvm_words{{
    {"Running as a non-root user", Errc::permission_denied, "LVM needs root"},
    {"Permission denied", Errc::permission_denied, "LVM needs root"},
    {"transaction_id", Errc::corrupt,
     "the pool's metadata and LVM's disagree: deactivate the pool, keep a dump of its metadata, see lvmthin(7)"},
    {"Manual repair required", Errc::corrupt, "see lvmthin(7), 'Metadata check and repair'; save the metadata first"},
    {"needs check", Errc::corrupt, "deactivate the pool and see lvmthin(7), 'Metadata check and repair'"},
    {"Cannot process volume group", Errc::unavailable, "is its disk there? see: vgs"},
    {"while PVs are missing", Errc::unavailable, "see: vgs -o +vg_missing_pv_count"},
    {"Refusing activation of partial", Errc::unavailable, "a disk of the volume group is missing"},
    {"on duplicate devices", Errc::unavailable, "a disk has several paths here: is multipath set up? see: pvs"},
    {"with duplicate PV devices", Errc::unavailable, "a disk has several paths here: is multipath set up? see: pvs"},
    {"is exported", Errc::unavailable, "see: vgimport"},
    {"system ID", Errc::unavailable, "another host owns the volume group"},
    {"Global lock failed", Errc::unavailable, "see: lvmlockctl --info"},
    {"Can't get lock", Errc::unavailable, ""},
    {"communicate with kernel device-mapper driver", Errc::unavailable, "modprobe dm_mod"},
    {"target support missing from kernel", Errc::unavailable, "modprobe dm_thin_pool"},
    {"Required device-mapper target", Errc::unavailable, "modprobe dm_thin_pool"},
    {"already exists", Errc::already_exists, ""},
    {"already used", Errc::already_exists, ""},
    {"Failed to find logical volume", Errc::not_found, ""},
    {"logical volume(s) not found", Errc::not_found, ""},
    {"not found in volume group", Errc::not_found, ""},
    {"not found in Volume group", Errc::not_found, ""},
    {"in use", Errc::in_use, ""},
    {"is used by another device", Errc::in_use, ""},
    {"contains a filesystem", Errc::in_use, ""},
    {"Device or resource busy", Errc::in_use, ""},
    {"is not active locally", Errc::unavailable, ""},
    {"reached threshold", Errc::no_space, "extend the pool: lvextend"},
    {"out of data space", Errc::no_space, "extend the pool: lvextend"},
    {"No space left on device", Errc::no_space, "extend the pool: lvextend"},
    {"nsufficient", Errc::no_space, "extend the pool or the volume group"},
    {"ree space", Errc::no_space, "extend the pool: lvextend"},
}};

/// What is on stderr whatever happens: not the reason of a failure. ("No medium found": an empty virtual CD drive.)
constexpr bool lvm_noise(std::string_view line) noexcept {
  return line.empty() || line.starts_with("File descriptor ") || line.find("open failed: No medium found") != line.npos;
}

/// The last line that says something: of the errors, or else of the warnings.
inline std::string_view lvm_last_line(std::string_view text) {
  std::string_view error;
  std::string_view warning;
  for (const std::string_view line : lvm_split(text, '\n')) {
    if (lvm_noise(line)) continue;
    (line.starts_with("WARNING") ? warning : error) = line;
  }
  return error.empty() ? warning : error;
}

/// "lvcreate of 'vg/x': Logical Volume ... already exists". Pre: it failed.
inline Error lvm_error(std::string_view doing, const CommandOutput& output, SourceLoc at = SourceLoc::here()) {
  const std::string_view said = lvm_last_line(output.err);
  const std::string why = said.empty() ? "exit status " + std::to_string(output.exit_code) : std::string{said};
  Errc code = Errc::command_failed;
  std::string_view hint;
  for (const LvmWords& row : lvm_words) {
    if (output.err.find(row.words) == output.err.npos) continue;
    code = row.code;
    hint = row.hint;
    break;
  }
  return Error{code, std::string{doing} + ": " + why, {output.exit_code, std::generic_category()}, at}.advise(
      std::string{hint});
}

}  // namespace stowage::detail
