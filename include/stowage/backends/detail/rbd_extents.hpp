#pragma once
// Where an image has data.

#include <rbd/librbd.h>
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

}  // namespace stowage::detail
