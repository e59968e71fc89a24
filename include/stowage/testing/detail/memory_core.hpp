#pragma once
// What stands under the verbs of `MemoryBackend`: the volumes and their lock, and what a test does to them.

#include <memory>
#include <mutex>
#include <optional>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/intent/table.hpp>
#include <stowage/testing/detail/memory_intents.hpp>
#include <stowage/testing/detail/memory_state.hpp>
#include <stowage/testing/detail/sparse_blocks.hpp>
#include <stowage/testing/records.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage::testing::detail {

/// The part of `MemoryBackend` that is no verb.
class MemoryCore {
 public:
  /// Lets a call fail with `code` before it does anything: the next one of any verb or open volume, or the one that
  /// comes `after` so many others. (The facade may make several calls for one verb.)
  void fail_next(Errc code, unsigned after = 0) {
    const std::lock_guard lock{state_->mutex};
    state_->planned_failure = code;
    state_->calls_before_failure = after;
  }
  /// Lets every call fail with `unavailable`, as when the network is gone.
  void set_offline(bool offline) {
    const std::lock_guard lock{state_->mutex};
    state_->offline = offline;
  }
  /// Leaves `volume` as a run of `verb` ("rollback") that ended too early and gave up its record. Errors: not_found.
  Result<void> interrupt(const VolumeName& volume, std::string verb, std::vector<std::string> arguments = {}) {
    return new_nonce().and_then([&](const std::string& nonce) {
      return interrupt(volume, record_of_run(std::move(verb), std::move(arguments), nonce));
    });
  }
  /// The same with any record. It is bound to the volume unless it is bound to something. Errors: not_found.
  Result<void> interrupt(const VolumeName& volume, const Intent& intent) {
    return on(volume, [&](Volume& v) {
      return text_of_record(intent, bound_of(*state_, v)).map([&](std::string text) {
        detail::settle(v);
        v.record = std::move(text);
      });
    });
  }
  /// The text of the record that a volume has; empty if it has none. Errors: not_found.
  [[nodiscard]] Result<std::string> record(const VolumeName& volume) const {
    return on(volume, [](Volume& v) -> Result<std::string> { return v.record; });
  }
  /// Puts something there that is not ours, under any name.
  void add_foreign(const std::string& name, Bytes size) {
    const std::lock_guard lock{state_->mutex};
    state_->volumes.insert_or_assign(name, fresh(size, Content::images));
  }

 protected:
  using Volume = MemoryVolume;

  template <class Verb>
  auto locked(Verb verb) const -> std::invoke_result_t<Verb> {
    const std::lock_guard lock{state_->mutex};
    return state_->planned().and_then(std::move(verb));
  }
  template <class Verb>
  auto on(const VolumeName& volume, Verb verb) const -> std::invoke_result_t<Verb, Volume&> {
    return locked([&]() -> std::invoke_result_t<Verb, Volume&> {
      const auto found = state_->volumes.find(volume.str());
      if (found == state_->volumes.end()) return fail(Errc::not_found, "no volume '" + volume.str() + "'");
      return verb(*std::shared_ptr{found->second});  // a copy: the verb may remove it
    });
  }
  template <class Verb>
  auto on(const VolumeName& volume, const SnapshotName& snapshot, Verb verb) const
      -> std::invoke_result_t<Verb, Volume&, MemorySnapshot&> {
    return on(volume, [&](Volume& v) -> std::invoke_result_t<Verb, Volume&, MemorySnapshot&> {
      MemorySnapshot* found = v.find(snapshot);
      if (found == nullptr) return fail(Errc::not_found, "no snapshot '" + snapshot.str() + "'");
      return verb(v, *found);
    });
  }
  /// And only if no unfinished verb stands in the way of this one.
  template <class Do>
  auto enter(const VolumeName& volume, Verb verb, Do what, const std::vector<std::string>& arguments = {})
      -> std::invoke_result_t<Do, Volume&> {
    return on(volume,
              [&](Volume& v) { return detail::enter(*state_, v, verb, arguments).and_then([&] { return what(v); }); });
  }
  template <class Do>
  auto enter(const VolumeName& volume, const SnapshotName& snapshot, Verb verb, Do what)
      -> std::invoke_result_t<Do, Volume&, MemorySnapshot&> {
    return on(volume, snapshot, [&](Volume& v, MemorySnapshot& s) {
      return detail::enter(*state_, v, verb).and_then([&] { return what(v, s); });
    });
  }

  std::shared_ptr<Volume> fresh(Bytes size, Content content) {
    return std::make_shared<Volume>(Volume{.id = ++state_->last_id,
                                           .size = size,
                                           .content = content,
                                           .blocks = SparseBlocks{state_->chunks},
                                           .ctime = now()});
  }
  Result<void> add(const VolumeName& name, const std::shared_ptr<Volume>& volume) {
    if (state_->volumes.try_emplace(name.str(), volume).second) return {};
    return fail(Errc::already_exists, "volume '" + name.str() + "' exists");
  }
  /// An import that nobody fills any more gives its name to the next one.
  void drop_dead_import(const VolumeName& name) {
    const auto found = state_->volumes.find(name.str());
    if (found == state_->volumes.end() || found->second->has_writer) return;
    const auto intent = intent_of(*state_, *found->second);
    if (!intent || is_ours(*found->second, *intent)) return;
    const auto admitted = admit(Verb::import, {}, intent, liveness(*intent));
    if (admitted && *admitted == Admission::take_over) state_->volumes.erase(found);
  }
  Result<void> add_clone(const Volume& of, Bytes size, const SparseBlocks& blocks, std::string snapshot,
                         const VolumeName& to, const CloneSpec& spec) {
    const std::shared_ptr<Volume> volume = fresh(size, spec.content);
    volume->blocks = blocks;
    volume->origin = MemoryOrigin{of.id, std::move(snapshot)};
    return add(to, volume);
  }
  Result<void> move(const VolumeName& from, const VolumeName& to) {
    return add(to, state_->volumes.at(from.str())).map([&] { state_->volumes.erase(from.str()); });
  }

  /// No clones depend on the volume, or on that one snapshot of it.
  Result<void> without_clones(const Volume& volume, const std::optional<std::string>& snapshot) const {
    std::string clones;
    for (const auto& [name, other] : state_->volumes) {
      if (!other->origin || other->origin->volume != volume.id) continue;
      if (!snapshot || other->origin->snapshot == *snapshot) clones += " " + name;
    }
    if (clones.empty()) return {};
    return fail(Errc::in_use, "it has clones:" + clones);
  }

  void take(Volume& volume, const SnapshotName& snapshot) {
    SnapshotInfo info{.name = snapshot, .size = volume.size, .ctime = now(), .id = ++state_->last_id};
    volume.snapshots.push_back({std::move(info), volume.blocks});
  }

  // One storage for all copies.
  std::shared_ptr<MemoryState> state_ =
      std::make_shared<MemoryState>();  // NOLINT(*-non-private-member-variables-in-classes)
};

}  // namespace stowage::testing::detail
