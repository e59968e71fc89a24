#pragma once
// The pool or namespace that a storage lives in.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <memory>
#include <stowage/backends/detail/rbd_connection.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

using RbdIo = Handle<void, &::rados_ioctx_destroy>;
class RbdOpenRuns;

/// Everything that the verbs of one storage share. Read-only after `rbd_open_pool`, so threads need no lock; workers
/// that outlive their caller keep it alive.
struct RbdPool {
  RbdConfig config;
  OpenOptions options;
  RbdAccess access;
  std::shared_ptr<RbdCluster> cluster;
  RbdIo io;                             // goes before the cluster
  std::shared_ptr<RbdOpenRuns> runs{};  ///< of its own that go on over several calls; they use `io`

  [[nodiscard]] std::string spec(std::string_view image, std::string_view snapshot = {}) const {
    return rbd_spec(config.pool, config.name_space, image, snapshot);
  }
};

using RbdPoolPtr = std::shared_ptr<const RbdPool>;

/// Another place of the same cluster, where a parent may live.
inline Result<RbdIo> rbd_io(const RbdCluster& cluster, std::int64_t pool, const std::string& name_space) {
  ::rados_ioctx_t raw = nullptr;
  if (const int code = ::rados_ioctx_create2(cluster.client(), pool, &raw); code < 0) {
    return fail(rbd_error(code, "opening pool " + std::to_string(pool)));
  }
  RbdIo io{raw};
  ::rados_set_pool_full_try(raw);
  ::rados_ioctx_set_namespace(raw, name_space.c_str());
  return io;
}

/// Asks for the directory of images: whether the OSDs answer, and let us read.
inline Result<void> rbd_probe(const RbdPool& pool) {
  const int code = ::rados_stat(pool.io.get(), "rbd_directory", nullptr, nullptr);
  if (code >= 0 || code == -ENOENT) return {};
  if (code == -EPERM || code == -EACCES) {
    return fail(Error{Errc::permission_denied, "client." + pool.access.user + " may not use '" + pool.spec("") + "'",
                      native_errno(code)}
                    .advise(rbd_hint(code)));
  }
  if (code == -ETIMEDOUT) {
    return fail(
        Error{Errc::unavailable, "the OSDs of pool '" + pool.config.pool + "' do not answer", native_errno(code)}
            .advise(rbd_hint(code)));
  }
  return fail(rbd_error(code, "reading the directory of '" + pool.config.pool + "'"));
}

/// Errors: not_found (pool, data pool, namespace), permission_denied, unavailable.
inline Result<std::shared_ptr<RbdPool>> rbd_open_pool(const StorageId& id, RbdConfig config,
                                                      const OpenOptions& options) {
  if (config.pool.empty()) config.pool = "rbd";
  auto access = rbd_find_access(id, config, options);
  if (!access) return fail(std::move(access.error()));
  auto cluster = rbd_shared_connection(*access, options.timeout);
  if (!cluster) return fail(std::move(cluster.error()));

  const auto no_pool = [&](int code, const std::string& name) {
    if (code != -ENOENT) return rbd_error(code, "opening pool '" + name + "'");
    return Error{Errc::not_found, "the cluster has no pool '" + name + "'", native_errno(code)};
  };
  ::rados_ioctx_t raw = nullptr;
  if (const int code = ::rados_ioctx_create((*cluster)->client(), config.pool.c_str(), &raw); code < 0) {
    return fail(no_pool(code, config.pool));
  }
  RbdIo io{raw};
  // Of a full pool, a change would wait until there is room. Like this what needs room is refused, and what makes some
  // is done.
  ::rados_set_pool_full_try(raw);
  if (!config.data_pool.empty()) {
    const auto found = ::rados_pool_lookup((*cluster)->client(), config.data_pool.c_str());
    if (found < 0) return fail(no_pool(static_cast<int>(found), config.data_pool));
  }
  if (!config.name_space.empty()) {
    bool exists = false;
    const int code = ::rbd_namespace_exists(raw, config.name_space.c_str(), &exists);
    // A user of this namespace only may not look at the pool's list of them; the probe will tell.
    if (code >= 0 && !exists) {
      return fail(Errc::not_found, "pool '" + config.pool + "' has no namespace '" + config.name_space + "'");
    }
    if (code < 0 && code != -EPERM && code != -EACCES) {
      return fail(rbd_error(code, "looking for namespace '" + config.name_space + "'"));
    }
    ::rados_ioctx_set_namespace(raw, config.name_space.c_str());
  }
  auto pool = std::make_shared<RbdPool>(
      RbdPool{std::move(config), options, *std::move(access), *std::move(cluster), std::move(io)});
  if (auto answers = rbd_probe(*pool); !answers) return fail(std::move(answers.error()));
  return pool;
}

}  // namespace stowage::detail
