#pragma once
// New volumes: empty ones, snapshots and clones; and those that change size or become templates.

#include <chrono>
#include <stowage/backends/detail/lvm_lock.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// How long a verb waits for another one at the same volume.
inline constexpr std::chrono::seconds lvm_lock_patience{2};

template <CommandRunner Runner>
Result<LvmLock> lvm_lock(const LvmTools<Runner>& tools, const VolumeName& volume,
                         std::chrono::milliseconds patience = lvm_lock_patience) {
  return LvmLock::take(tools.options(), tools.vg(), volume.str(), patience);
}

/// LVM's limit. Errors: invalid_argument.
inline Result<void> lvm_check_length(std::string_view name) {
  constexpr std::size_t most = 127;
  if (name.size() <= most) return {};
  return fail(Errc::invalid_argument, "'" + std::string{name} + "' has " + std::to_string(name.size()) +
                                          " characters, LVM allows " + std::to_string(most));
}

/// Runs `lvcreate` for a volume that is writable, active now, and without the flag that lets `vgchange -ay` skip it.
/// That nobody activates it at boot is a second command: lvcreate cannot say it of thin volumes. If that one fails the
/// volume is good all the same.
template <CommandRunner Runner>
Result<void> lvm_new_volume(const LvmTools<Runner>& tools, const std::string& name, std::vector<std::string> kind,
                            const std::string& doing) {
  std::vector<std::string> arguments{"-n", name, "-prw", "-ay", "-kn"};
  arguments.insert(arguments.end(), kind.begin(), kind.end());
  if (auto made = tools.change("lvcreate", std::move(arguments), doing); !made) return made;
  static_cast<void>(tools.change("lvchange", {"--setautoactivation", "n", tools.spec(name)}, doing));
  return {};
}

/// An empty volume. What a thin pool has not allocated reads as zeros, so nothing is wiped.
template <CommandRunner Runner>
Result<void> lvm_create(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  if (auto good = lvm_check_length(volume.str()); !good) return good;
  if (auto room = lvm_admit(tools, size); !room) return room;
  return lvm_new_volume(tools, volume.str(),
                        {"-Wn", "-V", std::to_string(round_up(size, 512_B).count) + "b", "--thinpool", tools.pool()},
                        "creating '" + tools.spec(volume.str()) + "'");
}

/// A read-only snapshot, of a volume that may be open.
template <CommandRunner Runner>
Result<void> lvm_take_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot) {
  const std::string lv = lvm_snapshot_lv(volume.str(), snapshot.str());
  if (auto good = lvm_check_length(lv); !good) return good;
  const auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(lock.error());
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto there = view->volume(volume);
  if (!there) return fail(there.error());
  const auto now =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
  return tools.change("lvcreate",
                      {"-s", "-n", lv, "-pr", "-ky", "--addtag", lvm_tag(lvm_of_tag, volume.str()), "--addtag",
                       lvm_tag(lvm_at_tag, std::to_string(now.count())), tools.spec(volume.str())},
                      "taking snapshot '" + tools.spec(lv) + "'");
}

/// The snapshots of a volume. One that may be another's is listed for the volume with the longer name.
template <CommandRunner Runner>
Result<std::vector<SnapshotInfo>> lvm_list_snapshots(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  if (const auto there = view->volume(volume); !there) return fail(there.error());
  std::vector<SnapshotInfo> infos;
  for (const LvmView::Snapshot& snapshot : view->snapshots(volume.str())) {
    if (snapshot.owners.front() != volume.str()) continue;
    SnapshotInfo info{.name = *SnapshotName::parse(snapshot.name), .size = snapshot.lv->size};
    info.id = LvmView::taken_at(*snapshot.lv);
    info.ctime = std::chrono::sys_seconds{std::chrono::seconds{static_cast<std::int64_t>(info.id / 1'000'000)}};
    infos.push_back(std::move(info));
  }
  return infos;
}

/// A writable volume on the blocks of `source`, a template or a snapshot. `parent` is what the clone says of itself.
template <CommandRunner Runner>
Result<void> lvm_clone(const LvmTools<Runner>& tools, const LvmVolume& source, const std::string& parent,
                       const VolumeName& to) {
  if (auto good = lvm_check_length(to.str()); !good) return good;
  if (auto room = lvm_admit(tools, source.size); !room) return room;
  return lvm_new_volume(tools, to.str(), {"--addtag", lvm_tag(lvm_parent_tag, parent), "-s", tools.spec(source.name)},
                        "cloning '" + tools.spec(source.name) + "'");
}

template <CommandRunner Runner>
Result<void> lvm_clone_base(const LvmTools<Runner>& tools, const VolumeName& base, const VolumeName& to) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto source = view->volume(base);
  if (!source) return fail(source.error());
  return lvm_clone(tools, **source, base.str(), to);
}

template <CommandRunner Runner>
Result<void> lvm_clone_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                                const VolumeName& to) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto source = view->snapshot(volume, snapshot);
  if (!source) return fail(source.error());
  return lvm_clone(tools, **source, volume.str() + "/" + snapshot.str(), to);
}

/// Grows a volume, also an open one.
template <CommandRunner Runner>
Result<Bytes> lvm_resize(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  const Bytes now = (*lv)->size;
  const Bytes wanted = round_up(size, (*lv)->extent);
  if (wanted < now) {
    return fail(
        Error{Errc::invalid_argument, "it has " + to_string(now) + ", " + to_string(wanted) + " would cut off data"}
            .advise("volumes can only grow"));
  }
  if (wanted == now) return now;
  if (auto room = lvm_admit(tools, wanted - now); !room) return fail(std::move(room.error()));
  return tools
      .change("lvextend", {"-L", std::to_string(wanted.count) + "b", tools.spec(volume.str())},
              "growing '" + tools.spec(volume.str()) + "'")
      .map([&] { return wanted; });
}

/// A volume that is being filled says so until it is whole.
template <CommandRunner Runner>
Result<void> lvm_mark_import(const LvmTools<Runner>& tools, const VolumeName& volume, bool begins) {
  return tools.change("lvchange",
                      {begins ? "--addtag" : "--deltag", lvm_tag(lvm_intent_tag, "import"), tools.spec(volume.str())},
                      "marking the import of '" + tools.spec(volume.str()) + "'");
}

/// Gives a marked volume the name of a template, by which the mark is void.
template <CommandRunner Runner>
Result<void> lvm_finish_template(const LvmTools<Runner>& tools, const std::string& from, const std::string& to) {
  auto renamed = tools.change("lvrename", {tools.vg(), from, to}, "renaming '" + tools.spec(from) + "'");
  if (renamed || renamed.error().code() != Errc::already_exists) return renamed;
  // Somebody took the name just now.
  auto undone =
      tools.change("lvchange", {"-prw", "-kn", "--deltag", lvm_tag(lvm_intent_tag, "template"), tools.spec(from)},
                   "making '" + tools.spec(from) + "' a volume again");
  if (!undone) return undone;
  return renamed;
}

/// Read-only and marked first, renamed last: whoever sees the new name sees a template.
template <CommandRunner Runner>
Result<void> lvm_make_template(const LvmTools<Runner>& tools, const VolumeName& volume, const VolumeName& to) {
  if (auto good = lvm_check_length(to.str()); !good) return good;
  const auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(lock.error());
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const auto lv = view->volume(volume);
  if (!lv) return fail(lv.error());
  if (const auto snapshots = view->snapshots(volume.str()); !snapshots.empty()) {
    return fail(Error{Errc::wrong_state, "it has snapshots, '" + snapshots.front().name + "' for one"}.advise(
        "a template has none: remove them first"));
  }
  if (view->report().find(to.str()) != nullptr) {
    return fail(Errc::already_exists, "there is a volume '" + tools.spec(to.str()) + "' already");
  }
  if (auto free = lvm_free(tools, *view, volume.str()); !free) return free;
  if ((*lv)->active()) {
    if (auto done = lvm_deactivate(tools, {volume.str()}); !done) return done;
  }
  auto marked = tools.change("lvchange",
                             {"-pr", "-ky", "--addtag", lvm_tag(lvm_intent_tag, "template"), tools.spec(volume.str())},
                             "making '" + tools.spec(volume.str()) + "' read-only");
  if (!marked) return marked;
  return lvm_finish_template(tools, volume.str(), to.str());
}

}  // namespace stowage::detail
