#pragma once
// New images: empty ones, those that are being filled, and clones.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <bit>
#include <cstdint>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_publish.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/volume.hpp>
#include <string>

namespace stowage::detail {

using RbdImageOptions = Handle<void, &::rbd_image_options_destroy>;

/// What every new image of ours has. Said explicitly: the defaults are the cluster's, and differ between hosts.
inline RbdImageOptions rbd_new_image_options(const RbdPool& pool) {
  constexpr std::uint64_t features = RBD_FEATURE_LAYERING | RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_OBJECT_MAP |
                                     RBD_FEATURE_FAST_DIFF | RBD_FEATURE_DEEP_FLATTEN;
  ::rbd_image_options_t raw = nullptr;
  ::rbd_image_options_create(&raw);
  RbdImageOptions options{raw};
  static_cast<void>(::rbd_image_options_set_uint64(raw, RBD_IMAGE_OPTION_FORMAT, 2));
  static_cast<void>(::rbd_image_options_set_uint64(raw, RBD_IMAGE_OPTION_FEATURES, features));
  if (!pool.config.data_pool.empty()) {
    static_cast<void>(::rbd_image_options_set_string(raw, RBD_IMAGE_OPTION_DATA_POOL, pool.config.data_pool.c_str()));
  }
  return options;
}

/// Object size and striping, as far as `spec` says them.
/// Errors: invalid_argument.
inline Result<void> rbd_set_layout(::rbd_image_options_t options, const CreateSpec& spec) {
  const Bytes object_size = spec.object_size.value_or(4_MiB);
  if (!std::has_single_bit(object_size.count) || object_size < 4_KiB || object_size > 32_MiB) {
    return fail(Errc::invalid_argument,
                "an object size is a power of two from 4K to 32M, not " + to_string(object_size));
  }
  if (spec.object_size) {
    const auto order = static_cast<std::uint64_t>(std::countr_zero(object_size.count));
    static_cast<void>(::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_ORDER, order));
  }
  if (!spec.stripe_unit && !spec.stripe_count) return {};
  if (!spec.stripe_unit || !spec.stripe_count || *spec.stripe_count == 0 || spec.stripe_unit->count == 0 ||
      object_size.count % spec.stripe_unit->count != 0) {
    return fail(Errc::invalid_argument, "striping needs a stripe unit that divides the object size of " +
                                            to_string(object_size) + ", and a stripe count of at least one");
  }
  static_cast<void>(::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_UNIT, spec.stripe_unit->count));
  static_cast<void>(::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_COUNT, *spec.stripe_count));
  return {};
}

inline Error rbd_create_error(const RbdPool& pool, int code, const std::string& name) {
  if (code == -EEXIST) {
    return Error{Errc::already_exists, "there is an image '" + pool.spec(name) + "' already", native_errno(code)};
  }
  return rbd_change_error(code, "creating image '" + pool.spec(name) + "'");
}

inline Result<void> rbd_create(const RbdPoolPtr& pool, const VolumeName& volume, const CreateSpec& spec) {
  return rbd_run(pool, "creating the image", {}, [pool, name = volume.str(), spec](RbdProgress&) -> Result<void> {
    const RbdImageOptions options = rbd_new_image_options(*pool);
    if (auto good = rbd_set_layout(options.get(), spec); !good) return good;
    const Bytes size = round_up(spec.size, 1_MiB);
    const int code = ::rbd_create4(pool->io.get(), name.c_str(), size.count, options.get());
    if (code < 0) return fail(rbd_create_error(*pool, code, name));
    return {};
  });
}

/// Makes an image under the private name of `run` and gives it its own. Errors: already_exists.
/// `make(name)` makes it, and returns what librbd says. `note(id)`: what must stand on it before it has its name.
template <class Make, class Note>
Result<void> rbd_make_named(const RbdPool& pool, const RbdVerbRun& run, const std::string& name, Make make, Note note) {
  const std::string hidden = rbd_private_name(run.nonce());
  if (auto made = make(hidden); !made) return made;
  const auto discarded = [&](Error&& error) {
    if (error.code() != Errc::outcome_unknown) rbd_discard_private(pool, hidden);
    return std::move(error);
  };
  const auto id = rbd_id_of(pool, hidden);
  if (!id) return fail(discarded(Error{id.error()}));
  return note(*id).and_then([&] { return rbd_publish(pool, hidden, *id, name); }).map_error(discarded);
}

/// A volume that is being filled says so until it is whole: its name comes when it has its record. The run goes on
/// until `rbd_end_import`.
inline Result<void> rbd_begin_import(const RbdPoolPtr& pool, const VolumeName& volume, const CreateSpec& spec) {
  return rbd_run(pool, "beginning the import", {}, [pool, name = volume.str(), spec](RbdProgress&) -> Result<void> {
    const RbdImageOptions options = rbd_new_image_options(*pool);
    if (auto good = rbd_set_layout(options.get(), spec); !good) return good;
    if (rbd_id_of(*pool, name)) return fail(rbd_create_error(*pool, -EEXIST, name));
    auto run = RbdVerbRun::begin(*pool, Verb::import, name);
    if (!run) return fail(std::move(run.error()));
    const auto make = [&](const std::string& hidden) -> Result<void> {
      const Bytes size = round_up(spec.size, 1_MiB);
      const int code = ::rbd_create4(pool->io.get(), hidden.c_str(), size.count, options.get());
      if (code < 0) return fail(rbd_create_error(*pool, code, name));
      return {};
    };
    const auto note = [&](const std::string& id) {
      return (*run)->claim({rbd_record_place(*pool, name, id), {}}, IntentPhase::prepare, {name});
    };
    return rbd_make_named(*pool, **run, name, make, note)
        .map([&] { pool->runs->keep(*std::move(run)); })
        .map_error([&](Error&& error) {
          if (*run && error.code() != Errc::outcome_unknown) (*run)->forget();  // it was removed with its image
          return std::move(error);
        });
  });
}

/// Where the record of an image is, which need not be open. Errors: not_found.
inline Result<RbdRecordPlace> rbd_place_of(const RbdPool& pool, const std::string& name) {
  const auto entry = rbd_find_entry(pool, *VolumeName::parse(name));
  if (!entry) return fail(entry.error());
  if (!entry->id.empty()) return rbd_record_place(pool, name, entry->id);
  auto image = rbd_look(pool, name);
  if (!image) return fail(std::move(image.error()));
  return rbd_record_place(pool, image->get(), name);
}

/// `verb` may go on at the image. Errors: not_found, in_use, wrong_state.
inline Result<void> rbd_admitted(const RbdPool& pool, const std::string& name, Verb verb) {
  return rbd_place_of(pool, name)
      .and_then([&](RbdRecordPlace&& place) { return rbd_enter(pool, std::move(place), verb); })
      .map([](const RbdEntered&) {});
}

/// It is whole, and nobody may undo it any more. Pre: its device, which keeps others away, is open still.
/// Errors: conflict, when this storage has not begun it, or another host has taken it over.
inline Result<void> rbd_end_import(const RbdPoolPtr& pool, const VolumeName& volume) {
  return rbd_run(pool, "ending the import", {}, [pool, name = volume.str()](RbdProgress& progress) -> Result<void> {
    progress.look();
    const auto place = rbd_place_of(*pool, name);
    if (!place) return fail(place.error());
    auto run = pool->runs->take(place->bound);
    if (!run) {
      return fail(Error{Errc::conflict, "'" + pool->spec(name) + "' is no import that this storage has begun"});
    }
    if (auto begun = progress.begin(); !begun) return begun;
    return run->check().and_then([&] { return run->end(); });
  });
}

/// Gives up what was begun: it may be taken over at once.
inline Result<void> rbd_release(const RbdPoolPtr& pool, const VolumeName& volume) {
  return rbd_run_always(pool, "giving up the volume", {}, [pool, name = volume.str()](RbdProgress&) -> Result<void> {
    return rbd_place_of(*pool, name).map([&](const RbdRecordPlace& place) {
      static_cast<void>(pool->runs->take(place.bound));
    });
  });
}

/// Clones of format 2 need no protected snapshot, but clients of Mimic or later.
inline bool rbd_clones_v2(const RbdCluster& cluster) {
  constexpr std::int8_t mimic = 13;
  std::int8_t have = 0;
  std::int8_t required = 0;
  const int code = ::rados_get_min_compatible_client(cluster.client(), &have, &required);
  return code >= 0 && std::max(have, required) >= mimic;
}

/// Whether a snapshot is protected, off the image's header: an open would cost a tenth of a clone.
/// Errors: not_found; not_supported (format 1).
inline Result<bool> rbd_is_protected(const RbdPool& pool, const std::string& name, const std::string& snapshot) {
  const auto entry = rbd_find_entry(pool, *VolumeName::parse(name));
  if (!entry) return fail(entry.error());
  if (entry->id.empty()) return fail(rbd_format_1_error(pool.spec(name), "cannot be cloned"));
  const RbdOmapAnswer header = RbdOmapRead{{pool.io.get(), "rbd_header." + entry->id, {}, "snapshot_"}}.wait();
  for (const auto& [key, value] : header.values) {
    const auto seen = decode_rbd_snapshot(value);
    if (seen && seen->name == snapshot) return seen->is_protected;
  }
  // Not there, of before Nautilus, or one of very many.
  auto look = rbd_look(pool, name, snapshot);
  if (!look) return fail(std::move(look.error()));
  int is_protected = 0;
  if (const int code = ::rbd_snap_is_protected(look->get(), snapshot.c_str(), &is_protected); code < 0) {
    return fail(rbd_error(code, "asking whether '" + snapshot + "' is protected"));
  }
  return is_protected != 0;
}

/// Clones of format 1 need it. It is asked before, and not learned from a clone that fails: librbd 16.2.15 opens and
/// closes the parent for that quickly enough to break its own memory, see RbdImage.
inline Result<void> rbd_protect(const RbdPool& pool, const std::string& name, const std::string& snapshot) {
  const auto is_protected = rbd_is_protected(pool, name, snapshot);
  if (!is_protected) return fail(is_protected.error());
  if (*is_protected) return {};
  auto image = rbd_edit(pool, name);
  if (!image) return fail(std::move(image.error()));
  const int code = ::rbd_snap_protect(image->get(), snapshot.c_str());
  return rbd_changed(code == -EBUSY ? 0 : code, "protecting snapshot '" + snapshot + "'");  // EBUSY: it is already
}

/// Why a clone's origin was not found: librbd looks for the id, which an image of format 1 has not.
inline Error rbd_no_origin(const RbdPool& pool, const std::string& name, const std::string& snapshot) {
  const auto image = rbd_look(pool, name);
  if (image && rbd_is_format_1(image->get())) return rbd_format_1_error(pool.spec(name), "cannot be cloned");
  return rbd_open_error(pool, -ENOENT, name, snapshot);
}

/// A clone is an image of zeros until librbd has written what its parent is: only then has it its name.
inline Result<void> rbd_clone(const RbdPoolPtr& pool, const VolumeName& volume, const std::string& snapshot,
                              const VolumeName& to) {
  return rbd_run(
      pool, "cloning the image", {},
      [pool, from = volume.str(), snapshot, name = to.str()](RbdProgress& progress) -> Result<void> {
        progress.look();
        const auto place = rbd_place_of(*pool, from);
        if (!place) return fail(place.error());
        if (place->header.ends_with(".rbd")) return fail(rbd_format_1_error(pool->spec(from), "cannot be cloned"));
        if (auto entered = rbd_enter(*pool, *place, Verb::clone); !entered) return fail(std::move(entered.error()));
        if (rbd_id_of(*pool, name)) return fail(rbd_create_error(*pool, -EEXIST, name));
        const bool v2 = rbd_clones_v2(*pool->cluster);
        const RbdImageOptions options = rbd_new_image_options(*pool);
        static_cast<void>(::rbd_image_options_set_uint64(options.get(), RBD_IMAGE_OPTION_CLONE_FORMAT, v2 ? 2 : 1));
        if (auto begun = progress.begin(); !begun) return begun;
        if (!v2) {
          if (auto good = rbd_protect(*pool, from, snapshot); !good) return good;
        }
        auto run = RbdVerbRun::begin(*pool, Verb::clone, name);
        if (!run) return fail(std::move(run.error()));
        const auto make = [&](const std::string& hidden) -> Result<void> {
          const int code = ::rbd_clone3(pool->io.get(), from.c_str(), snapshot.c_str(), pool->io.get(), hidden.c_str(),
                                        options.get());
          if (code == -ENOENT) return fail(rbd_no_origin(*pool, from, snapshot));
          if (code < 0) return fail(rbd_create_error(*pool, code, name));
          return {};
        };
        return rbd_make_named(*pool, **run, name, make, [&](const std::string&) { return (*run)->check(); });
      });
}

}  // namespace stowage::detail
