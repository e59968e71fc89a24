#pragma once
// What each verb may do on a volume that another verb has left unfinished: the one table for all backends.

#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/intent/runs.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// The verbs that ask whether a volume is unfinished. (path, blockdev, status, list, scan and snapshot_method do not.)
enum class Verb {
  info,
  snapshots,
  deactivate,
  check,
  open_snapshot,
  activate,
  remove,
  rollback,
  make_template,
  receive,
  import,
  resize,
  rename,
  snapshot,
  remove_snapshot,
  clone,
  flatten,
  open_to_read,
  open_to_write,
};

/// The verb as it stands in a record, if it leaves one; else as people call it.
constexpr std::string_view name(Verb verb) noexcept {
  switch (verb) {
    case Verb::info: return "info";
    case Verb::snapshots: return "snapshots";
    case Verb::deactivate: return "deactivate";
    case Verb::check: return "check";
    case Verb::open_snapshot: return "open a snapshot";
    case Verb::activate: return "activate";
    case Verb::remove: return "remove";
    case Verb::rollback: return "rollback";
    case Verb::make_template: return "template";
    case Verb::receive: return "receive";
    case Verb::import: return "import";
    case Verb::resize: return "resize";
    case Verb::rename: return "rename";
    case Verb::snapshot: return "snapshot";
    case Verb::remove_snapshot: return "remove a snapshot";
    case Verb::clone: return "clone";
    case Verb::flatten: return "flatten";
    case Verb::open_to_read: return "open";
    case Verb::open_to_write: return "open for writing";
  }
  return "";
}

/// How a verb may go on.
enum class Admission {
  free,       ///< as if there were no record
  take_over,  ///< the record of a run that is dead becomes its own, by compare-and-swap
};

/// A verb that changes nothing that an unfinished one could miss.
constexpr bool always_allowed(Verb verb) noexcept {
  return verb == Verb::info || verb == Verb::snapshots || verb == Verb::deactivate || verb == Verb::check ||
         verb == Verb::open_snapshot;
}

/// The same verb again, with the same arguments. A removal may follow every verb; a rollback, to any snapshot, all that
/// leave the content half changed: it replaces all of it.
inline bool may_take_over(Verb verb, const std::vector<std::string>& arguments, const Intent& intent) {
  if (verb == Verb::remove) return true;
  if (verb == Verb::rollback && intent.verb == name(Verb::receive)) return true;
  if (name(verb) != intent.verb) return false;
  return verb == Verb::rollback || intent.format != IntentFormat::current || arguments == intent.arguments;
}

/// "a rollback by process 7 on pve1".
inline std::string holder_of(const Intent& intent) {
  return intent.owner.nobody() ? intent.verb : intent.verb + " by " + intent.owner.str();
}

/// What the way out is of a volume with this record.
inline std::string way_out_of(const Intent& intent) {
  if (intent.format != IntentFormat::current) {
    return "another version of this program has begun it: repeat it, remove the volume, or recover it with --adopt";
  }
  return "recover finishes it or undoes it";
}

/// Whether `verb` may go on at a volume that has the record `intent`, or none.
/// Errors: in_use (the run goes on, or may go on where this host cannot see it), wrong_state.
inline Result<Admission> admit(Verb verb, const std::vector<std::string>& arguments,
                               const std::optional<Intent>& intent, Liveness alive) {
  if (!intent || always_allowed(verb)) return Admission::free;
  if (intent->phase == IntentPhase::waiting && intent->format == IntentFormat::current) {
    const bool hindered = verb == Verb::resize || verb == Verb::snapshot || verb == Verb::rollback;
    if (!hindered) return Admission::free;
    return fail(Error{Errc::wrong_state, "a " + intent->verb + " of it waits for its next activation"}.advise(
        "deactivate and activate it first"));
  }
  if (alive == Liveness::live) {
    return fail(Error{Errc::in_use, "another verb is at work on it: " + holder_of(*intent)}.advise("wait for its end"));
  }
  if (may_take_over(verb, arguments, *intent)) {
    if (alive == Liveness::dead || intent->format != IntentFormat::current) return Admission::take_over;
    return fail(Error{Errc::in_use, "another verb may be at work on it: " + holder_of(*intent)}.advise(
        "this host cannot see whether that process is still there"));
  }
  return fail(Error{Errc::wrong_state, "it is unfinished: " + holder_of(*intent)}.advise(way_out_of(*intent)));
}

}  // namespace stowage
