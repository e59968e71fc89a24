#pragma once
// The record of an unfinished verb in a tag of LVM: to which volume it is bound, whether it is void, and whether its
// run goes on.
//
// `lvcreate -s` copies no tags, and `lvconvert --merge` leaves the volume its own (seen with LVM 2.03.16). A volume can
// have the tag of another one all the same: by vgimportclone, vgcfgrestore, or a person.

#include <optional>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_private.hpp>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/error.hpp>
#include <stowage/intent/owner.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/intent/runs.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// What a record on `lv` is bound to: the volume group and the volume, which keeps its identity when a rollback gives
/// it to another LV.
inline std::string lvm_bound(const LvmVolume& lv) { return lv.vg_uuid + "." + lv.tag(lvm_id_tag).value_or(lv.uuid); }

/// The text of a new record of this process. Errors: invalid_argument (too long for a tag).
inline Result<std::string> lvm_record(std::string verb, std::string nonce, std::string bound,
                                      std::vector<std::string> arguments, IntentPhase phase = IntentPhase::prepare) {
  return intent_text({.verb = std::move(verb),
                      .nonce = std::move(nonce),
                      .phase = phase,
                      .bound = std::move(bound),
                      .owner = this_process(),
                      .arguments = std::move(arguments)});
}
/// The same with a nonce of its own, for a verb that is one call.
inline Result<std::string> lvm_record(std::string verb, const LvmVolume& lv, std::vector<std::string> arguments) {
  return new_nonce().and_then([&](std::string nonce) {
    return lvm_record(std::move(verb), std::move(nonce), lvm_bound(lv), std::move(arguments));
  });
}

/// Options of `lvchange` that put a record, or none, in the place of those that stand on `lv`.
inline std::vector<std::string> lvm_record_options(const LvmVolume& lv, const std::optional<std::string>& record) {
  std::vector<std::string> options;
  for (const std::string& tag : lv.tags) {
    if (tag.starts_with(lvm_intent_tag)) options.insert(options.end(), {"--deltag", tag});
  }
  if (record) options.insert(options.end(), {"--addtag", lvm_tag(lvm_intent_tag, *record)});
  return options;
}

/// An unfinished verb of a volume.
struct LvmIntent {
  std::string verb;               ///< rollback, import, remove, template, rename, receive
  std::string volume;             ///< that it is about; of a rollback it may be missing just now
  Intent record{};                ///< of version 0.1, if it stands in no tag
  const LvmVolume* lv = nullptr;  ///< that it stands on
};

/// Whether the run of an intent goes on. Pre: the lock of the volume is held, so that no run of this host is at it,
/// unless it is registered in this process.
inline Liveness lvm_liveness(const LvmIntent& intent) {
  if (intent.record.format != IntentFormat::current) return Liveness::unknown;
  const std::string here = lvm_place_of(this_process());
  if (const auto removal = lvm_removal(*intent.lv)) return removal->place == here ? Liveness::dead : Liveness::unknown;
  const IntentOwner& owner = intent.record.owner;
  if (owner.same_process(this_process())) return liveness(intent.record);
  if (owner.nobody() || lvm_place_of(owner) == here) return Liveness::dead;
  return liveness_here(owner);
}

}  // namespace stowage::detail
