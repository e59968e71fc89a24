#pragma once
// What died half way: found by its traces, finished or undone.

#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_destroy.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_metadata.hpp>
#include <stowage/backends/detail/lvm_path.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_remove.hpp>
#include <stowage/backends/detail/lvm_rename.hpp>
#include <stowage/backends/detail/lvm_rollback.hpp>
#include <stowage/backends/detail/lvm_template.hpp>
#include <stowage/intent/table.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// What was done about a volume.
inline auto lvm_done(std::string text) {
  return [text = std::move(text)] { return text; };
}

/// A stream that was not received to its end: what it had made is removed, or the volume goes back to what it was
/// before.
template <CommandRunner Runner>
Result<std::string> lvm_undo_stream(const LvmTools<Runner>& tools, LvmView view, const LvmIntent& intent,
                                    const VolumeName& volume, const Work& work) {
  const auto receipt = lvm_receipt_of(intent);
  if (!receipt) return fail(receipt.error());
  if (!*receipt || !(*receipt)->base) {
    return lvm_remove_locked(tools, std::move(view), volume, {.snapshots = true}, work)
        .map(lvm_done("removed what a stream had made in part"));
  }
  return lvm_roll_back_locked(tools, std::move(view), volume, *(*receipt)->base, work, WhenOpen::refuse)
      .map(lvm_done("rolled back to snapshot '" + (*receipt)->base->str() + "', as a stream had not come to its end"));
}

template <CommandRunner Runner>
Result<std::string> lvm_finish_or_undo_rename(const LvmTools<Runner>& tools, const LvmView& view,
                                              const LvmIntent& intent) {
  const auto names = lvm_intent_arguments(intent.record);
  if (names.size() == 2 && names[0] == intent.volume) {
    return lvm_undo_rename(tools, view, *intent.lv, names[1]).map(lvm_done("undid a renaming that had not begun"));
  }
  if (names.size() == 2 && names[1] == intent.volume) {
    return lvm_finish_rename(tools, view, *intent.lv, names[0]).map(lvm_done("finished the renaming of its snapshots"));
  }
  return fail(Errc::wrong_state, "it has another name than before and after its renaming");
}

template <CommandRunner Runner>
Result<std::string> lvm_finish_or_undo_template(const LvmTools<Runner>& tools, const LvmView& view,
                                                const LvmIntent& intent, const VolumeName& volume) {
  if (!view.snapshots(intent.volume).empty()) {  // somebody has taken one since
    return lvm_undo_template(tools, *intent.lv).map(lvm_done("made it a volume again, for it has a snapshot"));
  }
  const std::string to = template_name(volume).str();
  return lvm_finish_template(tools, *intent.lv, to).map(lvm_done("made it the template '" + to + "'"));
}

/// Finishes or undoes one volume's verb. Pre: its lock is held, and its run is dead. Returns what was done; nothing,
/// when there was nothing any more.
template <CommandRunner Runner>
Result<std::string> lvm_finish(const LvmTools<Runner>& tools, LvmView view, const LvmIntent& intent, const Work& work) {
  const auto name = VolumeName::parse(intent.volume);
  if (!name) return fail(name.error());
  if (intent.verb == "rollback") return lvm_settle_rollback(tools, view, intent.volume);
  if (intent.verb == "remove" && lvm_removal(*intent.lv)) return lvm_end_removal(tools, view, *intent.lv, work);
  if (intent.verb == "remove" || intent.verb == "import") {
    return lvm_remove_locked(tools, std::move(view), *name, {.snapshots = true}, work)
        .map(lvm_done(intent.verb == "import" ? "removed a half import" : "finished its removal"));
  }
  if (intent.verb == "receive") return lvm_undo_stream(tools, std::move(view), intent, *name, work);
  if (intent.verb == "template") return lvm_finish_or_undo_template(tools, view, intent, *name);
  if (intent.verb == "rename") return lvm_finish_or_undo_rename(tools, view, intent);
  return fail(Error{Errc::not_supported, "unknown intent '" + intent.verb + "' on '" + intent.volume + "'"}.advise(
      "it may be of a newer stowage"));
}

/// What a person decides about a volume that was left: the record is taken away, and the volume stays as it is.
template <CommandRunner Runner>
Result<std::string> lvm_keep(const LvmTools<Runner>& tools, const LvmIntent& intent) {
  const bool in_place = intent.lv->name == intent.volume && intent.lv->tag(lvm_intent_tag);
  if (!in_place) {
    return fail(Error{Errc::not_supported, "what a " + intent.verb + " has left cannot be kept as it is"}.advise(
        "recover finishes or undoes it"));
  }
  auto options = lvm_record_options(*intent.lv, std::nullopt);
  if (intent.verb == "template") options.insert(options.begin(), "-prw");
  return tools
      .change("lvchange", lvm_with(tools, std::move(options), {intent.volume}), "keeping '" + intent.volume + "'")
      .map(lvm_done("kept it as it is"));
}

/// What became of one unfinished volume, or would, or why it was left.
class LvmRecoveryOf {
 public:
  LvmRecoveryOf(const LvmIntent& intent, Recovery& recovery) : intent_{intent}, recovery_{recovery} {}

  void done(std::string what) {
    if (!what.empty()) recovery_.done.push_back({intent_.volume, std::move(what)});
  }
  void busy() { recovery_.busy.push_back({intent_.volume, intent_.verb, holder()}); }
  void left(std::string why, Errc code) {
    recovery_.left.push_back({intent_.volume, intent_.verb, std::move(why), holder(), code});
  }

 private:
  [[nodiscard]] std::string holder() const {
    return intent_.record.owner.nobody() ? std::string{} : intent_.record.owner.str();
  }

  const LvmIntent& intent_;
  Recovery& recovery_;
};

/// The report that `meant` comes from is of before the lock: under the lock it is read again, and the record compared.
template <CommandRunner Runner>
void lvm_recover_one(const LvmTools<Runner>& tools, const LvmIntent& meant, const RecoverOptions& options,
                     const Work& work, Recovery& recovery) {
  using Then = RecoverOptions::Then;
  LvmRecoveryOf told{meant, recovery};
  const auto name = VolumeName::parse(meant.volume);
  if (!name || meant.record.phase == IntentPhase::waiting) return;
  if (work.stop.stop_requested()) return told.left("stopped before its turn", Errc::cancelled);
  const auto lock = lvm_lock(tools, *name, std::chrono::milliseconds{0});
  if (!lock && lock.error().code() == Errc::in_use) return told.busy();
  if (!lock) return told.left(lock.error().message(), lock.error().code());
  auto view = lvm_view(tools);
  if (!view) return told.left(view.error().message(), view.error().code());
  const auto now = lvm_intent_of(*view, meant.volume);
  if (!now || now->record.read_as != meant.record.read_as || now->verb != meant.verb) return;  // not the one any more
  if (now->record.phase == IntentPhase::waiting) return;
  if (now->record.format != IntentFormat::current && options.then != Then::adopt) {
    return told.left("another version of this program has begun it; " + way_out_of(now->record), Errc::wrong_state);
  }
  if (now->record.format == IntentFormat::current && lvm_liveness(*now) != Liveness::dead) {
    return told.left("it may be at work on another machine, or in another pid namespace: this host cannot see that",
                     Errc::in_use);
  }
  if (options.dry_run) return told.done("finish or undo: " + now->verb);
  const std::string lv = now->verb == "rollback" ? now->volume : now->lv->name;
  if (const auto free = lvm_free(tools, *view, lv); !free && !lvm_removal(*now->lv)) {
    return told.left(free.error().message(), free.error().code());
  }
  auto done = options.then == Then::keep ? lvm_keep(tools, *now) : lvm_finish(tools, *std::move(view), *now, work);
  if (!done) return told.left(done.error().message(), done.error().code());
  told.done(*std::move(done));
}

/// Takes away what stands on a volume and is another's record.
template <CommandRunner Runner>
void lvm_recover_void(const LvmTools<Runner>& tools, const LvmVolume& meant, const RecoverOptions& options,
                      Recovery& recovery) {
  const std::string what = "took a record away that is another volume's";
  const auto name = VolumeName::parse(meant.name);
  const auto lock = name ? lvm_lock(tools, *name, std::chrono::milliseconds{0}) : fail(name.error());
  if (!lock) return;
  const auto view = lvm_view(tools);
  const LvmVolume* lv = view ? view->report().find_uuid(meant.uuid) : nullptr;
  if (lv == nullptr || lv->name != meant.name || !lvm_has_void_record(*view, *lv)) return;
  if (options.dry_run) return recovery.done.push_back({lv->name, what});
  auto done = tools.change("lvchange", lvm_with(tools, lvm_record_options(*lv, std::nullopt), {lv->name}),
                           "taking a record away from '" + tools.spec(lv->name) + "'");
  if (done) return recovery.done.push_back({lv->name, what});
  recovery.left.push_back({lv->name, {}, done.error().message(), {}, done.error().code()});
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
    lvm_recover_one(tools, intent, options, work, recovery);
  }
  for (const LvmVolume& lv : all->report().volumes) {
    if ((only && lv.name != only->str()) || !LvmView::is_volume_name(lv.name)) continue;
    if (lvm_has_void_record(*all, lv)) lvm_recover_void(tools, lv, options, recovery);
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
    if (intent.record.phase == IntentPhase::waiting) {
      findings.push_back({intent.volume, "a rollback waits for its next activation", "deactivate and activate it"});
      continue;
    }
    const bool old = intent.record.format != IntentFormat::current;
    findings.push_back({intent.volume, "unfinished: " + holder_of(intent.record),
                        old ? way_out_of(intent.record) : "if nobody is at it, recover finishes it"});
  }
  for (const LvmVolume& lv : view.report().volumes) {
    if (!view.ours(lv) || lv.hidden) continue;
    if (auto trouble = lvm_path_trouble(tools, lv.name)) {
      findings.push_back({lv.name, std::move(trouble->problem), std::move(trouble->advice)});
    }
    if (lvm_has_void_record(view, lv)) {
      findings.push_back({lv.name, "it has the record of an unfinished verb that is another volume's",
                          LvmView::is_volume_name(lv.name) ? "recover takes it away"
                                                           : "if nobody needs it: lvremove " + tools.spec(lv.name)});
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
