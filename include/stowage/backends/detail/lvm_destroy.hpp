#pragma once
// The end of a removal: what destroys. It comes after the volume has lost its name, so that nobody can open or clone it
// by that, and after the kernel has said that nobody has it open.

#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_open.hpp>
#include <stowage/backends/detail/lvm_private.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Gives the blocks of a volume back to the disks below the pool, a step at a time; LVM itself gives them back to the
/// pool only. Blocks that snapshots or clones share stay. `rate` in bytes a second; zero is no limit.
/// Errors: cancelled, between two steps.
template <BlockDevice Device>
Result<void> lvm_discard(Device& device, Bytes rate, const Work& work) {
  constexpr Bytes largest = 1_GiB;
  const Bytes whole = device.size();
  // a limited one goes in steps of a quarter of a second
  const Bytes step = rate.count == 0 ? largest : std::clamp(round_up(Bytes{rate.count / 4}, 1_MiB), 1_MiB, largest);
  work.progress(0, whole.count);  // from here on it takes long
  for (Bytes at{}; at < whole; at += step) {
    if (work.stop.stop_requested())
      return fail(Errc::cancelled, "removing: stopped while discarding; repeat it to go on");
    const auto begin = std::chrono::steady_clock::now();
    const Bytes length = std::min(step, whole - at);
    if (auto done = device.discard(at, length); !done) return done;
    work.progress(at.count + length.count, whole.count);
    if (rate.count == 0) continue;
    std::this_thread::sleep_until(begin + std::chrono::milliseconds{length.count * 1000 / rate.count});
  }
  return {};
}

/// Whether discarding is worth the while: the pool passes discards on, and the volume has blocks of its own.
inline bool lvm_worth_discarding(const LvmView& view, const LvmVolume& lv) {
  const auto pool = view.pool();
  if (!pool || (*pool)->discards != "passdown" || (*pool)->health() == 'M' || (*pool)->health() == 'F') return false;
  if (!(*pool)->kernel_discards.empty() && (*pool)->kernel_discards.find("passdown") != 0) return false;
  return !lv.read_only() && lv.data != LvmPercent{0};
}

template <CommandRunner Runner>
Result<void> lvm_remove_names(const LvmTools<Runner>& tools, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  return tools.change("lvremove", lvm_with(tools, {}, names), "removing '" + tools.spec(names.front()) + "'");
}

/// Nobody has any of the snapshots open. Errors: in_use.
template <CommandRunner Runner>
Result<void> lvm_snapshots_free(const LvmTools<Runner>& tools, const LvmView& view,
                                const std::vector<LvmView::Snapshot>& snapshots) {
  for (const LvmView::Snapshot& snapshot : snapshots) {
    if (auto free = lvm_free(tools, view, snapshot.lv->name); !free) return free;
  }
  return {};
}

/// How many sectors a thin volume holds, by the kernel's status: "8192 16383", the first one. Zero while it is
/// inactive.
template <CommandRunner Runner>
std::uint64_t lvm_held_sectors(const LvmTools<Runner>& tools, const std::string& name) {
  const auto words = lvm_kernel_words(lvm_mapper_name(tools.vg(), name));
  const std::string_view status = words ? std::string_view{words->status} : std::string_view{};
  return lvm_number<std::uint64_t>(status.substr(0, status.find(' '))).value_or(0);
}

/// What was destroyed when a removal stopped.
enum class LvmDestroyed { nothing, something };

/// Removes a volume that has a private name, and its snapshots: those go first, so that the discards reach the blocks
/// that they shared. Before the first of these steps the volume is held open with a claim, and nobody else has it open;
/// or it is inactive, which the kernel refuses while it is open.
template <CommandRunner Runner>
Result<void> lvm_destroy(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& lv,
                         const std::vector<LvmView::Snapshot>& snapshots, const Work& work, LvmDestroyed& destroyed) {
  destroyed = LvmDestroyed::nothing;
  std::optional<KernelDevice> device;
  if (lvm_worth_discarding(view, lv)) {
    auto opened = lvm_open(tools, lv, Access::read_write);
    if (!opened) return fail(std::move(opened.error()));
    device = *std::move(opened);
  } else if (!snapshots.empty() && lv.active()) {
    if (auto down = lvm_deactivate(tools, {lv.name}); !down) return down;
  }
  if (auto free = lvm_snapshots_free(tools, view, snapshots); !free) return free;
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "removing: stopped before anything was destroyed");
  if (auto removed = lvm_remove_names(tools, lvm_names(snapshots)); !removed) {
    const auto now = lvm_view(tools);
    const auto is_there = [&](const LvmView::Snapshot& snapshot) {
      return now && now->report().find_uuid(snapshot.lv->uuid) != nullptr;
    };
    if (!std::all_of(snapshots.begin(), snapshots.end(), is_there)) destroyed = LvmDestroyed::something;
    return removed;
  }
  if (!snapshots.empty()) destroyed = LvmDestroyed::something;
  if (device) {
    destroyed = LvmDestroyed::something;
    if (auto done = lvm_discard(*device, tools.options().discard_rate, work); !done) return done;
    device.reset();
  }
  return lvm_remove_names(tools, {lv.name});
}

/// Renames what is being removed, so that it is the volume again that it was.
template <CommandRunner Runner>
Result<void> lvm_give_name_back(const LvmTools<Runner>& tools, const std::string& name, const std::string& volume) {
  return tools.finish("lvrename", {tools.vg(), name, volume}, "giving '" + tools.spec(volume) + "' its name back");
}

/// The snapshots that are removed with a volume that has lost its name. When there is a new volume of that name, those
/// that are beyond doubt not that one's.
inline std::vector<LvmView::Snapshot> lvm_snapshots_of_removal(const LvmView& view, const LvmVolume& lv,
                                                               const LvmRemoval& removal) {
  std::vector<LvmView::Snapshot> snapshots = view.snapshots(removal.volume);
  if (view.find(removal.volume) == nullptr) return snapshots;
  std::erase_if(snapshots, [&](const LvmView::Snapshot& snapshot) { return snapshot.lv->origin != lv.name; });
  return snapshots;
}

/// Completes a removal that was left behind. Where somebody has opened the volume before it lost its name, and nothing
/// of it was destroyed yet, it gets its name back. Returns what was done. Pre: the volume's lock is held.
/// Errors: in_use (by whom; or another host may be removing it).
template <CommandRunner Runner>
Result<std::string> lvm_end_removal(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& lv,
                                    const Work& work) {
  const auto removal = lvm_removal(lv);
  if (!removal) return fail(Errc::not_found, "'" + lv.name + "' is not being removed");
  if (removal->place != lvm_place_of(this_process())) {
    return fail(
        Error{Errc::in_use, "another machine, or another pid namespace of this one, has begun to remove it"}.advise(
            "if nobody there is at it: lvrename " + tools.spec(lv.name) + " " + removal->volume +
            ", and remove it again"));
  }
  const std::vector<LvmView::Snapshot> snapshots = lvm_snapshots_of_removal(view, lv, *removal);
  if (auto free = lvm_free(tools, view, lv.name); !free) {
    const bool whole =
        lvm_held_sectors(tools, lv.name) >= removal->sectors && view.report().find(removal->was) == nullptr;
    if (!whole) return fail(std::move(free.error()));
    return lvm_give_name_back(tools, lv.name, removal->was).map([] {
      return std::string{"gave it its name back, for it is in use, and nothing of it was removed"};
    });
  }
  if (auto good = LvmView::undisputed(snapshots); !good) return fail(std::move(good.error()));
  LvmDestroyed destroyed{};
  return lvm_destroy(tools, view, lv, snapshots, work, destroyed).map([] {
    return std::string{"finished its removal"};
  });
}

}  // namespace stowage::detail
