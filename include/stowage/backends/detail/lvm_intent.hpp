#pragma once
// Unfinished verbs, as a report shows them: by tags, and by volumes that stand aside.

#include <algorithm>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_private.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

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

/// The record in a tag of `lv`, or one of version 0.1.
inline Intent lvm_record_in(const LvmVolume& lv, std::string_view verb) {
  if (const auto tag = lv.tag(lvm_intent_tag)) return parse_intent(*tag);
  return {.format = IntentFormat::earlier, .verb = std::string{verb}, .phase = IntentPhase::commit};
}

/// What the rollback whose copy is `copy` has come to: LVM's own state of the snapshot tells.
inline IntentPhase lvm_rollback_phase(const LvmView& view, const LvmVolume& copy, const std::string& volume) {
  if (const auto name = lvm_snapshot_name(copy.name, volume, lvm_aside_prefix)) {
    const LvmVolume* snapshot = view.report().find(lvm_snapshot_lv(volume, *name));
    if (snapshot == nullptr) return IntentPhase::commit;
    return snapshot->is_merging() ? IntentPhase::waiting : IntentPhase::prepare;
  }
  const LvmVolume* lv = view.find(volume);
  return lv != nullptr && lvm_replaced(view, copy) == lv ? IntentPhase::prepare : IntentPhase::commit;
}

/// A rollback, by a copy of it, or by the volume that took another's place.
inline std::optional<LvmIntent> lvm_rollback_in(const LvmView& view, const LvmVolume& lv) {
  const auto of = lv.tag(lvm_of_tag);
  const bool copy =
      of && (lvm_snapshot_name(lv.name, *of, lvm_aside_prefix) || lvm_snapshot_name(lv.name, *of, lvm_next_prefix));
  const bool replaces = lvm_replaced(view, lv) != nullptr && LvmView::is_volume_name(lv.name);
  if (!copy && !replaces) return std::nullopt;
  LvmIntent intent{"rollback", copy ? *of : lv.name, lvm_record_in(lv, "rollback"), &lv};
  const LvmVolume* volume = copy ? view.find(intent.volume) : &lv;
  const std::string bound = volume == nullptr ? lvm_bound(lv) : lvm_bound(*volume);
  if (intent.record.format != IntentFormat::current) return intent;
  if (intent.record.bound != bound) return std::nullopt;
  intent.record.phase = lvm_rollback_phase(view, lv, intent.volume);
  return intent;
}

inline std::optional<LvmIntent> lvm_intent_in(const LvmView& view, const LvmVolume& lv) {
  if (!view.ours(lv)) return std::nullopt;
  if (const auto removal = lvm_removal(lv)) {
    return LvmIntent{
        "remove", removal->volume, {.verb = "remove", .nonce = removal->nonce, .phase = IntentPhase::commit}, &lv};
  }
  if (auto rollback = lvm_rollback_in(view, lv)) return rollback;
  const auto tag = lv.tag(lvm_intent_tag);
  if (!tag) return std::nullopt;
  if (auto volume = lvm_import(lv)) {
    Intent record = parse_intent(*tag);
    return LvmIntent{record.verb, *std::move(volume), record, &lv};
  }
  if (!LvmView::is_volume_name(lv.name)) return std::nullopt;
  Intent record = parse_intent(*tag);
  if (record.format == IntentFormat::current && record.bound != lvm_bound(lv)) return std::nullopt;
  const bool is_made = record.verb == "template" && lv.name.starts_with("base-");
  const bool is_back = record.verb == "rollback" && record.format == IntentFormat::current;  // nothing is left of it
  if (is_made || is_back) return std::nullopt;
  return LvmIntent{record.verb, lv.name, record, &lv};
}

/// A rollback by merging that has given the volume its content: only the snapshot's name is left to be given back.
inline bool lvm_is_merged(const LvmIntent& intent) {
  return intent.verb == "rollback" && intent.record.phase == IntentPhase::commit &&
         intent.record.format == IntentFormat::current && intent.lv->name.starts_with(lvm_aside_prefix);
}

/// The record on `lv` is of another volume, as by vgimportclone, or of an import that has ended.
inline bool lvm_has_void_record(const LvmView& view, const LvmVolume& lv) {
  const auto tag = lv.tag(lvm_intent_tag);
  const bool place = LvmView::is_volume_name(lv.name) || lv.name.starts_with(lvm_import_prefix);
  if (!tag || !place || !view.ours(lv)) return false;
  const Intent record = parse_intent(*tag);
  if (record.format != IntentFormat::current) return false;
  return lv.name.starts_with(lvm_import_prefix) ? !lvm_import(lv) : record.bound != lvm_bound(lv);
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
  if (intent != intents.end()) {
    (intent->record.phase == IntentPhase::waiting ? info.pending : info.intent) = intent->verb;
  }
  return info;
}

/// The volumes of our pool; also one that is missing just now, in the middle of a rollback or a removal, or not there
/// yet, in the middle of an import.
inline std::vector<VolumeInfo> lvm_infos(const LvmView& view) {
  const std::vector<LvmIntent> intents = lvm_intents(view);
  std::vector<VolumeInfo> infos;
  for (const LvmVolume* lv : view.volumes()) infos.push_back(lvm_info(view, *lv, lv->name, intents));
  for (const LvmIntent& intent : intents) {
    if (view.find(intent.volume) != nullptr || !LvmView::is_volume_name(intent.volume)) continue;
    if (const LvmAside aside = lvm_aside(view, intent.volume); aside.next != nullptr) {
      infos.push_back(lvm_info(view, *aside.next, intent.volume, intents));
    } else if (intent.lv->name.starts_with(lvm_removal_prefix) || lvm_import(*intent.lv)) {
      infos.push_back(lvm_info(view, *intent.lv, intent.volume, intents));
    }
  }
  return infos;
}

}  // namespace stowage::detail
