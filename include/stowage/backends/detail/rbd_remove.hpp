#pragma once
// Removal: first the proof that it can succeed; then the name is taken away, by which it is decided; then destruction.
//
// `rbd_trash_move` takes the name, in one step, and the image with all its snapshots. A client that opened it before
// is seen after that, and the image gets its name back; nobody can open, clone or snapshot it by name any more. What is
// on its way out has a record of it, and is destroyed to the end by `recover`.

#include <rbd/librbd.h>
#include <algorithm>
#include <cerrno>
#include <memory>
#include <stowage/backends/detail/rbd_chain.hpp>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_obstacles.hpp>
#include <stowage/backends/detail/rbd_publish.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_snapshots.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// It has no clones, and none of its snapshots stands in the way. The one of a template is part of the template.
/// Errors: in_use.
inline Result<void> rbd_prove_childless(const RbdPool& pool, ::rbd_image_t image, const std::string& name,
                                        bool with_snapshots) {
  const auto clones = rbd_clones(image);
  if (!clones) return fail(clones.error());
  if (!clones->empty()) {
    return fail(
        Error{Errc::in_use, "'" + pool.spec(name) + "' has the clones " + rbd_some_of(*clones), native_errno(EBUSY)}
            .advise("flatten or remove them first"));
  }
  const auto snapshots = rbd_all_snapshots(image);
  if (!snapshots) return fail(snapshots.error());
  std::vector<std::string> in_the_way;
  for (const RbdRawSnapshot& snapshot : *snapshots) {
    const bool of_template = snapshot.name == rbd_base_snapshot && name.starts_with("base-");
    if (!with_snapshots && !of_template) in_the_way.push_back(snapshot.name);
  }
  if (in_the_way.empty()) return {};
  return fail(Error{Errc::in_use, "'" + pool.spec(name) + "' has the snapshots " + rbd_some_of(in_the_way),
                    native_errno(ENOTEMPTY)}
                  .advise("remove them first, or with the volume"));
}

/// Nothing stands in the way of a removal. `unmap`: as of `rbd_rename_image`. Errors: in_use.
template <class Unmap>
Result<void> rbd_prove_removable(const RbdPool& pool, ::rbd_image_t image, const std::string& name, bool with_snapshots,
                                 Unmap unmap) {
  return rbd_no_obstacle(pool, image, name)
      .and_then([&] { return rbd_prove_childless(pool, image, name, with_snapshots); })
      .and_then([&] { return unmap(); })
      .and_then([&] { return rbd_nobody_else(pool, image, name, 0); });
}

/// An image that has no name any more, to look at it.
inline Result<RbdImage> rbd_look_by_id(const RbdPool& pool, const std::string& id) {
  ::rbd_image_t raw = nullptr;
  const int code = ::rbd_open_by_id_read_only(pool.io.get(), id.c_str(), &raw, nullptr);
  if (code < 0) return fail(rbd_error(code, "opening the image with the id " + id));
  return RbdImage{pool, raw};
}

/// All snapshots, newest first: the objects of a snapshot are trimmed from the end of the chain.
inline Result<void> rbd_drop_all_snapshots(::rbd_image_t image, RbdProgress& progress) {
  auto snapshots = rbd_all_snapshots(image);
  if (!snapshots) return fail(std::move(snapshots.error()));
  std::reverse(snapshots->begin(), snapshots->end());
  for (const RbdRawSnapshot& snapshot : *snapshots) {
    if (auto gone = rbd_drop_snapshot(image, snapshot.name); !gone) return gone;
    progress.beat();
  }
  return {};
}

/// Those of an image that has no name any more.
inline Result<void> rbd_drop_snapshots(const RbdPool& pool, const std::string& id, RbdProgress& progress) {
  ::rbd_image_t raw = nullptr;
  const int code = ::rbd_open_by_id(pool.io.get(), id.c_str(), &raw, nullptr);
  if (code == -ENOENT) return {};  // its header is removed already, or its parent is missing: then it has none
  if (code < 0) return fail(rbd_error(code, "opening the image with the id " + id));
  const RbdImage image{pool, raw};
  return rbd_drop_all_snapshots(image.get(), progress);
}

/// The end of a removal: destroys what has lost its name. Each step may have been done before.
inline Result<void> rbd_destroy(const RbdPool& pool, const std::string& id, const std::string& name, bool has_snapshots,
                                RbdVerbRun& run, RbdProgress& progress) {
  static_cast<void>(RbdProgress::report(0, 1, &progress));  // from here on it may take long
  if (auto decided = run.advance(IntentPhase::commit, {name}); !decided) return decided;
  if (has_snapshots) {
    if (auto gone = rbd_drop_snapshots(pool, id, progress); !gone) return gone;
    if (auto alive = run.check(); !alive) return alive;
  }
  const int code = ::rbd_trash_remove_with_progress(pool.io.get(), id.c_str(), true, &RbdProgress::report, &progress);
  if (code == -ECANCELED) {  // the record says where it stopped
    return fail(
        rbd_error(code, "removing '" + pool.spec(name) + "'").advise("it has no name any more: recover finishes it"));
  }
  if (code < 0 && code != -ENOENT) {
    return fail(rbd_change_error(code, "removing '" + pool.spec(name) + "'")
                    .advise("it has no name any more: recover finishes its removal"));
  }
  run.forget();
  return {};
}

/// Takes the name away, and looks who had the image open: then it gets its name back.
/// Errors: in_use, identity_changed, no_space: it is as it was.
inline Result<bool> rbd_take_name(const RbdPool& pool, const RbdEntry& entry) {
  const int code = ::rbd_trash_move(pool.io.get(), entry.name.c_str(), 0);
  const std::string doing = "removing '" + pool.spec(entry.name) + "'";
  // librbd says ENOENT also of a trash that it could not make.
  if (code == -ENOENT && rbd_id_of(pool, entry.name)) {
    return fail(Error{Errc::no_space, doing + ": the pool has no room for its trash", native_errno(ENOSPC)}.advise(
        "nothing has been removed here before; let the pool have some more room"));
  }
  if (code < 0) return fail(rbd_change_error(code, doing));
  const auto restored = [&](Error&& error) {
    const int back = ::rbd_trash_restore(pool.io.get(), entry.id.c_str(), entry.name.c_str());
    return rbd_undone(rbd_changed(back, "giving '" + pool.spec(entry.name) + "' its name back"), std::move(error));
  };
  const auto image = rbd_look_by_id(pool, entry.id);
  if (!image) return false;  // its parent is missing
  if (auto alone = rbd_nobody_else(pool, image->get(), entry.name, 0); !alone) {
    return fail(restored(std::move(alone.error())));
  }
  auto childless = rbd_prove_childless(pool, image->get(), entry.name, true);
  if (!childless) return fail(restored(std::move(childless.error())));
  const auto snapshots = rbd_all_snapshots(image->get());
  return !snapshots || !snapshots->empty();
}

/// Writes the object back by which an image is found.
inline Result<void> rbd_restore_name(const RbdPool& pool, const RbdEntry& entry) {
  return rbd_changed(rbd_write_id(pool, entry.name, entry.id), "writing 'rbd_id." + entry.name + "'");
}

/// Something whose removal `rbd rm` has begun and that the trash holds.
/// Errors: in_use, when whoever began it may still be at it.
inline Result<void> rbd_destroy_leftover(const RbdPool& pool, const RbdEntry& entry, RbdProgress& progress) {
  if (const auto image = rbd_look_by_id(pool, entry.id)) {  // else too little is left
    if (auto alone = rbd_nobody_else(pool, image->get(), entry.name, 0); !alone) return alone;
  }
  const int code =
      ::rbd_trash_remove_with_progress(pool.io.get(), entry.id.c_str(), true, &RbdProgress::report, &progress);
  return rbd_changed(code == -ENOENT ? 0 : code, "removing what is left of '" + pool.spec(entry.name) + "'");
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
    } else if (seen.header_missing) {  // nothing is left to be proved
      done = rbd_changed(::rbd_remove_with_progress(pool.io.get(), name.c_str(), &RbdProgress::report, &progress),
                         "removing '" + pool.spec(name) + "'");
    } else {
      done = rbd_restore_name(pool, seen.entry);
      restored = true;
    }
    if (!done) return fail(std::move(done.error()));
  }
  return restored;
}

/// Format 1 has no trash: its snapshots are removed while it has its name, and its record says so. Each step may have
/// been done before.
inline Result<void> rbd_destroy_format_1(const RbdPool& pool, const std::string& name, RbdVerbRun& run,
                                         RbdProgress& progress) {
  static_cast<void>(RbdProgress::report(0, 1, &progress));  // from here on it may take long
  {
    auto image = rbd_edit(pool, name);
    if (!image) return fail(std::move(image.error()));
    if (auto gone = rbd_drop_all_snapshots(image->get(), progress); !gone) return gone;
  }
  if (auto alive = run.check(); !alive) return alive;
  const int code = ::rbd_remove_with_progress(pool.io.get(), name.c_str(), &RbdProgress::report, &progress);
  if (code < 0) {
    return fail(rbd_change_error(code, "removing '" + pool.spec(name) + "'")
                    .advise("the volume is unfinished: recover finishes its removal"));
  }
  run.forget();
  return {};
}

inline Result<void> rbd_remove_format_1(const RbdPool& pool, RbdImage image, const RbdEntered& entered,
                                        const std::string& name, RbdProgress& progress) {
  if (auto begun = progress.begin(); !begun) return begun;
  auto run = RbdVerbRun::begin(pool, Verb::remove, name);
  if (!run) return fail(std::move(run.error()));
  if (auto marked = (*run)->claim(entered, IntentPhase::commit, {name}); !marked) return marked;
  // Whoever opens it from now on sees the record; who did before is seen now.
  if (auto alone = rbd_nobody_else(pool, image.get(), name, 0); !alone) {
    return fail(rbd_undone((*run)->undo(), std::move(alone.error())));
  }
  static_cast<void>(image.close());
  return rbd_destroy_format_1(pool, name, **run, progress);
}

/// The run that takes the volume over, or the one of an import of this storage that is given up.
inline Result<std::unique_ptr<RbdVerbRun>> rbd_run_of_removal(const RbdPool& pool, const RbdEntered& entered,
                                                              const std::string& name) {
  auto own = pool.runs->take(entered.place.bound);
  if (!own) {
    return RbdVerbRun::begin(pool, Verb::remove, name).and_then([&](std::unique_ptr<RbdVerbRun>&& run) {
      return run->claim(entered, IntentPhase::prepare, {name}).map([&] { return std::move(run); });
    });
  }
  own->become(Verb::remove);
  if (auto noted = own->advance(IntentPhase::prepare, {name}); !noted) return fail(std::move(noted.error()));
  return own;
}

inline Result<void> rbd_remove_proven(const RbdPool& pool, const RbdEntry& entry, const RbdEntered& entered,
                                      RbdProgress& progress) {
  const bool own = entered.how == Admission::free && entered.record.intent;
  auto run = rbd_run_of_removal(pool, entered, entry.name);
  if (!run) return fail(std::move(run.error()));
  const auto has_snapshots = rbd_take_name(pool, entry);
  if (has_snapshots) return rbd_destroy(pool, entry.id, entry.name, *has_snapshots, **run, progress);
  if (has_snapshots.error().code() == Errc::outcome_unknown) return fail(has_snapshots.error());
  if (!own) return fail(rbd_undone((*run)->undo(), has_snapshots.error()));
  (*run)->become(Verb::import);
  auto again = (*run)->advance(IntentPhase::prepare, entered.record.intent->arguments);
  if (again) pool.runs->keep(*std::move(run));
  return fail(rbd_undone(std::move(again), has_snapshots.error()));
}

template <class Unmap>
Result<void> rbd_move_to_trash(const RbdPool& pool, RbdImage image, const std::string& name, Unmap unmap,
                               RbdProgress& progress) {
  if (rbd_is_format_1(image.get())) return fail(rbd_format_1_error(pool.spec(name), "the trash does not take"));
  if (auto free = rbd_no_obstacle(pool, image.get(), name); !free) return free;
  if (auto unmapped = unmap(); !unmapped) return unmapped;
  if (auto alone = rbd_nobody_else(pool, image.get(), name, 0); !alone) return alone;
  static_cast<void>(image.close());
  if (auto begun = progress.begin(); !begun) return begun;
  return rbd_changed(::rbd_trash_move(pool.io.get(), name.c_str(), 0), "moving '" + pool.spec(name) + "' to the trash");
}

/// An image whose parent is missing cannot be opened. That it has no snapshots its header says; that nobody has it
/// open, librbd, before it destroys anything. Errors: in_use; `why`, when it has snapshots.
inline Result<void> rbd_remove_orphan(const RbdPool& pool, const std::string& name, Error why, RbdProgress& progress) {
  const auto id = rbd_id_of(pool, name);
  if (!id) return fail(id.error());
  const auto entered = rbd_enter(pool, rbd_record_place(pool, name, *id), Verb::remove);
  if (!entered) return fail(entered.error());
  const RbdOmapAnswer snapshots = RbdOmapRead{{pool.io.get(), entered->place.header, {}, "snapshot_"}}.wait();
  if (snapshots.code < 0 || !snapshots.values.empty()) return fail(std::move(why));
  if (auto begun = progress.begin(); !begun) return begun;
  auto run = rbd_run_of_removal(pool, *entered, name);
  if (!run) return fail(std::move(run.error()));
  if (auto taken = rbd_take_name(pool, {name, *id}); !taken) {
    return fail(rbd_undone((*run)->undo(), std::move(taken.error())));
  }
  auto gone = rbd_destroy(pool, *id, name, false, **run, progress);
  if (gone || gone.error().code() != Errc::in_use) return gone;
  auto back = rbd_changed(::rbd_trash_restore(pool.io.get(), id->c_str(), name.c_str()), "giving it its name back");
  return fail(rbd_undone(back.and_then([&] { return (*run)->undo(); }), std::move(gone.error())));
}

/// `unmap`: as of `rbd_rename_image`.
template <class Unmap>
Result<void> rbd_remove_image(const RbdPoolPtr& pool, const VolumeName& volume, const RemoveOptions& options,
                              const Work& work, Unmap unmap) {
  return rbd_run(
      pool, "removing", work, [pool, name = volume.str(), options, unmap](RbdProgress& progress) -> Result<void> {
        progress.look();
        auto image = rbd_look(*pool, name);
        if (!image) {
          if (auto broken = rbd_broken_chain(*pool, name); broken && !options.trash) {
            return rbd_remove_orphan(*pool, name, *std::move(broken), progress);
          }
          if (image.error().code() != Errc::not_found) return fail(std::move(image.error()));
          if (auto begun = progress.begin(); !begun) return begun;
          const auto restored = rbd_clear_broken(*pool, name, progress);
          if (!restored) return fail(restored.error());
          if (!*restored) return {};
          progress.look();
          image = rbd_look(*pool, name);
          if (!image) return fail(std::move(image.error()));
        }
        auto entered = rbd_enter(*pool, image->get(), name, Verb::remove);
        if (!entered) return fail(std::move(entered.error()));
        if (options.trash) {  // keeps snapshots and clones
          if (entered->record.intent) {
            return fail(Error{Errc::wrong_state, "it is unfinished: " + holder_of(*entered->record.intent)}.advise(
                way_out_of(*entered->record.intent)));
          }
          return rbd_move_to_trash(*pool, *std::move(image), name, unmap, progress);
        }
        // What a removal or an import had is decided already.
        const bool with_snapshots =
            options.snapshots || (entered->record.intent && entered->record.intent->verb == "remove");
        if (auto free = rbd_prove_removable(*pool, image->get(), name, with_snapshots, unmap); !free) return free;
        if (rbd_is_format_1(image->get())) {
          return rbd_remove_format_1(*pool, *std::move(image), *entered, name, progress);
        }
        const std::string id = entered->place.header.substr(std::string_view{"rbd_header."}.size());
        static_cast<void>(image->close());
        if (auto begun = progress.begin(); !begun) return begun;
        return rbd_remove_proven(*pool, {name, id}, *entered, progress);
      });
}

}  // namespace stowage::detail
