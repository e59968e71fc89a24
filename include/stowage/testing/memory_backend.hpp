#pragma once
// A storage in memory with every capability of the table: for the tests of programs that use stowage, and the first
// backend that the conformance suite is run on.

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <stowage/backend.hpp>
#include <stowage/names.hpp>
#include <stowage/testing/detail/memory_core.hpp>
#include <stowage/testing/detail/memory_intents.hpp>
#include <stowage/testing/detail/memory_recovery.hpp>
#include <stowage/testing/detail/memory_state.hpp>
#include <stowage/testing/memory_device.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage::testing {

/// A policy for `Storage`. Its copies are one storage: keep one to look into it, to make it fail, or to open it twice.
///
///     MemoryBackend memory;
///     Storage storage{*StorageId::parse("test"), memory};
///     memory.fail_next(Errc::timed_out);
///
/// Threads: all of it may be called from several threads; a device belongs to one at a time.
class MemoryBackend : public detail::MemoryCore {
 public:
  static constexpr Features features{StorageType::other, "memory", {Content::images, Content::rootdir},
                                     {Format::raw},      false,    rbd_row.can};
  using Device = MemoryDevice;

  struct Config {
    CommonConfig common{.content = {Content::images, Content::rootdir}, .nodes = {}, .disable = false, .bwlimit = {}};
    Bytes capacity = 1_TiB;  ///< of written data; what volumes may grow to is not limited
    Bytes block_size = 512_B;
    Bytes granule = 4_KiB;   ///< sizes of volumes are rounded up to it
    Bytes unzeroed_block{};  ///< multiple of 64 KiB: new blocks of that size hold 0xAA, see `UnzeroedDevice`
  };

  MemoryBackend() : MemoryBackend{Config{}} {}
  explicit MemoryBackend(Config config) : config_{std::move(config)} {
    state_->capacity = config_.capacity;
    state_->block_size = config_.block_size;
    state_->unzeroed_block = config_.unzeroed_block;
  }
  /// A new, empty storage.
  [[nodiscard]] static Result<MemoryBackend> open(const StorageId&, const Config& config, const OpenOptions&) {
    return MemoryBackend{config};
  }

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  Result<void> activate() {
    return locked([] { return Result<void>{}; });
  }
  Result<void> deactivate() {
    return locked([] { return Result<void>{}; });
  }
  Result<void> activate(const VolumeName& volume, const UseOptions& = {}) {
    return enter(volume, Verb::activate, [&](Volume& v) { return detail::finish_waiting(*state_, v); });
  }
  Result<void> deactivate(const VolumeName& volume) {
    return on(volume, [](Volume& v) { return unused(v); });
  }
  Result<void> activate(const VolumeName& volume, const SnapshotName& snapshot, const UseOptions& = {}) {
    return on(volume, snapshot, [](Volume&, detail::MemorySnapshot&) { return Result<void>{}; });
  }
  Result<void> deactivate(const VolumeName& volume, const SnapshotName& snapshot) { return activate(volume, snapshot); }

  [[nodiscard]] Result<Status> status() const {
    return locked([&]() -> Result<Status> {
      Bytes provisioned{};
      for (const auto& [name, volume] : state_->volumes) provisioned += volume->size;
      const Bytes used = std::min(state_->used(), config_.capacity);
      return Status{.active = true,
                    .total = config_.capacity,
                    .used = used,
                    .available = config_.capacity - used,
                    .provisioned = provisioned};
    });
  }
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    return locked([&]() -> Result<std::vector<VolumeInfo>> {
      std::vector<VolumeInfo> found;
      for (const auto& [name, volume] : state_->volumes) {
        const auto ours = VolumeName::parse(name);
        if (!ours || !parse_volume_name(features.type, *ours)) continue;
        VolumeInfo info = describe(*ours, *volume);
        if (!filter.vmid || info.vmid == filter.vmid) found.push_back(std::move(info));
      }
      return found;
    });
  }
  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    return on(volume, [&](Volume& v) -> Result<VolumeInfo> { return describe(volume, v); });
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& = {}) const {
    return "/dev/memory/" + volume.str();
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const SnapshotName& snapshot,
                                         const UseOptions& = {}) const {
    return "/dev/memory/" + volume.str() + "@" + snapshot.str();
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& = {}) const {
    return Blockdev{HostDeviceNode{*path(volume)}, std::nullopt};
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const SnapshotName& snapshot,
                                          const UseOptions& = {}) const {
    return Blockdev{HostDeviceNode{*path(volume, snapshot)}, std::nullopt};
  }

  [[nodiscard]] Result<std::vector<std::string>> names() const {
    return locked([&]() -> Result<std::vector<std::string>> {
      std::vector<std::string> all;
      for (const auto& [name, volume] : state_->volumes) all.push_back(name);
      return all;
    });
  }
  Result<void> create(const VolumeName& volume, const CreateSpec& spec) {
    return locked([&] { return add(volume, fresh(round_up(spec.size, config_.granule), spec.content)); });
  }
  Result<void> remove(const VolumeName& volume, const RemoveOptions& options, const Work& work) {
    return enter(volume, Verb::remove, [&](Volume& v) -> Result<void> {
      if (options.trash) return fail(Errc::not_supported, "the memory storage has no trash");
      std::string snapshots;
      for (const detail::MemorySnapshot& s : v.snapshots) snapshots += " " + s.info.name.str();
      if (!options.snapshots && !snapshots.empty()) return fail(Errc::in_use, "it has snapshots:" + snapshots);
      return unused(v).and_then([&] { return without_clones(v, std::nullopt); }).and_then([&]() -> Result<void> {
        if (work.stop.stop_requested()) return fail(Errc::cancelled, "nothing was removed");
        state_->volumes.erase(volume.str());
        return {};
      });
    });
  }
  Result<Bytes> resize(const VolumeName& volume, Bytes size) {
    return enter(volume, Verb::resize, [&](Volume& v) -> Result<Bytes> {
      size = round_up(size, config_.granule);
      if (size < v.size) {
        return fail(Errc::invalid_argument, "it has " + to_string(v.size) + " and cannot shrink to " + to_string(size));
      }
      return v.size = size;
    });
  }
  Result<void> rename(const VolumeName& volume, const VolumeName& to) {
    return enter(volume, Verb::rename, [&](Volume& v) { return unused(v).and_then([&] { return move(volume, to); }); });
  }

  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return enter(volume, Verb::snapshot, [&](Volume& v) -> Result<void> {
      if (v.find(snapshot)) return fail(Errc::already_exists, "snapshot '" + snapshot.str() + "' exists");
      take(v, snapshot);
      return {};
    });
  }
  [[nodiscard]] Result<std::vector<SnapshotInfo>> snapshots(const VolumeName& volume) const {
    return on(volume, [](Volume& v) -> Result<std::vector<SnapshotInfo>> {
      std::vector<SnapshotInfo> infos;
      for (const detail::MemorySnapshot& s : v.snapshots) infos.push_back(s.info);
      return infos;
    });
  }
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return enter(volume, snapshot, Verb::rollback, [&](Volume& v, detail::MemorySnapshot& s) {
      return unused(v).and_then([&] { return copied(work, v); }).map([&] {
        v.go_back_to(s);
        if (detail::intent_of(*state_, v)) detail::settle(v);
      });
    });
  }
  Result<void> rollback_at_next_activation(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return enter(volume, snapshot, Verb::rollback, [&](Volume& v, detail::MemorySnapshot&) {
      return copied(work, v)
          .and_then(
              [&] { return detail::write_record(*state_, v, "rollback", IntentPhase::waiting, {snapshot.str()}); })
          .and_then([&] { return detail::finish_waiting(*state_, v); });
    });
  }
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return enter(volume, snapshot, Verb::remove_snapshot, [&](Volume& v, detail::MemorySnapshot& s) -> Result<void> {
      const auto intent = detail::intent_of(*state_, v);
      if (intent && intent->argument(0) == snapshot.str()) return fail(Errc::in_use, "a rollback to it waits");
      return without_clones(v, snapshot.str()).map([&] {
        v.snapshots.erase(v.snapshots.begin() + (&s - v.snapshots.data()));
      });
    });
  }
  Result<void> clone(const VolumeName& base, const VolumeName& to, const CloneSpec& spec) {
    return enter(base, Verb::clone, [&](Volume& v) { return add_clone(v, v.size, v.blocks, {}, to, spec); });
  }
  Result<void> clone(const VolumeName& volume, const SnapshotName& snapshot, const VolumeName& to,
                     const CloneSpec& spec) {
    return enter(volume, snapshot, Verb::clone, [&](Volume& v, detail::MemorySnapshot& s) {
      return add_clone(v, s.info.size, s.blocks, snapshot.str(), to, spec);
    });
  }
  Result<void> make_template(const VolumeName& volume, const VolumeName& to) {
    return enter(volume, Verb::make_template,
                 [&](Volume& v) {
                   if (!v.snapshots.empty())
                     return Result<void>{fail(Errc::wrong_state, "a template cannot have snapshots")};
                   return unused(v).and_then([&] { return move(volume, to); }).map([&] {
                     v.is_base = true;
                     if (detail::intent_of(*state_, v)) detail::settle(v);
                   });
                 },
                 {to.str()});
  }
  Result<void> flatten(const VolumeName& volume, const Work& work) {
    return enter(volume, Verb::flatten, [&](Volume& v) {
      return copied(work, v).map([&] {
        v.origin.reset();
        if (detail::intent_of(*state_, v)) detail::settle(v);
      });
    });
  }

  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) {
    const Verb verb = access == Access::read_write ? Verb::open_to_write : Verb::open_to_read;
    return enter(volume, verb, [&](Volume& v) -> Result<Device> {
      if (access == Access::read_write) {
        if (auto good = unused(v); !good) return fail(std::move(good.error()));
        v.has_writer = true;
      }
      return device(volume, v.size, access, std::nullopt);
    });
  }
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, const SnapshotName& snapshot) {
    return on(volume, snapshot, [&](Volume&, detail::MemorySnapshot& s) -> Result<Device> {
      return device(volume, s.info.size, Access::read_only, s.blocks);
    });
  }

  Result<void> begin_import(const VolumeName& volume, const CreateSpec& spec) {
    return locked([&] {
      drop_dead_import(volume);
      const std::shared_ptr<Volume> made = fresh(round_up(spec.size, config_.granule), spec.content);
      return detail::write_record(*state_, *made, "import", IntentPhase::prepare, {}).and_then([&] {
        return add(volume, made);
      });
    });
  }
  Result<void> end_import(const VolumeName& volume) {
    return on(volume, [&](Volume& v) { return detail::end(*state_, v, Verb::import); });
  }
  Result<void> release(const VolumeName& volume) {
    return on(volume, [&](Volume& v) { return detail::release(*state_, v); });
  }

  [[nodiscard]] Result<std::string> snapshot_identity(const VolumeName& volume, const SnapshotName& snapshot) const {
    return on(volume, snapshot, [&](Volume&, detail::MemorySnapshot& s) -> Result<std::string> {
      if (!s.identity.empty()) return s.identity;
      return "memory-" + std::to_string(state_->number) + "-" + std::to_string(s.info.id);
    });
  }
  [[nodiscard]] Result<std::optional<Receipt>> receipt(const VolumeName& volume) const {
    return on(volume, [&](Volume& v) -> Result<std::optional<Receipt>> {
      return detail::receipt_in(detail::intent_of(*state_, v));
    });
  }
  Result<void> resume_receipt(const VolumeName& volume) {
    return on(volume, [&](Volume& v) -> Result<void> {
      const auto receipt = detail::receipt_in(detail::intent_of(*state_, v));
      if (!receipt) return {};
      return detail::put_receipt(*state_, v, *receipt);
    });
  }
  Result<void> set_receipt(const VolumeName& volume, Device&, const Receipt& receipt) {
    return on(volume, [&](Volume& v) { return detail::put_receipt(*state_, v, receipt); });
  }
  Result<void> end_receipt(const VolumeName& volume, Device&, const SnapshotName& snapshot,
                           const std::string& identity) {
    return on(volume, [&](Volume& v) {
      return detail::end(*state_, v, Verb::receive).map([&] {
        if (v.find(snapshot) == nullptr) take(v, snapshot);
        v.find(snapshot)->identity = identity;
      });
    });
  }

  [[nodiscard]] Result<std::vector<Finding>> check() const {
    return locked([&]() -> Result<std::vector<Finding>> { return detail::check(*state_); });
  }
  /// Removes what was being imported or removed; what was receiving a stream goes back to its base. See `Backend`.
  Result<Recovery> recover(const std::optional<VolumeName>& only, const RecoverOptions& options, const Work& work) {
    return locked([&] { return detail::MemoryRecovery{*state_, options, work}.run(only); });
  }

 private:
  Device device(const VolumeName& volume, Bytes size, Access access, std::optional<detail::SparseBlocks> snapshot) {
    return Device{
        size, state_->block_size,
        std::make_unique<Device::Open>(state_, state_->volumes.at(volume.str()), access, std::move(snapshot))};
  }

  VolumeInfo describe(const VolumeName& name, const Volume& volume) const {
    VolumeInfo info{.name = name,
                    .size = volume.size,
                    .content = volume.content,
                    .used = volume.blocks.used(),
                    .ctime = volume.ctime,
                    .identity = "memory-" + std::to_string(volume.id)};
    if (const auto intent = detail::intent_of(*state_, volume)) {
      (detail::is_waiting(*intent) ? info.pending : info.intent) = intent->verb;
    }
    if (const auto parts = parse_volume_name(features.type, name)) info.vmid = parts->owner();
    for (const auto& [other_name, other] : state_->volumes) {
      if (!volume.origin || other->id != volume.origin->volume) continue;
      info.parent = Parent{{}, {}, other_name, volume.origin->snapshot};
      if (other->is_base) info.base = VolumeName::parse(other_name).value();
    }
    return info;
  }

  Config config_;
};

static_assert(audited<MemoryBackend> && IncrementBackend<MemoryBackend> && DeferredRollbackBackend<MemoryBackend>);

}  // namespace stowage::testing
