#pragma once
// Volumes and snapshots that are removed. A volume's snapshots are LVM's own volumes, and stand in its way. What can
// stand in the way is asked first, and what is refused has changed nothing.
//
// A volume that holds no blocks of its own, and has no snapshots, is removed by one `lvremove`, which the kernel
// refuses while somebody has it open. Everything else loses its name first (lvm_private.hpp).

#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_destroy.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_private.hpp>
#include <stowage/backends/detail/lvm_rollback.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/intent/record.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Takes the name of a volume away, and destroys it. An obstacle that is met before anything was destroyed gives the
/// name back. Pre: all that can refuse was asked.
template <CommandRunner Runner>
Result<void> lvm_take_name_and_destroy(const LvmTools<Runner>& tools, const LvmView& view, LvmVolume lv,
                                       const std::vector<LvmView::Snapshot>& snapshots, const Work& work) {
  auto nonce = new_nonce();
  if (!nonce) return fail(std::move(nonce.error()));
  const std::string was = lv.name;
  lv.name = LvmRemoval{*std::move(nonce), lvm_place_of(this_process()), lvm_held_sectors(tools, was), was}.name();
  if (!lv.name.ends_with(was)) {  // too long for a private name: then a tag tells it
    auto noted = tools.change("lvchange", {"--addtag", lvm_tag(lvm_was_tag, was), tools.spec(was)},
                              "noting the name of '" + tools.spec(was) + "'");
    if (!noted) return noted;
  }
  auto taken = tools.change("lvrename", {tools.vg(), was, lv.name}, "beginning to remove '" + tools.spec(was) + "'");
  if (!taken) return taken;
  LvmDestroyed destroyed{};
  auto done = lvm_destroy(tools, view, lv, snapshots, work, destroyed);
  if (done) return done;
  if (destroyed == LvmDestroyed::something) {
    return fail(
        std::move(done.error()).during("its removal is unfinished").advise("remove it again, or recover finishes it"));
  }
  if (auto back = lvm_give_name_back(tools, lv.name, was); !back) {
    return fail(std::move(done.error())
                    .advise("nothing was removed, but it is called '" + lv.name +
                            "' now, and could not be renamed: " + back.error().detail()));
  }
  return done;
}

/// Pre: the volume's lock is held, and the verb that wants it was admitted. `view` as it is now.
template <CommandRunner Runner>
Result<void> lvm_remove_locked(const LvmTools<Runner>& tools, LvmView view, const VolumeName& volume,
                               const RemoveOptions& options, const Work& work) {
  if (auto settled = lvm_settle(tools, view, volume.str()); !settled) return settled;
  if (const LvmVolume* begun = view.removal_of(volume.str()); begun != nullptr && view.find(volume.str()) == nullptr) {
    return lvm_end_removal(tools, view, *begun, work).and_then([&](const std::string&) -> Result<void> {
      const auto now = lvm_view(tools);
      if (!now || now->find(volume.str()) == nullptr) return {};
      return lvm_in_use(tools, volume.str());  // it has its name back
    });
  }
  const auto there = view.volume(volume);
  if (!there) return fail(there.error());
  LvmVolume lv = **there;
  const std::vector<LvmView::Snapshot> snapshots = view.snapshots(volume.str());
  if (auto good = LvmView::undisputed(snapshots); !good) return good;
  if (!options.snapshots && !snapshots.empty()) {
    std::string names;
    for (const LvmView::Snapshot& snapshot : snapshots) names += (names.empty() ? "" : ", ") + snapshot.name;
    return fail(Error{Errc::in_use, "it has snapshots: " + names}.advise("remove them too, or first"));
  }
  if (auto free = lvm_free(tools, view, lv.name); !free) return free;
  if (auto free = lvm_snapshots_free(tools, view, snapshots); !free) return free;
  if (auto agreed = lvm_check_transaction(tools, view); !agreed) return agreed;
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "removing: stopped before anything was destroyed");
  const bool discards = lvm_worth_discarding(view, lv);
  if (!discards && snapshots.empty()) return lvm_remove_names(tools, {lv.name});
  if (discards && !lv.active()) {
    if (auto active = lvm_activate(tools, lv); !active) return active;
    lv.attr[4] = 'a';
  }
  return lvm_take_name_and_destroy(tools, view, std::move(lv), snapshots, work);
}

template <CommandRunner Runner>
Result<void> lvm_remove(const LvmTools<Runner>& tools, const VolumeName& volume, const RemoveOptions& options,
                        const Work& work) {
  if (options.trash) return fail(Errc::not_supported, "LVM has no trash");
  const auto lock = lvm_lock_or_end_run(tools, volume);
  if (!lock) return fail(lock.error());
  auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  if (auto admitted = lvm_admit_verb(*view, volume.str(), Verb::remove); !admitted) {
    return fail(std::move(admitted.error()));
  }
  return lvm_remove_locked(tools, *std::move(view), volume, options, work);
}

template <CommandRunner Runner>
Result<void> lvm_remove_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume,
                                 const SnapshotName& snapshot) {
  const auto held = lvm_hold(tools, volume, Verb::remove_snapshot);
  if (!held) return fail(held.error());
  const auto lv = held->view.snapshot(volume, snapshot);
  if (!lv) return fail(lv.error());
  if (lvm_aside(held->view, volume.str()).name == snapshot.str()) {
    return fail(Error{Errc::in_use, "a rollback to it waits for the next activation"});
  }
  if (auto free = lvm_free(tools, held->view, (*lv)->name); !free) return free;
  return lvm_remove_names(tools, {(*lv)->name});
}

}  // namespace stowage::detail
