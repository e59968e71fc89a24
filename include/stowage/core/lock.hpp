#pragma once
// Taking turns with other programs: on a cluster's file system with the other nodes too, elsewhere with those of this
// host.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <thread>
#include <utility>

namespace stowage {

/// How long a lock of the cluster is its owner's: what the file system of Proxmox VE grants, and no more can be had.
struct ClusterLease {
  std::chrono::milliseconds to_change{60'000};   ///< what must not be done under the eyes of the next owner
  std::chrono::milliseconds to_let_go{110'000};  ///< of 120 s, after which it may be another's
};

/// A lock that is let go with its owner.
class Lock {
 public:
  /// A lock of the cluster, as Proxmox VE takes it: the folder `NAME` in `FOLDER` (/etc/pve/priv/lock) is there. It
  /// belongs to whoever made it, for as long as the lease; then the cluster's file system gives it to the next who
  /// asks. Errors: timed_out; cancelled; permission_denied (no quorum, or not root); unavailable. Blocks: up to `wait`.
  [[nodiscard]] static Result<Lock> take_in_cluster(const std::string& folder, const std::string& name,
                                                    std::chrono::milliseconds wait, const std::stop_token& stop = {},
                                                    const ClusterLease& lease = {}) {
    Lock lock;
    const std::string path = folder + "/" + name;
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail(failed(folder, errno));
    const auto deadline = Clock::now() + wait;
    for (auto pause = shortest_pause;; pause = std::min(2 * pause, longest_pause)) {
      const auto now = Clock::now();
      if (::mkdir(path.c_str(), 0700) == 0) {
        lock.path_ = path;
        lock.change_until_ = now + lease.to_change;
        lock.ours_until_ = now + lease.to_let_go;
        return lock;
      }
      if (errno != EEXIST && errno != EBUSY) return fail(failed(path, errno));
      if (now >= deadline) {
        return fail(
            Error{Errc::timed_out, "somebody else holds the lock '" + path + "', and does not let it go"}.advise(
                "try again; if its owner died, the cluster takes it back two minutes later"));
      }
      const std::array<::timespec, 2> let_go_if_expired{};
      static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), let_go_if_expired.data(), 0));
      if (!sleep(std::min<Clock::duration>(pause, deadline - now), stop)) return fail(stopped(path));
    }
  }

  /// A lock among programs of this host: an `flock` on the file `path`, which is made, and stays.
  /// Errors: timed_out; cancelled; permission_denied; unavailable.
  /// Blocks: up to `wait`.
  [[nodiscard]] static Result<Lock> take_file(const std::string& path, std::chrono::milliseconds wait,
                                              const std::stop_token& stop = {}) {
    const auto deadline = Clock::now() + wait;
    for (auto pause = shortest_pause;; pause = std::min(2 * pause, longest_pause / 50)) {
      Lock lock;
      lock.file_ = Fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
      if (!lock.file_) return fail(failed(path, errno));
      const auto now = Clock::now();
      if (::flock(lock.file_.get(), LOCK_EX | LOCK_NB) == 0) {
        if (lock.is_at(path)) return lock;
        continue;  // somebody removed the file meanwhile: the lock is on nothing that others see
      }
      if (errno != EWOULDBLOCK && errno != EINTR) return fail(failed(path, errno));
      if (now >= deadline) {
        return fail(
            Error{Errc::timed_out, "another program holds the lock '" + path + "', and does not let it go"}.advise(
                "try again; /proc/locks tells who it is"));
      }
      if (!sleep(std::min<Clock::duration>(pause, deadline - now), stop)) return fail(stopped(path));
    }
  }

  Lock(Lock&& other) noexcept
      : path_{std::exchange(other.path_, {})},
        file_{std::move(other.file_)},
        change_until_{other.change_until_},
        ours_until_{other.ours_until_} {}
  Lock& operator=(Lock&&) = delete;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    // When it has expired, the folder may be another's lock by now.
    if (!path_.empty() && Clock::now() < ours_until_) static_cast<void>(::rmdir(path_.c_str()));
  }

  /// There is time left to change something. To be asked before what cannot be taken back.
  [[nodiscard]] bool holds() const noexcept { return path_.empty() || Clock::now() < change_until_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds shortest_pause{1};
  static constexpr std::chrono::milliseconds longest_pause{1000};

  Lock() = default;

  [[nodiscard]] bool is_at(const std::string& path) const noexcept {
    struct ::stat ours {};
    struct ::stat there {};
    return ::fstat(file_.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
  }

  /// False: asked to stop.
  static bool sleep(Clock::duration pause, const std::stop_token& stop) {
    const auto end = Clock::now() + pause;
    for (auto now = Clock::now(); now < end && !stop.stop_requested(); now = Clock::now()) {
      std::this_thread::sleep_for(std::min<Clock::duration>(end - now, std::chrono::milliseconds{50}));
    }
    return !stop.stop_requested();
  }

  static Error failed(const std::string& path, int error) {
    const bool refused = error == EACCES || error == EPERM || error == EROFS;
    const std::error_code native = native_errno(error);
    return Error{refused ? Errc::permission_denied : Errc::unavailable,
                 "the lock '" + path + "' cannot be taken: " + native.message(), native}
        .advise("are you root, and on a cluster: has it quorum?");
  }
  static Error stopped(const std::string& path) {
    return Error{Errc::cancelled, "stopped while waiting for the lock '" + path + "'"};
  }

  std::string path_;  // of the cluster's lock
  Fd file_;
  Clock::time_point change_until_{};
  Clock::time_point ours_until_{};
};

}  // namespace stowage
