#pragma once
// The LUNs of an iSCSI target as volumes, through libiscsi: no kernel initiator, no root, and no tool is run.

#include <cstdint>
#include <memory>
#include <optional>
#include <stowage/backend.hpp>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_device.hpp>
#include <stowage/backends/detail/iscsi_discovery.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/names.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// The policy for `iscsidirect`: every disk of the target is a volume, `lun<N>`. What is there is decided on the
/// target; here it is listed, read, written, and handed to QEMU.
///
/// Portals: `portal`, then `more_portals`; the one that answered last is tried first. Each has its share of the
/// timeout. CHAP: `PRIV/iscsi/<id>.chap`, read anew for each login, so that a changed secret needs no restart.
/// Initiator name: that of /etc/iscsi/initiatorname.iscsi, else `iqn.2008-11.org.linux-kvm:<host name>`.
class IscsiDirect {
 public:
  using Config = IscsiDirectConfig;
  using Device = IscsiDirectDevice;

  /// Contacts nobody. Errors: permission_denied, parse_failed (the CHAP file), invalid_argument (a port).
  [[nodiscard]] static Result<IscsiDirect> open(const StorageId& id, Config config, const OpenOptions& options) {
    for (const Portal& portal : config.more_portals) {
      if (auto good = portal.port_or(3260); !good) return fail(std::move(good.error()));
    }
    if (auto good = config.portal.port_or(3260); !good) return fail(std::move(good.error()));
    IscsiDirect storage{id, std::make_shared<const detail::IscsiConnector>(id, std::move(config), options)};
    if (auto good = storage.connector_->chap(); !good) return fail(std::move(good.error()));
    return storage;
  }

  /// The targets that a portal tells of (SendTargets), and at which portals they are; sorted. Asks for no secret.
  /// Errors: unavailable, timed_out, permission_denied.
  [[nodiscard]] static Result<std::vector<IscsiTarget>> scan(const Portal& portal, const OpenOptions& options = {}) {
    return detail::discover_targets(portal, options);
  }

  [[nodiscard]] const Config& config() const noexcept { return connector_->config(); }

  /// Logs in, to see that it can be done. Errors: unavailable, timed_out, permission_denied, not_found.
  Result<void> activate() const {
    return luns().map([](const auto&) {});
  }
  Result<void> deactivate() const {
    pool_->clear();
    return {};
  }

  /// Nothing has to be done to a LUN, but it has to be there. Errors: not_found, when it is not, or is no disk.
  Result<void> activate(const VolumeName& volume, const UseOptions& use = {}) const {
    return check(use).and_then([&] { return info(volume); }).map([](const VolumeInfo&) {});
  }
  Result<void> deactivate(const VolumeName& volume) const {
    return number_of(volume).map([](const Lun&) {});
  }

  /// Asks the target. A target has no size of its own, so there are no numbers.
  [[nodiscard]] Result<Status> status() const {
    return luns().map([](const auto&) {
      Status status;
      status.active = true;
      return status;
    });
  }

  /// The disks among the LUNs. One that does not answer well is left out, see `check`. A LUN has no owner: none is
  /// listed for a guest.
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    std::vector<VolumeInfo> volumes;
    if (filter.vmid) return volumes;
    const auto found = survey();
    if (!found) return fail(found.error());
    for (const detail::IscsiLun& lun : *found) {
      if (lun.inquiry.is_disk() && !lun.problem) volumes.push_back(described(lun));
    }
    return volumes;
  }

  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    const auto lun = number_of(volume);
    if (!lun) return fail(lun.error());
    return pool_->with_session([&](detail::IscsiSession& session) { return detail::find_disk(session, lun->number); })
        .map([](const detail::IscsiLun& disk) { return described(disk); });
  }

  /// `iscsi://PORTAL/TARGET/LUN`. Errors: permission_denied, when the storage has CHAP: the secret would stand in it.
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& use = {}) const {
    if (auto good = check(use); !good) return fail(std::move(good.error()));
    const auto lun = number_of(volume);
    if (!lun) return fail(lun.error());
    const auto chap = connector_->chap();
    if (!chap) return fail(chap.error());
    if (*chap) {
      return fail(Error{Errc::permission_denied, "the target wants CHAP, and a path would hold the secret"}.advise(
          "use blockdev"));
    }
    return detail::iscsi_url(config().portal, config().target, lun->digits, lun->number);
  }

  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& use = {}) const {
    if (auto good = check(use); !good) return fail(std::move(good.error()));
    const auto lun = number_of(volume);
    if (!lun) return fail(lun.error());
    auto chap = connector_->chap();
    if (!chap) return fail(std::move(chap.error()));
    IscsiNode node{
        detail::iscsi_portal(config().portal), config().target.str(), detail::iscsi_wire_lun(lun->number), {}, {}, {}};
    std::optional<QemuSecret> secret;
    if (*chap) {
      node.user = (*chap)->user;
      node.password_secret = "stowage-" + id_.str() + "-chap";
      node.initiator_name = connector_->initiator();
      secret = QemuSecret{node.password_secret, std::move((*chap)->password)};
    }
    return Blockdev{std::move(node), std::move(secret)};
  }

  /// Errors: not_found, permission_denied (write-protected), not_supported (sectors of 520 bytes and the like).
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) const {
    const auto lun = number_of(volume);
    if (!lun) return fail(lun.error());
    return Device::open(connector_, lun->number, access);
  }

  /// The LUNs that do not answer well.
  [[nodiscard]] Result<std::vector<Finding>> check() const {
    const auto found = survey();
    if (!found) return fail(found.error());
    std::vector<Finding> findings;
    for (const detail::IscsiLun& lun : *found) {
      if (!lun.inquiry.is_disk() || !lun.problem) continue;
      findings.push_back({"lun" + std::to_string(lun.number), lun.problem->detail(), "look at the LUN on the target"});
    }
    return findings;
  }

 private:
  struct Lun {
    std::string digits;
    std::uint16_t number = 0;
  };

  IscsiDirect(StorageId id, std::shared_ptr<const detail::IscsiConnector> connector)
      : id_{std::move(id)}, connector_{std::move(connector)}, pool_{std::make_unique<detail::IscsiPool>(connector_)} {}

  static Result<void> check(const UseOptions& use) {
    if (!use.kernel) return {};
    return fail(Error{Errc::not_supported, "this storage type has no devices of the kernel"}.advise(
        "a storage of type iscsi has them, for the same target"));
  }

  static Result<Lun> number_of(const VolumeName& volume) {
    auto parts = parse_volume_name(StorageType::iscsidirect, volume);
    if (!parts) return fail(std::move(parts.error()));
    const auto number = detail::iscsi_lun_from(parts->name);
    if (!number) return fail(number.error());
    return Lun{std::move(parts->name), *number};
  }

  static VolumeInfo described(const detail::IscsiLun& lun) {
    VolumeInfo info{.name = *VolumeName::parse("lun" + std::to_string(lun.number))};
    info.size = lun.capacity.size;
    info.identity = lun.wwid;
    return info;
  }

  [[nodiscard]] Result<std::vector<std::uint16_t>> luns() const {
    return pool_->with_session([](detail::IscsiSession& session) { return detail::report_luns(session); });
  }
  [[nodiscard]] Result<std::vector<detail::IscsiLun>> survey() const {
    return pool_->with_session([](detail::IscsiSession& session) -> Result<std::vector<detail::IscsiLun>> {
      const auto wire = detail::report_luns(session);
      if (!wire) return fail(wire.error());
      return detail::LunSurvey::take(session, *wire);
    });
  }

  StorageId id_;
  std::shared_ptr<const detail::IscsiConnector> connector_;  // shared with devices, which may outlive us
  std::unique_ptr<detail::IscsiPool> pool_;
};

static_assert(audited<IscsiDirect>);

}  // namespace stowage
