#pragma once
// The snapshots of an image: taking, listing, going back, removing.

#include <rbd/librbd.h>
#include <optional>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_receipt.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <string>
#include <vector>

namespace stowage::detail {

/// Also of a running guest's image: the owner of the lock takes it.
inline Result<void> rbd_take_snapshot(const RbdPoolPtr& pool, const VolumeName& volume, const SnapshotName& snapshot) {
  return rbd_run(pool, "taking the snapshot", {},
                 [pool, name = volume.str(), snapshot = snapshot.str()](RbdProgress& progress) -> Result<void> {
                   auto image = rbd_edit_beside(*pool, name, Verb::snapshot, progress);
                   if (!image) return fail(std::move(image.error()));
                   const int code = ::rbd_snap_create(image->get(), snapshot.c_str());
                   if (code == -EEXIST) {
                     return fail(Errc::already_exists,
                                 "there is a snapshot '" + pool->spec(name, snapshot) + "' already",
                                 native_errno(code));
                   }
                   if (code < 0) {
                     return fail(rbd_change_error(code, "taking snapshot '" + pool->spec(name, snapshot) + "'"));
                   }
                   // The owner of the lock may have taken it for us, in the middle of a verb of its own.
                   auto entered = rbd_enter(*pool, image->get(), name, Verb::snapshot);
                   if (entered) return {};
                   static_cast<void>(::rbd_snap_remove(image->get(), snapshot.c_str()));
                   return fail(std::move(entered.error()));
                 });
}

inline Result<std::vector<SnapshotInfo>> rbd_list_snapshots(const RbdPoolPtr& pool, const VolumeName& volume) {
  auto image = rbd_look(*pool, volume.str());
  if (!image) return fail(std::move(image.error()));
  return rbd_snapshots(image->get());
}

/// The data of a rollback that has its record. Pre: the exclusive lock is ours.
inline Result<void> rbd_finish_rollback(::rbd_image_t image, const std::string& snapshot, RbdVerbRun& run,
                                        RbdProgress& progress) {
  if (auto alive = run.check(); !alive) return alive;
  const int code = ::rbd_snap_rollback_with_progress(image, snapshot.c_str(), &RbdProgress::report, &progress);
  if (code < 0) {
    return fail(rbd_change_error(code, "rolling back to '" + snapshot + "'")
                    .advise("the volume is unfinished: repeat the rollback, or recover finishes it"));
  }
  return run.end();
}

/// Object by object: the record says so until it is whole. Nobody may have the image open meanwhile, and nobody gets
/// its lock.
template <class Unmap>
Result<void> rbd_roll_back(const RbdPoolPtr& pool, const VolumeName& volume, const SnapshotName& snapshot,
                           const Work& work, Unmap unmap) {
  return rbd_run(pool, "rolling back", work,
                 [pool, name = volume.str(), snapshot = snapshot.str(), unmap](RbdProgress& progress) -> Result<void> {
                   progress.look();
                   auto image = rbd_edit(*pool, name);
                   if (!image) return fail(std::move(image.error()));
                   auto entered = rbd_enter(*pool, image->get(), name, Verb::rollback, {snapshot});
                   if (!entered) return fail(std::move(entered.error()));
                   if (auto there = rbd_has_snapshot(*pool, image->get(), name, snapshot); !there) return there;
                   if (auto free = rbd_not_mirrored(*pool, image->get(), name); !free) return free;
                   if (auto unmapped = unmap(); !unmapped) return unmapped;
                   if (auto alone = rbd_nobody_else(*pool, image->get(), name, 1); !alone) return alone;
                   if (auto begun = progress.begin(); !begun) return begun;
                   auto run = RbdVerbRun::begin(*pool, Verb::rollback, name);
                   if (!run) return fail(std::move(run.error()));
                   if (auto marked = (*run)->claim(*entered, IntentPhase::commit, {snapshot}); !marked) return marked;
                   // Whoever opens it from now on sees the record; who did before is seen now.
                   if (auto owned = rbd_own(*pool, image->get(), name); !owned) {
                     return fail(rbd_undone((*run)->undo(), std::move(owned.error())));
                   }
                   return rbd_finish_rollback(image->get(), snapshot, **run, progress);
                 });
}

/// Looks through the image at one snapshot and back: another open would cost a third of the whole removal.
/// Errors: not_found; in_use, with the clones that need it.
inline Result<void> rbd_free_of_clones(const RbdPool& pool, ::rbd_image_t image, const std::string& name,
                                       const std::string& snapshot) {
  if (const int code = ::rbd_snap_set(image, snapshot.c_str()); code < 0) {
    return fail(rbd_open_error(pool, code, name, snapshot));
  }
  const auto clones = rbd_clones(image);
  if (const int code = ::rbd_snap_set(image, nullptr); code < 0)
    return fail(rbd_error(code, "looking at the snapshot"));
  if (!clones) return fail(clones.error());
  if (clones->empty()) return {};
  return fail(Error{Errc::in_use, "'" + pool.spec(name, snapshot) + "' has the clones " + rbd_some_of(*clones),
                    native_errno(EBUSY)}
                  .advise("flatten or remove them first; a flattened one may need it for its snapshots"));
}

/// One snapshot that has no clones, protected or not.
inline Result<void> rbd_drop_snapshot(::rbd_image_t image, const std::string& snapshot) {
  int is_protected = 0;
  if (const int code = ::rbd_snap_is_protected(image, snapshot.c_str(), &is_protected); code < 0) {
    return fail(rbd_error(code, "looking at snapshot '" + snapshot + "'"));
  }
  if (is_protected != 0) {
    auto freed = rbd_changed(::rbd_snap_unprotect(image, snapshot.c_str()), "unprotecting snapshot '" + snapshot + "'");
    if (!freed) return freed;
  }
  return rbd_changed(::rbd_snap_remove(image, snapshot.c_str()), "removing snapshot '" + snapshot + "'");
}

/// What the header says of a snapshot that is to go, in one read, which is on its way while other things are asked.
class RbdSnapshotKeys {
 public:
  RbdSnapshotKeys(const RbdPool& pool, ::rbd_image_t image, const std::string& snapshot)
      : key_{rbd_identity_key(image, snapshot)}, read_{key_ ? query(pool, *key_) : RbdOmapQuery{}} {}

  /// No clone of format 2, for sure. (One of format 1 needs a protected snapshot.) An image without such a header, or
  /// one that cannot be read just now, says nothing.
  bool without_clones() {
    const RbdOmapAnswer& header = answer();
    return header.code == 0 && header[rbd_clones_omap_key(key_->snapshot)].empty();
  }
  /// Behind the removal of the snapshot. It is asked for before: then the header is being written, and an answer takes
  /// as long as half the removal.
  void forget_identity(::rbd_image_t image) {
    if (key_ && !answer()[key_->omap_key()].empty()) rbd_forget_identity(image, *key_);
  }

 private:
  static RbdOmapQuery query(const RbdPool& pool, const RbdIdentityKey& key) {
    return {pool.io.get(), "rbd_header." + key.image, {key.omap_key(), rbd_clones_omap_key(key.snapshot)}};
  }
  const RbdOmapAnswer& answer() {
    if (!answer_) answer_ = read_.wait();
    return *answer_;
  }

  Result<RbdIdentityKey> key_;
  RbdOmapRead read_;
  std::optional<RbdOmapAnswer> answer_;
};

/// `unmap`: as of `rbd_rename_image`.
template <class Unmap>
Result<void> rbd_remove_one_snapshot(const RbdPoolPtr& pool, const VolumeName& volume, const SnapshotName& snapshot,
                                     Unmap unmap) {
  return rbd_run(pool, "removing the snapshot", {},
                 [pool, name = volume.str(), snapshot = snapshot.str(), unmap](RbdProgress& progress) -> Result<void> {
                   progress.look();
                   auto image = rbd_edit(*pool, name);
                   if (!image) return fail(std::move(image.error()));
                   auto entered = rbd_enter(*pool, image->get(), name, Verb::remove_snapshot);
                   if (!entered) return fail(std::move(entered.error()));
                   RbdSnapshotKeys keys{*pool, image->get(), snapshot};
                   rbd_note_others(*pool, image->get(), progress);
                   int is_protected = 0;
                   static_cast<void>(::rbd_snap_is_protected(image->get(), snapshot.c_str(), &is_protected));
                   if (is_protected != 0 || !keys.without_clones()) {
                     if (auto unused = rbd_free_of_clones(*pool, image->get(), name, snapshot); !unused) return unused;
                   }
                   if (auto there = rbd_has_snapshot(*pool, image->get(), name, snapshot); !there) return there;
                   if (auto unmapped = unmap(); !unmapped) return unmapped;
                   if (auto begun = progress.begin(); !begun) return begun;
                   return rbd_drop_snapshot(image->get(), snapshot).map([&] { keys.forget_identity(image->get()); });
                 });
}

}  // namespace stowage::detail
