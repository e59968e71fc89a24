#pragma once
// What died half way: found by its intent, finished or undone.

#include <algorithm>
#include <optional>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_remove.hpp>
#include <stowage/backends/detail/rbd_snapshots.hpp>
#include <stowage/backends/detail/receipt_text.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// What is wrong with one image; `named` says whether it can be found by its name.
inline std::optional<Finding> rbd_find_fault(const RbdSeen& seen, bool named) {
  const std::string& name = seen.entry.name;
  if (!seen.removing && seen.header_missing) {
    return Finding{name, "the image has no header: it was half created or half removed", "remove it"};
  }
  if (!seen.removing && !named && !seen.entry.id.empty()) {
    return Finding{name, "the object rbd_id." + name + " is gone, so that the image cannot be opened", "remove it"};
  }
  if (!seen.info.incomplete()) return std::nullopt;
  return Finding{name, "unfinished: " + seen.info.intent, "if nobody is at it, recover finishes it"};
}

inline Result<std::vector<Finding>> rbd_check_storage(const RbdPool& pool) {
  const auto seen = rbd_survey(pool, std::nullopt);
  if (!seen) return fail(seen.error());
  std::vector<RbdOmapQuery> queries;
  for (const RbdSeen& volume : *seen) queries.push_back({pool.io.get(), "rbd_id." + volume.entry.name, {}});
  const std::vector<RbdOmapAnswer> answers = rbd_read_omaps(queries);
  std::vector<Finding> findings;
  for (std::size_t at = 0; at < seen->size(); ++at) {
    if (answers[at].code < 0 && answers[at].code != -ENOENT)
      return fail(rbd_error(answers[at].code, "looking for names"));
    if (auto fault = rbd_find_fault((*seen)[at], answers[at].code == 0)) findings.push_back(*std::move(fault));
  }
  return findings;
}

/// Finishes or undoes the intent of one image, and says what it did.
inline Result<std::string> rbd_finish(const RbdPoolPtr& pool, const VolumeName& volume, const RbdIntent& intent) {
  constexpr RemoveOptions everything{.snapshots = true, .trash = false};
  const auto said = [](std::string text) { return [text = std::move(text)] { return text; }; };
  if (intent.verb == "rollback") {
    const auto snapshot = SnapshotName::parse(intent.object);
    if (!snapshot) return fail(snapshot.error());
    return rbd_roll_back(pool, volume, *snapshot, {}).map(said("rolled back to snapshot '" + intent.object + "'"));
  }
  if (intent.verb == "import") return rbd_remove_image(pool, volume, everything, {}).map(said("removed a half import"));
  if (intent.verb == "remove") return rbd_remove_image(pool, volume, everything, {}).map(said("finished its removal"));
  if (intent.verb == "receive") {
    const auto receipt = parse_receipt(intent.object);
    if (!receipt) return fail(receipt.error());
    if (!receipt->base) {
      return rbd_remove_image(pool, volume, everything, {}).map(said("removed what a stream had made in part"));
    }
    return rbd_roll_back(pool, volume, *receipt->base, {})
        .map(said("rolled back to snapshot '" + receipt->base->str() + "', as a stream had not come to its end"));
  }
  if (intent.verb == "template") {
    return rbd_run(pool, "making a template", {},
                   [pool, from = volume.str(), to = intent.object](RbdProgress&) -> Result<void> {
                     {
                       auto image = rbd_look(*pool, from);
                       if (!image) return fail(std::move(image.error()));
                       if (auto alone = rbd_nobody_else(*pool, image->get(), from, 0); !alone) return alone;
                     }
                     return rbd_finish_template(*pool, from, to);
                   })
        .map(said("made it the template '" + intent.object + "'"));
  }
  return fail(Errc::not_supported, "unknown intent '" + intent.str() + "'");
}

/// The listing has only its verb.
inline Result<RbdIntent> rbd_intent_of(const RbdPool& pool, const std::string& name) {
  auto image = rbd_look(pool, name);
  if (!image) return fail(std::move(image.error()));
  auto intent = rbd_intent(image->get());
  if (!intent) return fail(std::move(intent.error()));
  return intent->value_or(RbdIntent{});
}

inline Result<std::string> rbd_recover_one(const RbdPoolPtr& pool, const RbdSeen& seen) {
  if (seen.removing) {
    return rbd_run(pool, "removing", {},
                   [pool, entry = seen.entry](RbdProgress& progress) {
                     return rbd_destroy_leftover(*pool, entry, progress);
                   })
        .map([] { return std::string{"finished its removal"}; });
  }
  return rbd_intent_of(*pool, seen.entry.name).and_then([&](const RbdIntent& intent) -> Result<std::string> {
    if (intent.verb.empty()) return std::string{};  // finished meanwhile
    return rbd_finish(pool, seen.info.name, intent);
  });
}

/// What became of one unfinished image, or would. What somebody is still at, on any host, is left alone.
inline void rbd_note_recovery(const RbdPoolPtr& pool, const RbdSeen& seen, const RecoverOptions& options,
                              const Work& work, Recovery& recovery) {
  const std::string verb = seen.removing ? "remove" : seen.info.intent;
  if (work.stop.stop_requested()) {
    recovery.left.push_back({seen.entry.name, verb, "stopped before its turn", {}, Errc::cancelled});
    return;
  }
  if (options.dry_run) {
    recovery.done.push_back({seen.entry.name, "finish or undo: " + verb});
    return;
  }
  auto action = rbd_recover_one(pool, seen);
  if (action) {
    if (!action->empty()) recovery.done.push_back({seen.entry.name, *std::move(action)});
  } else if (action.error().code() == Errc::in_use) {
    recovery.busy.push_back({seen.entry.name, verb, action.error().detail()});
  } else {
    recovery.left.push_back({seen.entry.name, verb, action.error().message(), {}, action.error().code()});
  }
}

/// Errors: the images could not be listed; not_found.
inline Result<Recovery> rbd_recover_storage(const RbdPoolPtr& pool, const std::optional<VolumeName>& only,
                                            const RecoverOptions& options, const Work& work) {
  const auto volumes = rbd_survey(*pool, std::nullopt);
  if (!volumes) return fail(volumes.error());
  Recovery recovery;
  bool found = !only;
  for (const RbdSeen& seen : *volumes) {
    if (only && seen.entry.name != only->str()) continue;
    found = true;
    if (seen.info.incomplete()) rbd_note_recovery(pool, seen, options, work, recovery);
  }
  if (!found) return fail(Errc::not_found, "no image '" + only->str() + "'");
  return recovery;
}

}  // namespace stowage::detail
