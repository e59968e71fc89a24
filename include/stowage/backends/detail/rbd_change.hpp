#pragma once
// Changes of a whole image: its size, its name, its origin; and how it becomes a template.

#include <rbd/librbd.h>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_obstacles.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <stowage/core/bytes.hpp>
#include <string>
#include <vector>

namespace stowage::detail {

/// Who may be waited for: a dead client does not answer.
inline void rbd_note_others(const RbdPool& pool, ::rbd_image_t image, RbdProgress& progress) {
  const auto others = rbd_others(pool, image, 1);
  if (others && !others->empty()) progress.note(others->front().str() + ", who has it open");
}

/// Opens an image that a running guest may have open as well: librbd passes the request on to the owner of its lock.
/// Errors: also those of `rbd_enter`.
inline Result<RbdImage> rbd_edit_beside(const RbdPool& pool, const std::string& name, Verb verb,
                                        RbdProgress& progress) {
  progress.look();
  auto image = rbd_edit(pool, name);
  if (!image) return image;
  if (auto entered = rbd_enter(pool, image->get(), name, verb); !entered) return fail(std::move(entered.error()));
  rbd_note_others(pool, image->get(), progress);
  if (auto begun = progress.begin(); !begun) return fail(std::move(begun.error()));
  return image;
}

inline Result<Bytes> rbd_resize(const RbdPoolPtr& pool, const VolumeName& volume, Bytes size) {
  const Bytes wanted = round_up(size, 1_MiB);
  return rbd_run(pool, "resizing", {}, [pool, name = volume.str(), wanted](RbdProgress& progress) -> Result<Bytes> {
    auto image = rbd_edit_beside(*pool, name, Verb::resize, progress);
    if (!image) return fail(std::move(image.error()));
    std::uint64_t now = 0;
    if (const int code = ::rbd_get_size(image->get(), &now); code < 0)
      return fail(rbd_error(code, "asking for the size"));
    if (wanted.count < now) {
      return fail(Error{Errc::invalid_argument,
                        "it has " + to_string(Bytes{now}) + ", " + to_string(wanted) + " would cut off data"}
                      .advise("volumes can only grow"));
    }
    if (wanted.count == now) return wanted;
    // Not rbd_resize: it shrinks without a question, and somebody may have grown it meanwhile.
    const int code = ::rbd_resize2(image->get(), wanted.count, false, &RbdProgress::report, &progress);
    if (code < 0) return fail(rbd_change_error(code, "growing to " + to_string(wanted)));
    // The owner of the lock may have done it for us, in the middle of a verb of its own.
    return rbd_enter(*pool, image->get(), name, Verb::resize).map([&](const RbdEntered&) { return wanted; });
  });
}

/// Errors: already_exists.
inline Result<void> rbd_name_is_free(const RbdPool& pool, const std::string& name) {
  const auto there = rbd_look(pool, name);
  if (there) {
    return fail(Errc::already_exists, "there is an image '" + pool.spec(name) + "' already", native_errno(EEXIST));
  }
  if (there.error().code() != Errc::not_found) return fail(there.error());
  return {};
}

inline Result<void> rbd_rename_free(const RbdPool& pool, const std::string& from, const std::string& to) {
  const int code = ::rbd_rename(pool.io.get(), from.c_str(), to.c_str());
  if (code == -EEXIST) {
    return fail(Errc::already_exists, "there is an image '" + pool.spec(to) + "' already", native_errno(code));
  }
  if (code == -ENOENT) return fail(rbd_open_error(pool, code, from, {}));
  return rbd_changed(code, "renaming '" + pool.spec(from) + "' to '" + to + "'");
}

/// `unmap()`: called when all else is proven, for what this host's kernel has of the image; then nobody may have it
/// open.
template <class Unmap>
Result<void> rbd_rename_image(const RbdPoolPtr& pool, const VolumeName& volume, const VolumeName& to, Unmap unmap) {
  return rbd_run(pool, "renaming", {},
                 [pool, from = volume.str(), to = to.str(), unmap](RbdProgress& progress) -> Result<void> {
                   progress.look();
                   auto image = rbd_look(*pool, from);
                   if (!image) return fail(std::move(image.error()));
                   auto entered = rbd_enter(*pool, image->get(), from, Verb::rename);
                   if (!entered) return fail(std::move(entered.error()));
                   if (auto free = rbd_name_is_free(*pool, to); !free) return free;
                   if (auto unmapped = unmap(); !unmapped) return unmapped;
                   if (auto alone = rbd_nobody_else(*pool, image->get(), from, 0); !alone) return alone;
                   static_cast<void>(image->close());
                   if (auto begun = progress.begin(); !begun) return begun;
                   return rbd_rename_free(*pool, from, to);
                 });
}

/// Snapshots that a flattened image would still need its parent for: those of an image without deep-flatten.
/// Errors: in_use, with their names.
inline Result<void> rbd_no_snapshot_of_parent(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  std::uint64_t features = 0;
  if (::rbd_get_features(image, &features) >= 0 && (features & RBD_FEATURE_DEEP_FLATTEN) != 0) return {};
  const auto snapshots = rbd_snapshots(image);
  if (!snapshots) return fail(snapshots.error());
  std::vector<std::string> holding;
  for (const SnapshotInfo& snapshot : *snapshots) {
    std::uint64_t overlap = 0;
    const bool holds =
        ::rbd_snap_set(image, snapshot.name.c_str()) >= 0 && ::rbd_get_overlap(image, &overlap) >= 0 && overlap > 0;
    if (holds) holding.push_back(snapshot.name.str());
  }
  if (const int code = ::rbd_snap_set(image, nullptr); code < 0) {
    return fail(rbd_error(code, "looking at the snapshots of '" + pool.spec(name) + "'"));
  }
  if (holding.empty()) return {};
  return fail(Error{Errc::in_use, "its snapshots " + rbd_some_of(holding) +
                                      " would need the parent still: the image lacks the feature deep-flatten"}
                  .advise("remove them first"));
}

/// Copies what a clone shares. An image without parent is done already.
inline Result<void> rbd_flatten_image(const RbdPoolPtr& pool, const VolumeName& volume, const Work& work) {
  return rbd_run(pool, "flattening", work, [pool, name = volume.str()](RbdProgress& progress) -> Result<void> {
    auto image = rbd_edit_beside(*pool, name, Verb::flatten, progress);
    if (!image) return fail(std::move(image.error()));
    std::uint64_t overlap = 0;
    if (::rbd_get_overlap(image->get(), &overlap) >= 0 && overlap == 0) return {};
    if (auto free = rbd_no_snapshot_of_parent(*pool, image->get(), name); !free) return free;
    const int code = ::rbd_flatten_with_progress(image->get(), &RbdProgress::report, &progress);
    return rbd_changed(code, "flattening '" + pool->spec(name) + "'");
  });
}

/// The snapshot that clones are made of, protected. Each step may have been done before.
inline Result<void> rbd_take_base_snapshot(::rbd_image_t image) {
  const int made = ::rbd_snap_create(image, rbd_base_snapshot.data());
  if (made < 0 && made != -EEXIST) return rbd_changed(made, "making the template's snapshot");
  int is_protected = 0;
  static_cast<void>(::rbd_snap_is_protected(image, rbd_base_snapshot.data(), &is_protected));
  if (is_protected != 0) return {};
  return rbd_changed(::rbd_snap_protect(image, rbd_base_snapshot.data()), "protecting the template");
}

/// What a template that did not get its name has of one is removed again, and then its record.
inline Result<void> rbd_undo_template(::rbd_image_t image, RbdVerbRun& run) {
  bool exists = false;
  if (::rbd_snap_exists(image, rbd_base_snapshot.data(), &exists) >= 0 && exists) {
    int is_protected = 0;
    static_cast<void>(::rbd_snap_is_protected(image, rbd_base_snapshot.data(), &is_protected));
    if (is_protected != 0) {
      auto freed = rbd_changed(::rbd_snap_unprotect(image, rbd_base_snapshot.data()), "unprotecting the snapshot");
      if (!freed) return freed;
    }
    auto removed = rbd_changed(::rbd_snap_remove(image, rbd_base_snapshot.data()), "removing the template's snapshot");
    if (!removed) return removed;
  }
  return run.end();
}

/// `error`, or how the volume is left when not even that could be undone.
inline Error rbd_undone(Result<void> undone, Error error) {
  if (undone) return error;
  return std::move(error).advise("the volume is unfinished, recover undoes it: " + undone.error().detail());
}

/// Pre: nobody else has the image, and its record is `run`'s. The name comes last, and commits it: before, all of it is
/// undone. Errors: as of `make_template`.
inline Result<void> rbd_finish_template(const RbdPool& pool, RbdImage& image, RbdVerbRun& run, const std::string& from,
                                        const std::string& to) {
  const auto undone = [&](Error&& error) {
    if (error.code() == Errc::outcome_unknown) return std::move(error);
    return rbd_undone(rbd_undo_template(image.get(), run), std::move(error));
  };
  auto based = rbd_take_base_snapshot(image.get()).and_then([&] { return run.check(); });
  if (!based) return fail(undone(std::move(based.error())));
  // librbd renames an image that we have open; the handle stays good.
  auto renamed = from == to ? Result<void>{} : rbd_rename_free(pool, from, to);
  if (!renamed) return fail(undone(std::move(renamed.error())));
  return run.end();
}

/// Errors: in_use, wrong_state, already_exists: nothing has been done.
inline Result<void> rbd_prove_template(const RbdPool& pool, ::rbd_image_t image, const std::string& from,
                                       const std::string& to, bool taken_over) {
  if (rbd_is_format_1(image)) return fail(rbd_format_1_error(pool.spec(from), "cannot be cloned"));
  if (auto free = rbd_no_obstacle(pool, image, from); !free) return free;
  auto snapshots = rbd_all_snapshots(image);
  if (!snapshots) return fail(snapshots.error());
  if (taken_over) std::erase_if(*snapshots, [](const RbdRawSnapshot& s) { return s.name == rbd_base_snapshot; });
  if (!snapshots->empty()) {
    return fail(Error{Errc::wrong_state, "it has snapshots, '" + snapshots->front().name + "' for one"}.advise(
        "a template has none: remove them first"));
  }
  return rbd_name_is_free(pool, to);
}

/// `unmap`: as of `rbd_rename_image`.
template <class Unmap>
Result<void> rbd_make_template(const RbdPoolPtr& pool, const VolumeName& volume, const VolumeName& to, Unmap unmap) {
  return rbd_run(pool, "making a template", {},
                 [pool, from = volume.str(), to = to.str(), unmap](RbdProgress& progress) -> Result<void> {
                   progress.look();
                   auto image = rbd_edit(*pool, from);
                   if (!image) return fail(std::move(image.error()));
                   auto entered = rbd_enter(*pool, image->get(), from, Verb::make_template, {to});
                   if (!entered) return fail(std::move(entered.error()));
                   const bool taken_over = entered->how == Admission::take_over;
                   if (auto good = rbd_prove_template(*pool, image->get(), from, to, taken_over); !good) return good;
                   if (auto unmapped = unmap(); !unmapped) return unmapped;
                   if (auto alone = rbd_nobody_else(*pool, image->get(), from, 1); !alone) return alone;
                   if (auto begun = progress.begin(); !begun) return begun;
                   auto run = RbdVerbRun::begin(*pool, Verb::make_template, from);
                   if (!run) return fail(std::move(run.error()));
                   if (auto marked = (*run)->claim(*entered, IntentPhase::prepare, {to}); !marked) return marked;
                   // Whoever opens it from now on sees the record; who did before is seen now.
                   if (auto alone = rbd_nobody_else(*pool, image->get(), from, 1); !alone) {
                     return fail(rbd_undone((*run)->undo(), std::move(alone.error())));
                   }
                   return rbd_finish_template(*pool, *image, **run, from, to);
                 });
}

}  // namespace stowage::detail
