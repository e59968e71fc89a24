#pragma once
// Which volumes and snapshots a report tells of: by name, by our tags, and by what LVM knows.
//
// A snapshot is the volume `snap_<volume>_<snapshot>`, as pvesm makes them. As '_' is legal in both parts, the name
// alone does not always tell whose it is. Our tag does, and so do these, which all hold names that LVM allows, and
// LVM allows every character of a name in a tag too.

#include <algorithm>
#include <optional>
#include <stowage/backends/detail/lvm_private.hpp>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/names.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// On a snapshot: the volume that it is of.
inline constexpr std::string_view lvm_of_tag = "stowage.of=";
/// On a snapshot: when it was taken, in microseconds since 1970. LVM's own time is that of the last rollback to it.
inline constexpr std::string_view lvm_at_tag = "stowage.at=";
/// On a clone: `<volume>` or `<volume>/<snapshot>`.
inline constexpr std::string_view lvm_parent_tag = "stowage.parent=";
/// On a volume that took another's place in a rollback: its identity, which is the first one's uuid.
inline constexpr std::string_view lvm_id_tag = "stowage.id=";
/// On that one too: the uuid of the volume that has to go. Void when it has gone.
inline constexpr std::string_view lvm_replaces_tag = "stowage.replaces=";
/// On volumes that version 0.1 made, which trusts it: what LVM calls their descendants are all snapshots that there are
/// of them. After a merge LVM does not know them all, so it is taken away before that.
inline constexpr std::string_view lvm_lineage_tag = "stowage.lineage";

/// The arguments of a record. Version 0.1 wrote them as one text: `rename/OLD/NEW`, `receive/DONE/TARGET/BASE`.
inline std::vector<std::string> lvm_intent_arguments(const Intent& intent) {
  if (intent.format != IntentFormat::earlier || intent.arguments.empty()) return intent.arguments;
  std::vector<std::string> arguments;
  for (const std::string_view part : lvm_split(intent.arguments[0], '/')) arguments.emplace_back(part);
  return arguments;
}

inline std::string lvm_tag(std::string_view key, std::string_view value) { return std::string{key}.append(value); }

// The copy of a snapshot that stands aside during a rollback has its name with another beginning, of the same length.
inline constexpr std::string_view lvm_snapshot_prefix = "snap_";
inline constexpr std::string_view lvm_aside_prefix = "roll_";  ///< will be the snapshot again
inline constexpr std::string_view lvm_next_prefix = "next_";   ///< will be the volume
inline constexpr std::string_view lvm_gone_prefix = "gone_";   ///< was the volume

inline std::string lvm_snapshot_lv(std::string_view volume, std::string_view snapshot,
                                   std::string_view prefix = lvm_snapshot_prefix) {
  return std::string{prefix}.append(volume).append("_").append(snapshot);
}

/// The rest of `lv` behind `<prefix><volume>_`; nothing when it is another's.
constexpr std::optional<std::string_view> lvm_snapshot_name(std::string_view lv, std::string_view volume,
                                                            std::string_view prefix = lvm_snapshot_prefix) noexcept {
  if (!lv.starts_with(prefix)) return std::nullopt;
  lv.remove_prefix(prefix.size());
  if (!lv.starts_with(volume) || lv.size() < volume.size() + 2 || lv[volume.size()] != '_') return std::nullopt;
  return lv.substr(volume.size() + 1);
}

/// What a volume with the private name of an import will be called; nothing, when it is none.
inline std::optional<std::string> lvm_import(const LvmVolume& lv) {
  const auto tag = lv.tag(lvm_intent_tag);
  if (!lv.name.starts_with(lvm_import_prefix) || !tag) return std::nullopt;
  const Intent intent = parse_intent(*tag);
  const bool good = intent.format == IntentFormat::current && (intent.verb == "import" || intent.verb == "receive") &&
                    intent.bound == lv.vg_uuid + "." + lv.name.substr(lvm_import_prefix.size());
  return good ? std::optional{intent.argument(0)} : std::nullopt;
}

/// A report, seen as the volumes of one thin pool. It hands out pointers into itself, which stay good when it moves.
class LvmView {
 public:
  LvmView(LvmReport report, std::string pool) : report_{std::move(report)}, pool_{std::move(pool)} {
    by_name_.reserve(report_.volumes.size());
    for (const LvmVolume& volume : report_.volumes) by_name_.push_back(&volume);
    std::sort(by_name_.begin(), by_name_.end(),
              [](const LvmVolume* a, const LvmVolume* b) { return a->name < b->name; });
  }
  LvmView(LvmView&&) = default;
  LvmView& operator=(LvmView&&) = default;
  LvmView(const LvmView&) = delete;
  LvmView& operator=(const LvmView&) = delete;
  ~LvmView() = default;

  [[nodiscard]] const LvmReport& report() const noexcept { return report_; }

  /// Errors: not_found.
  [[nodiscard]] Result<const LvmVolume*> pool() const {
    const LvmVolume* found = report_.find(pool_);
    if (found != nullptr && found->is_pool()) return found;
    return fail(Error{Errc::not_found, found == nullptr ? "no thin pool '" + pool_ + "' in the volume group"
                                                        : "'" + pool_ + "' is not a thin pool"}
                    .advise("see: lvs"));
  }

  /// Our pool's volume of this name, or null.
  [[nodiscard]] const LvmVolume* find(std::string_view name) const noexcept {
    const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                        [](const LvmVolume* v, std::string_view wanted) { return v->name < wanted; });
    const bool there = found != by_name_.end() && (*found)->name == name;
    return there && ours(**found) && !(*found)->hidden ? *found : nullptr;
  }
  /// Errors: not_found; wrong_state (it is being removed).
  [[nodiscard]] Result<const LvmVolume*> volume(const VolumeName& volume) const {
    const LvmVolume* found = find(volume.str());
    if (found == nullptr) found = import_of(volume.str());
    if (found != nullptr) return found;
    if (removal_of(volume.str()) != nullptr) {
      return fail(
          Error{Errc::wrong_state, "its removal is unfinished"}.advise("remove it again, or recover finishes it"));
    }
    const bool elsewhere = report_.find(volume.str()) != nullptr;
    return fail(Errc::not_found, elsewhere ? "'" + volume.str() + "' is not a volume of the thin pool '" + pool_ + "'"
                                           : "no volume '" + volume.str() + "' in the thin pool '" + pool_ + "'");
  }
  [[nodiscard]] bool ours(const LvmVolume& volume) const noexcept { return volume.is_thin() && volume.pool == pool_; }

  /// What was the volume of this name and is being removed, or null.
  [[nodiscard]] const LvmVolume* removal_of(std::string_view name) const {
    for (const LvmVolume& lv : report_.volumes) {
      if (!lv.name.starts_with(lvm_removal_prefix) || !ours(lv)) continue;
      if (const auto removal = lvm_removal(lv); removal && removal->volume == name) return &lv;
    }
    return nullptr;
  }

  /// What will be the volume of this name and is being filled, or null.
  [[nodiscard]] const LvmVolume* import_of(std::string_view name) const {
    for (const LvmVolume& lv : report_.volumes) {
      if (lv.name.starts_with(lvm_import_prefix) && ours(lv) && lvm_import(lv) == name) return &lv;
    }
    return nullptr;
  }

  /// Those of our pool whose names are volumes' names, sorted by them.
  [[nodiscard]] std::vector<const LvmVolume*> volumes() const {
    std::vector<const LvmVolume*> found;
    for (const LvmVolume* volume : by_name_) {
      if (ours(*volume) && !volume->hidden && is_volume_name(volume->name)) found.push_back(volume);
    }
    return found;
  }

  /// The volumes that a snapshot may be of, the likeliest first: the one of our tag; else those whose names fit, the
  /// longest first. LVM's origin, if it is a volume whose name fits, rules out the others.
  [[nodiscard]] std::vector<std::string> owners(const LvmVolume& snapshot) const {
    if (const auto owner = snapshot.tag(lvm_of_tag)) {
      if (lvm_snapshot_name(snapshot.name, *owner)) return {*owner};
      // In the middle of being renamed, it has the new tag and the old name.
      if (const auto old = old_name(*owner); old && lvm_snapshot_name(snapshot.name, *old)) return {*owner};
    }
    std::vector<std::string> owners;
    for (std::size_t end = snapshot.name.size(); end != 0 && end != std::string::npos;
         end = snapshot.name.rfind('_', end - 1)) {
      if (end <= lvm_snapshot_prefix.size() || !snapshot.name.starts_with(lvm_snapshot_prefix)) break;
      const std::string name = snapshot.name.substr(lvm_snapshot_prefix.size(), end - lvm_snapshot_prefix.size());
      if (find(name) == nullptr || !is_volume_name(name) || !lvm_snapshot_name(snapshot.name, name)) continue;
      if (name == snapshot.origin) return {name};
      owners.push_back(name);
    }
    return owners;
  }

  struct Snapshot {
    const LvmVolume* lv = nullptr;
    std::string name;
    std::vector<std::string> owners;  ///< more than one: nobody can tell
  };

  /// The snapshots of a volume, oldest first: also those that it may share with others.
  [[nodiscard]] std::vector<Snapshot> snapshots(std::string_view volume) const {
    std::vector<Snapshot> found;
    for (const LvmVolume& lv : report_.volumes) {
      if (!lv.name.starts_with(lvm_snapshot_prefix) || !ours(lv) || lv.hidden) continue;
      std::vector<std::string> owners = this->owners(lv);
      if (std::find(owners.begin(), owners.end(), volume) == owners.end()) continue;
      auto name = lvm_snapshot_name(lv.name, volume);
      if (const auto old = old_name(volume); !name && old) name = lvm_snapshot_name(lv.name, *old);
      if (name) found.push_back({&lv, std::string{*name}, std::move(owners)});
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Snapshot& a, const Snapshot& b) { return taken_at(*a.lv) < taken_at(*b.lv); });
    return found;
  }

  /// Whose each of `snapshots` is stands beyond doubt. Errors: in_use, with the volumes that it may be of.
  [[nodiscard]] static Result<void> undisputed(const std::vector<Snapshot>& snapshots) {
    for (const Snapshot& snapshot : snapshots) {
      if (snapshot.owners.size() < 2) continue;
      return fail(Error{Errc::in_use, "nobody can tell whether '" + snapshot.lv->name + "' is a snapshot of '" +
                                          snapshot.owners[0] + "' or of '" + snapshot.owners[1] + "'"}
                      .advise("say it: lvchange --addtag " + std::string{lvm_of_tag} + "<volume> " + snapshot.lv->vg +
                              "/" + snapshot.lv->name));
    }
    return {};
  }

  /// One snapshot, which is no other volume's. Errors: not_found, in_use (it may be another's).
  [[nodiscard]] Result<const LvmVolume*> snapshot(const VolumeName& volume, const SnapshotName& snapshot) const {
    if (auto there = this->volume(volume); !there) return there;
    for (const Snapshot& s : snapshots(volume.str())) {
      if (s.name != snapshot.str()) continue;
      if (auto good = undisputed({s}); !good) return fail(std::move(good.error()));
      return s.lv;
    }
    return fail(Errc::not_found, "volume '" + volume.str() + "' has no snapshot '" + snapshot.str() + "'");
  }

  /// In microseconds since 1970. Of what others have made LVM knows the second, and the thin id, which grows: that is
  /// the order within it, which a rollback's copy keeps in its tag.
  [[nodiscard]] static std::uint64_t taken_at(const LvmVolume& snapshot) {
    if (const auto tag = snapshot.tag(lvm_at_tag)) {
      if (const auto at = lvm_number<std::uint64_t>(*tag)) return *at;
    }
    const auto seconds = static_cast<std::uint64_t>(std::max<std::int64_t>(snapshot.ctime.value_or(0), 0));
    return seconds * 1'000'000 + std::min<std::uint64_t>(snapshot.thin_id, 999'999);
  }

  [[nodiscard]] static bool is_volume_name(std::string_view name) {
    const auto volume = VolumeName::parse(name);
    return volume && parse_volume_name(StorageType::lvmthin, *volume);
  }

  /// What `volume` was called before the renaming that it is in the middle of.
  [[nodiscard]] std::optional<std::string> old_name(std::string_view volume) const {
    const LvmVolume* found = find(volume);
    const auto tag = found == nullptr ? std::nullopt : found->tag(lvm_intent_tag);
    if (!tag) return std::nullopt;
    const Intent intent = parse_intent(*tag);
    const auto names = lvm_intent_arguments(intent);
    const bool renamed = intent.verb == "rename" && names.size() == 2 && names[1] == volume;
    return renamed ? std::optional{names[0]} : std::nullopt;
  }

 private:
  LvmReport report_;
  std::string pool_;
  std::vector<const LvmVolume*> by_name_;
};

/// What LVM calls them.
inline std::vector<std::string> lvm_names(const std::vector<LvmView::Snapshot>& snapshots) {
  std::vector<std::string> names;
  names.reserve(snapshots.size());
  for (const LvmView::Snapshot& snapshot : snapshots) names.push_back(snapshot.lv->name);
  return names;
}

}  // namespace stowage::detail
