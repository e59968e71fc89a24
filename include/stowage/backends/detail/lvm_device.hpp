#pragma once
// What the kernel says of a volume's device, without a process.

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

/// A device of device mapper, as the kernel has it now.
struct LvmMapped {
  ::dev_t number = 0;
  std::string uuid;
  int openers = 0;  ///< open files, mounts and devices above it
};

/// Asks for it by its name, or else by its number. Nothing when there is none, or when it cannot be asked. Costs no
/// process.
inline std::optional<LvmMapped> lvm_mapped(std::string_view mapper_name, ::dev_t number = 0) {
  ::dm_ioctl status{};
  const Fd control{::open("/dev/mapper/control", O_RDWR | O_CLOEXEC)};
  if (!control || mapper_name.size() >= sizeof status.name) return std::nullopt;
  status.version[0] = DM_VERSION_MAJOR;
  status.data_size = sizeof status;
  status.dev = number;
  std::memcpy(static_cast<char*>(status.name), mapper_name.data(), mapper_name.size());
  if (::ioctl(control.get(), DM_DEV_STATUS, &status) != 0) return std::nullopt;
  return LvmMapped{status.dev, static_cast<const char*>(status.uuid), status.open_count};
}

/// Whether anybody has the device open, mounts and devices above it too; nothing when it cannot be asked.
inline std::optional<bool> lvm_is_open(const std::string& path) {
  const auto device = lvm_device_number(path);
  const auto mapped = device ? lvm_mapped({}, *device) : std::nullopt;
  return mapped ? std::optional{mapped->openers > 0} : std::nullopt;
}

/// What the kernel says of a device of device mapper.
struct LvmKernelWords {
  std::string uuid;
  bool is_open = false;
  bool read_only = false;
  std::string type;    ///< of its only target: "thin"
  std::string status;  ///< of it, as `dmsetup status` tells it, "8192 16383"; or its table
};

/// Asks the kernel about a device, by its name or else by its number; a thin pool does not write its metadata for that.
/// Nothing when there is no such device, or when it has several targets.
inline std::optional<LvmKernelWords> lvm_ask_kernel(std::string_view mapper_name, ::dev_t number, std::uint32_t what) {
  struct Answer {
    ::dm_ioctl head{};
    std::array<char, 1024> data{};  // a dm_target_spec, and the text behind it
  } answer;
  answer.head.version[0] = DM_VERSION_MAJOR;
  answer.head.data_size = sizeof answer;
  answer.head.data_start = offsetof(Answer, data);
  answer.head.flags = DM_NOFLUSH_FLAG | what;
  answer.head.dev = number;
  const Fd control{::open("/dev/mapper/control", O_RDWR | O_CLOEXEC)};
  if (!control || mapper_name.size() >= sizeof answer.head.name) return std::nullopt;
  std::memcpy(static_cast<char*>(answer.head.name), mapper_name.data(), mapper_name.size());
  if (::ioctl(control.get(), DM_TABLE_STATUS, &answer) != 0 || answer.head.target_count != 1) return std::nullopt;
  ::dm_target_spec target{};
  std::memcpy(&target, answer.data.data(), sizeof target);
  target.target_type[sizeof target.target_type - 1] = '\0';
  answer.data.back() = '\0';
  return LvmKernelWords{static_cast<const char*>(answer.head.uuid), answer.head.open_count > 0,
                        (answer.head.flags & DM_READONLY_FLAG) != 0, static_cast<const char*>(target.target_type),
                        answer.data.data() + sizeof(::dm_target_spec)};
}

/// The status of a device.
inline std::optional<LvmKernelWords> lvm_kernel_words(std::string_view mapper_name) {
  return lvm_ask_kernel(mapper_name, 0, 0);
}

/// The table of a device.
inline std::optional<LvmKernelWords> lvm_kernel_table(::dev_t device) {
  return lvm_ask_kernel({}, device, DM_STATUS_TABLE_FLAG);
}

}  // namespace stowage::detail
