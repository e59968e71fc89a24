#pragma once
// Opening a volume: it is the one that was meant, and where it is opened for writing nobody else has it open.

#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_path.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The device of `lv` under its name is that volume and no other.
/// Errors: identity_changed.
inline Result<void> lvm_check_identity(const LvmVolume& lv, ::dev_t device) {
  const std::string wanted = lvm_device_uuid(lv);
  const std::string found = lvm_uuid_of(device);
  if (found == wanted) return {};
  return fail(Error{Errc::identity_changed, "/dev/" + lv.vg + "/" + lv.name + " is not the volume of this name: '" +
                                                found + "', expected '" + wanted + "'"}
                  .advise("is there another volume group of this name? see: vgs -o +vg_uuid"));
}

/// How many files of this process are the device.
inline int lvm_own_files(::dev_t device) {
  int count = 0;
  for (const std::string& fd : names_in("/proc/self/fd")) {
    struct ::stat about {};
    const bool is_device = ::stat(("/proc/self/fd/" + fd).c_str(), &about) == 0 && S_ISBLK(about.st_mode);
    if (is_device && about.st_rdev == device) ++count;
  }
  return count;
}

/// Who has the volume open besides one open file of ours.
template <CommandRunner Runner>
std::vector<std::string> lvm_other_users(const LvmTools<Runner>& tools, const std::string& name, ::dev_t device) {
  std::vector<std::string> users = lvm_users(tools, {name});
  const std::string self = "process " + std::to_string(::getpid()) + " ";
  if (lvm_own_files(device) < 2) std::erase_if(users, [&](const std::string& user) { return user.starts_with(self); });
  return users;
}

/// Nobody has the volume open besides `device`, which was opened with a claim: a claim keeps other claims away, but
/// QEMU makes none. udev, which looks into a device that was just written to or renamed, is waited for, up to 3 s;
/// others are named. (A process that opens it later, without a claim, is not kept away by anything.) Errors: in_use,
/// unavailable.
template <CommandRunner Runner>
Result<void> lvm_check_alone(const LvmTools<Runner>& tools, const std::string& name, const KernelDevice& device) {
  constexpr std::chrono::milliseconds patience{3000};
  const auto openers = [&] {
    const auto mapped = lvm_mapped({}, device.number());
    return mapped ? mapped->openers : 0;
  };
  std::vector<std::string> users;
  const auto settled = [&] {
    if (openers() <= 1) return true;
    users = lvm_other_users(tools, name, device.number());
    return !users.empty();
  };
  static_cast<void>(wait_until(settled, std::chrono::steady_clock::now() + patience, tools.options().stop));
  const int now = openers();
  if (now == 1) return {};
  if (now > 1) return fail(Errc::in_use, "'" + tools.spec(name) + "' is " + in_use_by(users));
  return fail(Errc::unavailable, "the kernel does not report who has '" + tools.spec(name) + "' open");
}

/// Opens one logical volume, which is activated for it and stays so. For writing it is claimed, and nobody else has it
/// open. Errors: in_use (and who has it open), identity_changed, unavailable.
template <CommandRunner Runner>
Result<KernelDevice> lvm_open(const LvmTools<Runner>& tools, const LvmVolume& lv, Access access) {
  if (auto active = lvm_make_active(tools, lv); !active) return fail(std::move(active.error()));
  const std::string path = tools.device(lv.name);
  auto device = KernelDevice::open(path, access, tools.spec(lv.name));
  if (!device) {
    if (device.error().code() != Errc::in_use) return device;
    return lvm_in_use(tools, lv.name);
  }
  if (auto same = lvm_check_identity(lv, device->number()); !same) return fail(std::move(same.error()));
  if (access == Access::read_only) return device;
  if (auto alone = lvm_check_alone(tools, lv.name, *device); !alone) return fail(std::move(alone.error()));
  return device;
}

/// An open volume, and what only its pool knows of it.
struct LvmOpened {
  KernelDevice device;
  Bytes unzeroed_chunk{};  ///< of a pool that gives out chunks as they are
  Bytes zeroed_chunk{};    ///< of one that zeroes them first
};

/// The pool's chunk, if it zeroes new ones or not; otherwise zero.
inline Bytes lvm_chunk(const LvmView& view, bool zeroed) {
  const auto pool = view.pool();
  return pool && (*pool)->zeroes() == zeroed ? (*pool)->chunk : Bytes{};
}

template <CommandRunner Runner>
Result<LvmOpened> lvm_open_found(const LvmTools<Runner>& tools, const LvmFound& found, Access access) {
  return lvm_open(tools, *found.lv, access).map([&](KernelDevice&& device) {
    return LvmOpened{std::move(device), lvm_chunk(found.view, false), lvm_chunk(found.view, true)};
  });
}

template <CommandRunner Runner>
Result<LvmOpened> lvm_open_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                    const SnapshotName& snapshot) {
  return lvm_find(tools, volume, snapshot).and_then([&](const LvmFound& found) {
    return lvm_open_found(tools, found, Access::read_only);
  });
}

}  // namespace stowage::detail
