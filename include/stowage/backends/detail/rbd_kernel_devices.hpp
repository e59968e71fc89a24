#pragma once
// What the kernel has mapped, as sysfs tells: no tool, no monitor, no waiting.

#include <sys/stat.h>
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stowage/backends/detail/rbd_text.hpp>
#include <stowage/core/error.hpp>
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
  std::string pool_id;      ///< likewise
  std::string node_number;  ///< "252:16", by which its node is known

  [[nodiscard]] std::string name() const { return "rbd" + std::to_string(number); }
};

/// What is meant, by the ids that are not given again.
struct KrbdTarget {
  std::string image_id;       ///< empty: of an image of format 1, which has none
  std::string snapshot_id{};  ///< empty: the image itself
  std::string pool_id{};      ///< empty: it is known by name only
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
  device.pool_id = attribute(folder + "pool_id");
  device.node_number = attribute(tree.sys + "/block/rbd" + number + "/dev");
  if (!device.identity.snapshot.empty()) device.snapshot_id = attribute(folder + "snap_id");
  const KrbdIdentity& found = device.identity;
  if (found.fsid.empty() || found.pool.empty() || found.image.empty() || snapshot.empty()) return {};
  return device;
}

/// The number of a device may be that of another mapping by now.
inline bool krbd_is_same(const KrbdDevice& a, const KrbdDevice& b) {
  return a.number == b.number && a.identity == b.identity && a.image_id == b.image_id && a.snapshot_id == b.snapshot_id;
}

/// The mappings that `is_wanted` says yes to, the oldest first.
template <class Wanted>
std::vector<KrbdDevice> krbd_find_if(const KernelTree& tree, Wanted is_wanted) {
  std::vector<KrbdDevice> found;
  for (const std::string& number : names_in(tree.sys + "/devices/rbd")) {
    if (!all_digits(number)) continue;
    if (auto device = krbd_read_device(tree, number); device && is_wanted(*device)) found.push_back(*std::move(device));
  }
  std::sort(found.begin(), found.end(), [](const KrbdDevice& a, const KrbdDevice& b) { return a.number < b.number; });
  return found;
}

/// The devices that were mapped under the name of an image or snapshot: rarely more than one. It may bear another name
/// now, and the name may be another's.
inline std::vector<KrbdDevice> krbd_find(const KernelTree& tree, const KrbdIdentity& wanted,
                                         KrbdScope scope = KrbdScope::one) {
  return krbd_find_if(tree, [&](const KrbdDevice& found) {
    return found.identity == wanted ||
           (scope == KrbdScope::with_snapshots && found.identity.without_snapshot() == wanted);
  });
}

/// The mapping is of the pool and namespace of `names`. A pool can be renamed as well.
inline bool krbd_is_in_pool(const KrbdDevice& device, const KrbdIdentity& names, const std::string& pool_id) {
  const KrbdIdentity& found = device.identity;
  const bool by_id = !device.pool_id.empty() && !pool_id.empty();
  return found.fsid == names.fsid && found.name_space == names.name_space &&
         (by_id ? device.pool_id == pool_id : found.pool == names.pool);
}

/// The devices of an image or snapshot, whatever its name was when they were mapped.
inline std::vector<KrbdDevice> krbd_find_target(const KernelTree& tree, const KrbdIdentity& names,
                                                const KrbdTarget& target) {
  if (target.image_id.empty()) return krbd_find(tree, names);
  return krbd_find_if(tree, [&](const KrbdDevice& found) {
    return krbd_is_in_pool(found, names, target.pool_id) && found.image_id == target.image_id &&
           found.snapshot_id == target.snapshot_id;
  });
}

/// The node of a device is that device: not a file that somebody made in its place, nor what is left of another one.
inline bool krbd_has_node(const KernelTree& tree, const KrbdDevice& device) {
  return !device.node_number.empty() && tree.number_of(tree.dev + "/" + device.name()) == device.node_number;
}

inline Error krbd_no_node(const KernelTree& tree, const KrbdDevice& device) {
  const std::string node = tree.dev + "/" + device.name();
  struct ::stat about {};
  const bool something = ::lstat(node.c_str(), &about) == 0;
  return Error{Errc::unavailable, "'" + device.identity.spec() + "' is mapped as device " + device.node_number +
                                      ", and '" + node + "' is " + (something ? "something else" : "not there")}
      .advise(something ? "look at what it is, and remove it; then deactivate the volume, and activate it again"
                        : "is /dev a devtmpfs? deactivate the volume, and activate it again");
}

/// The path of a mapped image, which is called `wanted` now. A link of udev's counts only when it leads to this very
/// device: that of `/dev/rbd` may be of another cluster, and without Proxmox VE's rule there is no `/dev/rbd-pve`.
/// Errors: unavailable, when its node is another device, a file, or not there.
inline Result<std::string> krbd_device_path(const KernelTree& tree, const KrbdDevice& device,
                                            const KrbdIdentity& wanted) {
  const auto leads_there = [&](const std::string& link) { return tree.number_of(link) == device.node_number; };
  if (!krbd_has_node(tree, device)) return fail(krbd_no_node(tree, device));
  const std::string spec = wanted.spec();
  std::string link = tree.dev + "/rbd-pve/" + wanted.fsid + "/" + spec;
  if (leads_there(link)) return link;
  std::string old_link = tree.dev + "/rbd/" + spec;
  return leads_there(old_link) ? old_link : tree.dev + "/" + device.name();
}

}  // namespace stowage::detail
