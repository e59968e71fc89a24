#pragma once
// Who has a block device open: devices above it, mounts, and processes. What the kernel tells in /sys and /proc.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>
#include <array>
#include <memory>
#include <optional>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// A small file of /sys or /proc, without the newline at its end; empty when it is not there.
inline std::string lvm_kernel_text(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::string text;
  std::array<char, 4096> buffer{};
  while (file) {
    const ::ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

inline std::vector<std::string> lvm_kernel_folder(const std::string& path) {
  std::vector<std::string> names;
  const Handle<::DIR, &::closedir> folder{::opendir(path.c_str())};
  while (folder) {
    const ::dirent* entry = ::readdir(folder.get());  // NOLINT(concurrency-mt-unsafe): a stream of our own
    if (entry == nullptr) break;
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  return names;
}

/// The number of the device behind `path`; nothing when there is none.
inline std::optional<::dev_t> lvm_device_number(const std::string& path) {
  struct ::stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return std::nullopt;
  return status.st_rdev;
}

inline std::string lvm_sysfs(::dev_t device) {
  return "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

/// Who device mapper says that it is: `LVM-<uuid of the group><uuid of the volume>`, without dashes.
inline std::string lvm_kernel_uuid(::dev_t device) { return lvm_kernel_text(lvm_sysfs(device) + "/dm/uuid"); }

inline void lvm_holding_mounts(::dev_t device, std::vector<std::string>& who) {
  const std::string number = " " + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + " ";
  const std::string mounts = lvm_kernel_text("/proc/self/mountinfo");
  for (std::size_t at = 0; at < mounts.size();) {
    const std::size_t end = std::min(mounts.find('\n', at), mounts.size());
    const std::string_view line{mounts.data() + at, end - at};  // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...
    at = end + 1;
    const std::size_t found = line.find(number);
    if (found == line.npos) continue;
    std::string_view rest = line.substr(found + number.size());
    rest.remove_prefix(std::min(rest.find(' ') + 1, rest.size()));
    who.push_back("mounted on " + std::string{rest.substr(0, rest.find(' '))});
  }
}

/// udev looks at every device that was written to, and is done with it soon: it holds nothing.
inline void lvm_holding_processes(::dev_t device, std::vector<std::string>& who) {
  const std::string self = std::to_string(::getpid());
  for (const std::string& pid : lvm_kernel_folder("/proc")) {
    if (!all_digits(pid)) continue;
    const std::string process = "/proc/" + pid;
    const std::string folder = process + "/fd/";
    for (const std::string& fd : lvm_kernel_folder(folder)) {
      struct ::stat status {};
      if (::stat((folder + fd).c_str(), &status) != 0) continue;
      if (!S_ISBLK(status.st_mode) || status.st_rdev != device) continue;
      const std::string name = lvm_kernel_text(process + "/comm");
      if (name.find("udev") != name.npos) break;
      who.push_back(pid == self ? std::string{"this program"}
                                : std::string{"process "}.append(pid).append(" (").append(name).append(")"));
      break;
    }
  }
}

/// Everybody who has the device open, as far as this host and we may see; separated by commas.
inline std::string lvm_holders(::dev_t device) {
  std::vector<std::string> who;
  for (const std::string& holder : lvm_kernel_folder(lvm_sysfs(device) + "/holders")) {
    const std::string name = lvm_kernel_text("/sys/class/block/" + holder + "/dm/name");
    who.push_back("device " + (name.empty() ? holder : "/dev/mapper/" + name));
  }
  lvm_holding_mounts(device, who);
  lvm_holding_processes(device, who);
  std::string text;
  for (const std::string& one : who) text += (text.empty() ? "" : ", ") + one;
  return text;
}

}  // namespace stowage::detail
