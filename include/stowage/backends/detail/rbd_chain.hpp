#pragma once
// The chain of parents of an image. librbd opens all of it, and what it says of a parent looks as if it were the image
// itself that is missing, or may not be read.

#include <rados/librados.h>
#include <cerrno>
#include <optional>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/backends/detail/rbd_publish.hpp>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

inline Error rbd_missing_parent(const RbdPool& pool, const std::string& name, const std::string& which,
                                std::string way_out) {
  return Error{
      Errc::corrupt,
      which + " of '" + pool.spec(name) + "' is missing: what was not written to '" + name + "' itself is lost",
      native_errno(ENOENT)}
      .advise(std::move(way_out));
}

inline Error rbd_unreadable_parent(const RbdPool& pool, const std::string& name, const std::string& id) {
  return Error{Errc::permission_denied,
               "a parent of '" + pool.spec(name) + "' may not be read, the image with the id " + id,
               native_errno(EPERM)}
      .advise("client." + pool.access.user + " needs 'profile rbd-read-only' for its pool");
}

/// What is wrong with a parent of the image `name`, whose own header is there; nothing when all of them can be read.
/// Cost: a round trip for each of them.
inline std::optional<Error> rbd_broken_chain(const RbdPool& pool, const std::string& name) {
  const auto id = rbd_id_of(pool, name);
  if (!id) return std::nullopt;
  constexpr int deepest = 64;
  RbdIo place;
  ::rados_ioctx_t io = pool.io.get();
  std::string image = *id;
  for (int depth = 0; depth < deepest; ++depth) {
    const RbdOmapAnswer header = RbdOmapRead{{io, "rbd_header." + image, {"parent"}}}.wait();
    if (depth > 0 && header.code == -ENOENT) {
      return rbd_missing_parent(pool, name, "a parent, the image with the id " + image + ",",
                                "bring its pool or image back, or remove the volume");
    }
    if (depth > 0 && (header.code == -EPERM || header.code == -EACCES)) return rbd_unreadable_parent(pool, name, image);
    const auto parent = decode_rbd_parent(header["parent"]).parent;
    if (header.code < 0 || !parent) return std::nullopt;
    auto next = rbd_io(*pool.cluster, parent->pool, parent->name_space);
    if (!next) {
      return rbd_missing_parent(pool, name, "pool " + std::to_string(parent->pool) + ", which has a parent",
                                "only a pool with that number can bring it back; or remove the volume");
    }
    place = *std::move(next);
    io = place.get();
    image = parent->image;
  }
  return std::nullopt;
}

/// Why an image could not be opened: its own fault, or its parents'.
inline Error rbd_open_error(const RbdPool& pool, int code, const std::string& image, std::string_view snapshot) {
  const std::string spec = pool.spec(image, snapshot);
  if (code == -ENOENT || code == -EPERM || code == -EACCES) {
    if (auto broken = rbd_broken_chain(pool, image)) return *std::move(broken);
  }
  if (code == -ENOENT) {
    return Error{Errc::not_found, snapshot.empty() ? "there is no image '" + spec + "'" : "there is no '" + spec + "'",
                 native_errno(code)};
  }
  return rbd_error(code, "opening image '" + spec + "'");
}

}  // namespace stowage::detail
