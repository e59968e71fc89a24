#pragma once
// Where an image has data, and where it has changed.

#include <rbd/librbd.h>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/extents.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Who may end a question that takes long: the one who opened the storage, and the one who asks.
struct RbdStops {
  std::stop_token storage{};
  std::stop_token question{};

  [[nodiscard]] bool requested() const noexcept { return storage.stop_requested() || question.stop_requested(); }
};

/// The object maps of the image say what has changed, and can be relied on.
inline bool rbd_has_fast_diff(::rbd_image_t image) noexcept {
  std::uint64_t features = 0;
  std::uint64_t flags = 0;
  return ::rbd_get_features(image, &features) >= 0 && ::rbd_get_flags(image, &flags) >= 0 &&
         (features & RBD_FEATURE_FAST_DIFF) != 0 &&
         (flags & (RBD_FLAG_FAST_DIFF_INVALID | RBD_FLAG_OBJECT_MAP_INVALID)) == 0;
}

/// How much of an image without object maps is asked for at once: a thousand objects, in whole rows of stripes. (With
/// the maps, every question reads them as a whole.)
inline std::uint64_t rbd_diff_step(::rbd_image_t image) noexcept {
  constexpr std::uint64_t objects = 1024;
  ::rbd_image_info_t about{};
  std::uint64_t stripes = 1;
  if (::rbd_stat(image, &about, sizeof about) < 0 || ::rbd_get_stripe_count(image, &stripes) < 0)
    return objects * (4_MiB).count;
  return about.obj_size * stripes * std::max<std::uint64_t>(1, objects / stripes);
}

/// What librbd tells of an image, or of what has changed since a snapshot (null: since there was nothing), sorted.
class RbdDiff {
 public:
  explicit RbdDiff(RbdStops stops) : stops_{std::move(stops)} {}

  /// What librbd says; -ECANCELED, when it was stopped: between two steps, and between two ranges that it tells of.
  int ask(::rbd_image_t image, const char* since, Bytes size, bool whole_objects) {
    const std::uint64_t step = rbd_has_fast_diff(image) ? size.count : rbd_diff_step(image);
    std::uint64_t begin = 0;
    do {
      if (stops_.requested()) return -ECANCELED;
      const std::uint64_t length = std::min(step, size.count - begin);
      const int code = ::rbd_diff_iterate2(image, since, begin, length, 1, whole_objects ? 1 : 0, &RbdDiff::add, this);
      if (code < 0) return code;
      begin += length;
    } while (begin < size.count);
    // Of an image with stripes it tells object by object.
    std::sort(found_.begin(), found_.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    return 0;
  }

  [[nodiscard]] const std::vector<Extent>& found() const noexcept { return found_; }

 private:
  static int add(std::uint64_t offset, std::size_t length, int exists, void* self) noexcept {
    auto& diff = *static_cast<RbdDiff*>(self);
    if (diff.stops_.requested()) return -ECANCELED;
    std::vector<Extent>& found = diff.found_;
    if (!found.empty() && end_of(found.back()) == Bytes{offset} && found.back().allocated == (exists != 0)) {
      found.back().length += Bytes{length};
    } else {
      found.push_back({Bytes{offset}, Bytes{length}, exists != 0});
    }
    return 0;
  }

  RbdStops stops_;
  std::vector<Extent> found_;
};

/// The extents of an open image or snapshot, with what it has of its parent. From the object map where the image has
/// one (fast-diff), object by object; else each object is asked. Errors: cancelled; librbd's.
inline Result<std::vector<Extent>> rbd_extents(::rbd_image_t image, Bytes size, const std::string& spec,
                                               const RbdStops& stops) {
  RbdDiff diff{stops};
  const int code = diff.ask(image, nullptr, size, true);
  if (code < 0) return fail(rbd_error(code, "asking where '" + spec + "' has data"));
  ExtentMap map;
  for (const Extent& extent : diff.found()) map.add(extent.offset, end_of(extent), extent.allocated);
  return map.take(size);
}

/// What of an open image or snapshot may differ from its snapshot `since`. With fast-diff whole objects, from the
/// object maps; without, or when a map is not valid, each object is asked, which tells more exactly. Errors: not_found;
/// invalid_argument (`since` is not older); cancelled.
inline Result<std::vector<Extent>> rbd_changes(::rbd_image_t image, Bytes size, const std::string& since,
                                               const std::string& spec, const RbdStops& stops) {
  RbdDiff diff{stops};
  const int code = diff.ask(image, since.c_str(), size, rbd_has_fast_diff(image));
  if (code == -ENOENT) {
    return fail(Errc::not_found, "'" + spec + "' has no snapshot '" + since + "'", native_errno(code));
  }
  if (code == -EINVAL) {
    return fail(Errc::invalid_argument, "snapshot '" + since + "' is not older than '" + spec + "'",
                native_errno(code));
  }
  if (code < 0) return fail(rbd_error(code, "asking what has changed in '" + spec + "' since '" + since + "'"));
  std::vector<Extent> changes;
  for (const Extent& extent : diff.found()) {
    append_extent(changes, extent.offset, end_of(extent), extent.allocated);
  }
  return changes;
}

}  // namespace stowage::detail
