#pragma once
// Which locks there are: beside `pvesm`, on the cluster's file system, its own; elsewhere one among programs of ours.

#include <chrono>
#include <cstdlib>
#include <memory>
#include <stowage/config/write.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

/// The cluster's file system of Proxmox VE.
inline constexpr const char* cluster_folder = "/etc/pve";

namespace detail {

/// Pre: `config` is no link. Only what lies in the folder itself is the cluster's storage.cfg.
inline bool in_cluster(const std::string& config, std::string_view cluster) {
  while (cluster.size() > 1 && cluster.ends_with('/')) cluster.remove_suffix(1);
  return folder_of(config) == cluster;
}

/// The turn to change the configuration `config`: on the cluster's file system the lock that `pvesm` takes on it, else
/// an `flock` of a file beside it, `CONFIG.lock`.
/// Errors: those of `Lock`.
inline Result<Lock> take_config_lock(const std::string& config, const std::string& cluster,
                                     std::chrono::milliseconds wait, const ClusterLease& lease = {}) {
  auto lock = in_cluster(config, cluster)
                  ? Lock::take_in_cluster(folder_of(config) + "/priv/lock", "file-storage_cfg", wait, {}, lease)
                  : Lock::take_file(config + ".lock", wait);
  if (lock) return lock;
  return fail(std::move(lock.error()).during("waiting for the turn to change it").about(config));
}

}  // namespace detail

/// The locks of the storages of a configuration: on the cluster's file system those of `pvesm`, else none.
inline StorageLocks storage_locks(const std::string& config, const std::string& cluster = cluster_folder) {
  const std::unique_ptr<char, decltype(&std::free)> real{::realpath(config.c_str(), nullptr), &std::free};
  if (!real || !detail::in_cluster(real.get(), cluster)) return {};
  return {.cluster = detail::folder_of(real.get()) + "/priv/lock", .host = "/var/lock/pve-manager"};
}

}  // namespace stowage
