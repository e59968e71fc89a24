#pragma once
// Taking turns with other programs: on a cluster's file system with the other nodes too, elsewhere with those of this
// host.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/lock_folder.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace stowage {

/// How long a lock of the cluster is its owner's: what the file system of Proxmox VE grants, and no more can be had.
struct ClusterLease {
  std::chrono::milliseconds to_change{60'000};   ///< what must not be done under the eyes of the next owner
  std::chrono::milliseconds to_let_go{110'000};  ///< of 120 s, after which it may be another's
};

namespace detail {

/// Goes on while the host is suspended, as a lease of the cluster does.
struct BootClock {
  // NOLINTBEGIN(readability-identifier-naming): the names of the standard's Cpp17Clock
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  // NOLINTEND(readability-identifier-naming)
  static constexpr bool is_steady = true;

  static time_point now() noexcept {
    struct ::timespec time {};
    static_cast<void>(::clock_gettime(CLOCK_BOOTTIME, &time));
    return time_point{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
  }
};

/// The byte of a lock file that stands for a part of it, the same for all programs, whatever compiled them (FNV-1a).
constexpr std::int64_t lock_place(std::string_view part) noexcept {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return static_cast<std::int64_t>(hash >> 2U);
}

}  // namespace detail

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
        lock.in_cluster_ = true;
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

  /// A lock among programs of this host, other software included: an `flock` on the file `path`, which is made, and
  /// stays. Pre: whoever can change the folder of the file may also change what the lock protects.
  /// Errors: timed_out; cancelled; permission_denied; unavailable.
  /// Blocks: up to `wait`.
  [[nodiscard]] static Result<Lock> take_file(const std::string& path, std::chrono::milliseconds wait,
                                              const std::stop_token& stop = {}) {
    const auto open = [&]() -> Result<Fd> {
      Fd file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
      if (!file) return fail(failed(path, errno));
      return file;
    };
    return take(path, open, flock_whole, wait, stop);
  }

  /// The same in a folder that only root or this user can change; it is made if it is missing.
  /// Errors: as `take_file`; permission_denied also when somebody else can change the folder or owns the file.
  [[nodiscard]] static Result<Lock> take_shared_file(const std::string& folder, const std::string& name,
                                                     std::chrono::milliseconds wait, const std::stop_token& stop = {}) {
    return take_in(folder, name, detail::LockSharing::other_programs, flock_whole, wait, stop);
  }

  /// A lock among programs of this user: the file `name` in `folder`, which is made with mode 0700 if it is missing, or
  /// one part of the file: who takes another part does not wait (two parts may share a place: then they do), who takes
  /// the whole file waits for all.
  /// Errors: timed_out; cancelled; permission_denied (with the owner, when the folder is not this user's alone);
  /// invalid_argument (the name); unavailable. A refusal changes nothing.
  /// Blocks: up to `wait`.
  [[nodiscard]] static Result<Lock> take_own(const std::string& folder, const std::string& name,
                                             std::chrono::milliseconds wait, const std::stop_token& stop = {},
                                             const std::optional<std::string>& part = {}) {
    return take_in(folder, name, detail::LockSharing::own_programs, Part{part}, wait, stop);
  }

  /// A part of a file that is there, of the kernel's for one, and that nobody but root can replace.
  /// Errors, Blocks: as `take_file`.
  [[nodiscard]] static Result<Lock> take_part(const std::string& path, const std::string& part,
                                              std::chrono::milliseconds wait, const std::stop_token& stop = {}) {
    const auto open = [&]() -> Result<Fd> {
      Fd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW)};
      if (!file) return fail(failed(path, errno));
      return file;
    };
    return take(path, open, Part{part}, wait, stop);
  }

  Lock(Lock&& other) noexcept
      : path_{std::exchange(other.path_, {})},
        file_{std::move(other.file_)},
        in_cluster_{std::exchange(other.in_cluster_, false)},
        change_until_{other.change_until_},
        ours_until_{other.ours_until_} {}
  Lock& operator=(Lock&&) = delete;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    // When it has expired, the folder may be another's lock by now.
    if (in_cluster_ && Clock::now() < ours_until_) static_cast<void>(::rmdir(path_.c_str()));
  }

  /// It is still a lock: there is time left to change something, and others find this very file under its path. To be
  /// asked before what cannot be taken back.
  [[nodiscard]] bool holds() const noexcept { return in_cluster_ ? Clock::now() < change_until_ : is_at(path_); }

 private:
  using Clock = detail::BootClock;
  static constexpr std::chrono::milliseconds shortest_pause{1};
  static constexpr std::chrono::milliseconds longest_pause{1000};

  Lock() = default;

  /// Tried once: the kernel's own waiting for a lock has no deadline, and only a signal ends it.
  class Part {
   public:
    /// Nothing: the whole file.
    explicit Part(const std::optional<std::string>& part) noexcept {
      range_.l_type = F_WRLCK;
      range_.l_whence = SEEK_SET;
      range_.l_start = part ? detail::lock_place(*part) : 0;
      range_.l_len = part ? 1 : 0;
    }
    int operator()(const Fd& file) noexcept { return ::fcntl(file.get(), F_OFD_SETLK, &range_) == 0 ? 0 : errno; }

   private:
    struct ::flock range_ {};
  };
  static int flock_whole(const Fd& file) noexcept { return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 ? 0 : errno; }
  template <class Claim>
  static Result<Lock> take_in(const std::string& folder, const std::string& name, detail::LockSharing sharing,
                              Claim claim, std::chrono::milliseconds wait, const std::stop_token& stop) {
    const std::string path = folder + "/" + name;
    const auto open = [&] {
      return detail::open_lock_folder(folder, sharing).and_then([&](const Fd& opened) {
        return detail::open_lock_file(opened, path, name);
      });
    };
    return take(path, open, claim, wait, stop);
  }

  /// The file is opened anew each time: one that was removed meanwhile is no lock for others.
  template <class Open, class Claim>
  static Result<Lock> take(const std::string& path, Open open, Claim claim, std::chrono::milliseconds wait,
                           const std::stop_token& stop) {
    const auto deadline = Clock::now() + wait;
    for (auto pause = shortest_pause;; pause = std::min(2 * pause, longest_pause / 50)) {
      auto file = open();
      if (!file) return fail(std::move(file.error()));
      Lock lock;
      lock.path_ = path;
      lock.file_ = *std::move(file);
      const auto now = Clock::now();
      const int error = claim(lock.file_);
      if (error == 0 && lock.is_at(path)) return lock;
      if (error != 0 && error != EWOULDBLOCK && error != EACCES && error != EINTR) return fail(failed(path, error));
      if (now >= deadline) {
        return fail(
            Error{Errc::timed_out, "another program holds the lock '" + path + "', and does not let it go"}.advise(
                "try again; `fuser " + path + "` shows which programs have it open"));
      }
      if (!sleep(std::min<Clock::duration>(pause, deadline - now), stop)) return fail(stopped(path));
    }
  }

  [[nodiscard]] bool is_at(const std::string& path) const noexcept {
    struct ::stat ours {};
    struct ::stat there {};
    return ::fstat(file_.get(), &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
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
    return detail::lock_failed(path, error).advise("are you root, and on a cluster: has it quorum?");
  }
  static Error stopped(const std::string& path) {
    return Error{Errc::cancelled, "stopped while waiting for the lock '" + path + "'"};
  }

  std::string path_;
  Fd file_;
  bool in_cluster_ = false;
  Clock::time_point change_until_{};
  Clock::time_point ours_until_{};
};

}  // namespace stowage
