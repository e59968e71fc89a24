#pragma once
// Which pools a cluster has, and which namespaces they have.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <algorithm>
#include <cerrno>
#include <stowage/backends/detail/rbd_connection.hpp>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// A pool, and its namespaces: those that the user may see.
struct RbdPlace {
  std::string pool;
  std::vector<std::string> namespaces;
};

namespace detail {

/// Calls `list(buffer, &size)`, which says ERANGE and the size it wants, until the buffer is large enough. The texts
/// in it end with a NUL each.
template <class List>
tl::expected<std::vector<std::string>, int> rbd_string_list(List list) {
  std::string buffer(1024, '\0');
  for (;;) {
    std::size_t size = buffer.size();
    const int code = list(buffer.data(), &size);
    if (code == -ERANGE && size > buffer.size()) {
      buffer.assign(size, '\0');
      continue;
    }
    if (code < 0) return tl::unexpected<int>{code};
    buffer.resize(std::min(size, buffer.size()));
    std::vector<std::string> texts;
    for (std::size_t at = 0; at < buffer.size() && buffer[at] != '\0';) {
      texts.emplace_back(buffer.c_str() + at);
      at += texts.back().size() + 1;
    }
    return texts;
  }
}

inline tl::expected<std::vector<std::string>, int> rbd_pool_names(::rados_t client) {
  return rbd_string_list([client](char* buffer, std::size_t* size) {
    // Says how much it wants, whether it fits or not.
    const int wanted = ::rados_pool_list(client, buffer, *size);
    if (wanted < 0) return wanted;
    const bool fits = static_cast<std::size_t>(wanted) <= *size;
    *size = static_cast<std::size_t>(wanted);
    return fits ? 0 : -ERANGE;
  });
}

/// A pool of another application (cephfs, rgw, the mgr's own) holds no images. One without any may: it was just made.
inline bool rbd_may_hold_images(::rados_ioctx_t io) {
  const auto applications =
      rbd_string_list([io](char* buffer, std::size_t* size) { return ::rados_application_list(io, buffer, size); });
  return !applications || applications->empty() ||
         std::find(applications->begin(), applications->end(), "rbd") != applications->end();
}

/// The pools that may hold images, sorted, of the cluster that a storage is configured for. The storage's own pool need
/// not exist. Errors: as `Rbd::open`.
[[nodiscard]] inline Result<std::vector<RbdPlace>> discover_pools(const StorageId& id, const RbdConfig& config,
                                                                  const OpenOptions& options) {
  const auto access = rbd_find_access(id, config, options);
  if (!access) return fail(Error{access.error()}.about(id.str()));
  const auto cluster = rbd_shared_connection(*access, options.timeout);
  if (!cluster) return fail(Error{cluster.error()}.about(id.str()));
  ::rados_t client = (*cluster)->client();
  auto pools = rbd_pool_names(client);
  if (!pools) return fail(rbd_error(pools.error(), "listing pools").about(id.str()));
  std::sort(pools->begin(), pools->end());
  std::vector<RbdPlace> places;
  for (std::string& pool : *pools) {
    ::rados_ioctx_t raw = nullptr;
    if (::rados_ioctx_create(client, pool.c_str(), &raw) < 0) continue;  // removed just now
    const RbdIo io{raw};
    if (!rbd_may_hold_images(raw)) continue;
    auto namespaces =
        rbd_string_list([raw](char* buffer, std::size_t* size) { return ::rbd_namespace_list(raw, buffer, size); });
    // Who may only use a namespace may not list them.
    const bool unseen = !namespaces && (namespaces.error() == -EPERM || namespaces.error() == -EACCES);
    if (!namespaces && !unseen) {
      return fail(rbd_error(namespaces.error(), "listing the namespaces of '" + pool + "'").about(id.str()));
    }
    places.push_back({std::move(pool), namespaces ? *std::move(namespaces) : std::vector<std::string>{}});
    std::sort(places.back().namespaces.begin(), places.back().namespaces.end());
  }
  return places;
}

}  // namespace detail
}  // namespace stowage
