#pragma once
// A storage in memory with every capability of the table: for the tests of programs that use stowage, and the first
// backend that the conformance suite is run on.

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <stowage/backend.hpp>
#include <stowage/names.hpp>
#include <stowage/testing/detail/memory_state.hpp>
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
class MemoryBackend {
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
  explicit MemoryBackend(Config config) : config_{std::move(config)}, state_{std::make_shared<detail::MemoryState>()} {
    state_->capacity = config_.capacity;
    state_->block_size = config_.block_size;
    state_->unzeroed_block = config_.unzeroed_block;
  }
  /// A new, empty storage.
  [[nodiscard]] static Result<MemoryBackend> open(const StorageId&, const Config& config, const OpenOptions&) {
    return MemoryBackend{config};
  }

  /// Lets a call fail with `code` before it does anything: the next one of any verb or open volume, or the one that
  /// comes `after` so many others. (The facade may make several calls for one verb.)
  void fail_next(Errc code, unsigned after = 0) {
    const std::lock_guard lock{state_->mutex};
    state_->planned_failure = code;
    state_->calls_before_failure = after;
  }
  /// Lets every call fail with `unavailable`, as when the network is gone.
  void set_offline(bool offline) {
    const std::lock_guard lock{state_->mutex};
    state_->offline = offline;
  }
  /// Leaves `volume` as somebody would who died in the middle of `verb` ("rollback"). Errors: not_found.
  Result<void> interrupt(const VolumeName& volume, std::string verb) {
    return on(volume, [&](Volume& v) { return set_intent(v, std::move(verb)); });
  }
  /// Puts something there that is not ours, under any name.
  void add_foreign(const std::string& name, Bytes size) {
    const std::lock_guard lock{state_->mutex};
    state_->volumes.insert_or_assign(name, fresh(size, Content::images));
  }

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  Result<void> activate() {
    return locked([] { return Result<void>{}; });
  }
  Result<void> deactivate() {
    return locked([] { return Result<void>{}; });
  }
  Result<void> activate(const VolumeName& volume, const UseOptions& = {}) {
    return on(volume, [](Volume& v) { return finish_waiting(v); });
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
    return on(volume, [&](Volume& v) -> Result<void> {
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
    return on(volume, [&](Volume& v) -> Result<Bytes> {
      size = round_up(size, config_.granule);
      if (size < v.size) {
        return fail(Errc::invalid_argument, "it has " + to_string(v.size) + " and cannot shrink to " + to_string(size));
      }
      return v.size = size;
    });
  }
  Result<void> rename(const VolumeName& volume, const VolumeName& to) {
    return on(volume, [&](Volume& v) { return unused(v).and_then([&] { return move(volume, to); }); });
  }

  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return on(volume, [&](Volume& v) -> Result<void> {
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
    return on(volume, snapshot, [&](Volume& v, detail::MemorySnapshot& s) {
      return unused(v).and_then([&] { return copied(work, v); }).map([&] {
        v.go_back_to(s);
        if (v.intent == "rollback" || v.intent == "receive") static_cast<void>(set_intent(v, {}));
      });
    });
  }
  Result<void> rollback_at_next_activation(const VolumeName& volume, const SnapshotName& snapshot, const Work& work) {
    return on(volume, snapshot, [&](Volume& v, detail::MemorySnapshot&) {
      return copied(work, v).and_then([&] {
        v.waits_for = snapshot;
        static_cast<void>(set_intent(v, "rollback"));
        return finish_waiting(v);
      });
    });
  }
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return on(volume, snapshot, [&](Volume& v, detail::MemorySnapshot& s) {
      if (v.waits_for == snapshot) return Result<void>{fail(Errc::in_use, "a rollback to it waits")};
      return without_clones(v, snapshot.str()).map([&] {
        v.snapshots.erase(v.snapshots.begin() + (&s - v.snapshots.data()));
      });
    });
  }
  Result<void> clone(const VolumeName& base, const VolumeName& to, const CloneSpec& spec) {
    return on(base, [&](Volume& v) { return add_clone(v, v.size, v.blocks, {}, to, spec); });
  }
  Result<void> clone(const VolumeName& volume, const SnapshotName& snapshot, const VolumeName& to,
                     const CloneSpec& spec) {
    return on(volume, snapshot, [&](Volume& v, detail::MemorySnapshot& s) {
      return add_clone(v, s.info.size, s.blocks, snapshot.str(), to, spec);
    });
  }
  Result<void> make_template(const VolumeName& volume, const VolumeName& to) {
    return on(volume, [&](Volume& v) {
      if (!v.snapshots.empty()) return Result<void>{fail(Errc::wrong_state, "a template cannot have snapshots")};
      return unused(v).and_then([&] { return move(volume, to); }).map([&] { v.is_base = true; });
    });
  }
  Result<void> flatten(const VolumeName& volume, const Work& work) {
    return on(volume, [&](Volume& v) { return copied(work, v).map([&] { v.origin.reset(); }); });
  }

  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) {
    return on(volume, [&](Volume& v) -> Result<Device> {
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
      const std::shared_ptr<Volume> made = fresh(round_up(spec.size, config_.granule), spec.content);
      made->intent = "import";
      made->has_owner = true;
      return add(volume, made);
    });
  }
  Result<void> end_import(const VolumeName& volume) {
    return on(volume, [&](Volume& v) { return set_intent(v, {}); });
  }
  Result<void> release(const VolumeName& volume) {
    return on(volume, [](Volume& v) -> Result<void> {
      v.has_owner = false;
      return {};
    });
  }

  [[nodiscard]] Result<std::string> snapshot_identity(const VolumeName& volume, const SnapshotName& snapshot) const {
    return on(volume, snapshot, [&](Volume&, detail::MemorySnapshot& s) -> Result<std::string> {
      if (!s.identity.empty()) return s.identity;
      return "memory-" + std::to_string(state_->number) + "-" + std::to_string(s.info.id);
    });
  }
  [[nodiscard]] Result<std::optional<Receipt>> receipt(const VolumeName& volume) const {
    return on(volume, [](Volume& v) -> Result<std::optional<Receipt>> { return v.receipt; });
  }
  Result<void> set_receipt(const VolumeName& volume, Device&, const Receipt& receipt) {
    return on(volume, [&](Volume& v) {
      v.receipt = receipt;
      v.has_owner = true;
      return set_intent(v, "receive");
    });
  }
  Result<void> end_receipt(const VolumeName& volume, Device&, const SnapshotName& snapshot,
                           const std::string& identity) {
    return on(volume, [&](Volume& v) {
      if (v.find(snapshot) == nullptr) take(v, snapshot);
      v.find(snapshot)->identity = identity;
      return set_intent(v, {});
    });
  }

  [[nodiscard]] Result<std::vector<Finding>> check() const {
    return locked([&]() -> Result<std::vector<Finding>> {
      std::vector<Finding> found;
      for (const auto& [name, volume] : state_->volumes) {
        if (!volume->intent.empty()) found.push_back({name, "unfinished " + volume->intent, "recover settles it"});
      }
      return found;
    });
  }
  /// Removes what was being imported or removed, unless somebody is writing to it; what was receiving a stream goes
  /// back to its base. Other intents are just cleared.
  Result<Recovery> recover(const std::optional<VolumeName>& only, const RecoverOptions& options, const Work& work) {
    return locked([&] { return detail::recover(*state_, only, options, work); });
  }

 private:
  using Volume = detail::MemoryVolume;

  void take(Volume& volume, const SnapshotName& snapshot) {
    SnapshotInfo info{.name = snapshot, .size = volume.size, .ctime = detail::now(), .id = ++state_->last_id};
    volume.snapshots.push_back({std::move(info), volume.blocks});
  }
  template <class Verb>
  auto locked(Verb verb) const -> std::invoke_result_t<Verb> {
    const std::lock_guard lock{state_->mutex};
    return state_->planned().and_then(std::move(verb));
  }
  template <class Verb>
  auto on(const VolumeName& volume, Verb verb) const -> std::invoke_result_t<Verb, Volume&> {
    return locked([&]() -> std::invoke_result_t<Verb, Volume&> {
      const auto found = state_->volumes.find(volume.str());
      if (found == state_->volumes.end()) return fail(Errc::not_found, "no volume '" + volume.str() + "'");
      return verb(*std::shared_ptr{found->second});  // a copy: the verb may remove it
    });
  }
  template <class Verb>
  auto on(const VolumeName& volume, const SnapshotName& snapshot, Verb verb) const
      -> std::invoke_result_t<Verb, Volume&, detail::MemorySnapshot&> {
    return on(volume, [&](Volume& v) -> std::invoke_result_t<Verb, Volume&, detail::MemorySnapshot&> {
      detail::MemorySnapshot* found = v.find(snapshot);
      if (found == nullptr) return fail(Errc::not_found, "no snapshot '" + snapshot.str() + "'");
      return verb(v, *found);
    });
  }

  std::shared_ptr<Volume> fresh(Bytes size, Content content) {
    return std::make_shared<Volume>(Volume{.id = ++state_->last_id,
                                           .size = size,
                                           .content = content,
                                           .blocks = detail::SparseBlocks{state_->chunks},
                                           .ctime = detail::now()});
  }
  Result<void> add(const VolumeName& name, const std::shared_ptr<Volume>& volume) {
    if (state_->volumes.try_emplace(name.str(), volume).second) return {};
    return fail(Errc::already_exists, "volume '" + name.str() + "' exists");
  }
  Result<void> add_clone(const Volume& of, Bytes size, const detail::SparseBlocks& blocks, std::string snapshot,
                         const VolumeName& to, const CloneSpec& spec) {
    const std::shared_ptr<Volume> volume = fresh(size, spec.content);
    volume->blocks = blocks;
    volume->origin = detail::MemoryOrigin{of.id, std::move(snapshot)};
    return add(to, volume);
  }
  Result<void> move(const VolumeName& from, const VolumeName& to) {
    return add(to, state_->volumes.at(from.str())).map([&] { state_->volumes.erase(from.str()); });
  }

  /// No clones depend on the volume, or on that one snapshot of it.
  Result<void> without_clones(const Volume& volume, const std::optional<std::string>& snapshot) const {
    std::string clones;
    for (const auto& [name, other] : state_->volumes) {
      if (!other->origin || other->origin->volume != volume.id) continue;
      if (!snapshot || other->origin->snapshot == *snapshot) clones += " " + name;
    }
    if (clones.empty()) return {};
    return fail(Errc::in_use, "it has clones:" + clones);
  }

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
                    .identity = "memory-" + std::to_string(volume.id),
                    .intent = volume.intent};
    if (const auto parts = parse_volume_name(features.type, name)) info.vmid = parts->owner();
    for (const auto& [other_name, other] : state_->volumes) {
      if (!volume.origin || other->id != volume.origin->volume) continue;
      info.parent = Parent{{}, {}, other_name, volume.origin->snapshot};
      if (other->is_base) info.base = VolumeName::parse(other_name).value();
    }
    return info;
  }

  Config config_;
  std::shared_ptr<detail::MemoryState> state_;
};

static_assert(audited<MemoryBackend> && IncrementBackend<MemoryBackend> && DeferredRollbackBackend<MemoryBackend>);

}  // namespace stowage::testing
