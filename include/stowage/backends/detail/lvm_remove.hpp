#pragma once
// Removal: first the proof that it can succeed, then the mark, then discards in steps, then the volumes go.
//
// LVM gives that proof itself, in the transaction that removes or marks, for a volume that has its lineage
// (`lvm_lineage_tag`) and whose device the kernel has: nobody asks before. Where it does not, LVM is asked for all that
// it knows, which then tells what to do, or why it cannot be done. (Who merges a snapshot by hand makes LVM forget the
// others: then the volume has to lose that tag by hand too, or it goes as if it had none.)

#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_open.hpp>
#include <stowage/backends/detail/lvm_rollback.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
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

/// The same of a volume that was opened for it, which is closed behind.
template <CommandRunner Runner>
Result<void> lvm_discard_whole(const LvmTools<Runner>& tools, Result<KernelDevice> device, const Work& work) {
  if (!device) return fail(std::move(device.error()));
  KernelDevice ours = *std::move(device);  // an argument would stay open as long as the expression of the call
  return lvm_discard(ours, tools.options().discard_rate, work);
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

/// Behind the proof: discards, snapshots, the volume.
template <CommandRunner Runner>
Result<void> lvm_destroy(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& lv,
                         const std::vector<LvmView::Snapshot>& snapshots, const Work& work) {
  const bool discards = lvm_worth_discarding(view, lv);
  if (discards || !snapshots.empty()) {
    auto marked = tools.change("lvchange", {"--addtag", lvm_tag(lvm_intent_tag, "remove"), tools.spec(lv.name)},
                               "marking '" + tools.spec(lv.name) + "'");
    if (!marked) return marked;
  }
  if (discards) {
    if (auto done = lvm_discard_whole(tools, lvm_open(tools, lv, Access::read_write), work); !done) return done;
  }
  const std::vector<std::string> names = lvm_names(snapshots);
  if (auto gone = lvm_remove_names(tools, names); !gone) return gone;
  return lvm_remove_names(tools, {lv.name});
}

/// What the kernel has of an active volume that nobody has open. Costs no process.
template <CommandRunner Runner>
std::optional<LvmThinDevice> lvm_see(const LvmTools<Runner>& tools, const std::string& name) {
  const auto volume = lvm_kernel_words(lvm_mapper_name(tools.vg(), name));
  const auto pool = lvm_kernel_words(lvm_mapper_name(tools.vg(), tools.config().thinpool) + "-tpool");
  if (!volume || !pool || volume->is_open) return std::nullopt;
  LvmThinDevice seen{lvm_volume_uuid(volume->uuid), false};
  if (seen.uuid.empty()) return std::nullopt;
  seen.discards = !volume->read_only && lvm_has_discards(volume->status, pool->status);
  return seen;
}

/// Removes the volume that the kernel sees, if it is one of our pool, nothing has been taken of it, and LVM knows that.
/// Says whether; if not, nothing has been changed. One process, and one more for the mark where there are discards.
/// Errors: in_use, not_found (it may be another volume than the one that was seen), cancelled.
template <CommandRunner Runner>
Result<bool> lvm_remove_seen(const LvmTools<Runner>& tools, const VolumeName& volume, const LvmThinDevice& seen,
                             const Work& work) {
  const std::string spec = tools.spec(volume.str());
  const std::string alone = "lv_uuid=\"" + seen.uuid + "\" && pool_lv=\"" + tools.config().thinpool +
                            "\" && lv_tags=\"" + std::string{lvm_lineage_tag} + R"(" && lv_descendants="")";
  if (!seen.discards) return tools.change_if(alone, "lvremove", {spec}, "removing '" + spec + "'");
  auto marked = tools.change_if(alone, "lvchange", {"--addtag", lvm_tag(lvm_intent_tag, "remove"), spec},
                                "marking '" + spec + "'");
  if (!marked || !*marked) return marked;
  auto device = KernelDevice::open(tools.device(volume.str()), Access::read_write, spec);
  if (device && lvm_volume_uuid(lvm_uuid_of(device->number())) != seen.uuid) {
    return fail(Errc::identity_changed, "'" + tools.device(volume.str()) + "' is not the volume " + seen.uuid);
  }
  return lvm_discard_whole(tools, std::move(device), work)
      .and_then([&] { return lvm_remove_names(tools, {volume.str()}); })
      .map([] { return true; });
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

template <CommandRunner Runner>
Result<void> lvm_remove_locked(const LvmTools<Runner>& tools, const VolumeName& volume, const RemoveOptions& options,
                               const Work& work) {
  auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  if (auto settled = lvm_settle(tools, *view, volume.str()); !settled) return settled;
  const auto there = view->volume(volume);
  if (!there) return fail(there.error());
  const LvmVolume* lv = *there;
  const std::vector<LvmView::Snapshot> snapshots = view->snapshots(volume.str());
  if (auto good = LvmView::undisputed(snapshots); !good) return good;
  const bool removing = lv->tag(lvm_intent_tag) == "remove";  // somebody has decided that before
  if (!options.snapshots && !removing && !snapshots.empty()) {
    std::string names;
    for (const LvmView::Snapshot& snapshot : snapshots) names += (names.empty() ? "" : ", ") + snapshot.name;
    return fail(Error{Errc::in_use, "it has snapshots: " + names}.advise("remove them too, or first"));
  }
  if (auto free = lvm_free(tools, *view, volume.str()); !free) return free;
  if (auto free = lvm_snapshots_free(tools, *view, snapshots); !free) return free;
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "removing: stopped before anything was destroyed");
  return lvm_destroy(tools, *view, *lv, snapshots, work);
}

template <CommandRunner Runner>
Result<void> lvm_remove(const LvmTools<Runner>& tools, const VolumeName& volume, const RemoveOptions& options,
                        const Work& work) {
  if (options.trash) return fail(Errc::not_supported, "LVM has no trash");
  const auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(lock.error());
  const auto seen = options.snapshots ? std::nullopt : lvm_see(tools, volume.str());
  if (seen && !work.stop.stop_requested()) {
    const auto gone = lvm_remove_seen(tools, volume, *seen, work);
    if (gone && *gone) return {};
    const bool unexplained = gone || gone.error().code() == Errc::in_use || gone.error().code() == Errc::not_found;
    if (!unexplained) return fail(gone.error());
  }
  return lvm_remove_locked(tools, volume, options, work);
}

template <CommandRunner Runner>
Result<void> lvm_remove_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                 const SnapshotName& snapshot) {
  const auto held = lvm_hold(tools, volume);
  if (!held) return fail(held.error());
  const auto lv = held->view.snapshot(volume, snapshot);
  if (!lv) return fail(lv.error());
  if (lvm_aside(held->view, volume.str()).name == snapshot.str()) {
    return fail(Error{Errc::in_use, "a rollback to it is unfinished"}.advise("recover finishes it"));
  }
  if (auto free = lvm_free(tools, held->view, (*lv)->name); !free) return free;
  return lvm_remove_names(tools, {(*lv)->name});
}

}  // namespace stowage::detail
