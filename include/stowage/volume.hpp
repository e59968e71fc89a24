#pragma once
// What storages say of their volumes, and what they are asked for.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/features.hpp>
#include <string>
#include <vector>

namespace stowage {

/// Where a volume's unwritten blocks come from.
struct Parent {
  std::string pool;        ///< empty where the type has no pools
  std::string name_space;  ///< likewise
  std::string image;
  std::string snapshot;

  friend bool operator==(const Parent&, const Parent&) = default;
};

/// One volume.
struct VolumeInfo {
  VolumeName name;  ///< with the base in front, if it is a linked clone of a template of this storage
  Bytes size{};
  Format format = Format::raw;
  std::optional<VmId> vmid{};
  std::optional<Content> content{};  ///< known when the storage takes only one kind
  std::optional<VolumeName> base{};  ///< the template of this storage that it is a linked clone of
  std::optional<Parent> parent{};    ///< what it was cloned from, also in another pool or namespace
  std::optional<Bytes> used{};       ///< allocated bytes, where they are known without a scan
  std::optional<std::chrono::sys_seconds> ctime{};
  std::string identity{};  ///< never changes while the volume lives: image id, LV uuid, WWID of a LUN
  std::string intent{};    ///< the unfinished verb that holds it ("rollback"), for `recover`; else empty
  std::string pending{};   ///< what waits for its next activation ("rollback"); it is not unfinished; else empty

  [[nodiscard]] bool incomplete() const noexcept { return !intent.empty(); }
};

/// One snapshot of a volume.
struct SnapshotInfo {
  SnapshotName name;
  Bytes size{};
  std::optional<std::chrono::sys_seconds> ctime{};
  bool is_protected = false;
  std::uint64_t id = 0;  ///< the storage's own number; larger is newer
};

/// How a storage is doing. What is not known is absent, never zero.
struct Status {
  bool active = false;  ///< it answered just now
  std::optional<Bytes> total{};
  std::optional<Bytes> used{};
  std::optional<Bytes> available{};
  std::optional<Bytes> metadata_used{};
  std::optional<Bytes> metadata_total{};
  std::optional<Bytes> provisioned{};  ///< the sum of what volumes may grow to
  std::optional<bool> queues{};        ///< when a thin pool is full: writers wait for room for a while; else they fail
  std::optional<bool> monitored{};     ///< somebody looks after a thin pool, and may extend it
  std::vector<std::string> health{};   ///< what an administrator should look at; empty is good
};

/// Which volumes to list. Default: all.
struct ListFilter {
  std::optional<VmId> vmid{};
  std::optional<Content> content{};
};

/// A new, empty volume.
struct CreateSpec {
  VmId vmid;
  Bytes size;                        ///< rounded up to what the storage can
  std::optional<VolumeName> name{};  ///< default: the next free `vm-<vmid>-disk-<n>`
  Content content = Content::images;
  Format format = Format::raw;
  std::optional<Bytes> object_size{};  ///< rbd: a power of two, 4 KiB to 32 MiB
  std::optional<Bytes> stripe_unit{};  ///< rbd: with `stripe_count`
  std::optional<std::uint64_t> stripe_count{};
};

/// A new volume on top of a template or snapshot.
struct CloneSpec {
  VmId vmid;
  std::optional<VolumeName> name{};  ///< default: the next free `vm-<vmid>-disk-<n>`
  Content content = Content::images;
};

/// The new owner, the new name, or both.
struct RenameSpec {
  std::optional<VmId> vmid{};
  std::optional<VolumeName> name{};
};

struct RemoveOptions {
  bool snapshots = false;  ///< its snapshots too; without it, they stand in the way
  bool trash = false;      ///< rbd: move it to the trash instead
};

/// What a rollback does with a volume that is open: nothing (in_use), or it gets the content when it is activated next.
enum class WhenOpen { refuse, at_next_activation };

struct RollbackOptions {
  WhenOpen when_open = WhenOpen::refuse;  ///< lvmthin can wait
};

/// How a volume is used on this host.
struct UseOptions {
  bool kernel = false;  ///< as a device of the kernel, as containers need it, also on rbd without `krbd`
};

/// How far a volume has come with a stream of a snapshot that it is receiving (increment/receive.hpp).
struct Receipt {
  std::string target;                  ///< `snapshot_identity` of what it will be
  std::optional<SnapshotName> base{};  ///< what it was before; none: it was made for the stream
  Bytes done{};                        ///< what the stream has before this offset is durable
};

/// Who takes a snapshot of a running guest's disk.
enum class SnapshotMethod { storage, qemu };

enum class Access { read_only, read_write };

/// How far long work has come. `report` is called from the thread that does the work, and must not block.
struct Progress {
  void (*report)(void* user, std::uint64_t done, std::uint64_t total) = nullptr;
  void* user = nullptr;

  void operator()(std::uint64_t done, std::uint64_t total) const {
    if (report != nullptr) report(user, done, total);
  }
};

/// For verbs that may take long: how to stop them, and who wants to know.
struct Work {
  std::stop_token stop{};
  Progress progress{};
};

/// Something that `check` found.
struct Finding {
  std::string object;
  std::string problem;
  std::string advice;
};

/// Something that `recover` put in order.
struct Recovered {
  std::string object;  ///< the volume, or what else it was
  std::string action;  ///< what was done, or, of a dry run, would be: "finished its removal"
};

/// A volume that `recover` did not touch, because the verb that holds it still runs.
struct RecoveryBusy {
  std::string object;
  std::string verb;    ///< "import"
  std::string holder;  ///< that runs it: host and process, or address of a client; empty if that is not known
};

/// A volume that `recover` could not put in order: it needs a person.
struct RecoveryLeft {
  std::string object;
  std::string verb;    ///< empty if it is not known
  std::string reason;  ///< why it was left, and what can be done
  std::string holder;  ///< as in `RecoveryBusy`
  Errc code = Errc::wrong_state;
};

/// What `recover` found and did.
struct Recovery {
  std::vector<Recovered> done{};
  std::vector<RecoveryBusy> busy{};
  std::vector<RecoveryLeft> left{};

  [[nodiscard]] bool empty() const noexcept { return done.empty() && busy.empty() && left.empty(); }
};

/// How far `recover` may go. Without any of these it does only what cannot lose anything.
struct RecoverOptions {
  /// What a person decides about one volume that was left.
  enum class Then {
    none,    ///< nothing: it stays left
    finish,  ///< complete the verb, although the volume was written to since
    keep,    ///< keep what the volume holds now, and forget the verb
    adopt,   ///< take over a record that this version cannot read, or that an older version wrote
  };

  /// Lock out the client that holds the volume (rbd: blocklist its address, which takes all its images from it), and
  /// take over what it runs, although it may be alive.
  bool fence = false;
  Then then = Then::none;
  bool dry_run = false;  ///< change nothing: `done` is what would be done
};

}  // namespace stowage
