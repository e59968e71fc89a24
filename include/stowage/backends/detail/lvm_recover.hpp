#pragma once
// What died half way: found by its traces, finished or undone.

#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_metadata.hpp>
#include <stowage/backends/detail/lvm_path.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_remove.hpp>
#include <stowage/backends/detail/lvm_rename.hpp>
#include <stowage/backends/detail/lvm_rollback.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// One volume's unfinished verb. Says what was done; nothing, when there was nothing any more.
template <CommandRunner Runner>
Result<std::string> lvm_finish(const LvmTools<Runner>& tools, const LvmView& view, const std::string& volume,
                               const std::string& verb) {
  const auto said = [](std::string text) { return [text = std::move(text)] { return text; }; };
  if (verb == "rollback") return lvm_settle_rollback(tools, view, volume);
  const LvmVolume* lv = view.find(volume);
  if (const LvmVolume* begun = view.removal_of(volume); verb == "remove" && begun != nullptr) {
    return lvm_end_removal(tools, view, *begun, {});
  }
  if (lv == nullptr) return std::string{};
  if (verb == "import" || verb == "remove") {
    const std::string text = verb == "import" ? "removed a half import" : "finished its removal";
    return lvm_remove_locked(tools, *VolumeName::parse(volume), {.snapshots = true, .trash = false}, {})
        .map(said(text));
  }
  if (verb == "receive") {
    const auto receipt = lvm_receipt_of(*lv);
    if (!receipt) return fail(receipt.error());
    const auto name = VolumeName::parse(volume);
    if (!(*receipt)->base) {
      return lvm_remove_locked(tools, *name, {.snapshots = true, .trash = false}, {})
          .map(said("removed what a stream had made in part"));
    }
    return lvm_roll_back_locked(tools, *name, *(*receipt)->base, {}, WhenOpen::refuse)
        .map(said("rolled back to snapshot '" + (*receipt)->base->str() + "', as a stream had not come to its end"));
  }
  if (verb == "template") {
    const std::string to = template_name(*VolumeName::parse(volume)).str();
    return lvm_finish_template(tools, volume, to).map(said("made it the template '" + to + "'"));
  }
  if (verb == "rename") {
    const std::string intent = lv->tag(lvm_intent_tag).value_or(std::string{});
    const auto parts = lvm_split(intent, '/');
    if (parts.size() == 3 && parts[1] == volume) {
      return lvm_undo_rename(tools, view, volume, std::string{parts[2]})
          .map(said("undid a renaming that had not begun"));
    }
    if (parts.size() == 3 && parts[2] == volume) {
      return lvm_finish_rename(tools, view, *lv, std::string{parts[1]})
          .map(said("finished the renaming of its snapshots"));
    }
  }
  return fail(Error{Errc::not_supported, "unknown intent '" + verb + "' on '" + volume + "'"}.advise(
      "it may be of a newer stowage"));
}

/// Under the volume's lock, with a new report: it may have been finished since, or be missing in a rollback.
template <CommandRunner Runner>
Result<std::vector<Recovered>> lvm_recover_one(const LvmTools<Runner>& tools, const VolumeName& volume) {
  std::vector<Recovered> recovered;
  const auto lock = lvm_lock(tools, volume, std::chrono::milliseconds{0});
  if (!lock) return fail(lock.error());
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  if (const auto free = lvm_free(tools, *view, volume.str()); !free) return fail(free.error());
  for (const LvmIntent& now : lvm_intents(*view)) {
    if (now.volume != volume.str()) continue;
    auto done = lvm_finish(tools, *view, now.volume, now.verb);
    if (!done) return fail(std::move(done.error()));
    if (!done->empty()) recovered.push_back({now.volume, *std::move(done)});
  }
  return recovered;
}

/// What became of one unfinished volume, or would. What somebody is at is left alone: by its lock, or because it is
/// open.
template <CommandRunner Runner>
void lvm_note_recovery(const LvmTools<Runner>& tools, const LvmIntent& intent, const RecoverOptions& options,
                       const Work& work, Recovery& recovery) {
  const auto name = VolumeName::parse(intent.volume);
  if (!name) return;
  if (work.stop.stop_requested()) {
    recovery.left.push_back({intent.volume, intent.verb, "stopped before its turn", {}, Errc::cancelled});
    return;
  }
  if (options.dry_run) {
    recovery.done.push_back({intent.volume, "finish or undo: " + intent.verb});
    return;
  }
  auto done = lvm_recover_one(tools, *name);
  if (done) {
    recovery.done.insert(recovery.done.end(), done->begin(), done->end());
  } else if (done.error().code() == Errc::in_use) {
    recovery.busy.push_back({intent.volume, intent.verb, done.error().detail()});
  } else {
    recovery.left.push_back({intent.volume, intent.verb, done.error().message(), {}, done.error().code()});
  }
}

/// Errors: the volumes could not be listed; not_found.
template <CommandRunner Runner>
Result<Recovery> lvm_recover(const LvmTools<Runner>& tools, const std::optional<VolumeName>& only,
                             const RecoverOptions& options, const Work& work) {
  const auto all = lvm_view(tools);
  if (!all) return fail(all.error());
  Recovery recovery;
  const LvmVolume* pool = all->report().find(tools.config().thinpool);
  if (!only && pool != nullptr && lvm_metadata_marked(*pool)) {
    if (options.dry_run) {
      recovery.done.push_back({tools.config().thinpool, "release a metadata snapshot that nobody reads"});
    } else if (auto released = lvm_recover_metadata(tools)) {
      recovery.done = *std::move(released);
    } else {
      recovery.left.push_back({tools.pool(), {}, released.error().message(), {}, released.error().code()});
    }
  }
  bool found = !only || all->find(only->str()) != nullptr;
  for (const LvmIntent& intent : lvm_intents(*all)) {
    if (only && intent.volume != only->str()) continue;
    found = true;
    lvm_note_recovery(tools, intent, options, work, recovery);
  }
  if (!found) return fail(Errc::not_found, "no volume '" + only->str() + "'");
  return recovery;
}

/// Unfinished verbs, snapshots that are nobody's or anybody's, and what is wrong with the pool.
template <CommandRunner Runner>
Result<std::vector<Finding>> lvm_check(const LvmTools<Runner>& tools) {
  const auto pool = lvm_look_at_pool(tools);
  if (!pool) return fail(pool.error());
  const LvmView& view = pool->found.view;
  std::vector<Finding> findings = lvm_check_pool(pool->thin);
  for (Finding& finding : lvm_check_metadata(tools, *pool->found.lv)) findings.push_back(std::move(finding));
  for (const LvmIntent& intent : lvm_intents(view)) {
    findings.push_back({intent.volume, "unfinished: " + intent.verb, "if nobody is at it, recover finishes it"});
  }
  for (const LvmVolume& lv : view.report().volumes) {
    if (!view.ours(lv) || lv.hidden) continue;
    if (auto trouble = lvm_path_trouble(tools, lv.name)) {
      findings.push_back({lv.name, std::move(trouble->problem), std::move(trouble->advice)});
    }
    if (!lv.name.starts_with(lvm_snapshot_prefix)) continue;
    const std::vector<std::string> owners = view.owners(lv);
    const bool orphan = owners.empty() || view.find(owners.front()) == nullptr;
    if (orphan) {
      findings.push_back(
          {lv.name, "a snapshot whose volume is not there", "if nobody needs it: lvremove " + tools.spec(lv.name)});
    } else if (owners.size() > 1) {
      findings.push_back({lv.name, "may be a snapshot of '" + owners[0] + "' or of '" + owners[1] + "'",
                          "say it: lvchange --addtag " + std::string{lvm_of_tag} + "<volume> " + tools.spec(lv.name)});
    }
  }
  return findings;
}

}  // namespace stowage::detail
