#pragma once
// Images of a Ceph cluster, through librbd.

#include <memory>
#include <optional>
#include <stowage/backend.hpp>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_create.hpp>
#include <stowage/backends/detail/rbd_device.hpp>
#include <stowage/backends/detail/rbd_kernel.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/backends/detail/rbd_receipt.hpp>
#include <stowage/backends/detail/rbd_recover.hpp>
#include <stowage/backends/detail/rbd_remove.hpp>
#include <stowage/backends/detail/rbd_scan.hpp>
#include <stowage/backends/detail/rbd_snapshots.hpp>
#include <stowage/backends/detail/rbd_status.hpp>
#include <stowage/backends/detail/rbd_text.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// The policy of type `rbd`: the images of a pool, or of a namespace of it.
///
/// Storages of one process that reach the same cluster as the same user share a connection. A management call of librbd
/// runs in a thread of its own, so that it has a deadline; see `OpenOptions::timeout`.
///
/// Images are made with the features layering, exclusive-lock, object-map, fast-diff and deep-flatten. Sizes are whole
/// MiB. Snapshots of a running guest's image are possible: the client that holds the image's lock is asked to take
/// them. Images of format 1, which old pools hold, can be all but cloned, made a template, put into the trash, and sent
/// or received as increments: that is `not_supported`.
///
/// In a full pool, what needs room is `no_space` at once, writes too (a guest would wait); what makes room is done.
///
/// With `krbd`, or where `UseOptions` ask for the kernel, `activate` maps an image to a device of the kernel, and
/// `path` and `blockdev` are that device. It needs the kernel module rbd and the program rbd (package ceph-common).
/// A mapped image is known by its id, which the cluster is asked for while this host has something of the pool mapped:
/// another host may have renamed it, and given its name to another image.
/// What is mapped and not used is unmapped before the image is removed, renamed, rolled back or made a template, and a
/// snapshot before it is removed, for the cluster does not see who has one mapped; to be opened here for writing, an
/// image must be deactivated first.
class Rbd {
 public:
  using Config = RbdConfig;
  using Device = RbdDevice;

  /// Errors: unavailable (monitors or OSDs do not answer), permission_denied (key refused, missing capabilities),
  /// not_found (pool, data pool, namespace, conf), parse_failed (keyring).
  [[nodiscard]] static Result<Rbd> open(const StorageId& id, Config config, const OpenOptions& options) {
    return detail::rbd_open_pool(id, std::move(config), options).map([](std::shared_ptr<detail::RbdPool> pool) {
      pool->runs = std::make_shared<detail::RbdOpenRuns>();
      return Rbd{std::move(pool)};
    });
  }

  /// The pools that may hold images, and their namespaces, sorted, of the cluster that `config` is for. Its own pool
  /// need not exist. Errors: as `open`.
  [[nodiscard]] static Result<std::vector<RbdPlace>> scan(const StorageId& id, const Config& config,
                                                          const OpenOptions& options = {}) {
    return detail::discover_pools(id, config, options);
  }

  [[nodiscard]] const Config& config() const noexcept { return pool_->config; }

  /// QEMU takes the snapshots of a running guest's disks, unless they are kernel devices (krbd).
  [[nodiscard]] SnapshotMethod snapshot_method() const noexcept { return detail::rbd_snapshot_method(config()); }

  Result<void> activate() { return detail::rbd_probe(*pool_); }
  Result<void> deactivate() { return {}; }
  /// With krbd, or for the kernel, maps the image, and switches off those of its features that this kernel lacks (on
  /// Linux 6.1 that is journaling). Errors: not_found, in_use; when it maps, also unavailable (no kernel module rbd, no
  /// program rbd), permission_denied (not root), identity_changed (another image is mapped under this name),
  /// wrong_state (a feature that the kernel lacks and that cannot be switched off).
  Result<void> activate(const VolumeName& volume, const UseOptions& use = {}) { return activate_one(volume, {}, use); }
  /// Unmaps what this host has mapped of the image and its snapshots, also without krbd: containers map what they use.
  /// Asks only sysfs, as long as nothing is mapped. Errors: in_use, with the mounts, devices and processes that use it.
  Result<void> deactivate(const VolumeName& volume) { return detail::krbd_unmap_unused(pool_, volume); }
  /// As for an image, and the device can only be read; no feature is switched off.
  Result<void> activate(const VolumeName& volume, const SnapshotName& snapshot, const UseOptions& use = {}) {
    return activate_one(volume, snapshot.str(), use);
  }
  /// That snapshot only.
  Result<void> deactivate(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::krbd_unmap_unused(pool_, volume, snapshot.str(), detail::KrbdScope::one);
  }

  [[nodiscard]] Result<Status> status() const { return detail::rbd_status(*pool_); }
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    return detail::rbd_list_volumes(*pool_, filter);
  }
  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    return detail::rbd_volume_info(*pool_, volume);
  }
  [[nodiscard]] Result<std::vector<std::string>> names() const {
    return detail::rbd_directory(*pool_).map([](std::vector<detail::RbdEntry> entries) {
      std::vector<std::string> names;
      names.reserve(entries.size());
      for (detail::RbdEntry& entry : entries) names.push_back(std::move(entry.name));
      return names;
    });
  }

  /// With krbd, the path of the device, or that which it will have. Errors: identity_changed (the device of this name
  /// is another image's), unavailable (the device has no node, or the cluster does not answer while images are mapped).
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& use = {}) const {
    return path_of(volume, {}, use);
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const SnapshotName& snapshot,
                                         const UseOptions& use = {}) const {
    return path_of(volume, snapshot.str(), use);
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& use = {}) const {
    return blockdev_of(volume, {}, use);
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const SnapshotName& snapshot,
                                          const UseOptions& use = {}) const {
    return blockdev_of(volume, snapshot.str(), use);
  }

  Result<void> create(const VolumeName& volume, const CreateSpec& spec) {
    return detail::rbd_create(pool_, volume, spec);
  }
  Result<void> remove(const VolumeName& volume, const RemoveOptions& options, const Work& work) {
    return detail::rbd_remove_image(pool_, volume, options, work, unmap(volume));
  }
  Result<Bytes> resize(const VolumeName& volume, Bytes size) { return detail::rbd_resize(pool_, volume, size); }
  Result<void> rename(const VolumeName& volume, const VolumeName& to) {
    return detail::rbd_rename_image(pool_, volume, to, unmap(volume));
  }

  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::rbd_take_snapshot(pool_, volume, snapshot);
  }
  [[nodiscard]] Result<std::vector<SnapshotInfo>> snapshots(const VolumeName& volume) const {
    return detail::rbd_list_snapshots(pool_, volume);
  }
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return detail::rbd_roll_back(pool_, volume, snapshot, work, unmap(volume, {}, detail::KrbdScope::one));
  }
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::rbd_remove_one_snapshot(pool_, volume, snapshot,
                                           unmap(volume, snapshot.str(), detail::KrbdScope::one));
  }

  Result<void> clone(const VolumeName& base, const VolumeName& to, const CloneSpec&) {
    return detail::rbd_clone(pool_, base, std::string{detail::rbd_base_snapshot}, to);
  }
  Result<void> clone(const VolumeName& volume, const SnapshotName& snapshot, const VolumeName& to, const CloneSpec&) {
    return detail::rbd_clone(pool_, volume, snapshot.str(), to);
  }
  Result<void> make_template(const VolumeName& volume, const VolumeName& to) {
    return detail::rbd_make_template(pool_, volume, to, unmap(volume));
  }
  Result<void> flatten(const VolumeName& volume, const Work& work) {
    return detail::rbd_flatten_image(pool_, volume, work);
  }

  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) {
    return detail::rbd_open_device(pool_, volume, {}, access).map_error([&](Error error) {
      return detail::krbd_explain(*pool_, volume, std::move(error));
    });
  }
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::rbd_open_device(pool_, volume, snapshot.str(), Access::read_only);
  }

  Result<void> begin_import(const VolumeName& volume, const CreateSpec& spec) {
    return detail::rbd_begin_import(pool_, volume, spec);
  }
  /// Errors: conflict (another storage has begun it, or another host has taken it over).
  Result<void> end_import(const VolumeName& volume) { return detail::rbd_end_import(pool_, volume); }
  Result<void> release(const VolumeName& volume) { return detail::rbd_release(pool_, volume); }

  [[nodiscard]] Result<std::string> snapshot_identity(const VolumeName& volume, const SnapshotName& snapshot) const {
    return detail::rbd_snapshot_identity(*pool_, volume, snapshot);
  }
  [[nodiscard]] Result<std::optional<Receipt>> receipt(const VolumeName& volume) const {
    return detail::rbd_receipt(*pool_, volume);
  }
  Result<void> resume_receipt(const VolumeName& volume) { return detail::rbd_resume_receipt(pool_, volume); }
  Result<void> set_receipt(const VolumeName& volume, Device& device, const Receipt& receipt) {
    return detail::rbd_set_receipt(pool_, volume, device.native(), receipt);
  }
  Result<void> end_receipt(const VolumeName& volume, Device& device, const SnapshotName& snapshot,
                           const std::string& identity) {
    return detail::rbd_end_receipt(pool_, volume, device.native(), snapshot, identity);
  }

  [[nodiscard]] Result<std::vector<Finding>> check() const { return detail::rbd_check_storage(*pool_); }
  Result<Recovery> recover(const std::optional<VolumeName>& only, const RecoverOptions& options, const Work& work) {
    return detail::rbd_recover_storage(pool_, only, options, work);
  }

 private:
  explicit Rbd(detail::RbdPoolPtr pool) noexcept : pool_{std::move(pool)} {}

  [[nodiscard]] detail::KrbdUnmap unmap(const VolumeName& volume, std::string snapshot = {},
                                        detail::KrbdScope scope = detail::KrbdScope::with_snapshots) const {
    return {pool_, volume, std::move(snapshot), scope};
  }

  [[nodiscard]] bool in_kernel(const UseOptions& use) const noexcept { return config().krbd || use.kernel; }

  Result<void> activate_one(const VolumeName& volume, const std::string& snapshot, const UseOptions& use) {
    if (snapshot.empty()) {
      if (auto finished = detail::rbd_admitted(*pool_, volume.str(), Verb::activate); !finished) return finished;
    }
    if (in_kernel(use)) return detail::krbd_activate(pool_, volume, snapshot);
    return detail::krbd_target(*pool_, volume, snapshot).map([](const detail::KrbdTarget&) {});
  }

  [[nodiscard]] Result<std::string> path_of(const VolumeName& volume, std::string_view snapshot,
                                            const UseOptions& use) const {
    if (in_kernel(use)) return detail::krbd_path(*pool_, volume, snapshot);
    return detail::rbd_path(pool_->access, config(), volume, snapshot);
  }
  [[nodiscard]] Result<Blockdev> blockdev_of(const VolumeName& volume, std::string_view snapshot,
                                             const UseOptions& use) const {
    if (!in_kernel(use)) return Blockdev{detail::rbd_node(pool_->access, config(), volume, snapshot), {}};
    return detail::krbd_path(*pool_, volume, snapshot).map([](std::string path) {
      return Blockdev{HostDeviceNode{std::move(path)}, {}};
    });
  }

  detail::RbdPoolPtr pool_;
};

static_assert(audited<Rbd> && IncrementBackend<Rbd>);

}  // namespace stowage
