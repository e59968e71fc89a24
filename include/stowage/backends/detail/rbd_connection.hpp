#pragma once
// The connection to a Ceph cluster: deadlines on everything, failures told apart, one for all storages of a process.

#include <fcntl.h>
#include <rados/librados.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_text.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/secret.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A connected client of a cluster.
class RbdCluster {
 public:
  explicit RbdCluster(::rados_t client) noexcept : client_{client} {}

  [[nodiscard]] ::rados_t client() const noexcept { return client_.get(); }
  /// The number by which watchers and lock owners name this client.
  [[nodiscard]] std::uint64_t instance() const noexcept { return ::rados_get_instance_id(client_.get()); }

  [[nodiscard]] Result<std::string> fsid() const {
    std::array<char, 64> text{};
    const int length = ::rados_cluster_fsid(client_.get(), text.data(), text.size());
    if (length < 0) return fail(rbd_error(length, "asking for the cluster's fsid"));
    return std::string{text.data(), static_cast<std::size_t>(length)};
  }

  [[nodiscard]] std::string pool_name(std::int64_t pool) const {
    std::array<char, 256> name{};
    const int length = ::rados_pool_reverse_lookup(client_.get(), pool, name.data(), name.size());
    return length < 0 ? "pool " + std::to_string(pool) : std::string{name.data(), static_cast<std::size_t>(length)};
  }

  /// A client on the block list never gets off it: storages that are opened from now on connect anew.
  void retire() const noexcept { retired_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool retired() const noexcept { return retired_.load(std::memory_order_relaxed); }

 private:
  Handle<void, &::rados_shutdown> client_;
  mutable std::atomic<bool> retired_{false};
};

/// The text of a small file, or what open or read said.
inline tl::expected<Secret, int> rbd_read_file(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return tl::unexpected<int>{errno};
  std::array<char, 16384> text{};
  const ssize_t length = ::read(file.get(), text.data(), text.size());
  if (length < 0) return tl::unexpected<int>{errno};
  Secret secret{std::string{text.data(), static_cast<std::size_t>(length)}};
  ::explicit_bzero(text.data(), text.size());
  return secret;
}

/// Looks which of the storage's own files are there.
/// Errors: permission_denied (cannot be read), parse_failed (not a keyring).
inline Result<RbdAccess> rbd_find_access(const StorageId& id, const RbdConfig& config, const OpenOptions& options) {
  const std::string keyring = rbd_keyring_file(id, options);
  const auto text = rbd_read_file(keyring);
  if (!text && text.error() != ENOENT && text.error() != ENOTDIR) {
    return fail(rbd_error(text.error(), "reading keyring '" + keyring + "'"));
  }
  if (text && !is_rbd_keyring(text->reveal())) {
    return fail(Error{Errc::parse_failed, "not a keyring: '" + keyring + "'"}.advise(
        "it has a line [client.NAME] and below it a line key = KEY"));
  }
  const bool has_conf = ::access(rbd_conf_file(id, options).c_str(), F_OK) == 0;
  return rbd_access(id, config, options, text.has_value(), has_conf);
}

/// librados takes whole seconds; less than one would mean no deadline at all.
inline std::string rbd_seconds(std::chrono::milliseconds timeout) {
  return std::to_string(std::max<std::int64_t>(1, (timeout.count() + 999) / 1000));
}

inline std::string rbd_whereabouts(const RbdAccess& access) {
  return access.external ? rbd_monhosts(access.monhost, ',') : "those of " + access.conf;
}

/// Sets all that a client needs before it connects.
/// `mount`: how long the monitors have to answer for the first time.
inline Result<void> rbd_configure(::rados_t client, const RbdAccess& access, const std::string& monitors,
                                  std::chrono::milliseconds timeout, std::chrono::milliseconds mount) {
  if (!access.conf.empty()) {
    if (const int code = ::rados_conf_read_file(client, access.conf.c_str()); code < 0) {
      return fail(rbd_error(code, "reading '" + access.conf + "'"));
    }
  }
  const std::string seconds = rbd_seconds(timeout);
  std::vector<std::pair<const char*, std::string>> options{
      // Without these, a dead monitor costs 300 s, and a dead OSD has no end.
      {"client_mount_timeout", rbd_seconds(mount)},
      {"rados_mon_op_timeout", seconds},
      {"rados_osd_op_timeout", seconds},
      // A library does not write to the standard error of its host.
      {"log_to_stderr", "false"},
      {"err_to_stderr", "false"},
      // What is acknowledged has reached the OSDs, and an error belongs to the write that had it.
      {"rbd_cache", "false"},
      // A write that is not copied completes when the connection to the OSD lets go of its memory, which with an OSD
      // that hangs is long after the deadline (16.2: 2 of 32 writes of 2 MiB came back, 8 s after theirs).
      {"rbd_disable_zero_copy_writes", "true"}};
  if (access.external) {
    options.emplace_back("mon_host", monitors);
    options.emplace_back("auth_client_required", access.auth());
  }
  if (!access.keyring.empty()) options.emplace_back("keyring", access.keyring);
  for (const auto& [option, value] : options) {
    if (const int code = ::rados_conf_set(client, option, value.c_str()); code < 0) {
      return fail(rbd_error(code, std::string{"setting "} + option));
    }
  }
  return {};
}

inline Error rbd_connect_error(const RbdAccess& access, int code, std::chrono::milliseconds timeout) {
  const std::string who = "client." + access.user;
  const std::error_code native = native_errno(code);
  if (code == -ETIMEDOUT) {
    return Error{Errc::unavailable, "no monitor of the cluster answered within " + rbd_seconds(timeout) + " s", native}
        .advise("the monitors are " + rbd_whereabouts(access));
  }
  if (code == -EACCES || code == -EPERM) {
    return Error{Errc::permission_denied, "the cluster refused the key of " + who, native}.advise(
        access.keyring.empty() ? "the storage has no keyring of its own" : "the keyring is " + access.keyring);
  }
  if (code == -ENOENT) {
    return Error{Errc::permission_denied, "no key for " + who + " was found, or no monitor is configured", native}
        .advise(access.keyring.empty() ? "conf is '" + access.conf + "'" : "see " + access.keyring);
  }
  if (code == -EIO || code == -EINVAL) {
    return Error{Errc::permission_denied, "the key of " + who + " cannot be used", native}.advise(
        access.keyring.empty() ? "" : "is it cut short? see " + access.keyring);
  }
  return rbd_error(code, "connecting as " + who);
}

/// At another port than 3300 and 6789, librados speaks both versions of its protocol at once. Where the newer one is
/// refused, it goes on with the older one for ever: a wrong key looks like a dead monitor. This tells them apart.
inline bool rbd_has_odd_port(const RbdAccess& access) {
  return std::any_of(access.monhost.begin(), access.monhost.end(), [](const Portal& monitor) {
    return !monitor.port_text().empty() && monitor.port_text() != "3300" && monitor.port_text() != "6789";
  });
}
inline std::string rbd_monhosts_v2(const RbdAccess& access) {
  std::string text;
  for (const Portal& monitor : access.monhost) text += (text.empty() ? "v2:" : ",v2:") + monitor.bracketed();
  return text;
}

/// Errors: unavailable (no monitor answered), permission_denied (the key), not_found (conf).
inline Result<std::shared_ptr<RbdCluster>> rbd_connect(const RbdAccess& access, std::chrono::milliseconds timeout) {
  const auto attempt = [&](const std::string& monitors,
                           std::chrono::milliseconds mount) -> Result<std::shared_ptr<RbdCluster>> {
    ::rados_t raw = nullptr;
    if (const int code = ::rados_create2(&raw, "ceph", ("client." + access.user).c_str(), 0); code < 0) {
      return fail(rbd_error(code, "making a client of Ceph"));
    }
    auto cluster = std::make_shared<RbdCluster>(raw);
    if (auto good = rbd_configure(raw, access, monitors, timeout, mount); !good) return fail(std::move(good.error()));
    if (const int code = ::rados_connect(raw); code < 0) return fail(rbd_connect_error(access, code, timeout));
    return cluster;
  };
  const std::chrono::milliseconds second = rbd_has_odd_port(access) ? std::chrono::seconds{1} : std::chrono::seconds{0};
  auto connected = attempt(rbd_monhosts(access.monhost, ','), std::max(timeout - second, second));
  if (connected || connected.error().code() != Errc::unavailable || second.count() == 0) return connected;
  auto refused = attempt(rbd_monhosts_v2(access), second);
  if (!refused && refused.error().code() == Errc::permission_denied) return refused;
  return connected;
}

/// What makes two storages able to share a connection. A file that was replaced makes a difference.
inline std::string rbd_connection_key(const RbdAccess& access, std::chrono::milliseconds timeout) {
  const auto version = [](const std::string& path) {
    struct ::stat seen {};
    if (path.empty() || ::stat(path.c_str(), &seen) != 0) return std::string{};
    return path + " " + std::to_string(seen.st_ino) + " " + std::to_string(seen.st_mtim.tv_sec) + "." +
           std::to_string(seen.st_mtim.tv_nsec);
  };
  return access.user + "\n" + version(access.conf) + "\n" + version(access.keyring) + "\n" +
         rbd_monhosts(access.monhost, ',') + "\n" + std::string{access.auth()} + "\n" + rbd_seconds(timeout);
}

/// The connection for `access`, a new one only if the process has none: a connect costs 10 to 40 ms and threads.
inline Result<std::shared_ptr<RbdCluster>> rbd_shared_connection(const RbdAccess& access,
                                                                 std::chrono::milliseconds timeout) {
  // Never destroyed: a worker that is still at it when main returns would find its ruins.
  static auto& mutex = *new std::mutex;
  static auto& known = *new std::map<std::string, std::weak_ptr<RbdCluster>>;
  const std::string key = rbd_connection_key(access, timeout);
  {
    const std::lock_guard lock{mutex};
    std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
    if (const auto found = known.find(key); found != known.end()) {
      if (auto cluster = found->second.lock(); cluster && !cluster->retired()) return cluster;
    }
  }
  auto fresh = rbd_connect(access, timeout);  // not under the lock: it may take long
  if (fresh) {
    const std::lock_guard lock{mutex};
    known[key] = *fresh;
  }
  return fresh;
}

}  // namespace stowage::detail
