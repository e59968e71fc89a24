#pragma once
// Active or not, open or not: what stands between a volume of LVM and its bytes.

#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_path.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/io/kernel_users.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Our pool, as it is now: one process.
template <CommandRunner Runner>
Result<LvmView> lvm_view(const LvmTools<Runner>& tools, LvmDetail detail = LvmDetail::all) {
  return tools.report(detail).map([&](LvmReport report) {
    return LvmView{std::move(report), tools.config().thinpool};
  });
}

/// A volume, and the report that tells of it.
struct LvmFound {
  LvmView view;
  const LvmVolume* lv = nullptr;
};

/// Our pool. Errors: not_found.
template <CommandRunner Runner>
Result<LvmFound> lvm_find_pool(const LvmTools<Runner>& tools, LvmDetail detail = LvmDetail::all) {
  auto view = lvm_view(tools, detail);
  if (!view) return fail(std::move(view.error()));
  const auto pool = view->pool();
  if (!pool) return fail(pool.error());
  return LvmFound{*std::move(view), *pool};
}

/// A volume of it, or a snapshot of that. Errors: not_found.
template <CommandRunner Runner, class... Names>
Result<LvmFound> lvm_find(const LvmTools<Runner>& tools, const Names&... names) {
  auto view = lvm_view(tools);
  if (!view) return fail(std::move(view.error()));
  const auto lv = [&] {
    if constexpr (sizeof...(names) == 1) return view->volume(names...);
    if constexpr (sizeof...(names) == 2) return view->snapshot(names...);
  }();
  if (!lv) return fail(lv.error());
  return LvmFound{*std::move(view), *lv};
}

/// Whether an active volume is one of our pool: its device stands on the pool's. Nothing when it is not active. Costs
/// no process.
template <CommandRunner Runner>
std::optional<bool> lvm_stands_in_pool(const LvmTools<Runner>& tools, const std::string& name) {
  const auto device = lvm_device_number("/dev/mapper/" + lvm_mapper_name(tools.vg(), name));
  if (!device) return std::nullopt;
  const std::string below = "/sys/dev/block/" + number_text(*device) + "/slaves";
  const std::string pool = lvm_mapper_name(tools.vg(), tools.config().thinpool) + "-tpool";
  const std::vector<std::string> devices = names_in(below);
  return std::any_of(devices.begin(), devices.end(),
                     [&](const std::string& one) { return attribute(path_of(below, one) + "/dm/name") == pool; });
}

/// `vg/a`, `vg/b` ... behind the arguments of a tool.
template <CommandRunner Runner>
std::vector<std::string> lvm_with(const LvmTools<Runner>& tools, std::vector<std::string> arguments,
                                  const std::vector<std::string>& names) {
  for (const std::string& name : names) arguments.push_back(tools.spec(name));
  return arguments;
}

/// Activates what is inactive, with -K: volumes, snapshots and templates have the flag that lets others skip them. Then
/// checks that it is active, for lvm.conf may forbid it without a word, and that its path leads to it.
/// Errors: unavailable, identity_changed.
template <CommandRunner Runner>
Result<void> lvm_activate(const LvmTools<Runner>& tools, const LvmVolume& lv) {
  if (auto good = lvm_check_path(tools, lv.name); !good) return good;
  const std::string doing = "activating '" + tools.spec(lv.name) + "'";
  if (auto done = tools.change("lvchange", {"-ay", "-K", tools.spec(lv.name)}, doing); !done) return done;
  const auto device = lvm_mapped(lvm_mapper_name(lv.vg, lv.name));
  if (device && device->uuid.starts_with(lvm_device_uuid(lv))) {  // of a pool it has an end of its own
    return lv.is_pool() ? Result<void>{} : lvm_await_path(tools, lv.name);
  }
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const LvmVolume* now = view->report().find(lv.name);
  if (now != nullptr && now->active()) return {};
  return fail(Error{Errc::unavailable, doing + ": lvchange found nothing wrong, but it is not active"}.advise(
      "look at activation/volume_list and auto_activation_volume_list in lvm.conf"));
}

/// The same of a volume that may be active.
template <CommandRunner Runner>
Result<void> lvm_make_active(const LvmTools<Runner>& tools, const LvmVolume& lv) {
  return lv.active() ? lvm_await_path(tools, lv.name) : lvm_activate(tools, lv);
}

/// Who uses volumes, or devices that stand on them.
template <CommandRunner Runner>
std::vector<std::string> lvm_users(const LvmTools<Runner>& tools, const std::vector<std::string>& names) {
  std::vector<std::string> devices;
  for (const std::string& name : names) {
    if (auto device = block_name({}, tools.device(name)); !device.empty()) devices.push_back(std::move(device));
  }
  return device_users({}, devices);
}

/// The kernel has a device for the volume. Costs no process.
template <CommandRunner Runner>
bool lvm_has_device(const LvmTools<Runner>& tools, const std::string& name) {
  const std::string mapped = lvm_mapper_name(tools.vg(), name);
  const auto device = lvm_device_number("/dev/mapper/" + mapped);
  return device && attribute("/sys/dev/block/" + number_text(*device) + "/dm/name") == mapped;
}

/// And looks whether they are gone. Errors: in_use (and who has one open); command_failed (LVM says that it is done,
/// and it is not).
template <CommandRunner Runner>
Result<void> lvm_deactivate(const LvmTools<Runner>& tools, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  const std::string doing = "deactivating '" + names.front() + "'";
  auto done = tools.change("lvchange", lvm_with(tools, {"-an"}, names), doing);
  if (done) {
    const auto left =
        std::find_if(names.begin(), names.end(), [&](const auto& name) { return lvm_has_device(tools, name); });
    if (left == names.end()) return done;
    done = fail(Errc::command_failed,
                doing + ": lvchange found nothing wrong, but '" + tools.spec(*left) + "' is still active");
  } else if (done.error().code() != Errc::in_use) {
    return done;
  }
  const std::vector<std::string> users = lvm_users(tools, names);
  if (users.empty()) return done;
  return fail(Errc::in_use, "'" + tools.spec(names.front()) + "' is " + in_use_by(users), done.error().native());
}

template <CommandRunner Runner>
tl::unexpected<Error> lvm_in_use(const LvmTools<Runner>& tools, const std::string& name) {
  return fail(Errc::in_use, "'" + tools.spec(name) + "' is " + in_use_by(lvm_users(tools, {name})));
}

/// Nobody has the volume open, claimed or not, by what the kernel says now; one that is not there nobody has. udev
/// looks into a device that was just written to, for some milliseconds: it is waited for, up to 3 s, others are named.
/// Errors: in_use.
template <CommandRunner Runner>
Result<void> lvm_free(const LvmTools<Runner>& tools, const LvmView& view, const std::string& name) {
  constexpr std::chrono::milliseconds patience{3000};
  const LvmVolume* lv = view.report().find(name);
  if (lv == nullptr) return {};
  const auto open = [&] {
    const auto mapped = lvm_mapped(lvm_mapper_name(tools.vg(), name));
    return mapped ? mapped->openers > 0 : lv->open();
  };
  const auto settled = [&] { return !open() || !lvm_users(tools, {name}).empty(); };
  if (!open()) return {};
  static_cast<void>(wait_until(settled, std::chrono::steady_clock::now() + patience, tools.options().stop));
  if (!open()) return {};
  return lvm_in_use(tools, name);
}

/// The volume, and those of its snapshots that somebody has looked into. Errors: in_use, and then nothing was
/// deactivated; the kernel is asked first, for LVM would try for five seconds.
template <CommandRunner Runner>
Result<void> lvm_deactivate_volume(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  std::vector<std::string> active;
  if (found->lv->active()) active.push_back(found->lv->name);
  for (const LvmView::Snapshot& snapshot : found->view.snapshots(volume.str())) {
    if (snapshot.lv->active() && snapshot.owners.size() == 1) active.push_back(snapshot.lv->name);
  }
  for (const std::string& name : active) {
    if (auto free = lvm_free(tools, found->view, name); !free) return free;
  }
  return lvm_deactivate(tools, active);
}

template <CommandRunner Runner>
Result<void> lvm_activate_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                   const SnapshotName& snapshot) {
  return lvm_find(tools, volume, snapshot).and_then([&](const LvmFound& found) {
    return lvm_make_active(tools, *found.lv);
  });
}

/// Errors: in_use; the kernel is asked first.
template <CommandRunner Runner>
Result<void> lvm_deactivate_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                     const SnapshotName& snapshot) {
  return lvm_find(tools, volume, snapshot).and_then([&](const LvmFound& found) -> Result<void> {
    if (!found.lv->active()) return {};
    return lvm_free(tools, found.view, found.lv->name).and_then([&] {
      return lvm_deactivate(tools, {found.lv->name});
    });
  });
}

/// The pool itself: while it is inactive, LVM does not tell how full it is.
template <CommandRunner Runner>
Result<void> lvm_activate_pool(const LvmTools<Runner>& tools) {
  const auto pool = lvm_find_pool(tools);
  if (!pool) return fail(pool.error());
  if (pool->lv->active()) return {};
  return lvm_activate(tools, *pool->lv);
}

/// The pool and its volumes, and nothing else of the volume group. Errors: in_use, and then nothing was deactivated.
template <CommandRunner Runner>
Result<void> lvm_deactivate_pool(const LvmTools<Runner>& tools) {
  const auto pool = lvm_find_pool(tools);
  if (!pool) return fail(pool.error());
  std::vector<std::string> active;
  for (const LvmVolume& lv : pool->view.report().volumes) {
    if (!pool->view.ours(lv) || !lv.active() || lv.hidden) continue;
    if (auto free = lvm_free(tools, pool->view, lv.name); !free) return free;
    active.push_back(lv.name);
  }
  if (pool->lv->active()) active.push_back(pool->lv->name);
  return lvm_deactivate(tools, active);
}

}  // namespace stowage::detail
