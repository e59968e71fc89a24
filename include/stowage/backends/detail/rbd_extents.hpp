#pragma once
// Where an image has data, and where it has changed.

#include <rbd/librbd.h>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/extents.hpp>
#include <string>
#include <vector>

namespace stowage::detail {

/// The extents of an open image or snapshot, with what it has of its parent. From the object map where the image has
/// one (fast-diff), object by object; else each object is asked. Errors: librbd's.
inline Result<std::vector<Extent>> rbd_extents(::rbd_image_t image, Bytes size, const std::string& spec) {
  ExtentMap map;
  const auto each = [](std::uint64_t offset, std::size_t length, int exists, void* user) noexcept {
    static_cast<ExtentMap*>(user)->add(Bytes{offset}, Bytes{offset + length}, exists != 0);
    return 0;
  };
  const int code = ::rbd_diff_iterate2(image, nullptr, 0, size.count, 1, 1, each, &map);
  if (code < 0) return fail(rbd_error(code, "asking where '" + spec + "' has data"));
  return map.take(size);
}

/// The object maps of the image say what has changed, and can be relied on.
inline bool rbd_has_fast_diff(::rbd_image_t image) noexcept {
  std::uint64_t features = 0;
  std::uint64_t flags = 0;
  return ::rbd_get_features(image, &features) >= 0 && ::rbd_get_flags(image, &flags) >= 0 &&
         (features & RBD_FEATURE_FAST_DIFF) != 0 &&
         (flags & (RBD_FLAG_FAST_DIFF_INVALID | RBD_FLAG_OBJECT_MAP_INVALID)) == 0;
}

/// What of an open image or snapshot may differ from its snapshot `since`. With fast-diff whole objects, from the
/// object maps; without, or when a map is not valid, each object is asked, which tells more exactly. Errors: not_found;
/// invalid_argument (`since` is not older).
inline Result<std::vector<Extent>> rbd_changes(::rbd_image_t image, Bytes size, const std::string& since,
                                               const std::string& spec) {
  std::vector<Extent> found;
  const auto each = [](std::uint64_t offset, std::size_t length, int exists, void* user) noexcept {
    static_cast<std::vector<Extent>*>(user)->push_back({Bytes{offset}, Bytes{length}, exists != 0});
    return 0;
  };
  const int code =
      ::rbd_diff_iterate2(image, since.c_str(), 0, size.count, 1, rbd_has_fast_diff(image) ? 1 : 0, each, &found);
  if (code == -ENOENT) {
    return fail(Errc::not_found, "'" + spec + "' has no snapshot '" + since + "'", native_errno(code));
  }
  if (code == -EINVAL) {
    return fail(Errc::invalid_argument, "snapshot '" + since + "' is not older than '" + spec + "'",
                native_errno(code));
  }
  if (code < 0) return fail(rbd_error(code, "asking what has changed in '" + spec + "' since '" + since + "'"));
  // Striped images may be told object by object.
  std::sort(found.begin(), found.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  std::vector<Extent> changes;
  for (const Extent& extent : found) append_extent(changes, extent.offset, end_of(extent), extent.allocated);
  return changes;
}

}  // namespace stowage::detail
