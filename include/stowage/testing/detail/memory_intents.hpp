#pragma once
// What `MemoryBackend` does about unfinished verbs: the contract of an intent, where one mutex makes every step atomic.

#include <charconv>
#include <cstdint>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/intent/runs.hpp>
#include <stowage/intent/table.hpp>
#include <stowage/testing/detail/memory_state.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::testing::detail {

inline std::string bound_of(const MemoryState& state, const MemoryVolume& volume) {
  return "memory-" + std::to_string(state.number) + "/" + std::to_string(volume.id);
}

/// The record of a volume. A void one, which is bound to something else, is none.
inline std::optional<Intent> intent_of(const MemoryState& state, const MemoryVolume& volume) {
  if (volume.record.empty()) return std::nullopt;
  Intent intent = parse_intent(volume.record);
  if (intent.format == IntentFormat::current && intent.bound != bound_of(state, volume)) return std::nullopt;
  return intent;
}

inline bool is_waiting(const Intent& intent) {
  return intent.format == IntentFormat::current && intent.phase == IntentPhase::waiting;
}

inline bool is_ours(const MemoryVolume& volume, const Intent& intent) {
  return volume.run && volume.run->nonce() == intent.nonce;
}

/// What the one who fills a volume may do with it meanwhile.
constexpr bool owner_may(Verb verb) noexcept {
  return verb == Verb::remove || verb == Verb::receive || verb == Verb::import || verb == Verb::resize ||
         verb == Verb::open_to_read || verb == Verb::open_to_write;
}

/// `verb` may begin at the volume, by the table of all backends. Errors: in_use, wrong_state.
inline Result<void> enter(const MemoryState& state, const MemoryVolume& volume, Verb verb,
                          const std::vector<std::string>& arguments = {}) {
  const auto intent = intent_of(state, volume);
  if (intent && is_ours(volume, *intent) && owner_may(verb)) return {};
  return admit(verb, arguments, intent, intent ? liveness(*intent) : Liveness::dead).map([](Admission) {});
}

/// The verb that left the record has come to its end, one way or the other.
inline void settle(MemoryVolume& volume) {
  volume.record.clear();
  volume.run.reset();
}

/// Writes a record of a run that this storage holds from now on; or, for what waits, of none.
inline Result<void> write_record(const MemoryState& state, MemoryVolume& volume, std::string verb, IntentPhase phase,
                                 std::vector<std::string> arguments) {
  auto run = volume.run ? Result<Run>{*std::exchange(volume.run, std::nullopt)} : Run::begin(verb, "a memory storage");
  if (!run) return fail(std::move(run.error()));
  const bool owned = phase != IntentPhase::waiting;
  const auto text = intent_text({.verb = std::move(verb),
                                 .nonce = run->nonce(),
                                 .phase = phase,
                                 .bound = bound_of(state, volume),
                                 .owner = owned ? this_process() : IntentOwner{},
                                 .arguments = std::move(arguments)});
  if (!text) return fail(text.error());
  volume.record = *text;
  if (owned) volume.run = *std::move(run);
  return {};
}

/// Nobody owns the record from now on, if it is ours.
inline Result<void> release(const MemoryState& state, MemoryVolume& volume) {
  auto intent = intent_of(state, volume);
  if (!intent || !is_ours(volume, *intent)) return {};
  intent->owner = {};
  return intent_text(*intent).map([&](std::string text) {
    volume.record = std::move(text);
    volume.run.reset();
  });
}

/// What was begun here ends. It may have ended before. Errors: wrong_state, in_use (it is not ours any more).
inline Result<void> end(const MemoryState& state, MemoryVolume& volume, Verb verb) {
  const auto intent = intent_of(state, volume);
  if (!intent) return {};
  if (is_ours(volume, *intent) && intent->verb == name(verb)) {
    settle(volume);
    return {};
  }
  return enter(state, volume, verb).and_then([]() -> Result<void> {
    return fail(Errc::wrong_state, "nobody fills it any more");
  });
}

inline std::vector<std::string> arguments_of(const Receipt& receipt) {
  return {receipt.target, std::to_string(receipt.done.count), receipt.base ? receipt.base->str() : ""};
}

inline std::optional<Receipt> receipt_in(const std::optional<Intent>& intent) {
  if (!intent || intent->verb != name(Verb::receive)) return std::nullopt;
  Receipt receipt{.target = intent->argument(0)};
  const std::string done = intent->argument(1);
  std::from_chars(done.data(), done.data() + done.size(), receipt.done.count);
  if (auto base = SnapshotName::parse(intent->argument(2))) receipt.base = *std::move(base);
  return receipt;
}

/// The next receipt of the same stream, or the first of one.
inline Result<void> put_receipt(const MemoryState& state, MemoryVolume& volume, const Receipt& receipt) {
  const std::optional<Receipt> before = receipt_in(intent_of(state, volume));
  Receipt same = receipt;
  if (before) same.done = before->done;
  return enter(state, volume, Verb::receive, arguments_of(same)).and_then([&] {
    return write_record(state, volume, "receive", IntentPhase::commit, arguments_of(receipt));
  });
}

/// A rollback waits until nobody has the volume open.
inline Result<void> finish_waiting(const MemoryState& state, MemoryVolume& volume) {
  const auto intent = intent_of(state, volume);
  if (!intent || !is_waiting(*intent) || volume.has_writer) return {};
  const auto snapshot = SnapshotName::parse(intent->argument(0));
  if (const MemorySnapshot* found = snapshot ? volume.find(*snapshot) : nullptr) volume.go_back_to(*found);
  settle(volume);
  return {};
}

}  // namespace stowage::testing::detail
