#pragma once
// A verb of several steps at an image: alive by its lease, known by its record, and admitted by the table of verbs.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stowage/backends/detail/rbd_lease.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/core/error.hpp>
#include <stowage/intent/table.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// What a verb has found at an image when it came in.
struct RbdEntered {
  RbdRecordPlace place;
  RbdRecord record;
  Admission how = Admission::free;
  std::string dead_client{};  ///< of the run that is taken over
};

/// A run, and the record that it has written. When it ends it takes back what it has not ended: the record that stays
/// then says that nobody owns it.
class RbdVerbRun {
 public:
  /// Errors: those of `RbdLease::begin`.
  [[nodiscard]] static Result<std::unique_ptr<RbdVerbRun>> begin(const RbdPool& pool, Verb verb,
                                                                 const std::string& image) {
    return Run::begin(std::string{name(verb)}, pool.spec(image))
        .and_then([&](Run&& run) { return RbdLease::begin(pool, std::move(run)); })
        .map([&](std::unique_ptr<RbdLease> lease) {
          return std::unique_ptr<RbdVerbRun>{new RbdVerbRun{pool, std::string{name(verb)}, std::move(lease)}};
        });
  }
  RbdVerbRun(const RbdVerbRun&) = delete;
  RbdVerbRun& operator=(const RbdVerbRun&) = delete;
  ~RbdVerbRun() { release(); }

  [[nodiscard]] const std::string& nonce() const noexcept { return lease_->run().nonce(); }
  [[nodiscard]] const RbdRecordPlace& place() const noexcept { return place_; }
  [[nodiscard]] Result<void> check() { return lease_->check(); }
  [[nodiscard]] RbdLease& lease() noexcept { return *lease_; }

  /// Writes the record in the place of what was found, which belongs to nobody any more: the client of a dead run is
  /// fenced before. Errors: conflict (another was faster), invalid_argument (names too long), permission_denied.
  Result<void> claim(const RbdEntered& found, IntentPhase phase, std::vector<std::string> arguments) {
    if (!found.dead_client.empty()) {
      if (auto dead = still_stands(found); !dead) return dead;
      if (auto fenced = rbd_fence(pool_, *lease_, found.dead_client); !fenced) return fenced;
    }
    place_ = found.place;
    found_ = found.record.text;
    written_ = found_;
    return write(phase, std::move(arguments)).map_error([&](Error&& error) {
      if (error.code() != Errc::outcome_unknown) written_.clear();  // nothing of ours stands there
      return std::move(error);
    });
  }
  /// The next phase. Errors: conflict, when the run was taken over.
  Result<void> advance(IntentPhase phase, std::vector<std::string> arguments) {
    if (auto alive = check(); !alive) return alive;
    committed_ = committed_ || phase == IntentPhase::commit;
    return write(phase, std::move(arguments));
  }
  /// Its commit was noted after the claim: something may be destroyed, and what was found is true no more.
  [[nodiscard]] bool committed() const noexcept { return committed_; }
  /// The same run goes on as another verb: an import that receives a stream, or that is removed.
  void become(Verb verb) { verb_ = name(verb); }

  /// The verb is done, or nothing of it has happened: takes the record away. May be repeated.
  Result<void> end() {
    if (written_.empty()) return {};
    auto gone = rbd_swap_record(pool_, place_.header, written_, {});
    if (gone || gone.error().code() == Errc::not_found) written_.clear();
    if (!gone && gone.error().code() == Errc::not_found) return {};
    return gone;
  }
  /// Nothing of the verb has happened: what was found stands there again.
  Result<void> undo() {
    if (found_.empty() || written_.empty()) return end();
    auto back = rbd_swap_record(pool_, place_.header, written_, found_);
    if (back) written_.clear();
    return back;
  }
  /// The image, and its record with it, is there no longer.
  void forget() noexcept { written_.clear(); }
  /// Who comes next may take the volume over at once.
  void release() {
    if (written_.empty()) return;
    Intent intent = parse_intent(written_);
    intent.owner = {};
    if (const auto text = intent_text(intent)) {
      static_cast<void>(rbd_swap_record(pool_, place_.header, written_, *text));
    }
    written_.clear();
  }

 private:
  RbdVerbRun(const RbdPool& pool, std::string verb, std::unique_ptr<RbdLease> lease)
      : pool_{pool}, verb_{std::move(verb)}, lease_{std::move(lease)} {}

  /// A run has its lease for longer than its record: a record that stands before and after a look at the leases, and
  /// whose run had none, is of a dead run. One that has gone meanwhile ended well, and its client is alive.
  [[nodiscard]] Result<void> still_stands(const RbdEntered& found) const {
    const auto now = rbd_read_record(pool_, found.place);
    if (!now) return fail(now.error());
    if (now->text == found.record.text) return {};
    return fail(Errc::conflict, "another verb took the volume over just now, or has ended");
  }

  Result<void> write(IntentPhase phase, std::vector<std::string> arguments) {
    const auto text = intent_text({.verb = verb_,
                                   .nonce = nonce(),
                                   .phase = phase,
                                   .bound = place_.bound,
                                   .owner = lease_->owner(),
                                   .arguments = std::move(arguments)});
    if (!text) return fail(text.error());
    auto done = rbd_swap_record(pool_, place_.header, written_, *text);
    if (done || done.error().code() == Errc::outcome_unknown) written_ = *text;
    return done;
  }

  const RbdPool& pool_;
  std::string verb_;
  std::unique_ptr<RbdLease> lease_;
  RbdRecordPlace place_;
  std::string found_;  ///< before the claim
  std::string written_;
  bool committed_ = false;
};

/// The runs that go on over several calls of one storage: imports, and streams that are received. Keyed by what their
/// record is bound to. What is left in it when the storage is closed is released.
class RbdOpenRuns {
 public:
  void keep(std::unique_ptr<RbdVerbRun> run) {
    const std::lock_guard lock{mutex_};
    runs_[run->place().bound] = std::move(run);
  }
  /// Null when there is none.
  [[nodiscard]] std::unique_ptr<RbdVerbRun> take(const std::string& bound) {
    const std::lock_guard lock{mutex_};
    const auto found = runs_.find(bound);
    if (found == runs_.end()) return nullptr;
    auto run = std::move(found->second);
    runs_.erase(found);
    return run;
  }
  [[nodiscard]] bool has(const std::string& bound, const std::string& nonce) {
    const std::lock_guard lock{mutex_};
    const auto found = runs_.find(bound);
    return found != runs_.end() && found->second->nonce() == nonce;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<RbdVerbRun>> runs_;
};

/// Asks whether `verb` may go on at an image, by its record as it is now. Runs of this storage go on with what they
/// began. Cost: one round trip, and one more for a record. Errors: in_use, wrong_state.
inline Result<RbdEntered> rbd_enter(const RbdPool& pool, RbdRecordPlace place, Verb verb,
                                    const std::vector<std::string>& arguments = {}) {
  auto record = rbd_read_record(pool, place);
  if (!record) return fail(std::move(record.error()));
  RbdEntered entered{std::move(place), *std::move(record)};
  const std::optional<Intent>& intent = entered.record.intent;
  if (!intent || always_allowed(verb)) return entered;
  if (pool.runs && pool.runs->has(entered.place.bound, intent->nonce)) return entered;
  const auto known = rbd_known_runs(pool);
  if (!known) return fail(known.error());
  const auto admitted = admit(verb, arguments, intent, rbd_liveness_of(*intent, *known));
  if (!admitted) return fail(admitted.error());
  entered.how = *admitted;
  if (entered.how == Admission::take_over) entered.dead_client = intent->owner.client;
  return entered;
}

/// The same, of an open image.
inline Result<RbdEntered> rbd_enter(const RbdPool& pool, ::rbd_image_t image, const std::string& name, Verb verb,
                                    const std::vector<std::string>& arguments = {}) {
  auto place = rbd_record_place(pool, image, name);
  if (!place) return fail(std::move(place.error()));
  return rbd_enter(pool, *std::move(place), verb, arguments);
}

}  // namespace stowage::detail
