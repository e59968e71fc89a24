#pragma once
// Taking turns at the configuration: with `pvesm` and the other nodes on /etc/pve, with other programs of ours
// elsewhere.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <thread>
#include <utility>

namespace stowage {

/// A lock that is let go with its owner.
class ConfigLock {
 public:
  /// A lock of the cluster, as Proxmox VE takes it: the folder `NAME` in `FOLDER` (/etc/pve/priv/lock) is there. It
  /// belongs to whoever made it, for 60 s; after 120 s the cluster's file system gives it to the next who asks.
  /// Errors: timed_out; permission_denied (no quorum, or not root); unavailable.
  /// Blocks: up to `wait`.
  [[nodiscard]] static Result<ConfigLock> take_in_cluster(const std::string& folder, const std::string& name,
                                                          std::chrono::milliseconds wait) {
    ConfigLock lock;
    const std::string path = folder + "/" + name;
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail(failed(folder, errno));
    const auto deadline = Clock::now() + wait;
    for (auto pause = shortest_pause;; pause = std::min(2 * pause, longest_pause)) {
      lock.expires_ = Clock::now() + protected_time;
      if (::mkdir(path.c_str(), 0700) == 0) {
        lock.path_ = path;
        return lock;
      }
      if (errno != EEXIST && errno != EBUSY) return fail(failed(path, errno));
      if (Clock::now() >= deadline) return fail(busy(path));
      const std::array<::timespec, 2> let_go_if_expired{};
      static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), let_go_if_expired.data(), 0));
      std::this_thread::sleep_for(std::min<Clock::duration>(pause, deadline - Clock::now()));
    }
  }

  /// A lock among programs of this host: an `flock` on the file `path`, which is made, and stays.
  /// Errors: timed_out; permission_denied; unavailable.
  /// Blocks: up to `wait`.
  [[nodiscard]] static Result<ConfigLock> take_file(const std::string& path, std::chrono::milliseconds wait) {
    const auto deadline = Clock::now() + wait;
    for (auto pause = shortest_pause;; pause = std::min(2 * pause, longest_pause / 50)) {
      ConfigLock lock;
      lock.file_ = Fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
      if (!lock.file_) return fail(failed(path, errno));
      if (::flock(lock.file_.get(), LOCK_EX | LOCK_NB) == 0) {
        if (lock.is_at(path)) return lock;
        continue;  // somebody removed the file meanwhile: the lock is on nothing that others see
      }
      if (errno != EWOULDBLOCK && errno != EINTR) return fail(failed(path, errno));
      if (Clock::now() >= deadline) return fail(busy(path));
      std::this_thread::sleep_for(std::min<Clock::duration>(pause, deadline - Clock::now()));
    }
  }

  ConfigLock(ConfigLock&& other) noexcept
      : path_{std::exchange(other.path_, {})}, file_{std::move(other.file_)}, expires_{other.expires_} {}
  ConfigLock& operator=(ConfigLock&&) = delete;
  ConfigLock(const ConfigLock&) = delete;
  ConfigLock& operator=(const ConfigLock&) = delete;
  ~ConfigLock() {
    // When it has expired, the folder may be another's lock by now.
    if (!path_.empty() && holds()) static_cast<void>(::rmdir(path_.c_str()));
  }

  /// Nobody else can have it yet. To be asked before what cannot be taken back.
  [[nodiscard]] bool holds() const noexcept { return Clock::now() < expires_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds shortest_pause{1};
  static constexpr std::chrono::milliseconds longest_pause{1000};
  static constexpr std::chrono::seconds protected_time{60};

  ConfigLock() = default;

  [[nodiscard]] bool is_at(const std::string& path) const noexcept {
    struct ::stat ours {};
    struct ::stat there {};
    return ::fstat(file_.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
  }

  static Error failed(const std::string& path, int error) {
    const bool refused = error == EACCES || error == EPERM || error == EROFS;
    const std::error_code native = native_errno(error);
    return Error{refused ? Errc::permission_denied : Errc::unavailable,
                 "the lock of the configuration cannot be taken: " + native.message(), native}
        .about(path)
        .advise("are you root, and on a cluster: has it quorum?");
  }
  static Error busy(const std::string& path) {
    return Error{Errc::timed_out, "somebody else changes the configuration, and does not come to an end"}
        .about(path)
        .advise("try again");
  }

  std::string path_;  // of the cluster's lock
  Fd file_;
  Clock::time_point expires_ = Clock::time_point::max();
};

}  // namespace stowage
