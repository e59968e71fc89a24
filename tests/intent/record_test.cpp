#include <catch2/catch.hpp>

#include <rapidcheck.h>
#include <stowage/intent/table.hpp>
#include <string>
#include <vector>

using namespace stowage;

namespace {

constexpr const char* allowed_in_tags = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+./=!&#-";

Intent sample(std::string verb = "rollback") {
  Intent intent{.verb = std::move(verb),
                .nonce = new_nonce().value(),
                .phase = IntentPhase::commit,
                .bound = "2/ns/10ab",
                .owner = this_process()};
  intent.arguments = {"before"};
  return intent;
}

}  // namespace

TEST_CASE("a record comes back as it was written, whatever its arguments are") {
  CHECK(rc::check([](const std::vector<std::string>& arguments, const std::string& bound) {
    Intent intent = sample();
    intent.bound = bound;
    intent.arguments = arguments;
    intent.owner.client = "127.0.0.1:0/4242";
    const auto text = intent_text(intent);
    RC_PRE(text.has_value());
    RC_ASSERT(text->find_first_not_of(allowed_in_tags) == std::string::npos);
    const Intent again = parse_intent(*text);
    RC_ASSERT(again.format == IntentFormat::current);
    RC_ASSERT(again.verb == intent.verb);
    RC_ASSERT(again.nonce == intent.nonce);
    RC_ASSERT(again.phase == intent.phase);
    RC_ASSERT(again.bound == intent.bound);
    RC_ASSERT(again.owner == intent.owner);
    RC_ASSERT(again.arguments == intent.arguments);
    RC_ASSERT(again.read_as == *text);
  }));
}

TEST_CASE("parsing a record never fails, and only ours are of this format") {
  CHECK(rc::check([](const std::string& text) { static_cast<void>(parse_intent(text)); }));
  CHECK(parse_intent("rollback before").format == IntentFormat::earlier);
  CHECK(parse_intent("rollback before").verb == "rollback");
  CHECK(parse_intent("rollback before").arguments == std::vector<std::string>{"before"});
  CHECK(parse_intent("import").format == IntentFormat::earlier);
  CHECK(parse_intent("rename/vm-1-a/vm-1-b").arguments == std::vector<std::string>{"vm-1-a/vm-1-b"});
  CHECK(parse_intent("2/0123456789abcdef/remove/new/b/o").format == IntentFormat::unknown);
  CHECK(parse_intent("1/short/remove/commit/b/").format == IntentFormat::unknown);
  CHECK(parse_intent("1/0123456789abcdef/remove/soon/b/").format == IntentFormat::unknown);
  CHECK(parse_intent("2/0123456789abcdef/remove/new/b/o").verb == "remove");
}

TEST_CASE("a record that is longer than a tag is refused") {
  Intent intent = sample();
  intent.arguments = {std::string(1000, 'x')};
  REQUIRE_FALSE(intent_text(intent));
  CHECK(intent_text(intent).error().code() == Errc::invalid_argument);
}

TEST_CASE("a process is alive, its predecessors are dead, and other machines are unknown") {
  const IntentOwner self = this_process();
  CHECK(liveness_here(self) == Liveness::live);
  CHECK(liveness_here({}) == Liveness::dead);
  IntentOwner other = self;
  other.started += 1;
  CHECK(liveness_here(other) == Liveness::dead);
  other = self;
  other.pid = 4'194'305;  // above the largest pid_max
  CHECK(liveness_here(other) == Liveness::dead);
  other = self;
  other.boot = "another";
  CHECK(liveness_here(other) == Liveness::dead);
  other = self;
  other.pid_namespace += 1;
  CHECK(liveness_here(other) == Liveness::unknown);
  other = self;
  other.machine = "another";
  CHECK(liveness_here(other) == Liveness::unknown);
}

TEST_CASE("a run of this process is alive as long as it is there, and pending once nobody waits for it") {
  Intent intent = sample();
  {
    const Run run = Run::begin("rollback", "st:vm-1-disk-0").value();
    intent.nonce = run.nonce();
    CHECK(liveness(intent) == Liveness::live);
    CHECK(pending_calls().empty());
    run.abandon();
    REQUIRE(pending_calls().size() == 1);
    CHECK(pending_calls()[0].object == "st:vm-1-disk-0");
  }
  CHECK(liveness(intent) == Liveness::dead);
  CHECK(pending_calls().empty());
  intent.owner.machine = "another";
  CHECK(liveness(intent) == Liveness::unknown);
  CHECK(liveness(intent, Liveness::live) == Liveness::live);
}

TEST_CASE("the table of verbs on an unfinished volume") {
  const Intent intent = sample();
  const std::vector<std::string> same{"before"};
  const auto code = [&](Verb verb, const Intent& found, Liveness alive) {
    const auto admitted = admit(verb, same, found, alive);
    return admitted ? Errc{} : admitted.error().code();
  };
  for (const Verb verb : {Verb::info, Verb::snapshots, Verb::deactivate, Verb::check, Verb::open_snapshot}) {
    for (const Liveness alive : {Liveness::live, Liveness::dead, Liveness::unknown}) {
      CHECK(admit(verb, {}, intent, alive) == Admission::free);
    }
  }
  for (const Verb verb : {Verb::resize, Verb::rename, Verb::snapshot, Verb::remove_snapshot, Verb::clone, Verb::flatten,
                          Verb::open_to_read, Verb::open_to_write, Verb::activate, Verb::make_template}) {
    CHECK(admit(verb, {}, std::nullopt, Liveness::dead) == Admission::free);
    CHECK(code(verb, intent, Liveness::live) == Errc::in_use);
    CHECK(code(verb, intent, Liveness::dead) == Errc::wrong_state);
    CHECK(code(verb, intent, Liveness::unknown) == Errc::wrong_state);
  }
  for (const Verb verb : {Verb::remove, Verb::rollback}) {
    CHECK(code(verb, intent, Liveness::live) == Errc::in_use);
    CHECK(code(verb, intent, Liveness::unknown) == Errc::in_use);
    CHECK(admit(verb, {"another"}, intent, Liveness::dead) == Admission::take_over);
  }
  CHECK(admit(Verb::rollback, same, sample("receive"), Liveness::dead) == Admission::take_over);
  CHECK_FALSE(admit(Verb::rollback, same, sample("import"), Liveness::dead));
  const Intent marked = sample("template");
  CHECK(admit(Verb::make_template, same, marked, Liveness::dead) == Admission::take_over);
  CHECK_FALSE(admit(Verb::make_template, {"another"}, marked, Liveness::dead));

  const Intent old = parse_intent("rollback before");
  CHECK(admit(Verb::remove, {}, old, Liveness::unknown) == Admission::take_over);
  CHECK(admit(Verb::rollback, same, old, Liveness::unknown) == Admission::take_over);
  CHECK(code(Verb::resize, old, Liveness::unknown) == Errc::wrong_state);

  Intent waiting = sample();
  waiting.phase = IntentPhase::waiting;
  CHECK(admit(Verb::activate, {}, waiting, Liveness::dead) == Admission::free);
  CHECK(code(Verb::resize, waiting, Liveness::dead) == Errc::wrong_state);
  CHECK(code(Verb::snapshot, waiting, Liveness::dead) == Errc::wrong_state);
  CHECK(code(Verb::rollback, waiting, Liveness::dead) == Errc::wrong_state);
}
