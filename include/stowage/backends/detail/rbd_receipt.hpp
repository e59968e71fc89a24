#pragma once
// What an image tells of the streams that it is received from and sent as: how far one has come, and which content its
// snapshots have.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <stowage/backends/detail/receipt_text.hpp>
#include <string>

namespace stowage::detail {

/// Under which the image's metadata have the identity of a snapshot's content. Clones and copies get the metadata of
/// their origin, so it names the image as well.
struct RbdIdentityKey {
  std::string image;
  std::uint64_t snapshot = 0;

  [[nodiscard]] std::string str() const { return "stowage.snapshot." + image + "." + std::to_string(snapshot); }
  /// Under which the image's header holds that.
  [[nodiscard]] std::string omap_key() const { return "metadata_" + str(); }
};

inline Result<RbdIdentityKey> rbd_identity_key(::rbd_image_t image, const std::string& snapshot) {
  std::array<char, 256> id{};
  RbdIdentityKey key;
  if (rbd_is_format_1(image)) return fail(Errc::not_supported, "snapshots of an image of format 1 have no identity");
  if (const int code = ::rbd_get_id(image, id.data(), id.size()); code < 0) {
    return fail(rbd_error(code, "asking for the image's id"));
  }
  key.image = id.data();
  const int code = ::rbd_snap_get_id(image, snapshot.c_str(), &key.snapshot);
  if (code == -ENOENT) return fail(Errc::not_found, "no snapshot '" + snapshot + "'", native_errno(code));
  if (code < 0) return fail(rbd_error(code, "asking for the id of snapshot '" + snapshot + "'"));
  return key;
}

/// What a stream has said of the snapshot's content, if it came with one.
inline Result<std::optional<std::string>> rbd_given_identity(::rbd_image_t image, const RbdIdentityKey& key) {
  std::array<char, 512> text{};
  std::size_t size = text.size();
  const int code = ::rbd_metadata_get(image, key.str().c_str(), text.data(), &size);
  if (code == -ENOENT) return std::nullopt;
  if (code < 0) return fail(rbd_error(code, "asking which content a snapshot has"));
  return std::string{text.data()};
}

/// Its snapshot is gone. A key that stays does no harm: ids are not given twice. Pre: it is there, for a change of
/// metadata takes the image's lock from whoever has it.
inline void rbd_forget_identity(::rbd_image_t image, const RbdIdentityKey& key) {
  static_cast<void>(::rbd_metadata_remove(image, key.str().c_str()));
}

inline Result<std::string> rbd_snapshot_identity(const RbdPool& pool, const VolumeName& volume,
                                                 const SnapshotName& snapshot) {
  auto image = rbd_look(pool, volume.str());
  if (!image) return fail(std::move(image.error()));
  const auto key = rbd_identity_key(image->get(), snapshot.str());
  if (!key) return fail(key.error());
  auto given = rbd_given_identity(image->get(), *key);
  if (!given) return fail(std::move(given.error()));
  if (*given) return **std::move(given);
  return pool.cluster->fsid().map([&](const std::string& fsid) {
    return "rbd-" + fsid + "-" + std::to_string(::rados_ioctx_get_id(pool.io.get())) + "-" + key->image + "-" +
           std::to_string(key->snapshot);
  });
}

inline Result<std::optional<Receipt>> rbd_receipt(const RbdPool& pool, const VolumeName& volume) {
  auto image = rbd_look(pool, volume.str());
  if (!image) return fail(std::move(image.error()));
  const auto place = rbd_record_place(pool, image->get(), volume.str());
  if (!place) return fail(place.error());
  const auto record = rbd_read_record(pool, *place);
  if (!record) return fail(record.error());
  if (!record->intent || record->intent->verb != "receive") return std::nullopt;
  return parse_receipt(record->intent->argument(0)).map([](Receipt receipt) {
    return std::optional{std::move(receipt)};
  });
}

/// Takes over what another run has received of a stream, to go on with it. Nothing, when there is no such record.
/// Errors: in_use (it goes on).
inline Result<void> rbd_resume_receipt(const RbdPoolPtr& pool, const VolumeName& volume) {
  return rbd_run(pool, "resuming a stream", {}, [pool, name = volume.str()](RbdProgress& progress) -> Result<void> {
    progress.look();
    auto image = rbd_look(*pool, name);
    if (!image) return fail(std::move(image.error()));
    auto place = rbd_record_place(*pool, image->get(), name);
    if (!place) return fail(std::move(place.error()));
    const auto record = rbd_read_record(*pool, *place);
    if (!record) return fail(record.error());
    if (!record->intent || record->intent->verb != "receive") return {};
    const std::vector<std::string> arguments = record->intent->arguments;
    auto entered = rbd_enter(*pool, *std::move(place), Verb::receive, arguments);
    if (!entered || entered->how == Admission::free) return entered.map([](const RbdEntered&) {});
    if (auto begun = progress.begin(); !begun) return begun;
    auto run = RbdVerbRun::begin(*pool, Verb::receive, name);
    if (!run) return fail(std::move(run.error()));
    return (*run)->claim(*entered, IntentPhase::commit, arguments).map([&] { pool->runs->keep(*std::move(run)); });
  });
}

/// The volume receives a stream from now on, or has come further: the same run, from the first receipt to the end.
/// Pre: its device, which keeps others away, is open. Errors: in_use, wrong_state, conflict (it was taken over).
inline Result<void> rbd_set_receipt(const RbdPoolPtr& pool, const VolumeName& volume, ::rbd_image_t image,
                                    const Receipt& receipt) {
  auto place = rbd_record_place(*pool, image, volume.str());
  if (!place) return fail(std::move(place.error()));
  std::vector<std::string> arguments{receipt_text(receipt)};
  auto run = pool->runs->take(place->bound);
  if (run) {
    run->become(Verb::receive);
    auto noted = run->advance(IntentPhase::commit, std::move(arguments));
    pool->runs->keep(std::move(run));
    return noted;
  }
  auto entered = rbd_enter(*pool, *std::move(place), Verb::receive, arguments);
  if (!entered) return fail(std::move(entered.error()));
  auto begun = RbdVerbRun::begin(*pool, Verb::receive, volume.str());
  if (!begun) return fail(std::move(begun.error()));
  return (*begun)->claim(*entered, IntentPhase::commit, std::move(arguments)).map([&] {
    pool->runs->keep(*std::move(begun));
  });
}

/// Each step may have been done before. Pre: as of `rbd_set_receipt`.
inline Result<void> rbd_end_receipt(const RbdPoolPtr& pool, const VolumeName& volume, ::rbd_image_t image,
                                    const SnapshotName& snapshot, const std::string& identity) {
  const auto place = rbd_record_place(*pool, image, volume.str());
  if (!place) return fail(place.error());
  auto run = pool->runs->take(place->bound);
  if (!run) {
    const auto key = rbd_identity_key(image, snapshot.str());
    const auto given = key ? rbd_given_identity(image, *key) : Result<std::optional<std::string>>{};
    if (given && *given == identity) return {};  // it has been ended
    return fail(Errc::conflict, "'" + pool->spec(volume.str()) + "' receives no stream of this storage");
  }
  const auto steps = [&]() -> Result<void> {
    if (auto alive = run->check(); !alive) return alive;
    const int made = ::rbd_snap_create(image, snapshot.str().c_str());
    if (made < 0 && made != -EEXIST) return rbd_changed(made, "taking snapshot '" + snapshot.str() + "'");
    const auto key = rbd_identity_key(image, snapshot.str());
    if (!key) return fail(key.error());
    auto given = rbd_changed(::rbd_metadata_set(image, key->str().c_str(), identity.c_str()),
                             "writing which content snapshot '" + snapshot.str() + "' has");
    if (!given) return given;
    return run->end();
  };
  auto done = steps();
  if (!done) pool->runs->keep(std::move(run));  // to be repeated, or given up
  return done;
}

}  // namespace stowage::detail
