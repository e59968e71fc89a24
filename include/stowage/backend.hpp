#pragma once
// What a backend policy must give, and the proof that its row of the table and its code agree.

#include <concepts>
#include <optional>
#include <stowage/blockdev.hpp>
#include <stowage/core/error.hpp>
#include <stowage/features.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// The floor that every policy has.
///
/// A policy talks to one kind of storage. It gets and gives names without the base in front (`vm-101-disk-1`, not
/// `base-100-disk-0/vm-101-disk-1`); the facade `Storage<B>` has checked their grammar and the state of the volume.
/// Every verb may be called from several threads at once, comes back in bounded time, and leaves either the old or
/// the new state, or an intent on the object that `recover` finishes.
///
/// | Expression | Returns | Errors | Meaning |
/// |---|---|---|---|
/// | `B::open(id, config, options)` | `Result<B>` | unavailable, permission_denied, not_found | connects; changes nothing |
/// | `config()` | `const Config&` with a member `common` | | as it was opened |
/// | `activate()`, `deactivate()` | `Result<void>` | unavailable | the storage; both may be repeated |
/// | `activate(v, use)`, `deactivate(v)` | `Result<void>` | not_found, in_use | one volume; both may be repeated |
/// | `status()` | `Result<Status>` | unavailable, timed_out | asks the storage now |
/// | `list(filter)` | `Result<vector<VolumeInfo>>` | unavailable | our volumes in any order; foreign ones are left out |
/// | `info(v)` | `Result<VolumeInfo>` | not_found | one volume |
/// | `path(v, use)`, `blockdev(v, use)` | `Result<string>`, `Result<Blockdev>` | permission_denied | for QEMU; does not ask whether `v` exists |
///
/// With `use.kernel`, the three of them are about a device of the kernel, or not_supported where there is none.
///
/// And by the capabilities of its row:
///
/// | Capability | Expression | Returns | Errors |
/// |---|---|---|---|
/// | provision | `names()` | `Result<vector<string>>` | every name that takes a number (`next_free_name`) |
/// | | `create(v, spec)` | `Result<void>` | already_exists (atomic), no_space |
/// | | `remove(v, options, work)` | `Result<void>` | not_found, in_use (nothing was destroyed) |
/// | resize | `resize(v, size)` | `Result<Bytes>`: the size it has now | not_found, invalid_argument (shrinking) |
/// | rename | `rename(v, to)` | `Result<void>` | not_found, already_exists, in_use |
/// | snapshot | `snapshot(v, s)` | `Result<void>` | not_found, already_exists |
/// | | `snapshots(v)` | `Result<vector<SnapshotInfo>>`, oldest first | not_found |
/// | | `rollback(v, s, work)` | `Result<void>` | not_found, in_use |
/// | | `remove_snapshot(v, s)` | `Result<void>` | not_found, in_use (clones) |
/// | | `activate(v, s, use)`, `deactivate(v, s)` | `Result<void>` | not_found, in_use |
/// | | `path(v, s, use)`, `blockdev(v, s, use)` | as without | |
/// | clone | `clone(base, to, spec)`, and of a snapshot `clone(v, s, to, spec)` | `Result<void>` | not_found, already_exists |
/// | make_template | `make_template(v, to)` | `Result<void>` | not_found, already_exists, in_use, wrong_state |
/// | flatten | `flatten(v, work)` | `Result<void>` | not_found |
/// | copy, write | `open_volume(v, access)`, of a snapshot `open_volume(v, s)` | `Result<B::Device>` | not_found, in_use |
/// | import | `begin_import(v, spec)`: `create`, and the volume is `incomplete` until `end_import(v)` | `Result<void>` | as `create`; not_found |
/// | | `release(v)`, optional: its record says from now on that nobody owns it | `Result<void>` | not_found |
///
/// What `begin_import` has made, or `set_receipt` has marked, belongs to the policy that did it and to its copies until
/// `end_import`, `end_receipt`, `remove` or `release`, which all may be called while the volume is open: nobody else
/// may take it, and for `recover`, also their own, it is busy. They may open it, grow it and remove it.
///
/// The facade holds the storage's lock (`OpenOptions::locks`) for `create`, `begin_import`, `rename`, `clone`,
/// `make_template`, and for `remove` until the policy reports progress: at the latest when what takes long begins.
///
/// Optional: `rollback_at_next_activation(v, s, work)`, see `DeferredRollbackBackend`.
///
/// What multi-step verbs of its own left unfinished is found by the optional `check()`, and finished or undone by
/// `recover(only, options, work)`: `Result<Recovery>`, of one volume (`only`, an optional name) or of all. Its errors:
/// it could not be listed what is unfinished; not_found (`only`). What fails about one volume is a row of `left`; when
/// it is asked to stop, so is each volume that it did not come to (cancelled).
template <class B>
concept Backend = std::movable<B> && requires(B& b, const B& seen, const StorageId& id,
                                              const typename B::Config& config, const OpenOptions& options,
                                              const ListFilter& filter, const VolumeName& v, const UseOptions& use) {
  { features_of<B> } -> std::convertible_to<const Features&>;
  { B::open(id, config, options) } -> detail::returns<B>;
  { seen.config() } -> std::same_as<const typename B::Config&>;
  { seen.config().common } -> std::convertible_to<const CommonConfig&>;
  { b.activate() } -> detail::returns<void>;
  { b.deactivate() } -> detail::returns<void>;
  { b.activate(v, use) } -> detail::returns<void>;
  { b.deactivate(v) } -> detail::returns<void>;
  { seen.status() } -> detail::returns<Status>;
  { seen.list(filter) } -> detail::returns<std::vector<VolumeInfo>>;
  { seen.info(v) } -> detail::returns<VolumeInfo>;
  { seen.path(v, use) } -> detail::returns<std::string>;
  { seen.blockdev(v, use) } -> detail::returns<Blockdev>;
};

/// Whether `B` has all member functions of capability `C`. One specialization a capability.
template <class B, Capability C>
inline constexpr bool implements = false;

/// Whether `B` has any member function of capability `C`: half an implementation is caught too.
template <class B, Capability C>
inline constexpr bool mentions = implements<B, C>;

template <class B>
inline constexpr bool implements<B, Capability::provision> = requires(
    B& b, const B& seen, const VolumeName& v, const CreateSpec& spec, const RemoveOptions& options, const Work& work) {
  { seen.names() } -> detail::returns<std::vector<std::string>>;
  { b.create(v, spec) } -> detail::returns<void>;
  { b.remove(v, options, work) } -> detail::returns<void>;
};
template <class B>
inline constexpr bool mentions<B, Capability::provision> =
    requires(B& b, const VolumeName& v, const CreateSpec& spec) { b.create(v, spec); } ||
    requires(B& b, const VolumeName& v, const RemoveOptions& options, const Work& work) { b.remove(v, options, work); };

template <class B>
inline constexpr bool implements<B, Capability::resize> = requires(B& b, const VolumeName& v, Bytes size) {
  { b.resize(v, size) } -> detail::returns<Bytes>;
};

template <class B>
inline constexpr bool implements<B, Capability::rename> = requires(B& b, const VolumeName& v, const VolumeName& to) {
  { b.rename(v, to) } -> detail::returns<void>;
};

template <class B>
inline constexpr bool implements<B, Capability::snapshot> =
    requires(B& b, const B& seen, const VolumeName& v, const SnapshotName& s, const Work& work, const UseOptions& use) {
      { b.snapshot(v, s) } -> detail::returns<void>;
      { seen.snapshots(v) } -> detail::returns<std::vector<SnapshotInfo>>;
      { b.rollback(v, s, work) } -> detail::returns<void>;
      { b.remove_snapshot(v, s) } -> detail::returns<void>;
      { b.activate(v, s, use) } -> detail::returns<void>;
      { b.deactivate(v, s) } -> detail::returns<void>;
      { seen.path(v, s, use) } -> detail::returns<std::string>;
      { seen.blockdev(v, s, use) } -> detail::returns<Blockdev>;
    };
template <class B>
inline constexpr bool mentions<B, Capability::snapshot> =
    requires(B& b, const VolumeName& v, const SnapshotName& s) { b.snapshot(v, s); } ||
    requires(const B& seen, const VolumeName& v) { seen.snapshots(v); } ||
    requires(B& b, const VolumeName& v, const SnapshotName& s, const Work& work) { b.rollback(v, s, work); } ||
    requires(B& b, const VolumeName& v, const SnapshotName& s) { b.remove_snapshot(v, s); };

template <class B>
inline constexpr bool implements<B, Capability::clone> =
    requires(B& b, const VolumeName& v, const SnapshotName& s, const VolumeName& to, const CloneSpec& spec) {
      { b.clone(v, to, spec) } -> detail::returns<void>;
      { b.clone(v, s, to, spec) } -> detail::returns<void>;
    };
template <class B>
inline constexpr bool mentions<B, Capability::clone> =
    requires(B& b, const VolumeName& v, const VolumeName& to, const CloneSpec& spec) { b.clone(v, to, spec); } ||
    requires(B& b, const VolumeName& v, const SnapshotName& s, const VolumeName& to, const CloneSpec& spec) {
      b.clone(v, s, to, spec);
    };

template <class B>
inline constexpr bool implements<B, Capability::make_template> =
    requires(B& b, const VolumeName& v, const VolumeName& to) {
      { b.make_template(v, to) } -> detail::returns<void>;
    };

template <class B>
inline constexpr bool implements<B, Capability::flatten> = requires(B& b, const VolumeName& v, const Work& work) {
  { b.flatten(v, work) } -> detail::returns<void>;
};

namespace detail {
template <class B>
concept opens_volumes = BlockDevice<typename B::Device> && requires(B& b, const VolumeName& v, Access access) {
  { b.open_volume(v, access) } -> returns<typename B::Device>;
};
template <class B>
concept opens_snapshots = requires(B& b, const VolumeName& v, const SnapshotName& s) {
  { b.open_volume(v, s) } -> returns<typename B::Device>;
};
}  // namespace detail

template <class B>
inline constexpr bool implements<B, Capability::copy> =
    detail::opens_volumes<B> && detail::opens_snapshots<B> == supports_in<B, Capability::copy, State::snapshot>;
template <class B>
inline constexpr bool mentions<B, Capability::copy> = detail::opens_volumes<B> || detail::opens_snapshots<B>;

// A device that is open for writing is the one of `open_volume`.
template <class B>
inline constexpr bool implements<B, Capability::write> = implements<B, Capability::copy>;
template <class B>
inline constexpr bool mentions<B, Capability::write> = false;

template <class B>
inline constexpr bool implements<B, Capability::import> = requires(B& b, const VolumeName& v, const CreateSpec& spec) {
  { b.begin_import(v, spec) } -> detail::returns<void>;
  { b.end_import(v) } -> detail::returns<void>;
};
template <class B>
inline constexpr bool mentions<B, Capability::import> =
    requires(B& b, const VolumeName& v, const CreateSpec& spec) { b.begin_import(v, spec); };

// Says how new volumes read; there is nothing to call.
template <class B>
inline constexpr bool implements<B, Capability::sparse_init> = implements<B, Capability::provision>;
template <class B>
inline constexpr bool mentions<B, Capability::sparse_init> = false;

template <class B>
concept ProvisionBackend = Backend<B> && supports<B, Capability::provision>;
template <class B>
concept ResizeBackend = Backend<B> && supports<B, Capability::resize>;
template <class B>
concept RenameBackend = Backend<B> && supports<B, Capability::rename>;
template <class B>
concept SnapshotBackend = Backend<B> && supports<B, Capability::snapshot>;
template <class B>
concept CloneBackend = Backend<B> && supports<B, Capability::clone>;
template <class B>
concept TemplateBackend = Backend<B> && supports<B, Capability::make_template>;
template <class B>
concept FlattenBackend = Backend<B> && supports<B, Capability::flatten>;
template <class B>
concept CopyBackend = Backend<B> && supports<B, Capability::copy>;
template <class B>
concept WriteBackend = Backend<B> && supports<B, Capability::write>;
template <class B>
concept ImportBackend = Backend<B> && supports<B, Capability::import>;

/// A policy that rolls back also a volume that is open: it gets the content when it is activated next. Until then that
/// is `pending`, and the volume is not `incomplete`. `rollback_at_next_activation(v, s, work)`: `Result<void>`;
/// not_found, in_use (this one cannot wait).
template <class B>
concept DeferredRollbackBackend =
    SnapshotBackend<B> && requires(B& b, const VolumeName& v, const SnapshotName& s, const Work& work) {
      { b.rollback_at_next_activation(v, s, work) } -> detail::returns<void>;
    };

/// A policy whose snapshots can be sent to other storages, and received from them (increment/send.hpp,
/// increment/receive.hpp). Its device `TracksChanges`.
///
/// | Expression | Returns | Errors | Meaning |
/// |---|---|---|---|
/// | `snapshot_identity(v, s)` | `Result<string>` | not_found | of its content: as `end_receipt` gave it, else its own |
/// | `receipt(v)` | `Result<optional<Receipt>>` | not_found | what `set_receipt` wrote last |
/// | `resume_receipt(v)` | `Result<void>` | not_found, in_use (it goes on) | optional, see `set_receipt`: a receipt of a run that gave up or died becomes the caller's, so that `v` may be opened; nothing where there is none |
/// | `set_receipt(v, device, receipt)` | `Result<void>` | | durable; the volume is `incomplete` from now on |
/// | `end_receipt(v, device, s, identity)` | `Result<void>` | no_space | takes the snapshot, if it is not there; all is whole |
///
/// `device` is the volume, open for writing. An identity has at most 128
/// characters of `[A-Za-z0-9_.+-]`. A snapshot's own is no other snapshot's anywhere, and stays the same as long as its
/// content does, also behind a rollback. `recover` takes a volume with a receipt back to the base; one without a base
/// it removes. A rollback ends a receipt.
template <class B>
concept IncrementBackend =
    SnapshotBackend<B> && ResizeBackend<B> && ImportBackend<B> && TracksChanges<typename B::Device> &&
    requires(B& b, const B& seen, const VolumeName& v, const SnapshotName& s, typename B::Device& device,
             const Receipt& receipt, const std::string& identity) {
      { seen.snapshot_identity(v, s) } -> detail::returns<std::string>;
      { seen.receipt(v) } -> detail::returns<std::optional<Receipt>>;
      { b.set_receipt(v, device, receipt) } -> detail::returns<void>;
      { b.end_receipt(v, device, s, identity) } -> detail::returns<void>;
    };

namespace detail {

template <class B, Capability C>
struct row_matches_code {
  static constexpr bool declared = features_of<B>.can.has(C);
  static_assert(!declared || implements<B, C>,
                "the feature row lists capability C, but B lacks its member functions or they have another signature");
  static_assert(declared || !mentions<B, C>,
                "B has member functions of capability C, but its feature row does not list it");
  static constexpr bool value = true;
};

template <class B, unsigned... C>
consteval bool audit(std::integer_sequence<unsigned, C...>) {
  return (row_matches_code<B, static_cast<Capability>(C)>::value && ...);
}

}  // namespace detail

/// Row and code agree. Stands under every backend, and in the facade for the users' backends.
template <Backend B>
inline constexpr bool audited =
    detail::audit<B>(std::make_integer_sequence<unsigned, static_cast<unsigned>(Capability::count_)>{});

/// What there is to make a storage of type `B` of. `scan<IscsiDirect>(portal, options)`: the targets of a portal;
/// `scan<Rbd>(id, config, options)`: the pools of a cluster, and their namespaces.
template <Backend B, class... Where>
  requires requires(Where&&... where) { B::scan(std::forward<Where>(where)...); }
[[nodiscard]] auto scan(Where&&... where) {
  return B::scan(std::forward<Where>(where)...);
}

}  // namespace stowage
