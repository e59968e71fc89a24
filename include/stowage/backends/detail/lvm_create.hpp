#pragma once
// New volumes: empty ones, snapshots and clones; and those that change size or become templates.

#include <chrono>
#include <stowage/backends/detail/lvm_intent.hpp>
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

/// A volume that a verb has for itself.
struct LvmHeld {
  LvmLock lock;
  LvmView view;
  const LvmVolume* lv = nullptr;
};

/// What a verb of several steps begins with. Errors: in_use (another verb is at it), not_found.
template <CommandRunner Runner>
Result<LvmHeld> lvm_hold(const LvmTools<Runner>& tools, const VolumeName& volume) {
  auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(std::move(lock.error()));
  return lvm_find(tools, volume).map([&](LvmFound&& found) {
    return LvmHeld{*std::move(lock), std::move(found.view), found.lv};
  });
}

/// LVM's limit. Errors: invalid_argument.
inline Result<void> lvm_check_length(std::string_view name) {
  if (name.size() <= lvm_longest_name) return {};
  return fail(Errc::invalid_argument, "'" + std::string{name} + "' has " + std::to_string(name.size()) +
                                          " characters, LVM allows " + std::to_string(lvm_longest_name));
}

/// How `lvcreate` makes a volume writable and active now (-K), with the flag that lets everybody else skip it: nobody
/// activates it at boot. The reference says that in a second command, by a property that lvcreate cannot give to thin
/// volumes; like us it activates with -K.
inline std::vector<std::string> lvm_as_volume() { return {"-prw", "-ay", "-ky", "-K"}; }

template <CommandRunner Runner>
Result<void> lvm_new_volume(const LvmTools<Runner>& tools, const std::string& name,
                            const std::vector<std::string>& kind, const std::string& doing) {
  std::vector<std::string> arguments = lvm_as_volume();
  arguments.insert(arguments.begin(), {"-n", name});
  arguments.insert(arguments.end(), kind.begin(), kind.end());
  return tools.change("lvcreate", std::move(arguments), doing).map_error([&](Error&& error) {
    return lvm_with_numbers(tools, std::move(error));
  });
}

/// An empty volume. What a thin pool has not allocated reads as zeros, so nothing is wiped. With an intent it comes to
/// be unfinished.
template <CommandRunner Runner>
Result<void> lvm_create(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size,
                        std::string_view intent = {}) {
  if (auto good = lvm_check_length(volume.str()); !good) return good;
  const bool is_import = !intent.empty();
  if (auto room = lvm_admit(tools, size, is_import ? size : Bytes{}); !room) return room;
  std::vector<std::string> kind{"-Wn", "-V", std::to_string(round_up(size, 512_B).count) + "b", "--thinpool",
                                tools.pool()};
  if (is_import) kind.insert(kind.begin(), {"--addtag", lvm_tag(lvm_intent_tag, intent)});
  return lvm_new_volume(tools, volume.str(), kind, "creating '" + tools.spec(volume.str()) + "'");
}

/// A read-only snapshot, of a volume that may be open. One that is active needs no question: the kernel knows it.
/// `tags`: besides those that every snapshot has.
template <CommandRunner Runner>
Result<void> lvm_take_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                               const std::vector<std::string>& tags = {}) {
  const std::string lv = lvm_snapshot_lv(volume.str(), snapshot.str());
  if (auto good = lvm_check_length(lv); !good) return good;
  const auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(lock.error());
  if (!lvm_stands_in_pool(tools, volume.str()).value_or(false)) {
    if (const auto found = lvm_find(tools, volume); !found) return fail(found.error());
  }
  const auto now =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
  std::vector<std::string> arguments{"-s",
                                     "-n",
                                     lv,
                                     "-pr",
                                     "-ky",
                                     "--addtag",
                                     lvm_tag(lvm_of_tag, volume.str()),
                                     "--addtag",
                                     lvm_tag(lvm_at_tag, std::to_string(now.count()))};
  for (const std::string& tag : tags) arguments.insert(arguments.end(), {"--addtag", tag});
  arguments.push_back(tools.spec(volume.str()));
  return tools.change("lvcreate", std::move(arguments), "taking snapshot '" + tools.spec(lv) + "'")
      .map_error([&](Error&& error) { return lvm_with_numbers(tools, std::move(error)); });
}

/// The snapshots of a volume. One that may be another's is listed for the volume with the longer name.
template <CommandRunner Runner>
Result<std::vector<SnapshotInfo>> lvm_list_snapshots(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  std::vector<SnapshotInfo> infos;
  for (const LvmView::Snapshot& snapshot : found->view.snapshots(volume.str())) {
    if (snapshot.owners.front() != volume.str()) continue;
    SnapshotInfo info{.name = *SnapshotName::parse(snapshot.name), .size = snapshot.lv->size};
    info.id = LvmView::taken_at(*snapshot.lv);
    info.ctime = std::chrono::sys_seconds{std::chrono::seconds{static_cast<std::int64_t>(info.id / 1'000'000)}};
    infos.push_back(std::move(info));
  }
  return infos;
}

/// A writable volume on the blocks of the LV `source`. `parent` is what the clone says of itself.
template <CommandRunner Runner>
Result<void> lvm_clone(const LvmTools<Runner>& tools, const std::string& source, const std::string& parent,
                       const VolumeName& to) {
  if (auto good = lvm_check_length(to.str()); !good) return good;
  return lvm_new_volume(tools, to.str(), {"--addtag", lvm_tag(lvm_parent_tag, parent), "-s", tools.spec(source)},
                        "cloning '" + tools.spec(source) + "'");
}

/// Nobody asks first: LVM refuses what is not there, and whether it was of our pool, the clone's device tells.
/// Errors: not_found; the clone was taken back, if it came to be in another pool.
template <CommandRunner Runner>
Result<void> lvm_clone_base(const LvmTools<Runner>& tools, const VolumeName& base, const VolumeName& to) {
  if (lvm_limited(tools.options().limits)) {
    const auto source = lvm_find(tools, base);
    if (!source) return fail(source.error());
    if (auto room = lvm_admit(tools, source->lv->size); !room) return room;
  }
  if (auto made = lvm_clone(tools, base.str(), base.str(), to); !made) return made;
  if (lvm_stands_in_pool(tools, to.str()).value_or(false)) return {};
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const LvmVolume* made = view->report().find(to.str());
  if (made == nullptr || view->ours(*made)) return {};
  if (auto gone = tools.change("lvremove", {tools.spec(to.str())}, "taking the clone back"); !gone) return gone;
  return fail(Errc::not_found,
              "'" + base.str() + "' is not a volume of the thin pool '" + tools.config().thinpool + "'");
}

template <CommandRunner Runner>
Result<void> lvm_clone_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                                const VolumeName& to) {
  const auto source = lvm_find(tools, volume, snapshot);
  if (!source) return fail(source.error());
  if (auto room = lvm_admit(tools, source->lv->size); !room) return room;
  return lvm_clone(tools, source->lv->name, volume.str() + "/" + snapshot.str(), to);
}

/// Grows a volume, also an open one.
template <CommandRunner Runner>
Result<Bytes> lvm_resize(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  // A rollback that waits would give it the size of the snapshot. (What receives a stream grows on the way.)
  const auto intent = lvm_intent_of(found->view, volume.str());
  if (auto rests = lvm_at_rest(found->view, volume.str()); !rests && intent->verb != "receive") {
    return fail(std::move(rests.error()));
  }
  const Bytes now = found->lv->size;
  const Bytes wanted = round_up(size, found->lv->extent);
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

/// A volume that was being filled is whole.
template <CommandRunner Runner>
Result<void> lvm_end_import(const LvmTools<Runner>& tools, const VolumeName& volume) {
  return tools.change("lvchange", {"--deltag", lvm_tag(lvm_intent_tag, "import"), tools.spec(volume.str())},
                      "ending the import of '" + tools.spec(volume.str()) + "'");
}

/// Gives a marked volume the name of a template, by which the mark is void.
template <CommandRunner Runner>
Result<void> lvm_finish_template(const LvmTools<Runner>& tools, const std::string& from, const std::string& to) {
  auto renamed = tools.change("lvrename", {tools.vg(), from, to}, "renaming '" + tools.spec(from) + "'");
  if (renamed || renamed.error().code() != Errc::already_exists) return renamed;
  // Somebody took the name just now. (It had the other flag before, unless pvesm has made it.)
  auto undone = tools.change("lvchange", {"-prw", "--deltag", lvm_tag(lvm_intent_tag, "template"), tools.spec(from)},
                             "making '" + tools.spec(from) + "' a volume again");
  if (!undone) return undone;
  return renamed;
}

/// Read-only and marked first, renamed last: whoever sees the new name sees a template.
template <CommandRunner Runner>
Result<void> lvm_make_template(const LvmTools<Runner>& tools, const VolumeName& volume, const VolumeName& to) {
  if (auto good = lvm_check_length(to.str()); !good) return good;
  const auto held = lvm_hold(tools, volume);
  if (!held) return fail(held.error());
  if (auto rests = lvm_at_rest(held->view, volume.str()); !rests) return rests;
  if (const auto snapshots = held->view.snapshots(volume.str()); !snapshots.empty()) {
    return fail(Error{Errc::wrong_state, "it has snapshots, '" + snapshots.front().name + "' for one"}.advise(
        "a template has none: remove them first"));
  }
  if (held->view.report().find(to.str()) != nullptr) {
    return fail(Errc::already_exists, "there is a volume '" + tools.spec(to.str()) + "' already");
  }
  if (auto free = lvm_free(tools, held->view, volume.str()); !free) return free;
  if (held->lv->active()) {
    if (auto done = lvm_deactivate(tools, {volume.str()}); !done) return done;
  }
  auto marked = tools.change("lvchange",
                             {"-pr", "-ky", "--addtag", lvm_tag(lvm_intent_tag, "template"), tools.spec(volume.str())},
                             "making '" + tools.spec(volume.str()) + "' read-only");
  if (!marked) return marked;
  return lvm_finish_template(tools, volume.str(), to.str());
}

}  // namespace stowage::detail
