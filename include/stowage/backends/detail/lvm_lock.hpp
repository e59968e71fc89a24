#pragma once
// Verbs of several steps keep away from each other, and `recover` from those who live, by a lock on the volume's name.
// The kernel takes it back from the dead.

#include <chrono>
#include <stowage/core/error.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// Held as long as it lives.
class LvmLock {
 public:
  /// Waits for at most `patience`. Errors: in_use (another verb is at it), permission_denied, unavailable, cancelled.
  [[nodiscard]] static Result<LvmLock> take(const OpenOptions& options, const std::string& vg,
                                            const std::string& volume, std::chrono::milliseconds patience) {
    auto lock = Lock::take_own(options.lock_folder, "lvm-" + vg, patience, options.stop, volume);
    if (lock) return LvmLock{*std::move(lock)};
    switch (lock.error().code()) {
      case Errc::timed_out:
        return fail(Errc::in_use, "another verb is at work on '" + volume + "'", native_errno(EAGAIN));
      case Errc::cancelled: return fail(Errc::cancelled, "stopped before it began");
      default: return fail(std::move(lock.error()));
    }
  }

  /// See `Lock::holds`.
  [[nodiscard]] bool holds() const noexcept { return lock_.holds(); }

 private:
  explicit LvmLock(Lock lock) noexcept : lock_{std::move(lock)} {}

  Lock lock_;
};

}  // namespace stowage::detail
