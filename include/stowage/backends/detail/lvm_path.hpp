#pragma once
// What stands at the path of a volume, `/dev/VG/LV`: udev makes a link there to the volume's device, and does not where
// something else is in its place.

#include <sys/stat.h>
#include <sys/types.h>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// What is wrong with the path of a volume, and the way out; nothing where its device is, or nothing at all.
struct LvmPathTrouble {
  std::string problem;
  std::string advice;
};

template <CommandRunner Runner>
std::optional<LvmPathTrouble> lvm_path_trouble(const LvmTools<Runner>& tools, const std::string& name) {
  const std::string path = tools.device(name);
  const std::string mapper = lvm_mapper_name(tools.vg(), name);
  struct ::stat about {};
  if (::stat(path.c_str(), &about) != 0) return std::nullopt;
  const std::string links = "udevadm trigger --settle --action=change --subsystem-match=block";
  if (!S_ISBLK(about.st_mode)) {
    return LvmPathTrouble{"'" + path + "' is not a device" + (S_ISREG(about.st_mode) ? ", but a regular file" : ""),
                          "move it away, then: " + links};
  }
  const std::string found = attribute("/sys/dev/block/" + number_text(about.st_rdev) + "/dm/name");
  if (found == mapper) return std::nullopt;
  return LvmPathTrouble{"'" + path + "' is the device '" + (found.empty() ? number_text(about.st_rdev) : found) +
                            "', not '" + mapper + "'",
                        "let udev make its links again: " + links};
}

/// Nothing but the device of the volume stands at its path. Costs no process. Errors: identity_changed.
template <CommandRunner Runner>
Result<void> lvm_check_path(const LvmTools<Runner>& tools, const std::string& name) {
  auto trouble = lvm_path_trouble(tools, name);
  if (!trouble) return {};
  return fail(Error{Errc::identity_changed, std::move(trouble->problem)}.advise(std::move(trouble->advice)));
}

/// The path of a volume, or what it will be. Errors: identity_changed.
template <CommandRunner Runner>
Result<std::string> lvm_path(const LvmTools<Runner>& tools, const std::string& name) {
  return lvm_check_path(tools, name).map([&] { return tools.device(name); });
}

/// The path of a volume that the kernel has a device of leads to that device; udev is waited for, up to 3 s.
/// Errors: identity_changed; unavailable (udev makes no link).
template <CommandRunner Runner>
Result<void> lvm_await_path(const LvmTools<Runner>& tools, const std::string& name) {
  constexpr std::chrono::milliseconds patience{3000};
  const std::string path = tools.device(name);
  const auto there = [&] {
    const auto at_path = lvm_device_number(path);
    const auto mapped = lvm_mapped(lvm_mapper_name(tools.vg(), name));
    return !mapped || (at_path && *at_path == mapped->number);
  };
  if (there()) return lvm_check_path(tools, name);
  static_cast<void>(wait_until(there, std::chrono::steady_clock::now() + patience, tools.options().stop));
  if (auto good = lvm_check_path(tools, name); !good || there()) return good;
  return fail(Error{Errc::unavailable, "the kernel has the volume, but '" + path + "' is not there"}.advise(
      "does udev run? see: dmsetup mknodes, udevadm trigger --subsystem-match=block"));
}

}  // namespace stowage::detail
