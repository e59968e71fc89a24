#pragma once
// Laws of volumes that a verb has left unfinished: which verbs may follow, and what `recover` does. A fixture that has
// these functions takes part:
//
// | Expression | Type | Meaning |
// |---|---|---|
// | `f.leave_unfinished(volume, intent)` | `void` | puts the record on the volume: `text_of_record(intent, bound)`, where `bound` is what this backend binds records of the volume to |
// | `f.record_of(volume)` | `std::string` | the text of the record that it has; empty if none |
// | `f.keep_alive(volume, intent)` | any | optional: what else a run that goes on holds (a lock), for as long as the result lives |
// | `F::every` | `std::size_t` | optional: only every n-th cell of a matrix, where a verb is dear |
//
// Arguments in `intent` are as this file makes them; a backend that writes others translates: rollback {snapshot},
// template {new name}, receive {target, done, base}.

#include <cstddef>
#include <optional>
#include <stowage/intent/record.hpp>
#include <stowage/intent/runs.hpp>
#include <stowage/intent/table.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/records.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::testing::laws {

/// The run that a record names.
enum class RunState { live, dead, nobodys, earlier };

/// A volume with a snapshot `s1` that holds 1, which holds 2, and which verbs are left unfinished on.
template <class F>
class Unfinished {
 public:
  using B = typename F::Backend;

  explicit Unfinished(Bench<F>& bench) : bench_{bench}, volume{bench.make()} {
    bench.fill(volume, 1);
    must(bench.storage().snapshot(volume, snapshot));
    bench.fill(volume, 2);
  }

  /// What a backend may leave; which of those a given one does is its own affair.
  [[nodiscard]] static std::vector<Intent> records() {
    const auto one = [](const char* verb, std::vector<std::string> arguments) {
      return record_of_run(verb, std::move(arguments), "");
    };
    return {one("rollback", {"s1"}),
            one("remove", {}),
            one("import", {}),
            one("receive", {"its-new.content", "1048576", "s1"}),
            one("flatten", {}),
            one("template", {"base-990000101-disk-0"}),
            one("rename", {"vm-990000102-disk-7"})};
  }

  /// Puts the record there, of a run in that state.
  Intent leave(Intent intent, RunState state) {
    alive_.reset();
    if (state == RunState::earlier) {
      intent = record_of_earlier_version(intent.verb, intent.arguments);
    } else {
      alive_.emplace(must(Run::begin(intent.verb, "a law")));
      intent.nonce = alive_->nonce();
      if (state != RunState::nobodys) intent.owner = state == RunState::live ? this_process() : dead_process();
      if (state != RunState::live) alive_.reset();
    }
    bench_.fixture().leave_unfinished(volume, intent);
    return intent;
  }
  void rest() { alive_.reset(); }

  /// `call(verb, result)` for each verb that the backend has and that the table refuses or may refuse.
  template <class Call>
  void each_verb(Call call) {
    auto& storage = bench_.storage();
    call(Verb::activate, [&] { return storage.activate(volume); });
    call(Verb::open_to_read, [&] { return storage.open_volume(volume, Access::read_only); });
    call(Verb::open_to_write, [&] { return storage.open_volume(volume, Access::read_write); });
    call(Verb::remove, [&] { return storage.remove(volume, {.snapshots = true, .trash = false}); });
    call(Verb::rollback, [&] { return storage.rollback(volume, snapshot); });
    call(Verb::snapshot, [&] { return storage.snapshot(volume, snapshot_name("s2")); });
    call(Verb::remove_snapshot, [&] { return storage.remove_snapshot(volume, snapshot); });
    if constexpr (supports<B, Capability::resize>) {
      call(Verb::resize, [&] { return storage.resize(volume, bench_.size + bench_.size); });
    }
    if constexpr (supports<B, Capability::rename>) {
      call(Verb::rename, [&] { return storage.rename(volume, {.vmid = bench_.other_guest, .name = {}}); });
    }
    if constexpr (supports<B, Capability::make_template>) {
      call(Verb::make_template, [&] { return storage.make_template(volume); });
    }
    if constexpr (supports_in<B, Capability::clone, State::snapshot>) {
      call(Verb::clone, [&] { return storage.clone(volume, snapshot, {.vmid = bench_.other_guest}); });
    }
    if constexpr (supports<B, Capability::flatten>) {
      call(Verb::flatten, [&] { return storage.flatten(volume); });
    }
  }

  /// What an unfinished verb may not change, and nobody may ask for in vain.
  void is_as_it_was(const std::string& verb) {
    auto& storage = bench_.storage();
    const VolumeInfo info = must(storage.info(volume));
    CHECK(info.intent == verb);
    CHECK(info.size.count == bench_.size.count);
    CHECK(must(storage.snapshots(volume)).size() == 1);
    CHECK(bench_.holds(volume, snapshot, 1));
    CHECK(bench_.volumes(bench_.other_guest).empty());
  }

  static constexpr std::size_t every = [] {
    if constexpr (requires { F::every; }) return F::every;
    return std::size_t{1};
  }();

 private:
  Bench<F>& bench_;
  std::optional<Run> alive_{};

 public:
  const SnapshotName snapshot = snapshot_name("s1");
  VolumeName volume;
};

inline const char* word(RunState state) {
  switch (state) {
    case RunState::live: return "live";
    case RunState::dead: return "dead";
    case RunState::nobodys: return "nobody's";
    case RunState::earlier: return "of an earlier version";
  }
  return "";
}

/// What keeps the run of a record alive besides this process, if there is anything.
template <class F>
auto keep_alive(F& fixture, const VolumeName& volume, const Intent& intent, RunState state) {
  if constexpr (requires { fixture.keep_alive(volume, intent); }) {
    using Held = decltype(fixture.keep_alive(volume, intent));
    return state == RunState::live ? std::optional<Held>{fixture.keep_alive(volume, intent)} : std::nullopt;
  } else {
    return std::optional<int>{};
  }
}

template <class F>
void an_unfinished_volume_refuses_verbs_by_the_table_and_stays_as_it_is(Bench<F>& bench) {
  Unfinished<F> left{bench};
  std::size_t cell = 0;
  for (const Intent& sample : Unfinished<F>::records()) {
    for (const RunState state : {RunState::live, RunState::dead, RunState::nobodys, RunState::earlier}) {
      const Intent intent = left.leave(sample, state);
      [[maybe_unused]] const auto held = keep_alive(bench.fixture(), left.volume, intent, state);
      const std::string record = bench.fixture().record_of(left.volume);
      INFO(intent.verb << ", " << word(state));
      REQUIRE_FALSE(record.empty());
      left.each_verb([&](Verb verb, auto call) {
        std::vector<std::string> arguments;
        if (verb == Verb::make_template) arguments.emplace_back("base-990000101-disk-0");
        const auto admitted = admit(verb, arguments, intent, liveness(intent));
        if (admitted || ++cell % Unfinished<F>::every != 0) return;
        INFO("verb: " << name(verb));
        const Error error = refusal_of(call(), admitted.error().code());
        CHECK(error.object() == bench.object(left.volume));
        CHECK_FALSE(error.hint().empty());
        const bool names_its_holder = error.detail().find(intent.owner.str()) != std::string::npos;
        CHECK((state != RunState::live || names_its_holder));
        CHECK(bench.fixture().record_of(left.volume) == record);
      });
      left.is_as_it_was(intent.verb);
    }
  }
  left.leave(record_of_run("rollback", {"s1"}, ""), RunState::nobodys);
  must(bench.storage().recover(left.volume));
  CHECK(bench.holds(left.volume, 1));
}

template <class F>
void a_record_of_another_volume_is_none(Bench<F>& bench) {
  Unfinished<F> left{bench};
  auto& storage = bench.storage();
  const auto put = [&](const char* verb) {
    Intent intent = record_of_run(verb, {}, must(new_nonce()));
    intent.bound = "elsewhere/0";
    bench.fixture().leave_unfinished(left.volume, intent);
  };
  put("remove");
  CHECK_FALSE(must(storage.info(left.volume)).incomplete());
  const std::vector<Finding> findings = must(storage.check());
  CHECK(std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) {
    return finding.object.find(left.volume.str()) != std::string::npos;
  }));
  must(storage.activate(left.volume));
  must(storage.snapshot(left.volume, snapshot_name("s2")));
  must(storage.remove_snapshot(left.volume, snapshot_name("s2")));
  must(storage.resize(left.volume, bench.size + bench.size));
  bench.fill(left.volume, 3);
  const Recovery found = must(storage.recover(left.volume));
  CHECK((found.done.size() == 1 && found.busy.empty() && found.left.empty()));
  CHECK(bench.fixture().record_of(left.volume).empty());
  CHECK(bench.holds(left.volume, 3));
  put("import");
  must(storage.rollback(left.volume, left.snapshot));
  CHECK(bench.holds(left.volume, 1));
  must(storage.remove(left.volume, {.snapshots = true, .trash = false}));
  CHECK_FALSE(bench.lists(left.volume));
}

template <class F>
void an_unfinished_volume_of_nobody_can_be_removed(Bench<F>& bench) {
  std::size_t cell = 0;
  for (const Intent& sample : Unfinished<F>::records()) {
    for (const RunState state : {RunState::dead, RunState::nobodys, RunState::earlier}) {
      if (++cell % Unfinished<F>::every != 0) continue;
      Unfinished<F> left{bench};
      left.leave(sample, state);
      INFO(sample.verb << ", " << word(state));
      must(bench.storage().remove(left.volume, {.snapshots = true, .trash = false}));
      CHECK_FALSE(bench.lists(left.volume));
    }
  }
}

template <class F>
void a_rollback_may_follow_what_left_the_content_half_changed(Bench<F>& bench) {
  std::size_t cell = 0;
  for (const char* verb : {"rollback", "receive"}) {
    for (const RunState state : {RunState::dead, RunState::nobodys, RunState::earlier}) {
      if (++cell % Unfinished<F>::every != 0) continue;
      Unfinished<F> left{bench};
      const bool is_rollback = std::string_view{verb} == "rollback";
      left.leave(
          record_of_run(
              verb, is_rollback ? std::vector<std::string>{"another"} : std::vector<std::string>{"x", "0", "s1"}, ""),
          state);
      INFO(verb << ", " << word(state));
      must(bench.storage().rollback(left.volume, left.snapshot));
      CHECK_FALSE(must(bench.storage().info(left.volume)).incomplete());
      CHECK(bench.fixture().record_of(left.volume).empty());
      CHECK(bench.holds(left.volume, 1));
      must(bench.storage().remove(left.volume, {.snapshots = true, .trash = false}));
    }
  }
}

template <class F>
void recover_reports_what_lives_and_settles_what_is_dead(Bench<F>& bench) {
  for (const char* verb : {"rollback", "import", "remove"}) {
    Unfinished<F> left{bench};
    auto& storage = bench.storage();
    const Intent sample = record_of_run(
        verb, std::string_view{verb} == "rollback" ? std::vector<std::string>{"s1"} : std::vector<std::string>{}, "");
    INFO(verb);
    {
      const Intent intent = left.leave(sample, RunState::live);
      [[maybe_unused]] const auto held = keep_alive(bench.fixture(), left.volume, intent, RunState::live);
      const std::string record = bench.fixture().record_of(left.volume);
      const Recovery found = must(storage.recover());
      CHECK((found.done.empty() && found.left.empty()));
      REQUIRE(found.busy.size() == 1);
      CHECK(found.busy[0].verb == verb);
      CHECK(found.busy[0].holder.find(intent.owner.str()) != std::string::npos);
      CHECK(bench.fixture().record_of(left.volume) == record);
      left.rest();
    }
    const Intent old = left.leave(sample, RunState::earlier);
    const std::string record = bench.fixture().record_of(left.volume);
    const Recovery found = must(storage.recover(left.volume));
    CHECK((found.done.empty() && found.busy.empty()));
    REQUIRE(found.left.size() == 1);
    CHECK(found.left[0].verb == old.verb);
    CHECK(name(found.left[0].code) == name(Errc::wrong_state));
    CHECK(found.left[0].reason.find("--adopt") != std::string::npos);
    CHECK(bench.fixture().record_of(left.volume) == record);
    left.is_as_it_was(verb);

    left.leave(sample, RunState::dead);
    const Recovery would = must(storage.recover(left.volume, {.dry_run = true}));
    CHECK((would.done.size() == 1 && would.busy.empty() && would.left.empty()));
    left.is_as_it_was(verb);
    const Recovery done = must(storage.recover());
    CHECK((done.done.size() == 1 && done.busy.empty() && done.left.empty()));
    CHECK(must(storage.recover()).empty());
    CHECK(bench.lists(left.volume) == (std::string_view{verb} == "rollback"));
    if (bench.lists(left.volume)) {
      CHECK(bench.holds(left.volume, 1));
      must(storage.remove(left.volume, {.snapshots = true, .trash = false}));
    }
  }
}

}  // namespace stowage::testing::laws
