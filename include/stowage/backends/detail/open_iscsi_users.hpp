#pragma once
// Who uses a block device: what is built on it, what is mounted from it, which programs have it open.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Collects the users of devices; each is told once.
class DeviceUsers {
 public:
  explicit DeviceUsers(const OpenIscsiHost& host)
      : host_{host},
        mounts_{read_attribute(host.proc + "/self/mountinfo")},
        swaps_{read_attribute(host.proc + "/swaps")} {}

  /// What is built on a device, a disk or one that multipath has made of disks, and what is mounted from it.
  void add_holders_and_mounts(const std::string& device) {
    const std::string folder = host_.sysfs + "/block/" + device;
    add_block(device, folder);
    for (const std::string& part : names_in(folder)) {
      const std::string place = path_of(folder, part);
      if (!attribute(path_of(place, "partition")).empty()) add_block(part, place);
    }
  }

  /// Programs that have one of the devices open that were added before, and what else has claimed one. Looks at every
  /// open file of this host.
  void add_openers() {
    for (const std::string& process : names_in(host_.proc)) {
      if (!all_digits(process)) continue;
      const std::string folder = path_of(host_.proc, process);
      const std::string open = path_of(folder, "fd");
      for (const std::string& fd : names_in(open)) {
        if (!is_open_device(path_of(open, fd))) continue;
        const std::string program = attribute(path_of(folder, "comm"));
        // These look after paths and names of devices; they let go by themselves.
        if (program == "multipathd" || program.find("udev") != program.npos) continue;
        add({"process ", process, " (", program, ")"});
      }
    }
    if (!users_.empty()) return;
    for (const Block& block : blocks_) {
      if (block.held) continue;  // by multipath, which was looked at
      const Fd claim{::open(path_of(host_.dev, block.name).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK)};
      if (!claim && errno == EBUSY) add({"a claim of the kernel on ", block.name});
    }
  }

  /// "LVM vg-pool on sdb", "mount /srv of sdb1", "process 7 (qemu)".
  [[nodiscard]] const std::vector<std::string>& list() const noexcept { return users_; }

 private:
  struct Block {
    std::string name;
    std::string number;  ///< "8:16"
    bool held = false;
  };

  void add(std::initializer_list<std::string_view> words) {
    std::string user;
    for (const std::string_view word : words) user += word;
    if (std::find(users_.begin(), users_.end(), user) == users_.end()) users_.push_back(std::move(user));
  }

  void add_block(const std::string& name, const std::string& folder) {
    const auto known = std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.name == name; });
    if (known) return;
    Block block{name, attribute(folder + "/dev"), false};
    for (const std::string& mount : mounts_of(mounts_, block.number)) add({"mount ", mount, " of ", name});
    if (is_swap(swaps_, path_of(host_.dev, name))) add({"swap on ", name});
    std::vector<std::string> through;
    for (const std::string& holder : names_in(folder + "/holders")) {
      const std::string mapper = path_of(path_of(host_.sysfs + "/block", holder), "dm");
      const std::string uuid = attribute(path_of(mapper, "uuid"));
      const std::string called = attribute(path_of(mapper, "name"));
      if (uuid.starts_with("mpath-") || uuid.find("-mpath-") != uuid.npos) {
        through.push_back(holder);  // another way to the same bytes, or to a partition of them
      } else if (!called.empty()) {
        add({uuid.starts_with("LVM-") ? "LVM " : "device-mapper ", called, " on ", name});
      } else {
        add({holder, " on ", name});
      }
      block.held = true;
    }
    blocks_.push_back(std::move(block));
    for (const std::string& holder : through) add_holders_and_mounts(holder);
  }

  [[nodiscard]] bool is_open_device(const std::string& fd) const {
    std::string to(4096, '\0');
    const ::ssize_t length = ::readlink(fd.c_str(), to.data(), to.size());
    if (length <= 0) return false;
    to.resize(static_cast<std::size_t>(length));
    if (!to.starts_with(host_.dev + "/")) return false;
    struct ::stat about {};
    std::string number;
    if (::stat(fd.c_str(), &about) == 0 && S_ISBLK(about.st_mode)) {
      number = std::to_string(major(about.st_rdev)) + ":" + std::to_string(minor(about.st_rdev));
    }
    return std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& block) {
      return to == host_.dev + "/" + block.name || (!number.empty() && number == block.number);
    });
  }

  const OpenIscsiHost& host_;
  std::string mounts_;
  std::string swaps_;
  std::vector<Block> blocks_;
  std::vector<std::string> users_;
};

inline std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : ", ") + text;
  return all;
}

}  // namespace stowage::detail
