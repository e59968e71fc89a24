#pragma once
// The LUNs of a target: what its sessions see of the same LUN taken together, and whether a LUN is the one that a
// volume name means.

#include <algorithm>
#include <optional>
#include <span>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The device that multipath has made of a path, "dm-0"; empty when there is none. LVM and md also hold disks, but they
/// are users of a LUN, not the LUN.
inline std::string multipath_of(const OpenIscsiHost& host, const std::string& disk) {
  for (const std::string& holder : names_in(host.kernel.sys + "/block/" + disk + "/holders")) {
    if (attribute(host.kernel.sys + "/block/" + holder + "/dm/uuid").starts_with("mpath-")) return holder;
  }
  return {};
}

/// A LUN of a target.
struct KernelLun {
  struct Path {
    KernelDisk disk;
    std::string portal;
    bool session_up = false;

    [[nodiscard]] bool usable() const noexcept {
      return session_up && disk.state == "running" && !disk.name.empty() && disk.size.count > 0;
    }
  };

  std::string address;
  std::vector<Path> paths;
  std::string multipath;             ///< "dm-0"
  std::optional<std::string> by_id;  ///< the name that it is listed by; nothing while udev has none for it
  std::string linked;                ///< the device that this name leads to

  [[nodiscard]] std::string wwid() const { return paths.front().disk.wwid(); }
  [[nodiscard]] bool is_disk() const { return paths.front().disk.is_disk; }
  /// "0.0.1 (scsi-3600...)", for error texts.
  [[nodiscard]] std::string str() const { return by_id ? address + " (" + *by_id + ")" : address; }

  /// The devices that lead to it.
  [[nodiscard]] std::vector<std::string> devices() const {
    std::vector<std::string> all;
    if (!multipath.empty()) all.push_back(multipath);
    for (const Path& path : paths) {
      if (!path.disk.name.empty()) all.push_back(path.disk.name);
    }
    return all;
  }

  /// The device to read and write: that of multipath, else the path that the name leads to, else any that works. Empty
  /// when none does.
  [[nodiscard]] std::string device() const {
    std::string best;
    for (const Path& path : paths) {
      if (path.usable() && (best.empty() || path.disk.name == linked)) best = path.disk.name;
    }
    return best.empty() || multipath.empty() ? best : multipath;
  }
  /// Its size, as the device that is used has it.
  [[nodiscard]] Bytes size(const OpenIscsiHost& host) const {
    if (!multipath.empty()) return block_size_of(host, multipath);
    Bytes size{};
    for (const Path& path : paths) {
      if (size.count == 0 || path.disk.name == linked) size = path.disk.size;
    }
    return size;
  }
};

/// The LUNs that these sessions see, in the order of their addresses.
inline std::vector<KernelLun> group_luns(const OpenIscsiHost& host, std::span<const KernelSession> sessions) {
  std::vector<KernelLun> luns;
  for (const KernelSession& session : sessions) {
    for (const KernelDisk& disk : session.disks) {
      auto lun = std::find_if(luns.begin(), luns.end(), [&](const KernelLun& l) { return l.address == disk.address; });
      if (lun == luns.end()) lun = luns.insert(lun, KernelLun{disk.address, {}, {}, {}, {}});
      lun->paths.push_back({disk, session.portal, session.up()});
      if (lun->multipath.empty() && !disk.name.empty()) lun->multipath = multipath_of(host, disk.name);
    }
  }
  const std::vector<ByIdLink> links = read_by_id(host);
  for (KernelLun& lun : luns) {
    lun.by_id = stable_name(links, lun.devices(), lun.wwid());
    if (lun.by_id) lun.linked = link_name(host.by_id + "/" + *lun.by_id);
  }
  std::sort(luns.begin(), luns.end(), [](const KernelLun& a, const KernelLun& b) { return a.address < b.address; });
  return luns;
}

/// Whether udev names a device after another LUN than it is now: what udev knows of it is of the one that had its
/// place.
inline bool named_after_another(std::span<const ByIdLink> links, std::string_view device,
                                std::span<const std::string> serials) {
  return std::any_of(links.begin(), links.end(), [&](const ByIdLink& link) {
    const bool by_wwid = link.name.starts_with("scsi-3") || link.name.starts_with("dm-uuid-mpath-3");
    return link.device == device && by_wwid && !is_partition_name(link.name) &&
           can_be_named(serials, link.name) == false;
  });
}

/// The link `by_id` leads to a LUN.
inline bool leads_to(const OpenIscsiHost& host, const std::string& by_id, const KernelLun& lun) {
  const std::vector<std::string> devices = lun.devices();
  return std::find(devices.begin(), devices.end(), link_name(path_of(host.by_id, by_id))) != devices.end();
}

/// A name without a serial number (`lvm-pv-uuid-...`, `dm-name-...`) means what udev's link of that name leads to, and
/// nothing without it.
/// Errors: not_found, when there is no such link; identity_changed, when it leads elsewhere, or when udev has seen only
/// the LUN that was there before.
inline Result<void> check_named_by_link(const OpenIscsiHost& host, const KernelLun& lun, const std::string& by_id) {
  const std::string link = path_of(host.by_id, by_id);
  const std::string to = link_name(link);
  if (to.empty()) {
    return fail(
        Error{Errc::not_found, "there is no " + link + ", and without it nothing tells which LUN that is"}.advise(
            "list the storage"));
  }
  if (!leads_to(host, by_id, lun)) {
    return fail(Error{Errc::identity_changed,
                      link + " leads to " + to + ", which is not LUN " + lun.address + " of this target"}
                    .advise("list the storage"));
  }
  const std::vector<ByIdLink> links = read_by_id(host);
  const std::vector<std::string> devices = lun.devices();
  const auto stale = std::find_if(devices.begin(), devices.end(), [&](const std::string& device) {
    return named_after_another(links, device, lun.paths.front().disk.serials);
  });
  if (stale == devices.end()) return {};
  return fail(Error{Errc::identity_changed, "LUN " + lun.address + " on " + *stale + " is scsi-" + lun.wwid() +
                                                " now, and " + link + " is of the one before"}
                  .advise("list the storage: the target gave the LUN number to something else"));
}

/// All paths lead to one LUN, and it is the one that `name` tells: by the serial number in it, else by its link.
/// Errors: identity_changed; not_found (see `check_named_by_link`).
inline Result<void> check_identity(const OpenIscsiHost& host, const KernelLun& lun, const std::string& name) {
  const auto changed = [](std::string detail) {
    return fail(Error{Errc::identity_changed, std::move(detail)}.advise(
        "list the storage: the target gave the LUN number to something else"));
  };
  for (const KernelLun::Path& path : lun.paths) {
    const KernelDisk& disk = path.disk;
    if (can_be_named(disk.serials, name) == false) {
      return changed("LUN " + lun.address + " on " + disk.name + " is " +
                     (disk.serials.empty() ? "without any serial number" : "scsi-" + disk.wwid()) + " now, not " +
                     name);
    }
    if (disk.wwid() != lun.wwid()) {
      return changed("the paths of LUN " + lun.address + " lead to different ones, " + lun.wwid() + " and " +
                     disk.wwid());
    }
  }
  return can_be_named(lun.paths.front().disk.serials, name) ? Result<void>{} : check_named_by_link(host, lun, name);
}

/// The LUN that a volume means, among those that are there.
/// Errors: not_found; identity_changed, when another LUN has its number, or it has another number.
inline Result<KernelLun> find_lun(const OpenIscsiHost& host, std::vector<KernelLun> luns, const LunName& wanted,
                                  const std::string& target) {
  const auto found =
      std::find_if(luns.begin(), luns.end(), [&](const KernelLun& l) { return l.address == wanted.address; });
  if (found == luns.end() || !found->is_disk()) {
    for (const KernelLun& lun : luns) {
      if (can_be_named(lun.paths.front().disk.serials, wanted.by_id).value_or(leads_to(host, wanted.by_id, lun))) {
        return fail(Errc::identity_changed, wanted.by_id + " is LUN " + lun.address + " now, not " + wanted.address);
      }
    }
    return fail(Errc::not_found, "target " + target + " has no disk at " + wanted.address);
  }
  const auto there = [](const KernelLun::Path& path) { return path.disk.size.count > 0; };
  if (std::none_of(found->paths.begin(), found->paths.end(), there)) {
    return fail(Errc::not_found, "target " + target + " has taken LUN " + wanted.address + " away");
  }
  // A path whose LUN is gone on this portal tells only what was.
  std::erase_if(found->paths, [&](const KernelLun::Path& path) { return !there(path); });
  if (auto good = check_identity(host, *found, wanted.by_id); !good) return fail(std::move(good.error()));
  return std::move(*found);
}

/// Where the name of a volume leads to now is its LUN.
/// Errors: unavailable, when udev has no such link, or the node that it leads to is not the disk (a file that somebody
/// made in its place); identity_changed, when it leads elsewhere.
inline Result<void> check_link(const OpenIscsiHost& host, const KernelLun& lun, const std::string& by_id) {
  const std::string to = link_name(host.by_id + "/" + by_id);
  if (to.empty()) {
    return fail(
        Error{Errc::unavailable, "there is no " + host.by_id + "/" + by_id + ", though the LUN is there"}.advise(
            "udevadm settle, then udevadm trigger --subsystem-match=block"));
  }
  if (leads_to(host, by_id, lun)) {
    const std::string node = path_of(host.kernel.dev, to);
    const std::string number = attribute(host.kernel.sys + "/block/" + to + "/dev");
    if (host.kernel.number_of(node) == number) return {};
    return fail(Error{Errc::unavailable, "'" + node + "' is not the device " + number + " of LUN " + lun.str()}.advise(
        "look at what it is, and remove it; then deactivate the storage, and activate it again"));
  }
  return fail(Error{Errc::identity_changed, host.by_id + "/" + by_id + " leads to " + to + ", which is not LUN " +
                                                lun.address + " of this target"}
                  .advise("another disk of this host has the same serial number"));
}

/// The size of all paths that work, while multipath still has another one: it keeps what it had until it is told.
inline std::optional<Bytes> outgrown_multipath(const OpenIscsiHost& host, const KernelLun& lun) {
  if (lun.multipath.empty()) return std::nullopt;
  Bytes size{};
  for (const KernelLun::Path& path : lun.paths) {
    if (!path.usable()) continue;
    if (size.count != 0 && size != path.disk.size) return std::nullopt;
    size = path.disk.size;
  }
  if (size.count == 0 || size == block_size_of(host, lun.multipath)) return std::nullopt;
  return size;
}

/// The name of its multipath device, "mpatha"; empty when it has none.
inline std::string multipath_name(const OpenIscsiHost& host, const KernelLun& lun) {
  return lun.multipath.empty() ? std::string{} : attribute(host.kernel.sys + "/block/" + lun.multipath + "/dm/name");
}

/// Has the kernel ask the target again who the LUN is and how large: what it knows is from when it saw the LUN first.
/// Errors: unavailable, when no path works; timed_out.
inline Result<void> refresh(const KernelLun& lun, std::chrono::milliseconds timeout) {
  std::string states;
  Result<void> answer;
  bool any = false;
  for (const KernelLun::Path& path : lun.paths) {
    if (!path.session_up || path.disk.state != "running") {
      states += (states.empty() ? "" : ", ") + path.disk.name + " at " + path.portal + " is " +
                (path.session_up ? path.disk.state : "without a session");
      continue;
    }
    auto asked = write_attribute(path.disk.folder + "/rescan", "1\n", timeout);
    any = any || asked.has_value();
    if (!asked) answer = std::move(asked);
  }
  if (any) return {};
  if (!answer) return answer;
  return fail(Errc::unavailable, "no path to LUN " + lun.address + " works: " + states);
}

}  // namespace stowage::detail
