#pragma once
// Verbs of several steps keep away from each other, and `recover` from those who live, by a lock on the volume's name.
// The kernel takes it back from the dead.

#include <fcntl.h>
#include <sys/stat.h>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

/// The byte of the volume group's lock file that stands for a volume (FNV-1a). Two volumes may share one: then they
/// wait for each other, which does no harm.
constexpr std::int64_t lvm_lock_place(std::string_view volume) noexcept {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : volume) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return static_cast<std::int64_t>(hash >> 2U);
}

/// Held as long as it lives.
class LvmLock {
 public:
  /// Waits for at most `patience`. Errors: in_use (another verb is at it), permission_denied, cancelled.
  [[nodiscard]] static Result<LvmLock> take(const OpenOptions& options, const std::string& vg,
                                            const std::string& volume, std::chrono::milliseconds patience) {
    const std::string path = options.lock_folder + "/lvm-" + vg;
    static_cast<void>(::mkdir(options.lock_folder.c_str(), 0700));
    LvmLock lock{Fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)}};
    if (!lock.file_) {
      return fail(Error{Errc::permission_denied,
                        "cannot open the lock '" + path + "': " + native_errno(errno).message(), native_errno(errno)}
                      .advise("LVM needs root"));
    }
    struct ::flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_start = lvm_lock_place(volume);
    range.l_len = 1;
    // The kernel's own waiting for a lock has no deadline, and only a signal ends it: so we ask again.
    const auto taken = [&] { return ::fcntl(lock.file_.get(), F_OFD_SETLK, &range) == 0; };
    switch (wait_until(taken, std::chrono::steady_clock::now() + patience, options.stop)) {
      case Waited::done: return lock;
      case Waited::stopped: return fail(Errc::cancelled, "stopped before it began");
      case Waited::timed_out: break;
    }
    return fail(Errc::in_use, "another verb is at work on '" + volume + "'", native_errno(EAGAIN));
  }

 private:
  explicit LvmLock(Fd file) noexcept : file_{std::move(file)} {}

  Fd file_;
};

}  // namespace stowage::detail
