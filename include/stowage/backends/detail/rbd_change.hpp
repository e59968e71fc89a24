#pragma once
// Changes of a whole image: its size, its name, its origin; and how it becomes a template.

#include <rbd/librbd.h>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_intent.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/core/bytes.hpp>
#include <string>

namespace stowage::detail {

/// Who may be waited for: a dead client does not answer.
inline void rbd_note_others(const RbdPool& pool, ::rbd_image_t image, RbdProgress& progress) {
  const auto others = rbd_others(pool, image, 1);
  if (others && !others->empty()) progress.note(others->front().str() + ", who has it open");
}

/// Opens an image that a running guest may have open as well: librbd passes the request on to the owner of its lock.
inline Result<RbdImage> rbd_edit_beside(const RbdPool& pool, const std::string& name, RbdProgress& progress) {
  progress.look();
  auto image = rbd_edit(pool, name);
  if (!image) return image;
  rbd_note_others(pool, image->get(), progress);
  if (auto begun = progress.begin(); !begun) return fail(std::move(begun.error()));
  return image;
}

inline Result<Bytes> rbd_resize(const RbdPoolPtr& pool, const VolumeName& volume, Bytes size) {
  const Bytes wanted = round_up(size, 1_MiB);
  return rbd_run(pool, "resizing", {}, [pool, name = volume.str(), wanted](RbdProgress& progress) -> Result<Bytes> {
    auto image = rbd_edit_beside(*pool, name, progress);
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
    return wanted;
  });
}

inline Result<void> rbd_rename_free(const RbdPool& pool, const std::string& from, const std::string& to) {
  const int code = ::rbd_rename(pool.io.get(), from.c_str(), to.c_str());
  if (code == -EEXIST) {
    return fail(Errc::already_exists, "there is an image '" + pool.spec(to) + "' already", native_errno(code));
  }
  if (code == -ENOENT) return fail(rbd_open_error(pool, code, from, {}));
  return rbd_changed(code, "renaming '" + pool.spec(from) + "' to '" + to + "'");
}

inline Result<void> rbd_rename_image(const RbdPoolPtr& pool, const VolumeName& volume, const VolumeName& to) {
  return rbd_run(pool, "renaming", {},
                 [pool, from = volume.str(), to = to.str()](RbdProgress& progress) -> Result<void> {
                   progress.look();
                   auto image = rbd_look(*pool, from);
                   if (!image) return fail(std::move(image.error()));
                   if (auto alone = rbd_nobody_else(*pool, image->get(), from, 0); !alone) return alone;
                   static_cast<void>(image->close());
                   if (auto begun = progress.begin(); !begun) return begun;
                   return rbd_rename_free(*pool, from, to);
                 });
}

/// Copies what a clone shares. An image without parent is done already.
inline Result<void> rbd_flatten_image(const RbdPoolPtr& pool, const VolumeName& volume, const Work& work) {
  return rbd_run(pool, "flattening", work, [pool, name = volume.str()](RbdProgress& progress) -> Result<void> {
    auto image = rbd_edit_beside(*pool, name, progress);
    if (!image) return fail(std::move(image.error()));
    std::uint64_t overlap = 0;
    if (::rbd_get_overlap(image->get(), &overlap) >= 0 && overlap == 0) return {};
    const int code = ::rbd_flatten_with_progress(image->get(), &RbdProgress::report, &progress);
    return rbd_changed(code, "flattening '" + pool->spec(name) + "'");
  });
}

/// The steps of make_template behind the intent; each may have been done before.
inline Result<void> rbd_finish_template(const RbdPool& pool, const std::string& from, const std::string& to) {
  if (from != to) {
    if (auto renamed = rbd_rename_free(pool, from, to); !renamed) return renamed;
  }
  auto image = rbd_edit(pool, to);
  if (!image) return fail(std::move(image.error()));
  const int made = ::rbd_snap_create(image->get(), rbd_base_snapshot.data());
  if (made < 0 && made != -EEXIST) return rbd_changed(made, "making the template's snapshot");
  int is_protected = 0;
  static_cast<void>(::rbd_snap_is_protected(image->get(), rbd_base_snapshot.data(), &is_protected));
  if (is_protected == 0) {
    auto done = rbd_changed(::rbd_snap_protect(image->get(), rbd_base_snapshot.data()), "protecting the template");
    if (!done) return done;
  }
  return rbd_clear_intent(image->get());
}

inline Result<void> rbd_make_template(const RbdPoolPtr& pool, const VolumeName& volume, const VolumeName& to) {
  return rbd_run(
      pool, "making a template", {}, [pool, from = volume.str(), to = to.str()](RbdProgress& progress) -> Result<void> {
        progress.look();
        auto image = rbd_edit(*pool, from);
        if (!image) return fail(std::move(image.error()));
        if (rbd_is_format_1(image->get())) return fail(rbd_format_1_error(pool->spec(from), "cannot be cloned"));
        if (auto alone = rbd_nobody_else(*pool, image->get(), from, 1); !alone) return alone;
        const auto snapshots = rbd_snapshots(image->get());
        if (!snapshots) return fail(snapshots.error());
        if (!snapshots->empty()) {
          return fail(
              Error{Errc::wrong_state, "it has snapshots, '" + snapshots->front().name.str() + "' for one"}.advise(
                  "a template has none: remove them first"));
        }
        if (const auto taken = rbd_look(*pool, to); taken || taken.error().code() != Errc::not_found) {
          return fail(taken ? Error{Errc::already_exists, "there is an image '" + pool->spec(to) + "' already"}
                            : taken.error());
        }
        if (auto begun = progress.begin(); !begun) return begun;
        if (auto marked = rbd_set_intent(image->get(), {"template", to}); !marked) return marked;
        static_cast<void>(image->close());
        auto done = rbd_finish_template(*pool, from, to);
        if (done || done.error().code() != Errc::already_exists) return done;
        // Somebody took the name just now. Nothing was done yet.
        if (auto undo = rbd_edit(*pool, from)) static_cast<void>(rbd_clear_intent(undo->get()));
        return done;
      });
}

}  // namespace stowage::detail
