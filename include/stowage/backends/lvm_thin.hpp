#pragma once
// Volumes of an LVM thin pool, through LVM's own tools.

#include <algorithm>
#include <optional>
#include <stowage/backend.hpp>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_import.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_open.hpp>
#include <stowage/backends/detail/lvm_path.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_receipt.hpp>
#include <stowage/backends/detail/lvm_recover.hpp>
#include <stowage/backends/detail/lvm_remove.hpp>
#include <stowage/backends/detail/lvm_rename.hpp>
#include <stowage/backends/detail/lvm_rollback.hpp>
#include <stowage/backends/detail/lvm_template.hpp>
#include <stowage/backends/detail/lvm_thin_device.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/process/posix_runner.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// The policy of type `lvmthin`. Needs root, the package lvm2, and a kernel with dm_thin_pool.
///
/// One `lvs` tells all: a listing, a status and a search for a name cost one process. A tool that changes something is
/// never asked twice, never asks back, and has six times the deadline of a question (`OpenOptions::timeout`); one that
/// was killed at it is `outcome_unknown`. LVM is kept from looking into the volumes, which are the disks of guests.
///
/// Sizes are whole extents (4 MiB, as a rule). New volumes are active at once, and have LVM's flag that lets `vgchange
/// -ay` and the boot skip them: by hand, `lvchange -ay -K` activates them. An open volume may grow and be taken
/// snapshots of. Clones share blocks with their origin and do not depend on it: it may go.
/// Removing a volume discards its blocks, so that the disks below the pool are free of them too (`OpenOptions::
/// discard_rate`); what only its snapshots hold goes back to the pool without that. Until that has begun, a volume that
/// somebody opens meanwhile is kept, and the error is in_use. A removal is two processes where there are no blocks,
/// else three, and one more where there are snapshots.
///
/// Beside pvesm: names are its names, and a snapshot that it made is one here. Such a snapshot has no tag of ours, and
/// goes by its name; where that fits two volumes, verbs that would touch it are refused with both names.
template <class Runner>
class BasicLvmThin {
  static_assert(CommandRunner<Runner>);

 public:
  using Config = LvmThinConfig;
  using Device = BasicLvmThinDevice<Runner>;

  /// Runs nothing. Errors: invalid_argument (names that LVM does not allow).
  [[nodiscard]] static Result<BasicLvmThin> open(const StorageId&, Config config, const OpenOptions& options,
                                                 Runner runner = {}) {
    for (const std::string& name : {config.vgname, config.thinpool}) {
      if (!detail::is_lvm_name(name)) return fail(Errc::invalid_argument, "not a name for LVM: '" + name + "'");
    }
    return BasicLvmThin{detail::LvmTools<Runner>{std::move(config), options, std::move(runner)}};
  }

  /// The thin pools of a volume group, sorted. Errors: unavailable (no such volume group).
  [[nodiscard]] static Result<std::vector<ThinPool>> scan(const std::string& vg, const OpenOptions& options = {},
                                                          const Runner& runner = {}) {
    if (!detail::is_lvm_name(vg)) return fail(Errc::invalid_argument, "not a name for LVM: '" + vg + "'");
    return detail::lvm_report(runner, vg, options).map([](const detail::LvmReport& report) {
      std::vector<ThinPool> pools = detail::lvm_thin_pools(report);
      std::sort(pools.begin(), pools.end(), [](const ThinPool& a, const ThinPool& b) { return a.name < b.name; });
      return pools;
    });
  }

  [[nodiscard]] const Config& config() const noexcept { return tools_.config(); }

  Result<void> activate() { return detail::lvm_activate_pool(tools_); }
  /// The pool and its volumes, and nothing else of the volume group. Errors: in_use (the volume and who has it open).
  Result<void> deactivate() { return detail::lvm_deactivate_pool(tools_); }
  Result<void> activate(const VolumeName& volume, const UseOptions& = {}) {
    return detail::lvm_activate_volume(tools_, volume);
  }
  /// The volume and its snapshots. Errors: in_use (and who has it open).
  Result<void> deactivate(const VolumeName& volume) { return detail::lvm_deactivate_volume(tools_, volume); }
  Result<void> activate(const VolumeName& volume, const SnapshotName& snapshot, const UseOptions& = {}) {
    return detail::lvm_activate_snapshot(tools_, volume, snapshot);
  }
  /// Errors: in_use (and who has it open).
  Result<void> deactivate(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::lvm_deactivate_snapshot(tools_, volume, snapshot);
  }

  /// Without the numbers of use while the pool is inactive. A pool whose own transaction id is not the one that LVM
  /// expects is told by both, in `health`.
  [[nodiscard]] Result<Status> status() const { return pool().map(detail::lvm_pool_status); }
  /// All that is known of the pool. Errors: not_found, unavailable.
  [[nodiscard]] Result<ThinPool> pool() const { return detail::lvm_own_pool(tools_); }

  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    const auto pool = detail::lvm_find_pool(tools_, detail::LvmDetail::listing);
    if (!pool) return fail(pool.error());
    std::vector<VolumeInfo> infos = detail::lvm_infos(pool->view);
    if (filter.vmid) std::erase_if(infos, [&](const VolumeInfo& info) { return info.vmid != filter.vmid; });
    return infos;
  }
  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    const auto view = detail::lvm_view(tools_, detail::LvmDetail::listing);
    if (!view) return fail(view.error());
    for (VolumeInfo& info : detail::lvm_infos(*view)) {
      if (info.name == volume) return std::move(info);
    }
    return fail(view->volume(volume).error());
  }
  /// Every name of the volume group, of other pools too: LVM has them once. Also those of what is being removed, for
  /// its snapshots still have them.
  [[nodiscard]] Result<std::vector<std::string>> names() const {
    return tools_.report(detail::LvmDetail::listing).map([](const detail::LvmReport& report) {
      std::vector<std::string> names;
      for (const detail::LvmVolume& volume : report.volumes) {
        names.push_back(volume.name);
        if (auto removal = detail::lvm_removal(volume)) names.push_back(std::move(removal->volume));
        if (auto filled = detail::lvm_import(volume)) names.push_back(*std::move(filled));
      }
      return names;
    });
  }

  /// Of an inactive volume the path that it will have. Costs no process. Errors: identity_changed (something else is
  /// there, a regular file for one).
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& = {}) const {
    return detail::lvm_path(tools_, volume.str());
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const SnapshotName& snapshot,
                                         const UseOptions& = {}) const {
    return detail::lvm_path(tools_, detail::lvm_snapshot_lv(volume.str(), snapshot.str()));
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& = {}) const {
    return path(volume).map([](std::string path) { return Blockdev{HostDeviceNode{std::move(path)}, {}}; });
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const SnapshotName& snapshot,
                                          const UseOptions& = {}) const {
    return path(volume, snapshot).map([](std::string path) { return Blockdev{HostDeviceNode{std::move(path)}, {}}; });
  }

  Result<void> create(const VolumeName& volume, const CreateSpec& spec) {
    return detail::lvm_create(tools_, volume, spec.size);
  }
  Result<void> remove(const VolumeName& volume, const RemoveOptions& options, const Work& work) {
    return detail::lvm_remove(tools_, volume, options, work);
  }
  Result<Bytes> resize(const VolumeName& volume, Bytes size) { return detail::lvm_resize(tools_, volume, size); }
  Result<void> rename(const VolumeName& volume, const VolumeName& to) { return detail::lvm_rename(tools_, volume, to); }

  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::lvm_take_snapshot(tools_, volume, snapshot);
  }
  [[nodiscard]] Result<std::vector<SnapshotInfo>> snapshots(const VolumeName& volume) const {
    return detail::lvm_list_snapshots(tools_, volume);
  }
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return detail::lvm_roll_back(tools_, volume, snapshot, work, WhenOpen::refuse);
  }
  /// As `rollback`, and an open volume gets the content when it is activated next: by us, by pvesm, by an
  /// administrator. Until then `info` shows the rollback, its snapshot is not listed, and resize, snapshot and another
  /// rollback are wrong_state; after that `activate` or `recover` gives the snapshot its name back. A volume that is
  /// closed stays active until somebody deactivates it (`deactivate`; pvesm leaves volumes active). It cannot be called
  /// off. Errors: in_use (it is open, and LVM has lost what the snapshot was taken of, in a rollback to another one).
  Result<void> rollback_at_next_activation(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return detail::lvm_roll_back(tools_, volume, snapshot, work, WhenOpen::at_next_activation);
  }
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::lvm_remove_snapshot(tools_, volume, snapshot);
  }

  Result<void> clone(const VolumeName& base, const VolumeName& to, const CloneSpec&) {
    return detail::lvm_clone_base(tools_, base, to);
  }
  Result<void> clone(const VolumeName& volume, const SnapshotName& snapshot, const VolumeName& to, const CloneSpec&) {
    return detail::lvm_clone_snapshot(tools_, volume, snapshot, to);
  }
  Result<void> make_template(const VolumeName& volume, const VolumeName& to) {
    return detail::lvm_make_template(tools_, volume, to);
  }

  /// Activates the volume, which stays active. To write, nobody else may have it open, whether claimed or not: the
  /// kernel is asked for up to 3 s, while udev looks into it. A process that opens it later, without a claim as QEMU
  /// does, is not kept away. Errors: in_use (and who has it open); identity_changed (the device is another volume's).
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) {
    return detail::lvm_open_volume(tools_, volume, access).map(with_map(volume));
  }
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, const SnapshotName& snapshot) {
    return detail::lvm_open_snapshot(tools_, volume, snapshot).map(with_map(volume));
  }

  /// Until `end_import` it has a private name in LVM, `import-...`, and this policy and its copies hold its lock:
  /// others find it in use.
  Result<void> begin_import(const VolumeName& volume, const CreateSpec& spec) {
    return detail::lvm_begin_import(tools_, volume, spec.size);
  }
  Result<void> end_import(const VolumeName& volume) { return detail::lvm_end_import(tools_, volume); }
  Result<void> release(const VolumeName& volume) { return detail::lvm_release(tools_, volume); }

  [[nodiscard]] Result<std::string> snapshot_identity(const VolumeName& volume, const SnapshotName& snapshot) const {
    return detail::lvm_snapshot_identity(tools_, volume, snapshot);
  }
  [[nodiscard]] Result<std::optional<Receipt>> receipt(const VolumeName& volume) const {
    return detail::lvm_receipt(tools_, volume);
  }
  Result<void> resume_receipt(const VolumeName& volume) { return detail::lvm_resume_receipt(tools_, volume); }
  Result<void> set_receipt(const VolumeName& volume, Device&, const Receipt& receipt) {
    return detail::lvm_set_receipt(tools_, volume, receipt);
  }
  Result<void> end_receipt(const VolumeName& volume, Device&, const SnapshotName& snapshot,
                           const std::string& identity) {
    return detail::lvm_end_receipt(tools_, volume, snapshot, identity);
  }

  [[nodiscard]] Result<std::vector<Finding>> check() const { return detail::lvm_check(tools_); }
  Result<Recovery> recover(const std::optional<VolumeName>& only, const RecoverOptions& options, const Work& work) {
    return detail::lvm_recover(tools_, only, options, work);
  }

 private:
  explicit BasicLvmThin(detail::LvmTools<Runner> tools) : tools_{std::move(tools)} {}

  [[nodiscard]] auto with_map(const VolumeName& volume) const {
    return [this, &volume](detail::LvmOpened&& opened) { return Device{std::move(opened), tools_, volume}; };
  }

  detail::LvmTools<Runner> tools_;
};

/// With the real tools.
using LvmThin = BasicLvmThin<PosixRunner>;

static_assert(audited<LvmThin>);
static_assert(QueuedDevice<LvmThin::Device> && MappedDevice<LvmThin::Device> && UnzeroedDevice<LvmThin::Device>);
static_assert(IncrementBackend<LvmThin> && DeferredRollbackBackend<LvmThin>);

}  // namespace stowage
