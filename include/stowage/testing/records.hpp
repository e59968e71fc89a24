#pragma once
// Records of unfinished verbs, as tests put them on volumes: of runs that go on, that are dead, or of other versions.

#include <stowage/core/error.hpp>
#include <stowage/intent/record.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::testing {

/// A process of this machine that has ended: its number is above the largest pid_max.
inline IntentOwner dead_process() {
  IntentOwner owner = this_process();
  owner.pid = 4'194'305;
  return owner;
}

/// A record of this version, not bound yet. Without an owner nobody's.
inline Intent record_of_run(std::string verb, std::vector<std::string> arguments, std::string nonce,
                            IntentOwner owner = {}) {
  return {.verb = std::move(verb),
          .nonce = std::move(nonce),
          .phase = IntentPhase::commit,
          .bound = {},
          .owner = std::move(owner),
          .arguments = std::move(arguments)};
}

/// A record as version 0.1 wrote it on RBD: a verb, and what it is about.
inline Intent record_of_earlier_version(std::string verb, std::vector<std::string> arguments) {
  Intent intent;
  intent.format = IntentFormat::earlier;
  intent.verb = std::move(verb);
  intent.phase = IntentPhase::commit;
  intent.read_as = intent.verb;
  if (!arguments.empty()) intent.read_as += " " + arguments.front();
  intent.arguments = std::move(arguments);
  return intent;
}

/// The text of a record: bound to `bound`, unless it is bound to something already. Of another version it is the text
/// that it was read from.
inline Result<std::string> text_of_record(Intent intent, const std::string& bound) {
  if (intent.format != IntentFormat::current) return intent.read_as;
  if (intent.bound.empty()) intent.bound = bound;
  return intent_text(intent);
}

}  // namespace stowage::testing
