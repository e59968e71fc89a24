#pragma once
// What stands in the way of a verb and what librbd says only when it is too late: groups, mirrors, migrations, and the
// snapshots that they make.
//
// Measured on Ceph 16.2.15: `rbd_trash_move` takes members of groups and mirrored images, and ends their mirroring; it
// refuses images that migrate. `rbd_remove` refuses members of groups and images with group snapshots at its end.

#include <rbd/librbd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

inline tl::unexpected<Error> rbd_obstacle(const RbdPool& pool, const std::string& name, const std::string& what,
                                          std::string way_out) {
  return fail(Error{Errc::in_use, "'" + pool.spec(name) + "' " + what, native_errno(EBUSY)}.advise(std::move(way_out)));
}

/// It is in no group. Errors: in_use.
inline Result<void> rbd_not_in_group(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  std::uint64_t features = 0;
  if (::rbd_get_op_features(image, &features) >= 0 && (features & RBD_OPERATION_FEATURE_GROUP) == 0) return {};
  ::rbd_group_info_t group{};
  if (const int code = ::rbd_get_group(image, &group, sizeof group); code < 0) {
    return fail(rbd_error(code, "asking for the group of '" + pool.spec(name) + "'"));
  }
  const std::string called = group.name == nullptr ? "" : group.name;
  ::rbd_group_info_cleanup(&group, sizeof group);
  if (called.empty()) return {};
  return rbd_obstacle(pool, name, "is in the group '" + called + "'",
                      "take it out: rbd group image remove " + called + " " + name);
}

/// It has no snapshots but those that users make. Errors: in_use.
inline Result<void> rbd_no_foreign_snapshots(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  const auto snapshots = rbd_all_snapshots(image);
  if (!snapshots) return fail(snapshots.error());
  for (const RbdRawSnapshot& snapshot : *snapshots) {
    switch (snapshot.kind) {
      case RBD_SNAP_NAMESPACE_TYPE_GROUP:
        return rbd_obstacle(pool, name, "has a snapshot of a group", "remove it: rbd group snap remove");
      case RBD_SNAP_NAMESPACE_TYPE_MIRROR:
        return rbd_obstacle(pool, name, "has a snapshot of its mirroring", "end it: rbd mirror image disable " + name);
      case RBD_SNAP_NAMESPACE_TYPE_TRASH:
        return rbd_obstacle(pool, name, "has a removed snapshot that clones still need",
                            "flatten or remove the clones");
      case RBD_SNAP_NAMESPACE_TYPE_USER: break;
    }
  }
  return {};
}

/// It is neither mirrored nor on its way to another pool. Errors: in_use.
inline Result<void> rbd_not_mirrored(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  std::uint64_t features = 0;
  if (const int code = ::rbd_get_features(image, &features); code < 0) {
    return fail(rbd_error(code, "asking for the features of '" + pool.spec(name) + "'"));
  }
  if ((features & RBD_FEATURE_MIGRATING) != 0) {
    return rbd_obstacle(pool, name, "is in the middle of a migration",
                        "end it: rbd migration commit, or rbd migration abort");
  }
  ::rbd_mirror_image_info_t mirror{};
  if (::rbd_mirror_image_get_info(image, &mirror, sizeof mirror) < 0) return {};  // no mirroring, or no right to see it
  const bool enabled = mirror.state != RBD_MIRROR_IMAGE_DISABLED;
  ::rbd_mirror_image_get_info_cleanup(&mirror);
  if (!enabled) return {};
  return rbd_obstacle(pool, name, "is mirrored to another cluster", "end it: rbd mirror image disable " + name);
}

/// Nothing of all that. Errors: in_use, with the way out.
inline Result<void> rbd_no_obstacle(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  return rbd_not_in_group(pool, image, name)
      .and_then([&] { return rbd_not_mirrored(pool, image, name); })
      .and_then([&] { return rbd_no_foreign_snapshots(pool, image, name); });
}

}  // namespace stowage::detail
