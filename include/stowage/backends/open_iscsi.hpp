#pragma once
// The LUNs of an iSCSI target as volumes, through the kernel: iscsiadm for discovery and sessions, sysfs and udev for
// the disks.

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <stowage/backend.hpp>
#include <stowage/backends/detail/open_iscsi_login.hpp>
#include <stowage/backends/detail/open_iscsi_lun.hpp>
#include <stowage/backends/detail/open_iscsi_quiet.hpp>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/backends/detail/open_iscsi_tool.hpp>
#include <stowage/backends/detail/target_list.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/io/kernel_users.hpp>
#include <stowage/process/posix_runner.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// A way to a target: a portal, its session, and the LUNs as this session sees them.
struct IscsiPath {
  struct Lun {
    std::string address;  ///< "0.0.1", as its volume begins
    std::string device;   ///< "sdb"
    std::string state;    ///< "running", or why it cannot be used
  };
  std::string portal;   ///< "10.0.0.1:3260"
  std::string session;  ///< its number; empty when there is none
  std::string state;    ///< "LOGGED_IN", "FAILED", "FREE", or "no session"
  std::vector<Lun> luns;

  [[nodiscard]] bool up() const { return state == "LOGGED_IN"; }
};

/// The policy for `iscsi`: every disk of the target is a volume, `<channel>.<id>.<lun>.<name in /dev/disk/by-id>`. What
/// is there is decided on the target; here it is logged in to, listed, read and written.
///
/// Portals: all that the target tells of, and all that have a node record. One that does not answer is told by
/// `status().health`; it takes all of them to make an error.
/// Identity: before a LUN is activated or opened, the kernel asks the target again who it is (page 0x83). A LUN that is
/// not the one of the volume's name is refused. A name without a serial number (`lvm-pv-uuid-...`) is what udev's link
/// of that name leads to: without it there is no such volume.
/// CHAP: `PRIV/iscsi/<id>.chap`, read anew for each login, and written into the node records, mode 0600.
template <class Runner>
class BasicOpenIscsi {
  static_assert(CommandRunner<Runner>);

 public:
  using Config = OpenIscsiConfig;
  using Device = KernelDevice;

  /// Contacts nobody. Errors: invalid_argument (the portal's port, the target's name), permission_denied, parse_failed
  /// (the CHAP file).
  [[nodiscard]] static Result<BasicOpenIscsi> open(const StorageId& id, Config config, const OpenOptions& options,
                                                   Runner runner = {}, detail::OpenIscsiHost host = {}) {
    if (auto good = config.portal.port_or(3260); !good) return fail(std::move(good.error()));
    // It becomes a folder of node records, and a word of what iscsiadm prints.
    if (!detail::all_of(config.target.str(), [](char c) { return c != '/' && !detail::is_space(c); })) {
      return fail(Errc::invalid_argument, "open-iscsi cannot hold a target named '" + config.target.str() + "'");
    }
    BasicOpenIscsi storage{id, std::move(config), options, std::move(runner), std::move(host)};
    if (auto good = storage.login_->chap(); !good) return fail(std::move(good.error()));
    return storage;
  }

  /// The targets that a portal tells of (SendTargets), and at which portals they are; sorted. Leaves no node records.
  /// Errors: unavailable (also: iscsid does not run), timed_out, permission_denied.
  [[nodiscard]] static Result<std::vector<IscsiTarget>> scan(const Portal& portal, const OpenOptions& options = {},
                                                             Runner runner = {}, detail::OpenIscsiHost host = {}) {
    const detail::Iscsiadm<Runner> tool{std::move(runner), std::move(host), options.timeout, options.stop};
    return tool.discover(portal).map([](const std::vector<detail::IscsiRecord>& records) {
      detail::IscsiTargetList targets;
      for (const detail::IscsiRecord& record : records) targets.add(record.target, record.portal.str());
      return std::move(targets).sorted();
    });
  }

  [[nodiscard]] const Config& config() const noexcept { return config_; }

  /// Logs in by every portal that has no session yet, and waits until the kernel has found the LUNs and udev has named
  /// them. With all sessions there: looks for new LUNs and sizes, at most every ten seconds. Programs of this host log
  /// in to a target one after the other.
  /// Errors: unavailable (no portal lets us in; iscsid, the kernel module or open-iscsi is missing), permission_denied
  /// (CHAP; not root), not_found (no such target), timed_out.
  /// Blocks: on whoever is logging in, discovery, each login attempt, the kernel and udev, each at most
  /// `OpenOptions::timeout`.
  Result<void> activate() const { return login_->activate(); }
  /// Logs out by all portals. Does nothing when a LUN of the target is in use, also by another storage or by hand.
  /// Errors: in_use (the users of each LUN are named), timed_out, unavailable.
  Result<void> deactivate() const { return login_->deactivate(); }

  /// The LUN is there, it is the one of the name, its size is the current one (under multipath, as far as multipathd
  /// takes it: see `check`), and its path leads to it.
  /// Errors: not_found, identity_changed, unavailable (no session; no path works; udev has not named it), timed_out.
  Result<void> activate(const VolumeName& volume, const UseOptions& = {}) const {
    return verified(volume).and_then([&](const detail::KernelLun& lun) {
      return detail::check_link(host(), lun, detail::split_lun_name(volume.str()).by_id);
    });
  }
  /// A LUN is there as long as the sessions are. Nothing is done.
  Result<void> deactivate(const VolumeName&) const { return {}; }

  /// Active: a session is logged in. A target has no size of its own, so there are no numbers.
  /// Health: portals without a session, sessions and paths that do not work, an iscsid that does not run.
  [[nodiscard]] Result<Status> status() const {
    Status status;
    const auto sessions = login_->sessions();
    const auto records = login_->own_records();
    if (!records) status.health.push_back(records.error().message());
    for (const detail::KernelSession& session : sessions) {
      status.active = status.active || session.up();
      if (!session.up()) {
        status.health.push_back("session " + session.number + " to " + session.portal + " is " + session.state);
        continue;
      }
      for (const detail::KernelDisk& disk : session.disks) {
        if (!disk.is_disk || disk.state == "running") continue;
        status.health.push_back("LUN " + disk.address + " at " + session.portal + " is " + disk.state);
      }
    }
    if (sessions.empty()) return status;
    if (records) {
      for (const std::string& portal : login_->without_session(*records, sessions)) {
        status.health.push_back("portal " + portal + " has no session");
      }
    }
    if (!detail::iscsid_listens(host())) {
      status.health.emplace_back("iscsid does not run: a session that is lost will not come back");
    }
    return status;
  }

  /// Every portal of the target with its session and what this sees.
  [[nodiscard]] Result<std::vector<IscsiPath>> paths() const {
    const auto records = login_->own_records();
    if (!records) return fail(records.error());
    std::vector<IscsiPath> paths;
    const auto sessions = login_->sessions();
    for (const detail::KernelSession& session : sessions) {
      IscsiPath path{session.portal, session.number, session.state, {}};
      for (const detail::KernelDisk& disk : session.disks) {
        if (disk.is_disk) path.luns.push_back({disk.address, disk.name, disk.state});
      }
      paths.push_back(std::move(path));
    }
    for (std::string& portal : login_->without_session(*records, sessions)) {
      paths.push_back({std::move(portal), {}, "no session", {}});
    }
    return paths;
  }

  /// Looks for new LUNs and new sizes in the sessions of this target, and forgets LUNs that are gone or that another
  /// one has taken the number of, unless somebody uses them: these stay, see `check`.
  /// Errors: unavailable, timed_out; command_failed (multipathd does not take a new size; all else is done).
  Result<void> rescan() const { return login_->rescan(); }

  /// The disks among the LUNs that udev has named. A LUN has no owner: none is listed for a guest.
  /// Errors: unavailable, when no session is there: a storage that is not active has no LUNs to show.
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    std::vector<VolumeInfo> volumes;
    if (filter.vmid) return volumes;
    const auto all = luns();
    if (!all) return fail(all.error());
    for (const detail::KernelLun& lun : *all) {
      if (!lun.is_disk() || !lun.by_id || lun.size(host()).count == 0) continue;
      if (const auto name = VolumeName::parse(lun.address + "." + *lun.by_id)) volumes.push_back(described(*name, lun));
    }
    return volumes;
  }

  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    return find(volume).map([&](const detail::KernelLun& lun) { return described(volume, lun); });
  }

  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& = {}) const {
    return host().by_id + "/" + detail::split_lun_name(volume.str()).by_id;
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& = {}) const {
    return path(volume).map([](std::string&& path) { return Blockdev{HostDeviceNode{std::move(path)}, std::nullopt}; });
  }

  /// Through multipath where there is one, else by the best path.
  /// For writing, nobody else of this host may use the LUN: it is claimed, and then looked at who has it open without a
  /// claim. Another process can still open it after that look, and those of other hosts are not seen.
  /// Errors: those of `activate`; in_use (for writing: what is built on the LUN or mounted from it, and the processes
  /// that have it open, are named), permission_denied (write-protected); cancelled.
  /// Blocks: as `activate`; for writing up to 3 s more while somebody has it open, as udev has after each change.
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) const {
    auto lun = find(volume);
    if (!lun) return fail(std::move(lun.error()));
    if (access == Access::read_write) {
      if (auto good = check_writable(*lun); !good) return fail(std::move(good.error()));
    }
    // First open, then ask who it is: what is open keeps its number.
    Result<Device> device = open_device(*lun, access, volume.str());
    if (!device) return device;
    lun = verified(volume);
    if (!lun) return fail(std::move(lun.error()));
    const std::string number = detail::number_text(device->number());
    for (const std::string& name : lun->devices()) {
      if (detail::attribute(host().kernel.sys + "/block/" + name + "/dev") != number) continue;
      if (access == Access::read_write) {
        auto alone = detail::check_no_other_user(host(), *lun, device->native(), stop_);
        if (!alone) return fail(std::move(alone.error()));
      }
      return device->refresh_size().map([&](Bytes) { return *std::move(device); });
    }
    return fail(Errc::identity_changed, "LUN " + lun->str() + " became another device while it was opened");
  }

  /// LUNs that are not as they should be.
  [[nodiscard]] Result<std::vector<Finding>> check() const {
    const auto all = luns();
    if (!all) return fail(all.error());
    std::vector<Finding> findings;
    for (const detail::KernelLun& lun : *all) {
      if (!lun.is_disk()) continue;
      const std::string object = "LUN " + lun.address;
      if (lun.size(host()).count == 0) {
        findings.push_back({object, "the target has taken it away, or does not let it be read",
                            "end its users, then activate the storage"});
      } else if (!lun.by_id) {
        findings.push_back({object, "udev has no name for it in " + host().by_id, "look at its VPD page 0x83"});
      } else if (auto good = detail::check_identity(host(), lun, *lun.by_id); !good) {
        findings.push_back({object, good.error().detail(), "end its users, then activate the storage"});
      } else if (lun.paths.size() > 1 && lun.multipath.empty()) {
        findings.push_back({object, std::to_string(lun.paths.size()) + " paths, but no multipath device over them",
                            "set up multipathd, else one path is used and the others do not help"});
      } else if (const auto size = detail::outgrown_multipath(host(), lun)) {
        const std::string map = detail::multipath_name(host(), lun);
        findings.push_back({object,
                            "multipath device " + map + " has " + std::to_string(lun.size(host()).count) +
                                " bytes, its paths have " + std::to_string(size->count),
                            "multipathd resize map " + map});
      }
    }
    return findings;
  }

 private:
  BasicOpenIscsi(const StorageId& id, Config config, const OpenOptions& options, Runner runner,
                 detail::OpenIscsiHost host)
      : config_{std::move(config)},
        timeout_{options.timeout},
        stop_{options.stop},
        login_{std::make_unique<const detail::OpenIscsiLogin<Runner>>(id, config_, options, std::move(runner),
                                                                      std::move(host))} {}

  [[nodiscard]] const detail::OpenIscsiHost& host() const noexcept { return login_->host(); }
  [[nodiscard]] Result<std::vector<detail::KernelLun>> luns() const {
    const auto sessions = login_->sessions();
    if (!sessions.empty()) return detail::group_luns(host(), sessions);
    return fail(
        Error{Errc::unavailable, "not logged in to " + config_.target.str()}.advise("activate the storage first"));
  }
  [[nodiscard]] Result<detail::KernelLun> find(const VolumeName& volume) const {
    return luns().and_then([&](std::vector<detail::KernelLun>&& all) {
      return detail::find_lun(host(), std::move(all), detail::split_lun_name(volume.str()), config_.target.str());
    });
  }
  /// The LUN of a volume, as the target describes it now: what the kernel knew may be of another one.
  [[nodiscard]] Result<detail::KernelLun> verified(const VolumeName& volume) const {
    const auto all = luns();
    if (!all) return fail(all.error());
    for (const detail::KernelLun& lun : *all) {
      if (lun.address != detail::split_lun_name(volume.str()).address) continue;
      if (auto asked = detail::refresh(lun, timeout_); !asked) return fail(std::move(asked.error()));
    }
    auto found = find(volume);
    // What multipath does not take leaves it with its old size, which harms nobody. `check` tells of it.
    if (found) static_cast<void>(login_->fit_multipath(*found));
    return found;
  }

  [[nodiscard]] VolumeInfo described(const VolumeName& name, const detail::KernelLun& lun) const {
    VolumeInfo info{.name = name};
    info.size = lun.size(host());
    info.identity = lun.wwid();
    return info;
  }

  [[nodiscard]] Result<void> check_writable(const detail::KernelLun& lun) const {
    for (const detail::KernelLun::Path& path : lun.paths) {
      if (path.disk.read_only) return fail(Errc::permission_denied, "LUN " + lun.str() + " is write-protected");
    }
    detail::DeviceUsers users{host().kernel};
    for (const std::string& device : lun.devices()) users.add_holders_and_mounts(device);
    return users.list().empty() ? Result<void>{} : in_use(lun, users.list());
  }
  static tl::unexpected<Error> in_use(const detail::KernelLun& lun, const std::vector<std::string>& users) {
    return fail(Errc::in_use, "LUN " + lun.str() + " is " + detail::in_use_by(users), native_errno(EBUSY));
  }
  [[nodiscard]] Result<Device> open_device(const detail::KernelLun& lun, Access access, const std::string& name) const {
    const std::string device = lun.device();
    if (device.empty()) return fail(Errc::unavailable, "no path to LUN " + lun.str() + " works");
    auto opened = Device::open(host().kernel.dev + "/" + device, access, name);
    const bool busy = !opened && opened.error().native() == native_errno(EBUSY);
    if (busy) return in_use(lun, detail::device_users(host().kernel, lun.devices()));
    return opened;
  }

  Config config_;
  std::chrono::milliseconds timeout_;
  std::stop_token stop_;
  std::unique_ptr<const detail::OpenIscsiLogin<Runner>> login_;
};

using OpenIscsi = BasicOpenIscsi<PosixRunner>;

static_assert(audited<OpenIscsi>);

}  // namespace stowage
