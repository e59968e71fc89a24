#pragma once
// A volume that a verb has for itself, and whether the verb may go on at it: the lock first, then the record, by the
// report that the verb uses as well.

#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_lock.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_runs.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/table.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// How long a verb waits for another one at the same volume.
inline constexpr std::chrono::seconds lvm_lock_patience{2};

/// Errors: in_use, with the verb and the process that hold it, where a record names them.
template <CommandRunner Runner>
Result<LvmLock> lvm_lock(const LvmTools<Runner>& tools, const VolumeName& volume,
                         std::chrono::milliseconds patience = lvm_lock_patience) {
  auto lock = LvmLock::take(tools.options(), tools.vg(), volume.str(), patience).map_error([](Error&& error) {
    return error.code() == Errc::in_use ? std::move(error).advise("wait for its end") : std::move(error);
  });
  if (lock || lock.error().code() != Errc::in_use || patience.count() == 0) return lock;
  const auto view = lvm_view(tools, LvmDetail::listing);
  const auto intent = view ? lvm_intent_of(*view, volume.str()) : std::nullopt;
  if (!intent) return lock;
  return fail(
      Error{Errc::in_use, lock.error().detail() + ": " + holder_of(intent->record), lock.error().native()}.advise(
          "wait for its end"));
}

/// The same for a verb that may end a run of several calls that this policy has at the volume.
template <CommandRunner Runner>
Result<LvmLock> lvm_lock_or_end_run(const LvmTools<Runner>& tools, const VolumeName& volume) {
  if (const auto run = tools.runs().take(volume.str())) return std::move(run->lock);
  return lvm_lock(tools, volume);
}

/// `verb` may go on at a volume whose lock is held. Errors: as `admit`.
inline Result<Admission> lvm_admit_verb(const LvmView& view, const std::string& volume, Verb verb,
                                        const std::vector<std::string>& arguments = {}) {
  const auto intent = lvm_intent_of(view, volume);
  if (!intent) return Admission::free;
  return admit(verb, arguments, intent->record, lvm_liveness(*intent));
}

/// The same, and no rollback waits either, whose copy has the name of the volume in its own.
inline Result<void> lvm_admit_at_rest(const LvmView& view, const std::string& volume, Verb verb) {
  if (auto admitted = lvm_admit_verb(view, volume, verb); !admitted) return fail(std::move(admitted.error()));
  const auto intent = lvm_intent_of(view, volume);
  if (!intent) return {};
  return fail(Error{Errc::wrong_state, "a " + intent->verb + " of it waits for its next activation"}.advise(
      "deactivate and activate it first"));
}

/// `verb` may go on at a volume whose lock is not held: a run of this policy may go on with its own.
/// Errors: as `admit`.
template <CommandRunner Runner>
Result<void> lvm_admit_without_lock(const LvmTools<Runner>& tools, const LvmView& view, const VolumeName& volume,
                                    Verb verb) {
  const auto intent = lvm_intent_of(view, volume.str());
  if (!intent || lvm_is_merged(*intent) || tools.runs().find(volume.str()) != nullptr) return {};
  const auto lock = lvm_lock(tools, volume, std::chrono::milliseconds{0});
  if (!lock && lock.error().code() != Errc::in_use) return fail(lock.error());
  return admit(verb, {}, intent->record, lock ? lvm_liveness(*intent) : Liveness::live).map([](Admission) {});
}

/// A volume that a verb has for itself.
struct LvmHeld {
  LvmLock lock;
  LvmView view;
  const LvmVolume* lv = nullptr;
};

/// What a verb of several steps begins with. Errors: in_use (another verb is at it), not_found; those of `admit`.
template <CommandRunner Runner>
Result<LvmHeld> lvm_hold(const LvmTools<Runner>& tools, const VolumeName& volume, Verb verb,
                         const std::vector<std::string>& arguments = {}) {
  auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(std::move(lock.error()));
  auto found = lvm_find(tools, volume);
  if (!found) return fail(std::move(found.error()));
  if (auto admitted = lvm_admit_verb(found->view, volume.str(), verb, arguments); !admitted) {
    return fail(std::move(admitted.error()));
  }
  return LvmHeld{*std::move(lock), std::move(found->view), found->lv};
}

}  // namespace stowage::detail
