#pragma once
// What the kernel says of a volume's device, without a process.

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <optional>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

/// How device mapper names the device of a volume: `LVM-<uuid of the group><uuid of the volume>`, without dashes.
inline std::string lvm_device_uuid(const LvmVolume& lv) {
  std::string uuid = "LVM-";
  for (const char c : lv.vg_uuid + lv.uuid) uuid.append(c == '-' ? "" : std::string_view{&c, 1});
  return uuid;
}

/// And what it says that a device is; empty when it is none of its own.
inline std::string lvm_uuid_of(::dev_t device) {
  return attribute("/sys/dev/block/" + number_text(device) + "/dm/uuid");
}

inline std::optional<::dev_t> lvm_device_number(const std::string& path) {
  struct ::stat about {};
  if (::stat(path.c_str(), &about) != 0 || !S_ISBLK(about.st_mode)) return std::nullopt;
  return about.st_rdev;
}

/// Whether anybody has the device open, mounts and devices above it too; nothing when it cannot be asked.
inline std::optional<bool> lvm_is_open(const std::string& path) {
  const auto device = lvm_device_number(path);
  const Fd control{::open("/dev/mapper/control", O_RDWR | O_CLOEXEC)};
  if (!device || !control) return std::nullopt;
  ::dm_ioctl status{};
  status.version[0] = DM_VERSION_MAJOR;
  status.data_size = sizeof status;
  status.dev = *device;
  if (::ioctl(control.get(), DM_DEV_STATUS, &status) != 0) return std::nullopt;
  return status.open_count > 0;
}

}  // namespace stowage::detail
