#pragma once
// New volumes: empty ones, snapshots and clones; and those that change size or become templates.

#include <chrono>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

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

/// An empty volume. What a thin pool has not allocated reads as zeros, so nothing is wiped.
template <CommandRunner Runner>
Result<void> lvm_create(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  if (auto good = lvm_check_length(volume.str()); !good) return good;
  if (auto room = lvm_admit(tools, size); !room) return room;
  return lvm_new_volume(tools, volume.str(),
                        {"-Wn", "-V", std::to_string(round_up(size, 512_B).count) + "b", "--thinpool", tools.pool()},
                        "creating '" + tools.spec(volume.str()) + "'");
}

/// `lvcreate` of a read-only snapshot of the LV `source`, which may be open. `tags`: besides those that every snapshot
/// has.
template <CommandRunner Runner>
Result<void> lvm_new_snapshot(const LvmTools<Runner>& tools, const std::string& source, const VolumeName& volume,
                              const SnapshotName& snapshot, const std::vector<std::string>& tags = {}) {
  const std::string lv = lvm_snapshot_lv(volume.str(), snapshot.str());
  if (auto good = lvm_check_length(lv); !good) return good;
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
  arguments.push_back(tools.spec(source));
  return tools.change("lvcreate", std::move(arguments), "taking snapshot '" + tools.spec(lv) + "'")
      .map_error([&](Error&& error) { return lvm_with_numbers(tools, std::move(error)); });
}

template <CommandRunner Runner>
Result<void> lvm_take_snapshot(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot) {
  if (auto good = lvm_check_length(lvm_snapshot_lv(volume.str(), snapshot.str())); !good) return good;
  const auto held = lvm_hold(tools, volume, Verb::snapshot);
  if (!held) return fail(held.error());
  return lvm_new_snapshot(tools, held->lv->name, volume, snapshot);
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
  if (auto admitted = lvm_admit_without_lock(tools, source->view, volume, Verb::clone); !admitted) return admitted;
  if (auto room = lvm_admit(tools, source->lv->size); !room) return room;
  return lvm_clone(tools, source->lv->name, volume.str() + "/" + snapshot.str(), to);
}

/// Grows a volume, also an open one.
template <CommandRunner Runner>
Result<Bytes> lvm_resize(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  if (auto admitted = lvm_admit_without_lock(tools, found->view, volume, Verb::resize); !admitted) {
    return fail(std::move(admitted.error()));
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
      .change("lvextend", {"-L", std::to_string(wanted.count) + "b", tools.spec(found->lv->name)},
              "growing '" + tools.spec(volume.str()) + "'")
      .map([&] { return wanted; });
}

}  // namespace stowage::detail
