#pragma once
// What the kernel makes of block devices without showing it as their holder: loop devices over them, disks that this
// host serves to others, swap.

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <algorithm>
#include <cstddef>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A use of a block device.
struct KernelUse {
  std::string path;       ///< of the device, "/dev/sdb", or its name, "sdb"; may be of another mount namespace
  std::string number{};   ///< of the device, "8:16"; empty when it is not known
  std::string user;       ///< "loop0", "LIO backstore iblock_0/x"
  bool is_block = false;  ///< the user is a block device itself, which has users of its own

  [[nodiscard]] bool is_of(const KernelTree& tree, std::string_view name, std::string_view of_number) const {
    if (!number.empty()) return number == of_number;
    return path == name || path == path_of(tree.dev, name);
  }
};

/// The number of the block device at `path`; empty when there is none, or when it is not below /dev: to look at a file
/// of a server that is gone would sleep.
inline std::string device_number(const KernelTree& tree, const std::string& path) {
  return path.starts_with(tree.dev + "/") ? tree.number_of(path) : std::string{};
}

/// Loop devices over block devices. Such a one makes no claim, is no holder in sysfs and no open file of any process.
inline void add_loop_uses(const KernelTree& tree, std::vector<KernelUse>& uses) {
  for (const std::string& loop : names_in(tree.sys + "/block")) {
    if (!loop.starts_with("loop")) continue;
    std::string file = attribute(path_of(path_of(tree.sys + "/block", loop), "loop/backing_file"));
    if (file.empty()) continue;
    constexpr std::string_view deleted = " (deleted)";
    if (file.ends_with(deleted)) file.resize(file.size() - deleted.size());
    // The kernel itself knows the device, whatever became of the path that it was set up by.
    const Fd open{::open(path_of(tree.dev, loop).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    ::loop_info64 info{};
    std::string number;
    if (open && ::ioctl(open.get(), LOOP_GET_STATUS64, &info) == 0) {
      if (info.lo_rdevice == 0) continue;  // over a file: the mount below it is what uses the disk
      number = number_text(static_cast<::dev_t>(info.lo_rdevice));
    } else {
      number = device_number(tree, file);
    }
    uses.push_back({std::move(file), std::move(number), loop, true});
  }
}

/// The word after `key` in the text of an attribute; empty when it is not there.
inline std::string word_after(std::string_view text, std::string_view key) {
  const auto at = text.find(key);
  if (at == text.npos) return {};
  const auto words = words_of(text.substr(at + key.size()), 1);
  return words.empty() ? std::string{} : std::string{words.front()};
}

/// Disks that the target of the kernel (LIO) serves. Over a file it makes no claim, and that file may be a device.
inline void add_lio_uses(const KernelTree& tree, std::vector<KernelUse>& uses) {
  const std::string core = tree.sys + "/kernel/config/target/core";
  for (const std::string& hba : names_in(core)) {
    if (hba == "alua") continue;
    for (const std::string& store : names_in(path_of(core, hba))) {
      const std::string folder = path_of(path_of(core, hba), store);
      if (attribute(folder + "/enable") == "0") continue;
      const std::string info = read_attribute(folder + "/info");
      const std::string user = std::string{"LIO backstore "}.append(hba).append("/").append(store);
      std::vector<std::string> paths{attribute(folder + "/udev_path")};
      for (const char* key : {" File: ", "iBlock device: "}) paths.push_back(word_after(info, key));
      for (std::string& path : paths) {
        if (path.empty()) continue;
        std::string number = device_number(tree, path);
        uses.push_back({std::move(path), std::move(number), user});
      }
    }
  }
}

/// Disks that the NVMe target of the kernel serves. It makes no claim.
inline void add_nvme_target_uses(const KernelTree& tree, std::vector<KernelUse>& uses) {
  const std::string all = tree.sys + "/kernel/config/nvmet/subsystems";
  for (const std::string& subsystem : names_in(all)) {
    const std::string spaces = path_of(path_of(all, subsystem), "namespaces");
    for (const std::string& space : names_in(spaces)) {
      const std::string folder = path_of(spaces, space);
      std::string path = attribute(folder + "/device_path");
      if (path.empty() || attribute(folder + "/enable") != "1") continue;
      std::string number = device_number(tree, path);
      std::string user = std::string{"NVMe target "}.append(subsystem).append("/").append(space);
      uses.push_back({std::move(path), std::move(number), std::move(user)});
    }
  }
}

/// Swap areas, by /proc/swaps.
inline void add_swap_uses(const KernelTree& tree, std::vector<KernelUse>& uses) {
  for_each_line(read_attribute(tree.proc + "/swaps"), [&](std::string_view line) {
    const auto words = words_of(line, 2);
    if (words.size() < 2 || words[1] != "partition") return;
    std::string path{words[0]};
    std::string number = device_number(tree, path);
    uses.push_back({std::move(path), std::move(number), "swap"});
  });
}

inline std::vector<KernelUse> kernel_uses(const KernelTree& tree) {
  std::vector<KernelUse> uses;
  add_swap_uses(tree, uses);
  add_loop_uses(tree, uses);
  add_lio_uses(tree, uses);
  add_nvme_target_uses(tree, uses);
  return uses;
}

}  // namespace stowage::detail
