#pragma once
// What the kernel has mapped, as sysfs tells: no tool, no monitor, no waiting.

#include <sys/stat.h>
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stowage/backends/detail/rbd_text.hpp>
#include <stowage/core/text.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// The whole name of an image. Two clusters may have the same pool and image names.
struct KrbdIdentity {
  std::string fsid;
  std::string pool;
  std::string name_space;
  std::string image;
  std::string snapshot;  ///< empty: the image itself

  [[nodiscard]] std::string spec() const { return rbd_spec(pool, name_space, image, snapshot); }
  [[nodiscard]] KrbdIdentity without_snapshot() const { return {fsid, pool, name_space, image, {}}; }
  friend bool operator==(const KrbdIdentity&, const KrbdIdentity&) = default;
};

/// The image, or the one snapshot; or the image and all snapshots of it.
enum class KrbdScope { one, with_snapshots };

/// A mapped image or snapshot: `rbdN`.
struct KrbdDevice {
  std::uint64_t number = 0;
  KrbdIdentity identity;
  std::string image_id;     ///< stays the same when the image is renamed, and is not given again
  std::string snapshot_id;  ///< of a snapshot; likewise

  [[nodiscard]] std::string name() const { return "rbd" + std::to_string(number); }
};

/// One mapping. None when it went while we looked.
inline std::optional<KrbdDevice> krbd_read_device(const KernelTree& tree, const std::string& number) {
  const std::string folder = tree.sys + "/devices/rbd/" + number + "/";
  const std::string snapshot = attribute(folder + "current_snap");
  KrbdDevice device;
  device.number = std::strtoull(number.c_str(), nullptr, 10);
  device.identity = {attribute(folder + "cluster_fsid"), attribute(folder + "pool"), attribute(folder + "pool_ns"),
                     attribute(folder + "name"), snapshot == "-" ? std::string{} : snapshot};
  device.image_id = attribute(folder + "image_id");
  if (!device.identity.snapshot.empty()) device.snapshot_id = attribute(folder + "snap_id");
  const KrbdIdentity& found = device.identity;
  if (found.fsid.empty() || found.pool.empty() || found.image.empty() || snapshot.empty()) return {};
  return device;
}

/// The devices that an image or snapshot is mapped to, the oldest first: rarely more than one.
inline std::vector<KrbdDevice> krbd_find(const KernelTree& tree, const KrbdIdentity& wanted,
                                         KrbdScope scope = KrbdScope::one) {
  const auto is_wanted = [&](const KrbdIdentity& found) {
    return found == wanted || (scope == KrbdScope::with_snapshots && found.without_snapshot() == wanted);
  };
  std::vector<KrbdDevice> found;
  for (const std::string& number : names_in(tree.sys + "/devices/rbd")) {
    if (!all_digits(number)) continue;
    if (auto device = krbd_read_device(tree, number); device && is_wanted(device->identity)) {
      found.push_back(*std::move(device));
    }
  }
  std::sort(found.begin(), found.end(), [](const KrbdDevice& a, const KrbdDevice& b) { return a.number < b.number; });
  return found;
}

/// The path of a mapped image. A link of udev's counts only when it leads to this very device: that of `/dev/rbd` may
/// be of another cluster, and without Proxmox VE's rule there is no `/dev/rbd-pve`.
inline std::string krbd_device_path(const KernelTree& tree, const KrbdDevice& device) {
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
