#pragma once
// How `MemoryBackend` finds and settles what was left unfinished.

#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/intent/runs.hpp>
#include <stowage/intent/table.hpp>
#include <stowage/testing/detail/memory_intents.hpp>
#include <stowage/testing/detail/memory_state.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::testing::detail {

/// One call of `recover`. Pre: the mutex is locked.
class MemoryRecovery {
 public:
  MemoryRecovery(MemoryState& state, const RecoverOptions& options, const Work& work)
      : state_{state}, options_{options}, work_{work} {}

  Result<Recovery> run(const std::optional<VolumeName>& only) && {
    if (only && !state_.volumes.contains(only->str())) return fail(Errc::not_found, "no volume '" + only->str() + "'");
    for (auto at = state_.volumes.begin(); at != state_.volumes.end();) {
      const auto [name, volume] = *at++;  // a copy: it may be removed
      if (!volume->record.empty() && (!only || only->str() == name)) look_at(name, *volume);
    }
    return std::move(recovery_);
  }

 private:
  void look_at(const std::string& name, MemoryVolume& volume) {
    const auto intent = intent_of(state_, volume);
    if (!intent) return did(name, "removed a record that is about another volume", [&] { settle(volume); });
    if (is_waiting(*intent)) return;
    const std::string holder = intent->owner.nobody() ? "" : intent->owner.str();
    const auto leave = [&](Errc code, std::string reason) {
      recovery_.left.push_back({name, intent->verb, std::move(reason), holder, code});
    };
    const Liveness alive = liveness(*intent);
    if (alive == Liveness::live && !options_.fence) return recovery_.busy.push_back({name, intent->verb, holder});
    if (volume.has_writer) return recovery_.busy.push_back({name, intent->verb, "somebody that has it open"});
    if (intent->format == IntentFormat::unknown || !may_act_on(*intent)) {
      return leave(Errc::wrong_state, way_out_of(*intent));
    }
    if (intent->format == IntentFormat::current && alive == Liveness::unknown && !options_.fence) {
      return leave(Errc::in_use, "this host cannot see whether its owner is alive");
    }
    if (work_.stop.stop_requested()) return leave(Errc::cancelled, "stopped before its turn");
    settle_one(name, volume, *intent);
  }

  [[nodiscard]] bool may_act_on(const Intent& intent) const {
    return intent.format == IntentFormat::current || options_.then == RecoverOptions::Then::adopt;
  }

  void settle_one(const std::string& name, MemoryVolume& volume, const Intent& intent) {
    const auto receipt = receipt_in(intent);
    if (options_.then == RecoverOptions::Then::keep) {
      return did(name, "kept it as it is", [&] { settle(volume); });
    }
    if (intent.verb == "import" || intent.verb == "remove" || (receipt && !receipt->base)) {
      return did(name, "removed, unfinished " + intent.verb, [&] { state_.volumes.erase(name); });
    }
    const std::string back = receipt ? receipt->base->str() : intent.verb == "rollback" ? intent.argument(0) : "";
    const auto snapshot = SnapshotName::parse(back);
    const MemorySnapshot* found = snapshot ? volume.find(*snapshot) : nullptr;
    if (!back.empty() && found == nullptr) {
      return recovery_.left.push_back(
          {name, intent.verb, "its snapshot '" + back + "' is not there any more", {}, Errc::not_found});
    }
    const std::string base = intent.verb == "template" ? intent.argument(0) : "";
    if (!base.empty() && state_.volumes.contains(base)) {
      return recovery_.left.push_back({name, intent.verb, "there is a '" + base + "'", {}, Errc::already_exists});
    }
    did(name, "finished " + intent.verb, [&] {
      if (found != nullptr) volume.go_back_to(*found);
      settle(volume);
      if (base.empty()) return;
      volume.is_base = true;
      auto node = state_.volumes.extract(name);
      node.key() = base;
      state_.volumes.insert(std::move(node));
    });
  }

  template <class Do>
  void did(const std::string& name, std::string action, Do what) {
    recovery_.done.push_back({name, std::move(action)});
    if (!options_.dry_run) what();
  }

  MemoryState& state_;
  const RecoverOptions& options_;
  const Work& work_;
  Recovery recovery_{};
};

inline std::vector<Finding> check(const MemoryState& state) {
  std::vector<Finding> found;
  for (const auto& [name, volume] : state.volumes) {
    const auto intent = intent_of(state, *volume);
    if (!intent && !volume->record.empty()) {
      found.push_back({name, "it has the record of a verb that is about another volume", "recover takes that away"});
    } else if (intent && !is_waiting(*intent)) {
      found.push_back({name, "unfinished: " + holder_of(*intent), way_out_of(*intent)});
    }
  }
  return found;
}

}  // namespace stowage::testing::detail
