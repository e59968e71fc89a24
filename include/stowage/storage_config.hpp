#pragma once
// What a storage needs to be opened: the properties of its section in storage.cfg, and the options of the program.

#include <chrono>
#include <optional>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/core/lock_folder.hpp>
#include <stowage/core/net.hpp>
#include <stowage/features.hpp>
#include <string>
#include <variant>
#include <vector>

namespace stowage {

/// Properties that every type has.
struct CommonConfig {
  FlagSet<Content> content{Content::images};
  std::vector<std::string> nodes;  ///< empty: all nodes
  bool disable = false;
  std::string bwlimit;
};

/// What datacenter.cfg says of all storages.
struct DatacenterConfig {
  std::string bwlimit;  ///< for what the `bwlimit` of a storage does not speak of
};

/// `lvmthin`: a thin pool of LVM.
struct LvmThinConfig {
  std::string vgname;
  std::string thinpool;
  CommonConfig common{.content = {Content::images, Content::rootdir}, .nodes = {}, .disable = false, .bwlimit = {}};
};

/// `iscsi`: the LUNs of a target, through the kernel.
struct OpenIscsiConfig {
  Portal portal;
  Iqn target;
  CommonConfig common{};
};

/// `iscsidirect`: the LUNs of a target, without the kernel.
struct IscsiDirectConfig {
  Portal portal;
  Iqn target;
  std::vector<Portal> more_portals{};  ///< tried in this order when `portal` does not answer; not in storage.cfg
  CommonConfig common{};
};

/// `rbd`: a pool of a Ceph cluster, or a namespace of it.
struct RbdConfig {
  std::string pool = "rbd";
  std::string data_pool{};         ///< where the data goes, often erasure coded; empty: into `pool`
  std::string name_space{};        ///< empty: the pool's own
  std::vector<Portal> monhost{};   ///< empty: the cluster of `OpenOptions::ceph_conf`, "managed"
  std::string username = "admin";  ///< without "client."
  bool krbd = false;               ///< volumes are handed out as kernel devices
  CommonConfig common{};
};

/// The section of any type.
using AnyConfig = std::variant<LvmThinConfig, OpenIscsiConfig, IscsiDirectConfig, RbdConfig>;

/// The row of the type that a configuration is for.
constexpr const Features& features_for(const LvmThinConfig&) noexcept { return lvm_thin_row; }
constexpr const Features& features_for(const OpenIscsiConfig&) noexcept { return open_iscsi_row; }
constexpr const Features& features_for(const IscsiDirectConfig&) noexcept { return iscsi_direct_row; }
constexpr const Features& features_for(const RbdConfig&) noexcept { return rbd_row; }
inline const Features& features_for(const AnyConfig& config) noexcept {
  return std::visit([](const auto& c) -> const Features& { return features_for(c); }, config);
}
inline const CommonConfig& common(const AnyConfig& config) noexcept {
  return std::visit([](const auto& c) -> const CommonConfig& { return c.common; }, config);
}

/// How full a thin pool may become, in percent of it: what would pass a limit is refused with `no_space`. Zero is no
/// limit, the default.
struct ThinLimits {
  unsigned data = 0;         ///< of the pool's data that is written; an import counts as written to its end
  unsigned metadata = 0;     ///< of its metadata
  unsigned provisioned = 0;  ///< of its size that volumes and snapshots may grow to: 100 is no overcommitment
};

/// Where those take turns who change which volumes a storage has. Default: nobody else does.
struct StorageLocks {
  std::string cluster{};  ///< of storages that the nodes of a cluster share: the folder of the cluster's locks
  std::string host{};     ///< of storages that this host has alone: the folder of lock files
  /// How long to wait for others.
  std::chrono::milliseconds wait{10'000};
  /// How long the cluster's are ours once they are.
  ClusterLease lease{};
  /// Ends the waiting only; a verb that has begun goes on. Default: `OpenOptions::stop`.
  std::stop_token stop{};
};

/// What the program, not the configuration, decides about a storage.
struct OpenOptions {
  /// The deadline of one answer: of a connect, of a monitor, OSD or target.
  std::chrono::milliseconds timeout{10'000};
  /// Asks every verb to stop as soon as that leaves nothing half-done.
  std::stop_token stop{};
  /// Where keyrings and secrets are: `ceph/<id>.keyring`, `ceph/<id>.conf`, `iscsi/<id>.chap`.
  std::string priv = "/etc/pve/priv";
  /// The configuration of the cluster that an rbd storage without `monhost` belongs to.
  std::string ceph_conf = "/etc/pve/ceph.conf";
  /// The locks that `create`, `remove`, `rename`, `clone` and `make_template` take, for short: see `Storage`. Nothing:
  /// `open_storage` takes those of `pvesm` for a configuration on /etc/pve; whoever opens a storage without one, none.
  std::optional<StorageLocks> locks{};
  /// For lvmthin: new volumes, clones, imports and rollbacks.
  ThinLimits limits{};
  /// For lvmthin: how many bytes a second a removal discards. Zero: as fast as it goes.
  Bytes discard_rate{};
  /// Where verbs of several steps on this host lock their volume, and a login its target: a folder of this user's, mode
  /// 0700, that is made if it is missing. All programs that use a storage on this host must have the same.
  std::string lock_folder = default_lock_folder();
};

}  // namespace stowage
