#pragma once
// RBD's texts: how a client finds its cluster, what QEMU and the kernel call an image, what a keyring looks like.

#include <optional>
#include <stowage/blockdev.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/net.hpp>
#include <stowage/core/text.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// How a client reaches the cluster of a storage.
struct RbdAccess {
  bool external = false;  ///< the section names monitors; else `conf` is that of this host's own cluster
  std::string conf;       ///< empty: none is read
  std::string keyring;    ///< empty: the storage has none of its own
  std::string user;       ///< without "client."
  std::vector<Portal> monhost;

  [[nodiscard]] std::string_view auth() const noexcept { return keyring.empty() ? "none" : "cephx"; }
};

/// Where the secrets of a storage are, if it has some.
inline std::string rbd_keyring_file(const StorageId& id, const OpenOptions& options) {
  return options.priv + "/ceph/" + id.str() + ".keyring";
}
inline std::string rbd_conf_file(const StorageId& id, const OpenOptions& options) {
  return options.priv + "/ceph/" + id.str() + ".conf";
}

inline RbdAccess rbd_access(const StorageId& id, const RbdConfig& config, const OpenOptions& options, bool has_keyring,
                            bool has_conf) {
  RbdAccess access;
  access.external = !config.monhost.empty();
  access.monhost = config.monhost;
  access.user = config.username.empty() ? "admin" : config.username;
  if (!access.external) access.conf = options.ceph_conf;
  if (access.external && has_conf) access.conf = rbd_conf_file(id, options);
  if (has_keyring) access.keyring = rbd_keyring_file(id, options);
  return access;
}

/// The monitors in one text: `,` between them for librados, `;` for QEMU.
inline std::string rbd_monhosts(const std::vector<Portal>& monitors, char separator) {
  std::string text;
  for (const Portal& monitor : monitors) {
    if (!text.empty()) text += separator;
    text += monitor.bracketed();
  }
  return text;
}

/// `POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]`, as `rbd` takes and prints it.
inline std::string rbd_spec(std::string_view pool, std::string_view name_space, std::string_view image,
                            std::string_view snapshot = {}) {
  std::string spec{pool};
  if (!name_space.empty()) spec.append("/").append(name_space);
  spec.append("/").append(image);
  if (!snapshot.empty()) spec.append("@").append(snapshot);
  return spec;
}

/// A file that librados will find a key in: a line `[entity]`, then among its lines `key = BASE64`. Only the form is
/// looked at, so that a mistake is told as such and not as a refused key.
constexpr bool is_rbd_keyring(std::string_view text) noexcept {
  bool in_section = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
    while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
    if (line.size() > 2 && line.front() == '[' && line.back() == ']') in_section = true;
    if (!in_section || !line.starts_with("key")) continue;
    line.remove_prefix(3);
    while (!line.empty() && (is_space(line.front()) || line.front() == '=')) line.remove_prefix(1);
    const bool base64 = all_of(line, [](char c) { return is_alnum(c) || c == '+' || c == '/' || c == '='; });
    if (base64 && line.size() >= 16) return true;
  }
  return false;
}

constexpr bool is_rbd_fsid(std::string_view text) noexcept {
  if (text.size() != 36) return false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool dash = at == 8 || at == 13 || at == 18 || at == 23;
    if (dash ? text[at] != '-' : !is_hex(text[at])) return false;
  }
  return true;
}

/// The kernel's device of a mapped image: Proxmox VE's udev rule makes the link.
/// Errors: corrupt (the fsid is none).
inline Result<std::string> krbd_device(std::string_view fsid, const RbdConfig& config, const VolumeName& volume,
                                       std::string_view snapshot = {}) {
  if (!is_rbd_fsid(fsid)) return fail(Errc::corrupt, "cluster fsid has invalid format: '" + std::string{fsid} + "'");
  return "/dev/rbd-pve/" + std::string{fsid} + "/" + rbd_spec(config.pool, config.name_space, volume.str(), snapshot);
}

/// A value inside QEMU's `rbd:` string, where these characters would end it.
inline std::string rbd_quoted(std::string_view value, std::string_view special = ":") {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || special.find(c) != special.npos) out += '\\';
    out += c;
  }
  return out;
}

/// The file string that QEMU opens an image by.
inline std::string rbd_path(const RbdAccess& access, const RbdConfig& config, const VolumeName& volume,
                            std::string_view snapshot = {}) {
  constexpr std::string_view special = ":@/";
  std::string path = "rbd:" + rbd_spec(rbd_quoted(config.pool, special), rbd_quoted(config.name_space, special),
                                       rbd_quoted(volume.str(), special), rbd_quoted(snapshot, special));
  if (!access.conf.empty()) path += ":conf=" + rbd_quoted(access.conf);
  if (access.external) {
    path += ":mon_host=" + rbd_quoted(rbd_monhosts(access.monhost, ';'));
    path.append(":auth_supported=").append(access.auth());
  }
  if (!access.keyring.empty()) path += ":id=" + rbd_quoted(access.user) + ":keyring=" + rbd_quoted(access.keyring);
  return path;
}

/// The same for `-blockdev`. It has no word for a keyring file: QEMU finds that by the `keyring` line of `conf`.
inline RbdNode rbd_node(const RbdAccess& access, const RbdConfig& config, const VolumeName& volume,
                        std::string_view snapshot = {}) {
  RbdNode node;
  node.pool = config.pool;
  node.name_space = config.name_space;
  node.image = volume.str();
  node.snapshot = snapshot;
  node.conf = access.conf;
  if (!access.keyring.empty()) node.user = access.user;
  if (access.external) {
    for (const Portal& monitor : access.monhost) {
      node.server.push_back({monitor.host(), monitor.port_text().empty() ? "3300" : monitor.port_text()});
    }
    node.auth_client_required.emplace_back(access.auth());
  }
  return node;
}

static_assert(is_rbd_keyring("[client.admin]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n"));
static_assert(!is_rbd_keyring("key = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n") && !is_rbd_keyring("[client.admin]\n"));
static_assert(is_rbd_fsid("12345678-1234-1234-1234-123456789abc") && !is_rbd_fsid("not-a-uuid"));

/// Without krbd, QEMU opens images itself, and takes the snapshots of a running guest's disks.
inline SnapshotMethod rbd_snapshot_method(const RbdConfig& config) noexcept {
  return config.krbd ? SnapshotMethod::storage : SnapshotMethod::qemu;
}

}  // namespace stowage::detail
