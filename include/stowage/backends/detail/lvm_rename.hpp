#pragma once
// A volume takes its snapshots along when it gets another name.
//
// A volume alone is renamed by LVM in one step. With snapshots: a record on the volume has its old and its new name,
// the snapshots are tagged as those of the new name, the volume is renamed, then they are, and the volume is silent
// again. Before the volume has its new name recovery undoes, behind it recovery goes on.

#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_import.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The tag by which Proxmox VE's other LVM type says whose a volume is; on a thin volume an administrator may have put
/// it.
inline std::string lvm_guest_tag(const std::string& volume) {
  const auto parts = parse_volume_name(StorageType::lvmthin, *VolumeName::parse(volume));
  return parts ? "pve-vm-" + parts->vmid : std::string{};
}

template <CommandRunner Runner>
Result<void> lvm_tag_snapshots(const LvmTools<Runner>& tools, const std::vector<LvmView::Snapshot>& snapshots,
                               const std::string& from, const std::string& to) {
  if (snapshots.empty()) return {};
  return tools.change("lvchange",
                      lvm_with(tools, {"--deltag", lvm_tag(lvm_of_tag, from), "--addtag", lvm_tag(lvm_of_tag, to)},
                               lvm_names(snapshots)),
                      "tagging the snapshots of '" + from + "'");
}

/// What is left to do when the volume has its new name. Each step may have been done before.
template <CommandRunner Runner>
Result<void> lvm_finish_rename(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& lv,
                               const std::string& from) {
  const std::string to = lv.name;
  for (const LvmView::Snapshot& snapshot : view.snapshots(to)) {
    const std::string name = lvm_snapshot_lv(to, snapshot.name);
    if (snapshot.lv->name == name) continue;
    auto renamed =
        tools.change("lvrename", {tools.vg(), snapshot.lv->name, name}, "renaming '" + snapshot.lv->name + "'");
    if (!renamed) return renamed;
  }
  std::vector<std::string> arguments = lvm_record_options(lv, std::nullopt);
  const std::string was = lvm_guest_tag(from);
  const std::string is = lvm_guest_tag(to);
  if (was != is && lv.tag(was) == "") arguments.insert(arguments.end(), {"--deltag", was, "--addtag", is});
  return tools.change("lvchange", lvm_with(tools, std::move(arguments), {to}),
                      "finishing the renaming of '" + to + "'");
}

/// When the volume still has its old name.
template <CommandRunner Runner>
Result<void> lvm_undo_rename(const LvmTools<Runner>& tools, const LvmView& view, const LvmVolume& lv,
                             const std::string& to) {
  const std::string& from = lv.name;
  std::vector<LvmView::Snapshot> tagged;
  for (const LvmVolume& one : view.report().volumes) {
    if (!view.ours(one) || one.tag(lvm_of_tag) != to) continue;
    if (const auto name = lvm_snapshot_name(one.name, from)) tagged.push_back({&one, std::string{*name}, {from}});
  }
  if (auto done = lvm_tag_snapshots(tools, tagged, to, from); !done) return done;
  return tools.change("lvchange", lvm_with(tools, lvm_record_options(lv, std::nullopt), {from}),
                      "undoing the renaming of '" + from + "'");
}

template <CommandRunner Runner>
Result<void> lvm_rename(const LvmTools<Runner>& tools, const VolumeName& volume, const VolumeName& target) {
  const std::string& from = volume.str();
  const std::string& to = target.str();
  if (auto good = lvm_check_length(to); !good) return good;
  const auto held = lvm_hold(tools, volume, Verb::rename, {from, to});
  if (!held) return fail(held.error());
  const LvmView& view = held->view;
  const auto taken = [&](const std::string& name) {
    return fail(Errc::already_exists, "there is a volume '" + tools.spec(name) + "' already");
  };
  if (view.report().find(to) != nullptr) return taken(to);
  if (const auto intent = lvm_intent_of(view, from); intent && intent->verb != "rename") {
    return lvm_admit_at_rest(view, from, Verb::rename);
  }
  const std::vector<LvmView::Snapshot> snapshots = view.snapshots(from);
  if (auto good = LvmView::undisputed(snapshots); !good) return good;
  for (const LvmView::Snapshot& snapshot : snapshots) {
    const std::string name = lvm_snapshot_lv(to, snapshot.name);
    if (auto good = lvm_check_length(name); !good) return good;
    if (view.report().find(name) != nullptr) return taken(name);
  }
  if (auto free = lvm_free(tools, view, from); !free) return free;
  const auto rename = [&] {
    return tools.change("lvrename", {tools.vg(), from, to}, "renaming '" + tools.spec(from) + "'");
  };
  const std::string guest = lvm_guest_tag(from);
  const bool owned = guest != lvm_guest_tag(to) && held->lv->tag(guest) == "";
  if (snapshots.empty() && !owned) return rename();

  LvmVolume lv = *held->lv;
  auto record = lvm_record("rename", lv, {from, to});
  if (!record) return fail(std::move(record.error()));
  auto marked = lvm_write_record(tools, lv, *record, "beginning to rename '" + tools.spec(from) + "'");
  if (!marked) return marked;
  if (auto done = lvm_tag_snapshots(tools, snapshots, from, to); !done) return done;
  const auto renamed = rename();
  const auto now = lvm_view(tools);
  if (!now) return fail(now.error());
  if (!renamed) {
    if (now->find(from) != nullptr) static_cast<void>(lvm_undo_rename(tools, *now, lv, to));
    return fail(renamed.error());
  }
  const auto moved = now->volume(target);
  if (!moved) return fail(moved.error());
  return lvm_finish_rename(tools, *now, **moved, from);
}

}  // namespace stowage::detail
