#pragma once
// A policy with the row of iscsidirect, whose LUNs are in memory: for tests of what a storage without provisioning can
// and cannot do, without a target.

#include <map>
#include <stowage/backend.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::testing {

/// LUN 1 and 2 have 16 MiB each; LUN 2 is write-protected.
class LunBackend {
 public:
  static constexpr const Features& features = iscsi_direct_row;
  struct Config {
    CommonConfig common{};
  };

  /// A LUN that can be opened for reading while it is open for writing, and knows that it is write-protected.
  class Device : public MemoryDevice {
   public:
    Device(MemoryDevice device, bool read_only) : MemoryDevice{std::move(device)}, read_only_{read_only} {}
    Result<void> write_at(Bytes at, std::span<const std::byte> data) {
      if (read_only_) return fail(Errc::permission_denied, "the LUN is write-protected");
      return MemoryDevice::write_at(at, data);
    }

   private:
    bool read_only_;
  };

  LunBackend() : LunBackend{Config{}} {}
  explicit LunBackend(Config config) : config_{std::move(config)} {
    for (const auto& [number, image] : luns_) {
      const CreateSpec spec{.vmid = VmId{100}, .size = 16_MiB};
      static_cast<void>(memory_.create(*VolumeName::parse(image), spec));
    }
  }
  static Result<LunBackend> open(const StorageId&, const Config& config, const OpenOptions&) {
    return LunBackend{config};
  }

  const Config& config() const noexcept { return config_; }
  Result<void> activate() { return {}; }
  Result<void> deactivate() { return {}; }
  Result<void> activate(const VolumeName& lun, const UseOptions& use = {}) {
    return check(use).and_then([&] { return image(lun); }).map([](const VolumeName&) {});
  }
  Result<void> deactivate(const VolumeName& lun) { return activate(lun); }
  Result<Status> status() const { return Status{.active = true}; }
  Result<std::vector<VolumeInfo>> list(const ListFilter& filter) const {
    std::vector<VolumeInfo> found;
    if (filter.vmid) return found;  // a LUN belongs to no guest
    for (const auto& [number, text] : luns_) found.push_back(*info(*VolumeName::parse(number)));
    return found;
  }
  Result<VolumeInfo> info(const VolumeName& lun) const {
    return image(lun).and_then([&](const VolumeName& v) { return memory_.info(v); }).map([&](const VolumeInfo& info) {
      return VolumeInfo{.name = lun, .size = info.size, .identity = "3" + info.identity};
    });
  }
  Result<std::string> path(const VolumeName& lun, const UseOptions& use) const {
    return check(use).map([&] { return "iscsi://10.0.0.1/iqn.a:1/" + lun.str().substr(3); });
  }
  Result<Blockdev> blockdev(const VolumeName&, const UseOptions& use) const {
    if (auto good = check(use); !good) return fail(std::move(good.error()));
    return Blockdev{IscsiNode{.portal = "10.0.0.1",
                              .target = "iqn.a:1",
                              .lun = 1,
                              .user = {},
                              .password_secret = {},
                              .initiator_name = {}},
                    std::nullopt};
  }
  Result<Device> open_volume(const VolumeName& lun, Access access) {
    return image(lun)
        .and_then([&](const VolumeName& v) { return memory_.open_volume(v, access); })
        .map([&](MemoryDevice&& device) {
          return Device{std::move(device), lun.str() == "lun2"};
        });
  }

 private:
  static Result<void> check(const UseOptions& use) {
    if (use.kernel) return fail(Errc::not_supported, "this storage type has no devices of the kernel");
    return {};
  }
  Result<VolumeName> image(const VolumeName& lun) const {
    const auto found = luns_.find(lun.str());
    if (found == luns_.end()) return fail(Errc::not_found, "the target has no " + lun.str());
    return VolumeName::parse(found->second);
  }

  Config config_;
  std::map<std::string, std::string> luns_{{"lun1", "vm-100-disk-1"}, {"lun2", "vm-100-disk-2"}};
  MemoryBackend memory_;
};

static_assert(audited<LunBackend>);

}  // namespace stowage::testing
