#pragma once
// Removal: first the proof that it can succeed, then destruction.

#include <rbd/librbd.h>
#include <algorithm>
#include <cerrno>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_intent.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_snapshots.hpp>
#include <string>
#include <vector>

namespace stowage::detail {

/// The snapshots that must go with the image; those that stand in the way are an error. The one of a template is part
/// of the template. Errors: in_use.
inline Result<std::vector<std::string>> rbd_prove_removable(const RbdPool& pool, ::rbd_image_t image,
                                                            const std::string& name, bool with_snapshots) {
  if (auto alone = rbd_nobody_else(pool, image, name, 0); !alone) return fail(std::move(alone.error()));
  const auto clones = rbd_clones(image);
  if (!clones) return fail(clones.error());
  if (!clones->empty()) {
    return fail(
        Error{Errc::in_use, "'" + pool.spec(name) + "' has the clones " + rbd_some_of(*clones), native_errno(EBUSY)}
            .advise("flatten or remove them first"));
  }
  const auto snapshots = rbd_snapshots(image);
  if (!snapshots) return fail(snapshots.error());
  std::vector<std::string> all;
  std::vector<std::string> in_the_way;
  for (const SnapshotInfo& snapshot : *snapshots) {
    all.push_back(snapshot.name.str());
    const bool of_template = snapshot.name.str() == rbd_base_snapshot && name.starts_with("base-");
    if (!with_snapshots && !of_template) in_the_way.push_back(snapshot.name.str());
  }
  if (!in_the_way.empty()) {
    return fail(Error{Errc::in_use, "'" + pool.spec(name) + "' has the snapshots " + rbd_some_of(in_the_way),
                      native_errno(ENOTEMPTY)}
                    .advise("remove them first, or with the volume"));
  }
  std::reverse(all.begin(),
               all.end());  // newest first: the objects of a snapshot are trimmed from the end of the chain
  return all;
}

inline Result<void> rbd_drop_snapshots(const RbdPool& pool, const std::string& name,
                                       const std::vector<std::string>& snapshots, RbdProgress& progress) {
  if (snapshots.empty()) return {};
  auto image = rbd_edit(pool, name);
  if (!image) return fail(std::move(image.error()));
  if (auto alone = rbd_nobody_else(pool, image->get(), name, 1); !alone) return alone;
  if (auto marked = rbd_set_intent(image->get(), {"remove", {}}); !marked) return marked;
  static_cast<void>(RbdProgress::report(0, 1, &progress));  // from here on it may take long
  for (const std::string& snapshot : snapshots) {
    if (auto gone = rbd_drop_snapshot(image->get(), snapshot); !gone) return gone;
    progress.beat();
  }
  return {};
}

/// The image itself. Ceph puts it into the trash first, so that a removal that was killed is found there.
inline Result<void> rbd_destroy(const RbdPool& pool, const std::string& name, RbdProgress& progress) {
  const int code = ::rbd_remove_with_progress(pool.io.get(), name.c_str(), &RbdProgress::report, &progress);
  if (code == -EBUSY) {
    auto image = rbd_look(pool, name);
    if (image) {
      if (auto alone = rbd_nobody_else(pool, image->get(), name, 0); !alone) return alone;
    }
  }
  if (code == -ENOENT && rbd_look(pool, name)) {  // so librbd calls a trash that it could not make
    return fail(Error{Errc::no_space, "removing '" + pool.spec(name) + "': the pool has no room for its trash",
                      native_errno(ENOSPC)}
                    .advise("nothing has been removed here before; let the pool have some more room"));
  }
  if (code == -ENOENT) return fail(rbd_open_error(pool, code, name, {}));
  return rbd_changed(code, "removing '" + pool.spec(name) + "'");
}

/// Something whose removal has begun and that the trash holds.
/// Errors: in_use, when who began it may still be at it.
inline Result<void> rbd_destroy_leftover(const RbdPool& pool, const RbdEntry& entry, RbdProgress& progress) {
  ::rbd_image_t raw = nullptr;
  if (::rbd_open_by_id_read_only(pool.io.get(), entry.id.c_str(), &raw, nullptr) >= 0) {  // else too little is left
    const RbdImage image{pool, raw};
    if (auto alone = rbd_nobody_else(pool, raw, entry.name, 0); !alone) return alone;
  }
  const int code =
      ::rbd_trash_remove_with_progress(pool.io.get(), entry.id.c_str(), true, &RbdProgress::report, &progress);
  return rbd_changed(code == -ENOENT ? 0 : code, "removing what is left of '" + pool.spec(entry.name) + "'");
}

/// Writes the object back by which an image is found.
inline Result<void> rbd_restore_name(const RbdPool& pool, const RbdEntry& entry) {
  std::string bytes(4, '\0');
  bytes[0] = static_cast<char>(entry.id.size());  // ids are some twenty characters
  bytes += entry.id;
  const std::string object = "rbd_id." + entry.name;
  const int code = ::rados_write_full(pool.io.get(), object.c_str(), bytes.data(), bytes.size());
  return rbd_changed(code, "writing '" + object + "'");
}

/// What cannot be opened by its name, but stands in the directory. True: it can be opened now.
/// Errors: not_found.
inline Result<bool> rbd_clear_broken(const RbdPool& pool, const std::string& name, RbdProgress& progress) {
  const auto broken = rbd_find_broken(pool, name);
  if (!broken) return fail(broken.error());
  if (broken->empty()) return fail(rbd_open_error(pool, -ENOENT, name, {}));
  bool restored = false;
  for (const RbdSeen& seen : *broken) {
    Result<void> done;
    if (seen.removing) {
      done = rbd_destroy_leftover(pool, seen.entry, progress);
    } else if (seen.header_missing) {
      done = rbd_destroy(pool, name, progress);  // nothing is left to be proved
    } else {
      done = rbd_restore_name(pool, seen.entry);
      restored = true;
    }
    if (!done) return fail(std::move(done.error()));
  }
  return restored;
}

inline Result<void> rbd_remove_image(const RbdPoolPtr& pool, const VolumeName& volume, const RemoveOptions& options,
                                     const Work& work) {
  return rbd_run(pool, "removing", work, [pool, name = volume.str(), options](RbdProgress& progress) -> Result<void> {
    progress.look();
    auto image = rbd_look(*pool, name);
    if (!image) {
      if (image.error().code() != Errc::not_found) return fail(std::move(image.error()));
      if (auto begun = progress.begin(); !begun) return begun;
      const auto restored = rbd_clear_broken(*pool, name, progress);
      if (!restored) return fail(restored.error());
      if (!*restored) return {};
      image = rbd_look(*pool, name);
      if (!image) return fail(std::move(image.error()));
    }
    if (options.trash) {  // keeps snapshots and clones
      if (rbd_is_format_1(image->get())) return fail(rbd_format_1_error(pool->spec(name), "the trash does not take"));
      if (auto alone = rbd_nobody_else(*pool, image->get(), name, 0); !alone) return alone;
      static_cast<void>(image->close());
      if (auto begun = progress.begin(); !begun) return begun;
      return rbd_changed(::rbd_trash_move(pool->io.get(), name.c_str(), 0),
                         "moving '" + pool->spec(name) + "' to the trash");
    }
    auto snapshots = rbd_prove_removable(*pool, image->get(), name, options.snapshots);
    if (!snapshots) return fail(std::move(snapshots.error()));
    static_cast<void>(image->close());
    if (auto begun = progress.begin(); !begun) return begun;
    if (auto gone = rbd_drop_snapshots(*pool, name, *snapshots, progress); !gone) return gone;
    return rbd_destroy(*pool, name, progress);
  });
}

}  // namespace stowage::detail
