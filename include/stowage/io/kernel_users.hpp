#pragma once
// Who uses a block device: what is built on it, what is mounted from it, which programs have it open.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <span>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/io/kernel_uses.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Where the block device `number` ("8:16") is mounted, by a mountinfo (proc(5): the third word is the device, the
/// fifth the mount point).
inline std::vector<std::string> mounts_of(std::string_view mountinfo, std::string_view number) {
  std::vector<std::string> mounts;
  for_each_line(mountinfo, [&](std::string_view line) {
    const auto words = words_of(line, 5);
    if (words.size() == 5 && words[2] == number) mounts.emplace_back(words[4]);
  });
  return mounts;
}

/// Collects the users of devices and of their partitions; each is told once.
///
/// Found: holders in sysfs (device mapper, LVM, md, bcache), mounts in this mount namespace, swap; loop devices, and
/// the users of these; disks that this host serves by LIO or nvmet; processes with an open descriptor of the device or
/// of its generic SCSI device. Of any other claim (a mount in another namespace, drbd, btrfs) it is found that there is
/// one. Not found: what neither claims the device nor has a descriptor in /proc: one that was registered with io_uring
/// or mapped to memory and closed then, or is on its way through a socket; processes of other process namespaces, where
/// we are in one; modules of the kernel that open devices for themselves. And whoever opens it after the look.
class DeviceUsers {
 public:
  explicit DeviceUsers(KernelTree tree)
      : tree_{std::move(tree)}, mounts_{read_attribute(tree_.proc + "/self/mountinfo")}, uses_{kernel_uses(tree_)} {}

  /// What is built on a device ("sdb", "dm-3"), what is mounted from it, what it is served as. What multipath makes of
  /// a disk is another way to it, not a user: that one's users are told.
  void add_holders_and_mounts(const std::string& device) {
    const std::string folder = tree_.sys + "/block/" + device;
    add_block(device, device, folder);
    for (const std::string& part : names_in(folder)) {
      const std::string place = path_of(folder, part);
      if (!attribute(path_of(place, "partition")).empty()) add_block(part, device, place);
    }
    for (const std::string& generic : names_in(folder + "/device/scsi_generic")) {
      generics_.push_back({generic, attribute(path_of(path_of(folder + "/device/scsi_generic", generic), "dev"))});
    }
  }

  /// Programs that have one of the devices open that were added before; when nobody was found at all, whether the
  /// kernel itself has claimed one. `ours` are descriptors of this program that do not count, nor does the claim that
  /// each may be. Looks at every open file of this host.
  void add_openers(std::span<const int> ours = {}) {
    if (blocks_.empty()) return;
    const std::string self = std::to_string(::getpid());
    for (const std::string& process : names_in(tree_.proc)) {
      if (!all_digits(process)) continue;
      const std::string folder = path_of(tree_.proc, process);
      const std::string open = path_of(folder, "fd");
      for (const std::string& fd : names_in(open)) {
        const auto is_fd = [&](int own) { return std::to_string(own) == fd; };
        if (process == self && std::any_of(ours.begin(), ours.end(), is_fd)) continue;
        if (!is_open_device(path_of(open, fd))) continue;
        std::string program = attribute(path_of(folder, "comm"));
        std::erase_if(program, is_control);  // a program calls itself what it likes
        // These look after paths and names of devices; they let go by themselves.
        if (program == "multipathd" || program.find("udev") != program.npos) break;
        if (process == self) program = "this program";
        add({"process ", process, " (", program, ")"});
        break;
      }
    }
    if (users_.empty()) add_claims(ours);
  }

  /// "LVM vg-pool on sdb", "/dev/mapper/crypt on sdb", "md0 on sdb", "swap on sdb", "sdb1 mounted on /srv", "loop0 on
  /// sdb", "LIO backstore iblock_0/x on sdb", "process 7 (qemu)".
  [[nodiscard]] const std::vector<std::string>& list() const noexcept { return users_; }

 private:
  struct Block {
    std::string name;
    std::string disk;    ///< of which it is a part, or itself
    std::string number;  ///< "8:16"
    bool held = false;
  };
  struct Generic {
    std::string name;    ///< "sg3"
    std::string number;  ///< of a character device
  };

  void add(std::initializer_list<std::string_view> words) {
    std::string user;
    for (const std::string_view word : words) user += word;
    if (std::find(users_.begin(), users_.end(), user) == users_.end()) users_.push_back(std::move(user));
  }

  void add_claims(std::span<const int> ours) {
    // A claim on a disk is one on its partitions, and the other way around.
    std::vector<std::string> our_disks;
    for (const int fd : ours) {
      struct ::stat about {};
      if (::fstat(fd, &about) != 0 || !S_ISBLK(about.st_mode)) continue;
      for (const Block& block : blocks_) {
        if (block.number == number_text(about.st_rdev)) our_disks.push_back(block.disk);
      }
    }
    for (const Block& block : blocks_) {
      if (block.held) continue;  // by multipath, which was looked at
      if (std::find(our_disks.begin(), our_disks.end(), block.disk) != our_disks.end()) continue;
      const Fd claim{::open(path_of(tree_.dev, block.name).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK)};
      if (!claim && errno == EBUSY) add({"a claim of the kernel on ", block.name});
    }
  }

  void add_block(const std::string& name, const std::string& disk, const std::string& folder) {
    const auto known = std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.name == name; });
    if (known) return;
    Block block{name, disk, attribute(folder + "/dev"), false};
    for (const std::string& mount : mounts_of(mounts_, block.number)) add({name, " mounted on ", mount});
    std::vector<std::string> through;
    for (const KernelUse& use : uses_) {
      if (!use.is_of(tree_, name, block.number)) continue;
      add({use.user, " on ", name});
      if (use.is_block) through.push_back(use.user);
    }
    for (const std::string& holder : names_in(folder + "/holders")) {
      const std::string mapper = path_of(path_of(tree_.sys + "/block", holder), "dm");
      const std::string uuid = attribute(path_of(mapper, "uuid"));
      const std::string called = attribute(path_of(mapper, "name"));
      if (uuid.starts_with("mpath-") || uuid.find("-mpath-") != uuid.npos) {
        through.push_back(holder);  // another way to the same bytes, or to a partition of them
      } else if (!called.empty()) {
        add({uuid.starts_with("LVM-") ? "LVM " : "/dev/mapper/", called, " on ", name});
      } else {
        add({holder, " on ", name});
      }
      block.held = true;
    }
    blocks_.push_back(std::move(block));
    for (const std::string& holder : through) add_holders_and_mounts(holder);
  }

  /// Asks only what lies below a folder dev, which may be of another root, and asks no server about it: one that is
  /// not there would have us wait.
  [[nodiscard]] bool is_open_device(const std::string& fd) const {
    std::string to(4096, '\0');
    const ::ssize_t length = ::readlink(fd.c_str(), to.data(), to.size());
    if (length <= 0) return false;
    to.resize(static_cast<std::size_t>(length));
    const bool below_dev = to.starts_with(tree_.dev + "/");
    if (!below_dev && to.find("/dev/") == to.npos) return false;
    struct ::statx about {};
    const bool known = ::statx(AT_FDCWD, fd.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &about) == 0;
    const std::string number = known ? number_text(makedev(about.stx_rdev_major, about.stx_rdev_minor)) : std::string{};
    const auto among = [&](const auto& devices, bool right_kind) {
      return std::any_of(devices.begin(), devices.end(), [&](const auto& device) {
        return (below_dev && to == path_of(tree_.dev, device.name)) || (right_kind && number == device.number);
      });
    };
    return among(blocks_, known && S_ISBLK(about.stx_mode)) || among(generics_, known && S_ISCHR(about.stx_mode));
  }

  KernelTree tree_;
  std::string mounts_;
  std::vector<KernelUse> uses_;
  std::vector<Block> blocks_;
  std::vector<Generic> generics_;
  std::vector<std::string> users_;
};

/// Everybody who uses one of these devices, but for the descriptors `ours` of this program. Cost: a look at every open
/// file of this host.
inline std::vector<std::string> device_users(const KernelTree& tree, std::span<const std::string> devices,
                                             std::span<const int> ours = {}) {
  DeviceUsers users{tree};
  for (const std::string& device : devices) users.add_holders_and_mounts(device);
  users.add_openers(ours);
  return users.list();
}

/// "in use by: sdb1 mounted on /srv, process 7 (qemu)", for an error; of many users the first ones.
inline std::string in_use_by(const std::vector<std::string>& users) {
  constexpr std::size_t most = 8;
  std::string text = "in use by: ";
  for (std::size_t at = 0; at < std::min(users.size(), most); ++at) text.append(at == 0 ? "" : ", ").append(users[at]);
  if (users.size() > most) text.append(" and ").append(std::to_string(users.size() - most)).append(" more");
  return users.empty() ? text + "somebody who cannot be seen from here" : text;
}

}  // namespace stowage::detail
