#pragma once
// The facade: one storage, and the verbs that its row of the feature table allows.

#include <concepts>
#include <optional>
#include <stop_token>
#include <stowage/backend.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/detail/facade.hpp>
#include <stowage/detail/storage_lock.hpp>
#include <stowage/names.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/verbs/import.hpp>
#include <stowage/verbs/recover.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage {

/// One storage. Every verb checks the grammar of the name and the state of the volume, and puts the storage's and
/// the volume's name into every error.
///
/// Errors of all verbs: parse_failed (the name), wrong_state (the type can, this volume cannot), unavailable,
/// timed_out, permission_denied, and those that `Backend` lists.
/// Blocks: every verb, on the storage's answer; see `OpenOptions::timeout`. With `OpenOptions::locks`, `create`,
/// `begin_import`, `remove`, `rename`, `clone` and `make_template` wait for their turn first (timed_out); `remove` lets
/// it go as soon as it reports progress, so none is held while data are copied or discarded. Other verbs take none.
/// Threads: may be called from several.
template <Backend B>
class Storage : public ImportVerbs<B, Storage<B>>, public RecoverVerbs<B, Storage<B>> {
  static_assert(audited<B>);

 public:
  using Config = typename B::Config;

  /// Connects to the storage. Changes nothing on it, logs in nowhere and activates nothing.
  [[nodiscard]] static Result<Storage> open(StorageId id, Config config, OpenOptions options = {}) {
    auto backend = B::open(id, config, options);
    if (!backend) return fail(std::move(backend.error()).about(id.str()));
    return Storage{std::move(id), *std::move(backend), options};
  }

  /// A policy that the caller has made, in tests for example. Of the options it takes `locks` and `stop`.
  Storage(StorageId id, B backend, const OpenOptions& options = {})
      : id_{std::move(id)}, backend_{std::move(backend)}, turns_{options} {}

  [[nodiscard]] static constexpr const Features& features() noexcept { return features_of<B>; }
  [[nodiscard]] const StorageId& id() const noexcept { return id_; }
  [[nodiscard]] const Config& config() const noexcept { return backend_.config(); }
  /// The policy itself, for what only it has.
  [[nodiscard]] B& backend() noexcept { return backend_; }

  /// Who takes the snapshot of a running guest's disk: this storage, or QEMU. What is used as a device of the kernel
  /// (`UseOptions`) QEMU does not know: then it is this storage.
  [[nodiscard]] SnapshotMethod snapshot_method() const noexcept {
    if constexpr (requires { backend_.snapshot_method(); }) return backend_.snapshot_method();
    return SnapshotMethod::storage;
  }

  /// Makes the storage usable on this host (log in, activate the pool). May be repeated.
  Result<void> activate() { return named(backend_.activate()); }
  Result<void> deactivate() { return named(backend_.deactivate()); }
  /// Makes one volume usable on this host: what `path` and `blockdev` with the same options name is there. May be
  /// repeated. Errors of all three: not_supported (a device of the kernel, which iscsidirect has not).
  Result<void> activate(const VolumeName& volume, const UseOptions& use = {}) {
    return on(volume, [&](const VolumeName& v) { return backend_.activate(v, use); });
  }
  /// The volume and its snapshots, however they are used. Errors: in_use (somebody has one of them open).
  Result<void> deactivate(const VolumeName& volume) {
    return on(volume, [&](const VolumeName& v) { return backend_.deactivate(v); });
  }
  /// Makes a snapshot usable on this host, to be read. May be repeated. Errors: not_found.
  Result<void> activate(const VolumeName& volume, const SnapshotName& snapshot, const UseOptions& use = {})
    requires supports<B, Capability::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.activate(v, snapshot, use); });
  }
  this_storage_type_has_no_snapshots activate(const VolumeName&, const SnapshotName&, const UseOptions& = {}) = delete;
  /// That snapshot, and nothing else. Errors: in_use (somebody has it open).
  Result<void> deactivate(const VolumeName& volume, const SnapshotName& snapshot)
    requires supports<B, Capability::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.deactivate(v, snapshot); });
  }
  this_storage_type_has_no_snapshots deactivate(const VolumeName&, const SnapshotName&) = delete;

  /// How the storage is doing, asked just now.
  [[nodiscard]] Result<Status> status() const { return named(backend_.status()); }

  /// The volumes, sorted by name. Images that are not ours are left out.
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter = {}) const {
    auto volumes = backend_.list(filter);
    if (!volumes) return named(std::move(volumes));
    detail::complete(*volumes, filter, features(), config().common);
    return volumes;
  }

  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    return on(volume, [&](const VolumeName& v) { return described(v); });
  }

  /// The file string that QEMU opens the volume by.
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& use = {}) const {
    return on(volume, [&](const VolumeName& v) { return backend_.path(v, use); });
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const SnapshotName& snapshot,
                                         const UseOptions& use = {}) const
    requires supports<B, Capability::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.path(v, snapshot, use); });
  }
  this_storage_type_has_no_snapshots path(const VolumeName&, const SnapshotName&,
                                          const UseOptions& = {}) const = delete;

  /// The object that QEMU's `-blockdev` opens the volume by.
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& use = {}) const {
    return on(volume, [&](const VolumeName& v) { return backend_.blockdev(v, use); });
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const SnapshotName& snapshot,
                                          const UseOptions& use = {}) const
    requires supports<B, Capability::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.blockdev(v, snapshot, use); });
  }
  this_storage_type_has_no_snapshots blockdev(const VolumeName&, const SnapshotName&,
                                              const UseOptions& = {}) const = delete;

  /// Makes a new volume that reads as zeros, and says its name.
  /// Errors: invalid_argument (size zero or beyond 2^63-1), already_exists (the name asked for), no_space.
  Result<VolumeName> create(const CreateSpec& spec)
    requires supports<B, Capability::provision>
  {
    return make(spec, [&](const VolumeName& v) { return backend_.create(v, spec); });
  }
  this_storage_type_cannot_allocate_or_free_volumes create(const CreateSpec&) = delete;

  /// Removes a volume. What stands in the way (snapshots, clones, somebody who has it open) is found before
  /// anything is destroyed, and named.
  /// Errors: not_found, in_use.
  Result<void> remove(const VolumeName& volume, const RemoveOptions& options = {}, const Work& work = {})
    requires supports<B, Capability::provision>
  {
    return on(volume, Capability::provision, [&](const VolumeName& v) {
      return turn(work.stop).and_then(
          [&](detail::StorageLock&& lock) { return backend_.remove(v, options, lock.held_until_progress(work)); });
    });
  }
  this_storage_type_cannot_allocate_or_free_volumes remove(const VolumeName&, const RemoveOptions& = {},
                                                           const Work& = {}) = delete;

  /// Grows a volume, also under a running guest, and says the size it has now (rounded up).
  /// Errors: invalid_argument (a smaller size), not_found, no_space.
  Result<Bytes> resize(const VolumeName& volume, Bytes size)
    requires supports<B, Capability::resize>
  {
    return on(volume, Capability::resize, [&](const VolumeName& v) {
      return detail::check_size(size).and_then([&] { return backend_.resize(v, size); });
    });
  }
  this_storage_type_cannot_resize_volumes resize(const VolumeName&, Bytes) = delete;

  /// Gives a volume another owner, another name, or both, and says the new name. Snapshots go with it.
  /// Errors: not_found, already_exists, in_use, invalid_argument (neither).
  Result<VolumeName> rename(const VolumeName& volume, const RenameSpec& to)
    requires supports<B, Capability::rename>
  {
    return on(volume, Capability::rename, [&](const VolumeName& v) -> Result<VolumeName> {
      const auto owner = detail::new_owner(features().type, v, to);
      if (!owner) return fail(owner.error());
      return claim(*owner, to.name, [&](const VolumeName& fresh) { return backend_.rename(v, fresh); })
          .and_then([&](const VolumeName& fresh) { return name_of(fresh); });
    });
  }
  this_storage_type_cannot_rename_volumes rename(const VolumeName&, const RenameSpec&) = delete;

  /// Takes a snapshot: a letter, then letters, digits, '_' and '-'; at most 40 characters.
  /// Errors: already_exists, not_found.
  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot)
    requires supports<B, Capability::snapshot>
  {
    return on(volume, State::current, Capability::snapshot, [&](const VolumeName& v) {
      return check_new_snapshot_name(snapshot).and_then([&] { return backend_.snapshot(v, snapshot); });
    });
  }
  this_storage_type_has_no_snapshots snapshot(const VolumeName&, const SnapshotName&) = delete;

  /// The snapshots of a volume, oldest first.
  [[nodiscard]] Result<std::vector<SnapshotInfo>> snapshots(const VolumeName& volume) const
    requires supports<B, Capability::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.snapshots(v); });
  }
  this_storage_type_has_no_snapshots snapshots(const VolumeName&) const = delete;

  /// Gives a volume the content of a snapshot. Newer snapshots stay. When it is stopped or killed half way, the
  /// volume is `incomplete` until the rollback is repeated or `recover` finishes it.
  /// Errors: not_found, in_use (somebody has it open).
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const Work& work = {})
    requires supports<B, Capability::snapshot>
  {
    return on(volume, State::current, Capability::snapshot,
              [&](const VolumeName& v) { return backend_.rollback(v, snapshot, work); });
  }
  this_storage_type_has_no_snapshots rollback(const VolumeName&, const SnapshotName&, const Work& = {}) = delete;
  /// And when it is open, as the options say. Until its next activation that is `pending`.
  /// Errors: also not_supported (`at_next_activation`, and the type cannot wait), in_use (this volume cannot).
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const RollbackOptions& options,
                        const Work& work = {})
    requires supports<B, Capability::snapshot>
  {
    if (options.when_open == WhenOpen::refuse) return rollback(volume, snapshot, work);
    return on(volume, State::current, Capability::snapshot, [&](const VolumeName& v) -> Result<void> {
      if constexpr (DeferredRollbackBackend<B>) {
        return backend_.rollback_at_next_activation(v, snapshot, work);
      } else {
        return fail(Errc::not_supported, "this storage type cannot roll an open volume back at its next activation");
      }
    });
  }
  this_storage_type_has_no_snapshots rollback(const VolumeName&, const SnapshotName&, const RollbackOptions&,
                                              const Work& = {}) = delete;

  /// Errors: not_found, in_use (clones depend on it; they are named).
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot)
    requires supports<B, Capability::snapshot>
  {
    return on(volume, State::current, Capability::snapshot,
              [&](const VolumeName& v) { return backend_.remove_snapshot(v, snapshot); });
  }
  this_storage_type_has_no_snapshots remove_snapshot(const VolumeName&, const SnapshotName&) = delete;

  /// Makes a volume that shares all blocks with a template, and says its name.
  /// Errors: wrong_state (not a template), not_found, already_exists.
  Result<VolumeName> clone(const VolumeName& volume, const CloneSpec& spec)
    requires supports<B, Capability::clone>
  {
    return on(volume, Capability::clone, [&](const VolumeName& v) {
      return claim(spec, [&](const VolumeName& to) { return backend_.clone(v, to, spec); })
          .map([&](const VolumeName& to) { return linked_name(features().type, v, to); });
    });
  }
  this_storage_type_has_no_linked_clones clone(const VolumeName&, const CloneSpec&) = delete;

  /// Makes a volume that shares all blocks with a snapshot, and says its name.
  Result<VolumeName> clone(const VolumeName& volume, const SnapshotName& snapshot, const CloneSpec& spec)
    requires supports_in<B, Capability::clone, State::snapshot>
  {
    return on(volume, [&](const VolumeName& v) {
      return claim(spec, [&](const VolumeName& to) { return backend_.clone(v, snapshot, to, spec); });
    });
  }
  this_storage_type_has_no_linked_clones clone(const VolumeName&, const SnapshotName&, const CloneSpec&) = delete;

  /// Makes a volume the read-only origin of clones, and says its new name, `base-...`.
  /// Errors: not_found, already_exists, in_use, wrong_state (it has snapshots; it is no clone of the base in its name).
  Result<VolumeName> make_template(const VolumeName& volume)
    requires supports<B, Capability::make_template>
  {
    return on(volume, Capability::make_template, [&](const VolumeName& v) {
      const VolumeName base = template_name(v);
      return (volume == v ? Result<VolumeName>{v} : name_of(v))
          .and_then([&](const VolumeName& real) { return detail::check_same(real, volume); })
          .and_then([&] { return turn(); })
          .and_then([&](const detail::StorageLock&) { return backend_.make_template(v, base); })
          .and_then([&] { return name_of(base); });
    });
  }
  this_storage_type_has_no_templates make_template(const VolumeName&) = delete;

  /// Copies into a clone what it shares with its origin, so that it depends on nothing.
  /// Errors: not_found, cancelled (what was copied stays; repeat to go on).
  Result<void> flatten(const VolumeName& volume, const Work& work = {})
    requires supports<B, Capability::flatten>
  {
    return on(volume, Capability::flatten, [&](const VolumeName& v) { return backend_.flatten(v, work); });
  }
  this_storage_type_cannot_flatten_volumes flatten(const VolumeName&, const Work& = {}) = delete;

  /// Opens a volume for blocking reads and writes.
  /// Errors: wrong_state (writing to a template), not_found, in_use (somebody else writes to it).
  [[nodiscard]] auto open_volume(const VolumeName& volume, Access access)
    requires supports<B, Capability::copy>
  {
    const Capability capability = access == Access::read_write ? Capability::write : Capability::copy;
    return on(volume, capability, [&](const VolumeName& v) -> Result<typename B::Device> {
      return detail::check_access(config().common, access).and_then([&] { return backend_.open_volume(v, access); });
    });
  }

  /// Opens a snapshot; it can only be read.
  [[nodiscard]] auto open_volume(const VolumeName& volume, const SnapshotName& snapshot)
    requires supports_in<B, Capability::copy, State::snapshot>
  {
    return on(volume, [&](const VolumeName& v) { return backend_.open_volume(v, snapshot); });
  }
  this_storage_type_cannot_open_snapshots open_volume(const VolumeName&, const SnapshotName&) = delete;

 private:
  template <class, class>
  friend class ImportVerbs;
  template <class, class>
  friend class RecoverVerbs;

  template <class T>
  Result<T> named(Result<T> result) const {
    return std::move(result).map_error([&](Error&& error) { return std::move(error).about(id_.str()); });
  }
  template <class T>
  Result<T> about(const VolumeName& volume, Result<T> result) const {
    return std::move(result).map_error([&](Error&& error) {
      return std::move(error).about(VolumeId{id_, volume}.str());
    });
  }

  /// Calls `verb` with the name that the policy knows the volume by.
  template <class Verb>
  auto on(const VolumeName& volume, Verb verb) const -> std::invoke_result_t<Verb, const VolumeName&> {
    return on(volume, std::nullopt, std::nullopt, std::move(verb));
  }
  /// And only if the capability acts on the state of the volume that the name tells.
  template <class Verb>
  auto on(const VolumeName& volume, Capability capability, Verb verb) const
      -> std::invoke_result_t<Verb, const VolumeName&> {
    return on(volume, std::nullopt, capability, std::move(verb));
  }
  /// And only if the volume is in state `only`.
  template <class Verb>
  auto on(const VolumeName& volume, std::optional<State> only, std::optional<Capability> capability, Verb verb) const
      -> std::invoke_result_t<Verb, const VolumeName&> {
    return about(volume, parse_volume_name(features().type, volume).and_then([&](const VolumeParts& parts) {
      auto good = capability ? detail::check_state(features(), *capability, parts.state(), only) : Result<void>{};
      return good.and_then([&] { return verb(parts.base ? *VolumeName::parse(parts.name) : volume); });
    }));
  }

  template <class Take>
  Result<VolumeName> make(const CreateSpec& spec, Take take) const {
    return named(detail::check_new(features(), config().common, spec).and_then([&] {
      return claim(spec.vmid, spec.name, [&](const VolumeName& v) { return about(v, take(v)); });
    }));
  }
  template <class Take>
  Result<VolumeName> claim(VmId vmid, const std::optional<VolumeName>& wanted, Take take) const {
    return turn().and_then([&](const detail::StorageLock& lock) {
      return detail::claim_name(
          id_, features().type, vmid, wanted, [&] { return backend_.names(); },
          [&](const VolumeName& name) { return lock.check().and_then([&] { return take(name); }); });
    });
  }
  template <class Take>
  Result<VolumeName> claim(const CloneSpec& spec, Take take) const {
    return detail::check_content(features(), config().common, spec.content).and_then([&] {
      return claim(spec.vmid, spec.name, std::move(take));
    });
  }

  [[nodiscard]] auto turn(const std::stop_token& stop = {}) const { return turns_.take(features(), id_, stop); }

  /// What the policy says of a volume, with what the facade knows.
  Result<VolumeInfo> described(const VolumeName& image) const {
    auto info = backend_.info(image);
    if (info) detail::complete(*info, features(), config().common);
    return info;
  }
  Result<VolumeName> name_of(const VolumeName& image) const {
    if (features().type == StorageType::lvmthin) return image;  // see linked_name: its names show no base
    return described(image).map([](const VolumeInfo& info) { return info.name; });
  }

  StorageId id_;
  B backend_;
  detail::StorageTurns turns_;
};

}  // namespace stowage
