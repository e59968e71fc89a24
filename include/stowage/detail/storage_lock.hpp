#pragma once
// The turn of a verb that changes which volumes a storage has: others, `pvesm` for one, look for a free name and take
// it in two steps.

#include <cstdint>
#include <optional>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/features.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// The lock of a storage, or none where nobody else takes any.
class StorageLock {
 public:
  /// Errors: timed_out, cancelled, permission_denied, unavailable. Blocks: up to `StorageLocks::wait`.
  [[nodiscard]] static Result<StorageLock> take(const StorageLocks& locks, const Features& row, const StorageId& id,
                                                const std::stop_token& stop) {
    const std::string& folder = row.shared ? locks.cluster : locks.host;
    if (folder.empty()) return StorageLock{std::nullopt};
    // `pvesm` takes any folder of this name. In one of somebody else its lock is none, and ours would not be either.
    auto lock = row.shared ? Lock::take_in_cluster(folder, "storage-" + id.str(), locks.wait, stop, locks.lease)
                           : Lock::take_shared_file(folder, "pve-storage-" + id.str(), locks.wait, stop);
    if (!lock) return fail(std::move(lock.error()).during("waiting for the turn to change its volumes"));
    return StorageLock{*std::move(lock)};
  }

  /// Errors: timed_out, when it has expired, or its file was replaced: somebody else may have it by now.
  [[nodiscard]] Result<void> check() const {
    if (!lock_ || lock_->holds()) return {};
    return fail(
        Error{Errc::timed_out,
              "it took longer than the lock of the storage lasts, or its file was replaced; nothing was changed"}
            .advise("try again"));
  }

  /// `work`, whose first news lets the lock go: what is short is over by then. Pre: the verb ends before both do.
  [[nodiscard]] Work held_until_progress(const Work& work) {
    then_ = work.progress;
    const auto let_go = [](void* self, std::uint64_t done, std::uint64_t total) {
      auto& lock = *static_cast<StorageLock*>(self);
      lock.lock_.reset();
      lock.then_(done, total);
    };
    return {work.stop, {let_go, this}};
  }

 private:
  explicit StorageLock(std::optional<Lock> lock) : lock_{std::move(lock)} {}

  std::optional<Lock> lock_;
  Progress then_{};
};

/// How the verbs of one storage take turns.
class StorageTurns {
 public:
  explicit StorageTurns(const OpenOptions& options) : locks_{options.locks.value_or(StorageLocks{})} {
    if (!locks_.stop.stop_possible()) locks_.stop = options.stop;
  }

  /// `stop`: the verb's own, if it has one. Errors, Blocks: as `StorageLock::take`.
  [[nodiscard]] Result<StorageLock> take(const Features& row, const StorageId& id, const std::stop_token& stop) const {
    return StorageLock::take(locks_, row, id, stop.stop_possible() ? stop : locks_.stop);
  }

 private:
  StorageLocks locks_;
};

}  // namespace stowage::detail
