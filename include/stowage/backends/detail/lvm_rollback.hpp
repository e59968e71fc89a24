#pragma once
// A volume gets the content of a snapshot, and its name has the old or the new content at all times.
//
// LVM can merge a snapshot into the volume that it was taken of: one transaction gives the snapshot's blocks the name
// and uuid of the volume, and the volume's own blocks go. What was the snapshot has gone too, so a copy of it is put
// aside before (`roll_...`), which gets its name behind.
//
// But after that LVM does not know any more what the other snapshots were taken of, and merges none of them. For them a
// writable copy is made (`next_...`), which takes the volume's name, and keeps its identity in a tag. Between the two
// renamings the volume is missing for whoever looks with other eyes than ours; recovery goes on behind the first one.
//
// LVM merges into an open volume when it is activated next, by whomever. Until then the snapshot is hidden in LVM's
// lists, and the copy that stands aside tells what is going on.

#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_import.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_receipt.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// LVM has taken the merge down for the next activation: that is now.
template <CommandRunner Runner>
Result<void> lvm_run_merge(const LvmTools<Runner>& tools, const std::string& volume) {
  if (auto down = lvm_deactivate(tools, {volume}); !down) return down;
  return tools.change("lvchange", {"-ay", "-K", tools.spec(volume)}, "merging into '" + tools.spec(volume) + "'");
}

/// The merge is done: the copy becomes the snapshot. (The volume has kept its tags and permissions in it.)
template <CommandRunner Runner>
Result<void> lvm_end_merge(const LvmTools<Runner>& tools, const std::string& volume, const std::string& copy,
                           const std::string& snapshot) {
  return tools.change("lvrename", {tools.vg(), copy, lvm_snapshot_lv(volume, snapshot)},
                      "giving the snapshot its name back");
}

/// The copy takes the volume's name, and the old one goes. Each step may have been done before.
template <CommandRunner Runner>
Result<void> lvm_end_exchange(const LvmTools<Runner>& tools, const LvmView& view, const std::string& volume,
                              const LvmVolume& copy) {
  const LvmVolume* old = lvm_replaced(view, copy);
  std::string gone = std::string{lvm_gone_prefix} + volume;
  if (old != nullptr && old->name == volume) {
    auto moved = tools.change("lvrename", {tools.vg(), volume, gone}, "moving '" + tools.spec(volume) + "' aside");
    if (!moved) return moved;
  } else if (old != nullptr) {
    gone = old->name;
  }
  if (copy.name != volume) {
    auto named = tools.change("lvrename", {tools.vg(), copy.name, volume}, "putting the copy in its place");
    if (!named) return named;
  }
  if (old == nullptr) return {};
  return tools.change("lvremove", {tools.spec(gone)}, "removing what '" + tools.spec(volume) + "' was");
}

/// Finishes a rollback that has come to its decisive step, undoes one that has not. Says which.
template <CommandRunner Runner>
Result<std::string> lvm_settle_rollback(const LvmTools<Runner>& tools, const LvmView& view, const std::string& volume) {
  const auto said = [](std::string text) { return [text = std::move(text)] { return text; }; };
  const LvmAside aside = lvm_aside(view, volume);
  const LvmVolume* lv = view.find(volume);
  const std::string finished = "finished the rollback to '" + aside.name + "'";
  const std::string undone = "undid a rollback to '" + aside.name + "' that had changed nothing yet";
  if (aside.next != nullptr) {
    if (lv != nullptr && lvm_replaced(view, *aside.next) == lv) {
      return tools.change("lvremove", {tools.spec(aside.next->name)}, "undoing a rollback").map(said(undone));
    }
    return lvm_end_exchange(tools, view, volume, *aside.next).map(said(finished));
  }
  if (aside.snapshot == nullptr) {  // only the old volume is left to be removed
    if (lv == nullptr || lvm_replaced(view, *lv) == nullptr) return std::string{};
    return lvm_end_exchange(tools, view, volume, *lv).map(said("removed what a rollback had replaced"));
  }
  const LvmVolume* snapshot = view.report().find(lvm_snapshot_lv(volume, aside.name));
  if (snapshot != nullptr && !snapshot->is_merging()) {
    return tools.change("lvremove", {tools.spec(aside.snapshot->name)}, "undoing a rollback").map(said(undone));
  }
  if (snapshot != nullptr) {
    if (auto merged = lvm_run_merge(tools, volume); !merged) return fail(std::move(merged.error()));
  }
  return lvm_end_merge(tools, volume, aside.snapshot->name, aside.name).map(said(finished));
}

/// Settles what an earlier rollback of `volume` has left, if it has. `view` is the state behind that.
template <CommandRunner Runner>
Result<void> lvm_settle(const LvmTools<Runner>& tools, LvmView& view, const std::string& volume) {
  const auto intent = lvm_intent_of(view, volume);
  if (!intent || intent->verb != "rollback") return {};
  if (auto settled = lvm_settle_rollback(tools, view, volume); !settled) return fail(std::move(settled.error()));
  return lvm_view(tools).map([&](LvmView&& now) { view = std::move(now); });
}

/// `lvcreate` of a copy of `snapshot` beside it.
template <CommandRunner Runner>
Result<void> lvm_copy_aside(const LvmTools<Runner>& tools, const LvmVolume& snapshot, const std::string& name,
                            const std::vector<std::string>& kind, const std::vector<std::string>& tags) {
  std::vector<std::string> arguments{"-s", "-n", name};
  arguments.insert(arguments.end(), kind.begin(), kind.end());
  for (const std::string& tag : tags) arguments.insert(arguments.end(), {"--addtag", tag});
  arguments.push_back(tools.spec(snapshot.name));
  auto made =
      tools.change("lvcreate", std::move(arguments), "putting a copy of '" + tools.spec(snapshot.name) + "' aside");
  if (made || made.error().code() != Errc::already_exists) return made;
  return fail(
      Error{Errc::conflict, made.error().detail(), made.error().native()}.advise("recover finishes what is there"));
}

/// By a merge LVM forgets what other snapshots were taken of, also those that are taken before it comes to it.
template <CommandRunner Runner>
Result<void> lvm_end_lineage(const LvmTools<Runner>& tools, const LvmVolume& volume) {
  if (!volume.tag(lvm_lineage_tag)) return {};
  return tools.change("lvchange", {"--deltag", std::string{lvm_lineage_tag}, tools.spec(volume.name)},
                      "beginning to roll '" + tools.spec(volume.name) + "' back");
}

template <CommandRunner Runner>
Result<void> lvm_merge(const LvmTools<Runner>& tools, const LvmVolume& snapshot, const LvmVolume& lv,
                       const std::string& name, WhenOpen when_open) {
  const std::string volume = lv.name;
  const std::string aside = lvm_snapshot_lv(volume, name, lvm_aside_prefix);
  auto record = lvm_record("rollback", lv, {name});
  if (!record) return fail(std::move(record.error()));
  auto copied =
      lvm_copy_aside(tools, snapshot, aside, {"-pr", "-ky"},
                     {lvm_tag(lvm_of_tag, volume), lvm_tag(lvm_at_tag, std::to_string(LvmView::taken_at(snapshot))),
                      lvm_tag(lvm_content_tag, lvm_content(snapshot)), lvm_tag(lvm_intent_tag, *record)});
  if (!copied) return copied;
  auto merged =
      tools.change("lvconvert", {"--merge", tools.spec(snapshot.name)}, "merging '" + tools.spec(snapshot.name) + "'");
  if (!merged && merged.error().code() == Errc::outcome_unknown) return merged;
  if (!merged) {
    static_cast<void>(tools.change("lvremove", {tools.spec(aside)}, "undoing the rollback"));
    return merged;
  }
  if (when_open == WhenOpen::refuse) {
    auto ended = lvm_end_merge(tools, volume, aside, name);
    if (ended || ended.error().code() != Errc::already_exists) return ended;
  }
  // Somebody has opened the volume just now, or it was open: the snapshot still has its name, and waits.
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const LvmVolume* waiting = view->report().find(snapshot.name);
  const bool waits = waiting != nullptr && waiting->is_merging();
  if (when_open == WhenOpen::at_next_activation && waits) return {};
  auto settled = lvm_settle_rollback(tools, *view, volume);
  if (settled) return {};
  return fail(
      std::move(settled.error())
          .advise(waits ? "it was opened meanwhile, and gets the content of '" + name + "' when it is activated next"
                        : "recover finishes the rollback"));
}

template <CommandRunner Runner>
Result<void> lvm_exchange(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& snapshot,
                          const LvmVolume& volume, const std::string& name) {
  auto record = lvm_record("rollback", volume, {name});
  if (!record) return fail(std::move(record.error()));
  LvmVolume copy;  // as it will be
  copy.name = lvm_snapshot_lv(volume.name, name, lvm_next_prefix);
  copy.tags = {lvm_tag(lvm_of_tag, volume.name), lvm_tag(lvm_replaces_tag, volume.uuid),
               lvm_tag(lvm_id_tag, volume.tag(lvm_id_tag).value_or(volume.uuid)), lvm_tag(lvm_intent_tag, *record)};
  for (const std::string& tag : volume.tags) {
    const bool ours = tag.starts_with("stowage.") && !tag.starts_with(lvm_parent_tag);
    if (!ours) copy.tags.push_back(tag);
  }
  if (auto made = lvm_copy_aside(tools, snapshot, copy.name, lvm_as_volume(), copy.tags); !made) return made;
  return lvm_end_exchange(tools, view, volume.name, copy);
}

/// Pre: the volume's lock is held, and the verb that wants it was admitted. `view` as it is now.
template <CommandRunner Runner>
Result<void> lvm_roll_back_locked(const LvmTools<Runner>& tools, LvmView view, const VolumeName& volume,
                                  const SnapshotName& snapshot, const Work& work, WhenOpen when_open) {
  auto free = lvm_free(tools, view, volume.str());
  if (!free && when_open == WhenOpen::refuse) return free;
  if (auto settled = lvm_settle(tools, view, volume.str()); !settled) return settled;
  const auto there = view.volume(volume);
  if (!there) return fail(there.error());
  const auto source = view.snapshot(volume, snapshot);
  if (!source) return fail(source.error());
  if (auto closed = lvm_free(tools, view, (*source)->name); !closed) return closed;
  if (auto agreed = lvm_check_transaction(tools, view); !agreed) return agreed;
  if (auto room = lvm_admit(tools, (*source)->size); !room) return room;
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "rolling back: stopped before anything was changed");
  LvmVolume lv = **there;
  const bool merges = (*source)->origin == lv.name;
  if (!merges && !free) {
    return fail(Error{free.error()}.advise("after the rollback to another snapshot LVM cannot do this one later"));
  }
  const bool received = lvm_intent_of(view, volume.str()).has_value();
  if (auto left = lvm_void_receipt(tools, view, lv, snapshot); !left) return left;
  if (!merges) return lvm_exchange(tools, view, **source, lv, snapshot.str());
  auto merged =
      lvm_end_lineage(tools, lv).and_then([&] { return lvm_merge(tools, **source, lv, snapshot.str(), when_open); });
  return merged && received ? lvm_name_filled(tools, lv, lv.name) : merged;
}

template <CommandRunner Runner>
Result<void> lvm_roll_back(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                           const Work& work, WhenOpen when_open) {
  const auto lock = lvm_lock_or_end_run(tools, volume);
  if (!lock) return fail(lock.error());
  auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  auto admitted = lvm_admit_verb(*view, volume.str(), Verb::rollback, {snapshot.str()});
  if (!admitted) return fail(std::move(admitted.error()));
  return lvm_roll_back_locked(tools, *std::move(view), volume, snapshot, work, when_open);
}

/// An activation is also what a rollback waits for; where another program's has done that, the snapshot gets its name.
template <CommandRunner Runner>
Result<void> lvm_activate_volume(const LvmTools<Runner>& tools, const VolumeName& volume) {
  auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  const auto intent = lvm_intent_of(found->view, volume.str());
  const bool waited = intent && intent->verb == "rollback" && intent->record.phase != IntentPhase::prepare &&
                      intent->record.format == IntentFormat::current;
  if (!waited || (found->lv->active() && intent->record.phase == IntentPhase::waiting)) {
    if (auto admitted = lvm_admit_without_lock(tools, found->view, volume, Verb::activate); !admitted) return admitted;
    return lvm_make_active(tools, *found->lv);
  }
  const auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(lock.error());
  auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  if (auto settled = lvm_settle(tools, *view, volume.str()); !settled) return settled;
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  return lvm_make_active(tools, **lv);
}

}  // namespace stowage::detail
