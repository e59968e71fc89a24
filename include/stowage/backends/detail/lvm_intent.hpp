#pragma once
// Unfinished verbs, as a report shows them: by tags, and by volumes that stand aside.

#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_names.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

struct LvmIntent {
  std::string verb;    ///< rollback, import, remove, template, rename, receive
  std::string volume;  ///< that it is about; of a rollback it may be missing just now
};

/// The copies that a rollback of `volume` has put aside: at most one of each kind.
struct LvmAside {
  const LvmVolume* snapshot = nullptr;  ///< `roll_...`
  const LvmVolume* next = nullptr;      ///< `next_...`
  std::string name;                     ///< of the snapshot
};

inline LvmAside lvm_aside(const LvmView& view, std::string_view volume) {
  LvmAside aside;
  for (const LvmVolume& lv : view.report().volumes) {
    if (!view.ours(lv) || lv.tag(lvm_of_tag) != volume) continue;
    for (const auto& [prefix, place] : {std::pair{lvm_aside_prefix, &aside.snapshot}, {lvm_next_prefix, &aside.next}}) {
      const auto name = lvm_snapshot_name(lv.name, volume, prefix);
      if (!name) continue;
      *place = &lv;
      aside.name = *name;
    }
  }
  return aside;
}

/// The volume whose place `lv` has taken, if it is still there.
inline const LvmVolume* lvm_replaced(const LvmView& view, const LvmVolume& lv) {
  const auto uuid = lv.tag(lvm_replaces_tag);
  return uuid ? view.report().find_uuid(*uuid) : nullptr;
}

inline std::optional<LvmIntent> lvm_intent_in(const LvmView& view, const LvmVolume& lv) {
  if (!view.ours(lv)) return std::nullopt;
  if (const auto removal = lvm_removal(lv)) return LvmIntent{"remove", removal->volume};
  const auto of = lv.tag(lvm_of_tag);
  if (of && (lvm_snapshot_name(lv.name, *of, lvm_aside_prefix) || lvm_snapshot_name(lv.name, *of, lvm_next_prefix))) {
    return LvmIntent{"rollback", *of};
  }
  const bool replaces = lvm_replaced(view, lv) != nullptr;
  const auto tag = lv.tag(lvm_intent_tag);
  if ((!replaces && !tag) || !LvmView::is_volume_name(lv.name)) return std::nullopt;
  if (replaces) return LvmIntent{"rollback", lv.name};
  if (*tag == "template" && lv.name.starts_with("base-")) return std::nullopt;  // it is one now
  return LvmIntent{tag->substr(0, tag->find('/')), lv.name};
}

/// One for each volume that has any.
inline std::vector<LvmIntent> lvm_intents(const LvmView& view) {
  std::vector<LvmIntent> found;
  for (const LvmVolume& lv : view.report().volumes) {
    auto intent = lvm_intent_in(view, lv);
    const auto same = [&](const LvmIntent& other) { return other.volume == intent->volume; };
    if (intent && std::none_of(found.begin(), found.end(), same)) found.push_back(*std::move(intent));
  }
  return found;
}

inline std::optional<LvmIntent> lvm_intent_of(const LvmView& view, std::string_view volume) {
  for (LvmIntent& intent : lvm_intents(view)) {
    if (intent.volume == volume) return std::move(intent);
  }
  return std::nullopt;
}

/// No verb has left the volume unfinished. Errors: wrong_state.
inline Result<void> lvm_at_rest(const LvmView& view, std::string_view volume) {
  const auto intent = lvm_intent_of(view, volume);
  if (!intent) return {};
  return fail(Error{Errc::wrong_state, "it is in the middle of: " + intent->verb}.advise("recover finishes it"));
}

/// What a clone was made of, by our tag, or else by LVM's origin; nothing when that is not there any more.
inline std::optional<Parent> lvm_parent(const LvmView& view, const LvmVolume& lv) {
  std::string_view image = lv.origin;
  std::string_view snapshot;
  const auto tag = lv.tag(lvm_parent_tag);
  if (tag) {
    const auto parts = lvm_split(*tag, '/');
    image = parts[0];
    if (parts.size() > 1) snapshot = parts[1];
    const bool there = view.find(snapshot.empty() ? std::string{image} : lvm_snapshot_lv(image, snapshot)) != nullptr;
    if (!there) return std::nullopt;
    return Parent{{}, {}, std::string{image}, std::string{snapshot}};
  }
  const LvmVolume* origin = image.empty() ? nullptr : view.find(image);
  if (origin == nullptr) return std::nullopt;
  if (LvmView::is_volume_name(image)) {
    return image.starts_with("base-") ? std::optional{Parent{{}, {}, std::string{image}, {}}} : std::nullopt;
  }
  const auto owners = view.owners(*origin);
  if (owners.size() != 1) return std::nullopt;
  const auto name = lvm_snapshot_name(image, owners[0]);
  if (!name || owners[0] == lv.name) return std::nullopt;
  return Parent{{}, {}, owners[0], std::string{*name}};
}

inline VolumeInfo lvm_info(const LvmView& view, const LvmVolume& lv, const std::string& name,
                           const std::vector<LvmIntent>& intents) {
  VolumeInfo info{.name = *VolumeName::parse(name)};
  info.size = lv.size;
  if (const auto parts = parse_volume_name(StorageType::lvmthin, info.name)) info.vmid = parts->owner();
  info.parent = lvm_parent(view, lv);
  if (lv.data) info.used = lv.data->of(lv.size);
  if (lv.ctime) info.ctime = std::chrono::sys_seconds{std::chrono::seconds{*lv.ctime}};
  info.identity = lv.tag(lvm_id_tag).value_or(lv.uuid);
  const auto intent =
      std::find_if(intents.begin(), intents.end(), [&](const LvmIntent& i) { return i.volume == name; });
  if (intent != intents.end()) info.intent = intent->verb;
  return info;
}

/// The volumes of our pool; also one that is missing just now, in the middle of a rollback or a removal.
inline std::vector<VolumeInfo> lvm_infos(const LvmView& view) {
  const std::vector<LvmIntent> intents = lvm_intents(view);
  std::vector<VolumeInfo> infos;
  for (const LvmVolume* lv : view.volumes()) infos.push_back(lvm_info(view, *lv, lv->name, intents));
  for (const LvmIntent& intent : intents) {
    if (view.find(intent.volume) != nullptr || !LvmView::is_volume_name(intent.volume)) continue;
    if (const LvmAside aside = lvm_aside(view, intent.volume); aside.next != nullptr) {
      infos.push_back(lvm_info(view, *aside.next, intent.volume, intents));
    } else if (const LvmVolume* removal = view.removal_of(intent.volume)) {
      infos.push_back(lvm_info(view, *removal, intent.volume, intents));
    }
  }
  return infos;
}

}  // namespace stowage::detail
