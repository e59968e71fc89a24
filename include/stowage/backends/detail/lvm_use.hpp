#pragma once
// Active or not, open or not: what stands between a volume of LVM and its bytes.

#include <sys/types.h>
#include <chrono>
#include <stowage/backends/detail/lvm_holders.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Our pool, as it is now: one process.
template <CommandRunner Runner>
Result<LvmView> lvm_view(const LvmTools<Runner>& tools) {
  return tools.report().map([&](LvmReport report) { return LvmView{std::move(report), tools.config().thinpool}; });
}

/// `vg/a`, `vg/b` ... behind the arguments of a tool.
template <CommandRunner Runner>
std::vector<std::string> lvm_with(const LvmTools<Runner>& tools, std::vector<std::string> arguments,
                                  const std::vector<std::string>& names) {
  for (const std::string& name : names) arguments.push_back(tools.spec(name));
  return arguments;
}

/// Activates what is inactive, with -K: snapshots and templates have the flag that lets others skip them. Then looks
/// whether it is active. Errors: unavailable.
template <CommandRunner Runner>
Result<void> lvm_activate(const LvmTools<Runner>& tools, const std::string& name) {
  const std::string doing = "activating '" + tools.spec(name) + "'";
  if (auto done = tools.change("lvchange", {"-ay", "-K", tools.spec(name)}, doing); !done) return done;
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const LvmVolume* lv = view->report().find(name);
  if (lv != nullptr && lv->active()) return {};
  return fail(Error{Errc::unavailable, doing + ": lvchange found nothing wrong, but it is not active"}.advise(
      "look at activation/volume_list and auto_activation_volume_list in lvm.conf"));
}

template <CommandRunner Runner>
Result<void> lvm_deactivate(const LvmTools<Runner>& tools, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  auto done = tools.change("lvchange", lvm_with(tools, {"-an"}, names), "deactivating '" + names.front() + "'");
  if (done || done.error().code() != Errc::in_use) return done;
  std::string who;
  for (const std::string& name : names) {
    if (const auto device = lvm_device_number(tools.device(name))) who += lvm_holders(*device);
  }
  if (who.empty()) return done;
  return fail(Errc::in_use, "'" + names.front() + "' is open: " + who, done.error().native());
}

template <CommandRunner Runner>
tl::unexpected<Error> lvm_in_use(const LvmTools<Runner>& tools, const std::string& name) {
  const auto device = lvm_device_number(tools.device(name));
  const std::string who = device ? lvm_holders(*device) : std::string{};
  return fail(Errc::in_use,
              "'" + tools.spec(name) + "' is open" + (who.empty() ? ", nobody can tell by whom" : ": " + who));
}

/// Nobody has the volume open that `view` tells of; one that is not there nobody has. udev looks into a device that was
/// just written to, for some milliseconds: it is waited for, others are named. Errors: in_use.
template <CommandRunner Runner>
Result<void> lvm_free(const LvmTools<Runner>& tools, const LvmView& view, const std::string& name) {
  constexpr std::chrono::milliseconds patience{3000};
  constexpr std::chrono::milliseconds pause{50};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const LvmVolume* lv = view.report().find(name);
  bool open = lv != nullptr && lv->open();
  while (open) {
    const auto device = lvm_device_number(tools.device(name));
    const bool known = device && !lvm_holders(*device).empty();
    if (known || std::chrono::steady_clock::now() >= deadline) return lvm_in_use(tools, name);
    std::this_thread::sleep_for(pause);
    const auto now = lvm_view(tools);
    if (!now) return fail(now.error());
    lv = now->report().find(name);
    open = lv != nullptr && lv->open();
  }
  return {};
}

/// The device of `lv` under its name is that volume and no other.
/// Errors: identity_changed.
inline Result<void> lvm_check_identity(const LvmVolume& lv, ::dev_t device) {
  std::string wanted = "LVM-";
  for (const char c : lv.vg_uuid + lv.uuid) wanted.append(c == '-' ? "" : std::string_view{&c, 1});
  const std::string found = lvm_kernel_uuid(device);
  if (found == wanted) return {};
  return fail(Error{Errc::identity_changed, "/dev/" + lv.vg + "/" + lv.name + " is not the volume of this name: '" +
                                                found + "', expected '" + wanted + "'"}
                  .advise("is there another volume group of this name? see: vgs -o +vg_uuid"));
}

/// Opens one logical volume, which is activated for it and stays so.
template <CommandRunner Runner>
Result<KernelDevice> lvm_open(const LvmTools<Runner>& tools, const LvmVolume& lv, Access access) {
  if (!lv.active()) {
    if (auto active = lvm_activate(tools, lv.name); !active) return fail(std::move(active.error()));
  }
  const std::string path = tools.device(lv.name);
  auto device = KernelDevice::open(path, access, tools.spec(lv.name));
  if (!device) {
    if (device.error().code() != Errc::in_use) return device;
    return lvm_in_use(tools, lv.name);
  }
  if (auto same = lvm_check_identity(lv, device->number()); !same) return fail(std::move(same.error()));
  return device;
}

template <CommandRunner Runner>
Result<KernelDevice> lvm_open_volume(const LvmTools<Runner>& tools, const VolumeName& volume, Access access) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  return lvm_open(tools, **lv, access);
}

template <CommandRunner Runner>
Result<KernelDevice> lvm_open_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                       const SnapshotName& snapshot) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->snapshot(volume, snapshot);
  if (!lv) return fail(lv.error());
  return lvm_open(tools, **lv, Access::read_only);
}

template <CommandRunner Runner>
Result<void> lvm_activate_volume(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  if ((*lv)->active()) return {};
  return lvm_activate(tools, volume.str());
}

/// The volume, and those of its snapshots that somebody has looked into.
template <CommandRunner Runner>
Result<void> lvm_deactivate_volume(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  std::vector<std::string> active;
  if ((*lv)->active()) active.push_back(volume.str());
  for (const LvmView::Snapshot& snapshot : view->snapshots(volume.str())) {
    if (snapshot.lv->active() && snapshot.owners.size() == 1) active.push_back(snapshot.lv->name);
  }
  return lvm_deactivate(tools, active);
}

/// The pool itself: while it is inactive, LVM does not tell how full it is.
template <CommandRunner Runner>
Result<void> lvm_activate_pool(const LvmTools<Runner>& tools) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto pool = view->pool();
  if (!pool) return fail(pool.error());
  if ((*pool)->active()) return {};
  return lvm_activate(tools, tools.config().thinpool);
}

/// The pool and its volumes, and nothing else of the volume group. Errors: in_use, and then nothing was deactivated.
template <CommandRunner Runner>
Result<void> lvm_deactivate_pool(const LvmTools<Runner>& tools) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto pool = view->pool();
  if (!pool) return fail(pool.error());
  std::vector<std::string> active;
  for (const LvmVolume& lv : view->report().volumes) {
    if (!view->ours(lv) || !lv.active() || lv.hidden) continue;
    if (lv.open()) {
      const auto device = lvm_device_number(tools.device(lv.name));
      if (!device || !lvm_holders(*device).empty()) return lvm_in_use(tools, lv.name);
    }
    active.push_back(lv.name);
  }
  if ((*pool)->active()) active.push_back((*pool)->name);
  return lvm_deactivate(tools, active);
}

}  // namespace stowage::detail
