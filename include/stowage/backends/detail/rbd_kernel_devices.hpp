#pragma once
// What the kernel has mapped, as sysfs tells: no tool, no monitor, no waiting.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stowage/backends/detail/rbd_text.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// Where the kernel shows itself. Tests have one of their own.
struct KrbdTree {
  std::string sys = "/sys";
  std::string dev = "/dev";
  std::string proc = "/proc";
};

/// The whole name of an image. Two clusters may have the same pool and image names.
struct KrbdIdentity {
  std::string fsid;
  std::string pool;
  std::string name_space;
  std::string image;
  std::string snapshot;  ///< empty: the image itself

  [[nodiscard]] std::string spec() const { return rbd_spec(pool, name_space, image, snapshot); }
  friend bool operator==(const KrbdIdentity&, const KrbdIdentity&) = default;
};

/// A mapped image: `rbdN`.
struct KrbdDevice {
  std::uint64_t number = 0;
  KrbdIdentity identity;
  std::string image_id;  ///< stays the same when the image is renamed, and is not given again

  [[nodiscard]] std::string name() const { return "rbd" + std::to_string(number); }
};

/// The first line of a file of the kernel; nothing when it is not there.
inline std::optional<std::string> krbd_line(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return {};
  std::array<char, 4096> text{};  // a page: sysfs has no more
  const ::ssize_t length = ::read(file.get(), text.data(), text.size());
  if (length < 0) return {};
  const std::string_view all{text.data(), static_cast<std::size_t>(length)};
  return std::string{all.substr(0, all.find('\n'))};
}

/// The names in a folder that begin with `prefix`, sorted; none when it is not there.
inline std::vector<std::string> krbd_names(const std::string& folder, std::string_view prefix = {}) {
  std::vector<std::string> names;
  const Handle<::DIR, &::closedir> open{::opendir(folder.c_str())};
  if (!open) return names;
  while (const ::dirent* entry = ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe): the stream is ours
    const std::string_view name{entry->d_name};
    if (name != "." && name != ".." && name.starts_with(prefix)) names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// One mapping. None when it went while we looked.
inline std::optional<KrbdDevice> krbd_read_device(const KrbdTree& tree, const std::string& number) {
  const std::string folder = tree.sys + "/devices/rbd/" + number + "/";
  const auto fsid = krbd_line(folder + "cluster_fsid");
  const auto pool = krbd_line(folder + "pool");
  const auto image = krbd_line(folder + "name");
  const auto snapshot = krbd_line(folder + "current_snap");
  if (!fsid || !pool || !image || !snapshot) return {};
  KrbdDevice device;
  device.number = std::strtoull(number.c_str(), nullptr, 10);
  device.identity = {*fsid, *pool, krbd_line(folder + "pool_ns").value_or(""), *image,
                     *snapshot == "-" ? std::string{} : *snapshot};
  device.image_id = krbd_line(folder + "image_id").value_or("");
  return device;
}

/// The devices that an image is mapped to, the oldest first: rarely more than one.
inline std::vector<KrbdDevice> krbd_find(const KrbdTree& tree, const KrbdIdentity& wanted) {
  std::vector<KrbdDevice> found;
  for (const std::string& number : krbd_names(tree.sys + "/devices/rbd")) {
    if (!all_digits(number)) continue;
    if (auto device = krbd_read_device(tree, number); device && device->identity == wanted) {
      found.push_back(*std::move(device));
    }
  }
  std::sort(found.begin(), found.end(), [](const KrbdDevice& a, const KrbdDevice& b) { return a.number < b.number; });
  return found;
}

/// The path of a mapped image. A link of udev's counts only when it leads to this very device: that of `/dev/rbd` may
/// be of another cluster, and without Proxmox VE's rule there is no `/dev/rbd-pve`.
inline std::string krbd_device_path(const KrbdTree& tree, const KrbdDevice& device) {
  std::string node = tree.dev + "/" + device.name();
  struct ::stat real {};
  if (::stat(node.c_str(), &real) != 0) return node;
  const auto leads_there = [&](const std::string& link) {
    struct ::stat seen {};
    return ::stat(link.c_str(), &seen) == 0 && seen.st_dev == real.st_dev && seen.st_ino == real.st_ino;
  };
  const std::string spec = device.identity.spec();
  std::string link = tree.dev + "/rbd-pve/" + device.identity.fsid + "/" + spec;
  if (leads_there(link)) return link;
  std::string old_link = tree.dev + "/rbd/" + spec;
  return leads_there(old_link) ? old_link : node;
}

}  // namespace stowage::detail
