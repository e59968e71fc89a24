#pragma once
// What died half way: found by its record, finished or undone. Runs that go on are left alone, on whatever host; a dead
// one is taken over by compare-and-swap, so that of two who recover one does it.

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_check.hpp>
#include <stowage/backends/detail/rbd_lease.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_remove.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_snapshots.hpp>
#include <stowage/backends/detail/receipt_text.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

using RbdRuns = std::map<std::string, RbdKnownRun>;

/// Nobody has it open, once the OSDs have heard that the client of the dead run is fenced. Errors: in_use.
inline Result<void> rbd_alone_soon(const RbdPool& pool, ::rbd_image_t image, const std::string& name, std::size_t own) {
  Result<void> alone;
  const auto done = [&] { return (alone = rbd_nobody_else(pool, image, name, own)).has_value(); };
  static_cast<void>(wait_until(done, std::chrono::steady_clock::now() + std::chrono::seconds{5}, pool.options.stop));
  return alone;
}

/// Destroys an image that has its name still, and whatever it has. Pre: `run` has its record.
inline Result<void> rbd_recover_by_removal(const RbdPool& pool, const RbdEntry& entry, RbdVerbRun& run,
                                           RbdProgress& progress) {
  if (entry.id.empty()) return rbd_destroy_format_1(pool, entry.name, run, progress);
  {
    auto image = rbd_look(pool, entry.name);
    if (!image) return fail(std::move(image.error()));
    if (auto alone = rbd_alone_soon(pool, image->get(), entry.name, 0); !alone) return alone;
    if (auto free = rbd_no_obstacle(pool, image->get(), entry.name); !free) return free;
    if (auto free = rbd_prove_childless(pool, image->get(), entry.name, true); !free) return free;
  }
  run.become(Verb::remove);
  return run.advance(IntentPhase::prepare, {entry.name})
      .and_then([&] { return rbd_take_name(pool, entry); })
      .and_then(
          [&](bool has_snapshots) { return rbd_destroy(pool, entry.id, entry.name, has_snapshots, run, progress); });
}

inline Result<void> rbd_recover_by_rollback(const RbdPool& pool, const RbdEntry& entry, const std::string& snapshot,
                                            RbdVerbRun& run, RbdProgress& progress) {
  auto image = rbd_edit(pool, entry.name);
  if (!image) return fail(std::move(image.error()));
  if (auto there = rbd_has_snapshot(pool, image->get(), entry.name, snapshot); !there) return there;
  if (auto alone = rbd_alone_soon(pool, image->get(), entry.name, 1); !alone) return alone;
  if (auto owned = rbd_own(pool, image->get(), entry.name); !owned) return owned;
  return rbd_finish_rollback(image->get(), snapshot, run, progress);
}

inline Result<std::string> rbd_recover_template(const RbdPool& pool, const RbdTrouble& trouble, RbdVerbRun& run) {
  const std::string to = trouble.record.intent->argument(0);
  auto image = rbd_edit(pool, trouble.entry.name);
  if (!image) return fail(std::move(image.error()));
  if (trouble.entry.name == to) {  // the name comes last
    return run.end().map([] { return std::string{"it is the template that it was to become"}; });
  }
  return rbd_alone_soon(pool, image->get(), trouble.entry.name, 1)
      .and_then([&] { return rbd_undo_template(image->get(), run); })
      .map([&] { return "undid making it the template '" + to + "'"; });
}

/// What has lost its name is destroyed; unless nothing of it is destroyed yet, and somebody has it open: then it gets
/// its name back.
inline Result<std::string> rbd_recover_leaving(const RbdPool& pool, const RbdTrouble& trouble, RbdVerbRun& run,
                                               RbdProgress& progress) {
  const RbdEntry& entry = trouble.entry;
  if (trouble.record.intent->phase == IntentPhase::prepare) {
    const auto image = rbd_look_by_id(pool, entry.id);
    const auto alone = image ? rbd_alone_soon(pool, image->get(), entry.name, 0) : Result<void>{};
    if (!alone) {
      const int back = ::rbd_trash_restore(pool.io.get(), entry.id.c_str(), entry.name.c_str());
      return rbd_changed(back, "giving '" + pool.spec(entry.name) + "' its name back")
          .and_then([&] { return run.end(); })
          .map([&] { return "gave it its name back: " + alone.error().detail(); });
    }
  }
  return rbd_destroy(pool, entry.id, entry.name, true, run, progress).map([] {
    return std::string{"finished its removal"};
  });
}

/// Finishes or undoes the verb of an image. Pre: `run` has its record. Returns what it did.
inline Result<std::string> rbd_recover_verb(const RbdPool& pool, const RbdTrouble& trouble, RbdVerbRun& run,
                                            RbdProgress& progress) {
  const Intent& intent = *trouble.record.intent;
  const RbdEntry& entry = trouble.entry;
  const auto said = [](std::string text) { return [text = std::move(text)] { return text; }; };
  if (intent.verb == name(Verb::rollback)) {
    return rbd_recover_by_rollback(pool, entry, intent.argument(0), run, progress)
        .map(said("rolled back to snapshot '" + intent.argument(0) + "'"));
  }
  if (intent.verb == name(Verb::import)) {
    return rbd_recover_by_removal(pool, entry, run, progress).map(said("removed a half import"));
  }
  if (intent.verb == name(Verb::remove)) {
    if (trouble.kind == RbdTrouble::Kind::leaving) return rbd_recover_leaving(pool, trouble, run, progress);
    if (entry.id.empty())
      return rbd_destroy_format_1(pool, entry.name, run, progress).map(said("finished its removal"));
    const bool undo = intent.format == IntentFormat::current && intent.phase == IntentPhase::prepare;
    if (undo) return run.end().map(said("undid its removal: it is as it was"));
    return rbd_recover_by_removal(pool, entry, run, progress).map(said("finished its removal"));
  }
  if (intent.verb == name(Verb::receive)) {
    const auto receipt = parse_receipt(intent.argument(0));
    if (!receipt) return fail(receipt.error());
    if (!receipt->base) {
      return rbd_recover_by_removal(pool, entry, run, progress).map(said("removed what a stream had made in part"));
    }
    return rbd_recover_by_rollback(pool, entry, receipt->base->str(), run, progress)
        .map(said("rolled back to snapshot '" + receipt->base->str() + "', as a stream had not come to its end"));
  }
  if (intent.verb == name(Verb::make_template)) return rbd_recover_template(pool, trouble, run);
  return fail(Errc::not_supported, "unknown verb '" + intent.verb + "'");
}

/// The verb as it stands in a record.
inline std::optional<Verb> rbd_verb_named(std::string_view text) {
  for (const Verb verb : {Verb::rollback, Verb::import, Verb::remove, Verb::receive, Verb::make_template}) {
    if (name(verb) == text) return verb;
  }
  return std::nullopt;
}

/// Takes a dead run's record over, and finishes or undoes its verb; what cannot be done stays as it was.
/// `fence`: the client that is locked out before. Errors: conflict, when another was faster.
inline Result<std::string> rbd_recover_image(const RbdPoolPtr& pool, const RbdTrouble& trouble, std::string fence,
                                             bool keep, const Work& work) {
  return rbd_run(pool, "recovering", work,
                 [pool, trouble, fence = std::move(fence), keep](RbdProgress& progress) -> Result<std::string> {
                   const Intent& intent = *trouble.record.intent;
                   const auto verb = rbd_verb_named(intent.verb);
                   if (!verb && !keep) return fail(Errc::not_supported, "unknown verb '" + intent.verb + "'");
                   auto run = RbdVerbRun::begin(*pool, verb.value_or(Verb::check), trouble.entry.name);
                   if (!run) return fail(std::move(run.error()));
                   const RbdEntered entered{trouble.place, trouble.record, Admission::take_over, fence};
                   if (auto taken = (*run)->claim(entered, intent.phase, intent.arguments); !taken) {
                     return fail(std::move(taken.error()));
                   }
                   if (keep) return (*run)->end().map([] { return std::string{"kept as it is"}; });
                   auto done = rbd_recover_verb(*pool, trouble, **run, progress);
                   const bool undone = !done && done.error().code() != Errc::outcome_unknown && !(*run)->committed();
                   if (undone) static_cast<void>((*run)->undo());
                   return done;
                 });
}

/// Locks out all other clients that have the image open. Errors: permission_denied.
inline Result<void> rbd_lock_out_watchers(const RbdPoolPtr& pool, const std::string& id) {
  return rbd_run(pool, "fencing", {}, [pool, id](RbdProgress&) -> Result<void> {
    auto image = rbd_look_by_id(*pool, id);
    if (!image) return fail(std::move(image.error()));
    const auto others = rbd_others(*pool, image->get(), 0);
    if (!others) return fail(others.error());
    for (const RbdWatcher& watcher : *others) {
      if (watcher.self) continue;
      if (auto out = rbd_lock_out(*pool, watcher.address); !out) return out;
    }
    return {};
  });
}

/// Since when things without a header have been there, by the clock of this process: what somebody is just making is
/// there for some milliseconds.
class RbdSightings {
 public:
  static RbdSightings& of_process() {
    static auto& sightings = *new RbdSightings;
    return sightings;
  }
  std::chrono::nanoseconds first(const std::string& what) {
    const std::lock_guard lock{mutex_};
    return seen_.emplace(what, boot_time()).first->second;
  }
  void forget(const std::string& what) {
    const std::lock_guard lock{mutex_};
    seen_.erase(what);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::chrono::nanoseconds> seen_;
};

/// What becomes of all that is found.
class RbdRecovery {
 public:
  RbdRecovery(RbdPoolPtr pool, RbdRuns runs, const RecoverOptions& options, const Work& work)
      : pool_{std::move(pool)}, runs_{std::move(runs)}, options_{options}, work_{work} {}

  void take(const RbdTrouble& trouble) {
    if (work_.stop.stop_requested()) {
      left(trouble, Error{Errc::cancelled, "stopped before its turn"}, {});
    } else {
      switch (trouble.kind) {
        case RbdTrouble::Kind::verb:
        case RbdTrouble::Kind::leaving: verb(trouble); break;
        case RbdTrouble::Kind::unnamed: unnamed(trouble); break;
        case RbdTrouble::Kind::no_header: late_.push_back(trouble); break;
        case RbdTrouble::Kind::void_record:
        case RbdTrouble::Kind::rbd_rm:
        case RbdTrouble::Kind::no_id_object: repair(trouble); break;
        case RbdTrouble::Kind::orphan: break;
      }
    }
  }

  /// What has no header is removed when it was seen twice, 20 s apart.
  Recovery end() {
    for (const RbdTrouble& trouble : late_) old_litter(trouble);
    return std::move(recovery_);
  }

 private:
  void done(const RbdTrouble& trouble, std::string action) {
    recovery_.done.push_back({trouble.entry.name, std::move(action)});
  }
  void busy(const RbdTrouble& trouble, std::string holder) {
    recovery_.busy.push_back({trouble.entry.name, trouble.verb(), std::move(holder)});
  }
  void left(const RbdTrouble& trouble, const Error& error, std::string holder) {
    recovery_.left.push_back({trouble.entry.name, trouble.verb(), error.message(), std::move(holder), error.code()});
  }
  void told(const RbdTrouble& trouble, const Result<std::string>& result) {
    if (result) return done(trouble, *result);
    if (result.error().code() == Errc::conflict) return busy(trouble, "another that recovers");
    const bool named = trouble.kind == RbdTrouble::Kind::verb;
    const bool there = named && rbd_find_entry(*pool_, *VolumeName::parse(trouble.entry.name)).has_value();
    if (result.error().code() == Errc::not_found && !there) return;  // it has been removed meanwhile
    left(trouble, result.error(), {});
  }

  void verb(const RbdTrouble& trouble) {
    const Intent& intent = *trouble.record.intent;
    const Liveness alive = rbd_liveness_of(intent, runs_);
    const bool foreign = intent.format != IntentFormat::current;
    if (foreign && options_.then != RecoverOptions::Then::adopt) {
      return left(trouble,
                  Error{Errc::wrong_state, "its record is of another version: '" + intent.read_as + "'"}.advise(
                      way_out_of(intent)),
                  {});
    }
    const bool own = RunRegistry::of_process().has(intent.nonce);
    if (!foreign && alive == Liveness::live && (own || !options_.fence)) return busy(trouble, intent.owner.str());
    if (options_.dry_run) return done(trouble, "finish or undo: " + intent.verb);
    const auto known = runs_.find(intent.nonce);
    const std::string fence = known == runs_.end() ? intent.owner.client : known->second.address;
    const bool keep = options_.then == RecoverOptions::Then::keep;
    auto result = rbd_recover_image(pool_, trouble, fence, keep, work_);
    const bool held = !result && result.error().code() == Errc::in_use && !trouble.entry.id.empty();
    if (held && options_.fence) {
      auto out = rbd_lock_out_watchers(pool_, trouble.entry.id);
      result = out ? rbd_recover_image(pool_, trouble, fence, keep, work_) : fail(std::move(out.error()));
    }
    told(trouble, result);
  }

  /// Its name tells its run, and has no other use.
  void unnamed(const RbdTrouble& trouble) {
    const std::string nonce = *rbd_nonce_in(trouble.entry.name);
    const auto known = runs_.find(nonce);
    const bool own = RunRegistry::of_process().has(nonce);
    if (own || (rbd_liveness_of(nonce, runs_) == Liveness::live && !options_.fence)) {
      return busy(trouble, known == runs_.end() ? "this program" : known->second.owner.str());
    }
    if (options_.dry_run) return done(trouble, "remove what was being made");
    std::string fence = known == runs_.end() ? std::string{} : known->second.address;
    told(trouble,
         rbd_run(pool_, "removing", work_, [pool = pool_, entry = trouble.entry, fence](RbdProgress& progress) {
           return rbd_remove_unnamed(*pool, entry, fence, progress);
         }));
  }

  static Result<std::string> rbd_remove_unnamed(const RbdPool& pool, const RbdEntry& entry, const std::string& fence,
                                                RbdProgress& progress) {
    auto run = RbdVerbRun::begin(pool, Verb::remove, entry.name);
    if (!run) return fail(std::move(run.error()));
    if (auto fenced = rbd_fence(pool, (*run)->lease(), fence); !fenced) return fail(std::move(fenced.error()));
    if (const auto image = rbd_look_by_id(pool, entry.id)) {
      if (auto alone = rbd_alone_soon(pool, image->get(), entry.name, 0); !alone) return fail(std::move(alone.error()));
    }
    const int code = ::rbd_remove_with_progress(pool.io.get(), entry.name.c_str(), &RbdProgress::report, &progress);
    return rbd_changed(code, "removing '" + pool.spec(entry.name) + "'").map([] {
      return std::string{"removed an image that was being made"};
    });
  }

  void repair(const RbdTrouble& trouble) {
    const bool rm = trouble.kind == RbdTrouble::Kind::rbd_rm;
    const bool is_void = trouble.kind == RbdTrouble::Kind::void_record;
    const std::string action = rm        ? "finished its removal"
                               : is_void ? "took away the record of another image"
                                         : "made it openable by its name again";
    if (options_.dry_run) return done(trouble, action);
    auto result = rbd_run(pool_, "recovering", work_, [pool = pool_, trouble, rm, is_void](RbdProgress& progress) {
      if (rm) return rbd_destroy_leftover(*pool, trouble.entry, progress);
      if (is_void) return rbd_swap_record(*pool, trouble.place.header, trouble.record.text, {});
      return rbd_restore_name(*pool, trouble.entry);
    });
    told(trouble, result.map([&] { return std::string{action}; }));
  }

  void old_litter(const RbdTrouble& trouble) {
    constexpr std::chrono::seconds apart{20};
    const std::string what = pool_->spec(trouble.entry.name) + " " + trouble.entry.id;
    const auto age = [&] { return boot_time() - RbdSightings::of_process().first(what); };
    if (options_.dry_run) return done(trouble, "remove what has no header");
    const auto deadline =
        std::chrono::steady_clock::now() + (age() < apart ? apart - age() : std::chrono::nanoseconds{});
    if (wait_until([&] { return age() >= apart; }, deadline + std::chrono::seconds{1}, work_.stop) != Waited::done) {
      return busy(trouble, "perhaps somebody who is making it");
    }
    const auto again = rbd_find_broken(*pool_, trouble.entry.name);
    RbdSightings::of_process().forget(what);
    const bool same = again && std::any_of(again->begin(), again->end(), [&](const RbdSeen& seen) {
                        return seen.header_missing && !seen.removing && seen.entry.id == trouble.entry.id;
                      });
    if (!same) return;
    told(trouble, rbd_run(pool_, "removing", work_, [pool = pool_, name = trouble.entry.name](RbdProgress& progress) {
                    return rbd_changed(
                        ::rbd_remove_with_progress(pool->io.get(), name.c_str(), &RbdProgress::report, &progress),
                        "removing '" + pool->spec(name) + "'");
                  }).map([] { return std::string{"removed what had no header"}; }));
  }

  RbdPoolPtr pool_;
  RbdRuns runs_;
  const RecoverOptions& options_;
  const Work& work_;
  Recovery recovery_;
  std::vector<RbdTrouble> late_;
};

/// Errors: the images could not be listed; not_found.
inline Result<Recovery> rbd_recover_storage(const RbdPoolPtr& pool, const std::optional<VolumeName>& only,
                                            const RecoverOptions& options, const Work& work) {
  const auto troubles = rbd_troubles(*pool, only);
  if (!troubles) return fail(troubles.error());
  if (only && troubles->empty()) {
    if (const auto there = rbd_find_entry(*pool, *only); !there) return fail(there.error());
  }
  // After the records were read: a run that has ended meanwhile has taken its own away, and the swap will tell.
  auto runs = rbd_known_runs(*pool);
  if (!runs) return fail(std::move(runs.error()));
  RbdRecovery recovery{pool, *std::move(runs), options, work};
  for (const RbdTrouble& trouble : *troubles) recovery.take(trouble);
  return recovery.end();
}

}  // namespace stowage::detail
