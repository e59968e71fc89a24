#pragma once
// Which runs of verbs go on, on any host: each has a shared lock on one object of the pool or namespace, for a time,
// and renews it. Not a watch on the image: librbd refuses to remove an image that somebody watches.
//
// Measured on Ceph 16.2.15: `rados_list_lockers` shows the cookie and the address of the client, by which it can be put
// on the block list; a lock whose time is over is listed no more; taking or releasing one takes 0.45 ms.

#include <rados/librados.h>
#include <sys/time.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/intent/runs.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

inline constexpr const char* rbd_runs_object = "stowage.runs";
inline constexpr const char* rbd_runs_lock = "run";
/// How long the lock lasts, how often it is renewed, and after how long without that the run stops by itself. Others
/// take over when the lock is over: 60 s later.
inline constexpr std::chrono::seconds rbd_lease_time{90};
inline constexpr std::chrono::seconds rbd_lease_renewal{10};
inline constexpr std::chrono::seconds rbd_lease_patience{30};

inline std::chrono::nanoseconds boot_time() noexcept { return BootClock::now().time_since_epoch(); }

class RbdLease;

/// Renews the leases of this process that last longer, in a thread that is there only while there are any.
class RbdLeaseKeeper {
 public:
  static RbdLeaseKeeper& of_process() {
    static auto& keeper = *new RbdLeaseKeeper;  // never destroyed: its thread may outlive main
    return keeper;
  }

  void add(RbdLease* lease);
  void remove(RbdLease* lease);

 private:
  void renew_all();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RbdLease*> leases_;
  RbdLease* renewing_ = nullptr;
  bool has_thread_ = false;
};

/// The liveness of one run. Pre: outlived by its pool.
class RbdLease {
 public:
  /// Errors: permission_denied, timed_out, no_space.
  [[nodiscard]] static Result<std::unique_ptr<RbdLease>> begin(const RbdPool& pool, Run run) {
    std::unique_ptr<RbdLease> lease{new RbdLease{pool, std::move(run)}};
    const int code = lease->lock(0);
    if (code < 0) return fail(rbd_error(code, "noting on '" + pool.spec("") + "' that a verb begins"));
    lease->held_ = true;
    RbdLeaseKeeper::of_process().add(lease.get());
    return lease;
  }
  RbdLease(const RbdLease&) = delete;
  RbdLease& operator=(const RbdLease&) = delete;
  ~RbdLease() {
    if (!held_) return;
    RbdLeaseKeeper::of_process().remove(this);
    static_cast<void>(::rados_unlock(pool_.io.get(), rbd_runs_object, rbd_runs_lock, cookie_.c_str()));
  }

  [[nodiscard]] const Run& run() const noexcept { return run_; }
  [[nodiscard]] const IntentOwner& owner() const noexcept { return owner_; }

  /// Errors: conflict, when it was lost: others may have taken the volume over. To be asked before each step.
  [[nodiscard]] Result<void> check() {
    if (age() < rbd_lease_patience || renew()) return {};
    return fail(Error{Errc::conflict, "the cluster did not hear of this verb for " +
                                          std::to_string(rbd_lease_patience.count()) +
                                          " s: it stops before it"
                                          " meets another that takes the volume over"}
                    .advise("recover finishes it or undoes it"));
  }
  [[nodiscard]] std::chrono::nanoseconds age() const noexcept { return boot_time() - renewed_.load(); }

  /// False: it is lost, or the cluster does not answer.
  bool renew() { return lock(LIBRADOS_LOCK_FLAG_MUST_RENEW) >= 0; }

 private:
  RbdLease(const RbdPool& pool, Run run) : pool_{pool}, run_{std::move(run)}, owner_{this_process()} {
    cookie_ = run_.nonce() + "/" + owner_text(owner_);
    char* addresses = nullptr;
    if (::rados_getaddrs(pool.cluster->client(), &addresses) >= 0 && addresses != nullptr) owner_.client = addresses;
    ::rados_buffer_free(addresses);
  }

  int lock(std::uint8_t flags) {
    const auto now = boot_time();
    ::timeval time{rbd_lease_time.count(), 0};
    const int code =
        ::rados_lock_shared(pool_.io.get(), rbd_runs_object, rbd_runs_lock, cookie_.c_str(), "", "", &time, flags);
    if (code >= 0) renewed_.store(now);
    return code;
  }

  const RbdPool& pool_;
  Run run_;
  IntentOwner owner_;
  std::string cookie_;
  std::atomic<std::chrono::nanoseconds> renewed_{};
  bool held_ = false;
};

inline void RbdLeaseKeeper::add(RbdLease* lease) {
  const std::lock_guard lock{mutex_};
  leases_.push_back(lease);
  if (has_thread_) return;
  try {
    std::thread{[this] { renew_all(); }}.detach();
    has_thread_ = true;
  } catch (const std::system_error&) {  // then `check` renews it, before each step
  }
}

inline void RbdLeaseKeeper::remove(RbdLease* lease) {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return renewing_ != lease; });
  std::erase(leases_, lease);
}

inline void RbdLeaseKeeper::renew_all() {
  std::unique_lock lock{mutex_};
  while (!leases_.empty()) {
    changed_.wait_for(lock, rbd_lease_renewal / 2);
    std::vector<RbdLease*> due = leases_;
    std::erase_if(due, [](const RbdLease* lease) { return lease->age() < rbd_lease_renewal; });
    for (RbdLease* lease : due) {
      if (std::find(leases_.begin(), leases_.end(), lease) == leases_.end()) continue;  // over meanwhile
      renewing_ = lease;
      lock.unlock();
      lease->renew();
      lock.lock();
      renewing_ = nullptr;
      changed_.notify_all();
    }
  }
  has_thread_ = false;
}

/// A run that the cluster knows of.
struct RbdKnownRun {
  IntentOwner owner;
  std::string address;  ///< of its client
};

/// All runs that go on in the pool or namespace, by nonce. One round trip.
inline Result<std::map<std::string, RbdKnownRun>> rbd_known_runs(const RbdPool& pool) {
  int exclusive = 0;
  std::string tag(64, '\0');
  std::string clients(4096, '\0');
  std::string cookies(16384, '\0');
  std::string addresses(4096, '\0');
  std::size_t sizes[4]{};
  ::ssize_t count = -ERANGE;
  for (int round = 0; round < 8 && count == -ERANGE; ++round) {
    std::string* const texts[]{&tag, &clients, &cookies, &addresses};
    for (std::size_t n = 0; n < 4; ++n) {
      if (sizes[n] > texts[n]->size()) texts[n]->resize(2 * sizes[n]);
      sizes[n] = texts[n]->size();
    }
    count = ::rados_list_lockers(pool.io.get(), rbd_runs_object, rbd_runs_lock, &exclusive, tag.data(), &sizes[0],
                                 clients.data(), &sizes[1], cookies.data(), &sizes[2], addresses.data(), &sizes[3]);
  }
  std::map<std::string, RbdKnownRun> runs;
  if (count == -ENOENT) return runs;
  if (count < 0) return fail(rbd_error(static_cast<int>(count), "asking which verbs are at work"));
  std::string_view rest_of_cookies{cookies.data(), sizes[2]};
  std::string_view rest_of_addresses{addresses.data(), sizes[3]};
  const auto next = [](std::string_view& rest) {
    const std::string_view text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    return text;
  };
  for (::ssize_t n = 0; n < count; ++n) {
    const std::string_view cookie = next(rest_of_cookies);
    const std::string_view address = next(rest_of_addresses);
    const std::size_t slash = cookie.find('/');
    if (slash == cookie.npos) continue;
    runs.emplace(cookie.substr(0, slash), RbdKnownRun{parse_owner(cookie.substr(slash + 1)), std::string{address}});
  }
  return runs;
}

/// Whether a run goes on. The cluster does not list one that has ended; one that it lists is dead only if this host can
/// tell that its process has ended. (Machines that were copied may have the same machine-id: another boot of "this"
/// machine is believed to be dead only when its lease is over.)
inline Liveness rbd_liveness_of(const std::string& nonce, const std::map<std::string, RbdKnownRun>& known) {
  if (RunRegistry::of_process().has(nonce)) return Liveness::live;
  const auto found = known.find(nonce);
  if (found == known.end()) return Liveness::dead;
  const IntentOwner self = this_process();
  if (found->second.owner.same_process(self)) return Liveness::dead;
  const bool ours = found->second.owner.machine == self.machine && found->second.owner.boot == self.boot;
  return ours && liveness_here(found->second.owner) == Liveness::dead ? Liveness::dead : Liveness::live;
}

/// Of a record. A process of this host that is there, and whose lease is not, is believed to be alive: to fence its
/// client would take all its other images from it.
inline Liveness rbd_liveness_of(const Intent& intent, const std::map<std::string, RbdKnownRun>& known) {
  if (intent.format != IntentFormat::current) return Liveness::unknown;
  if (intent.owner.nobody()) return Liveness::dead;
  const Liveness alive = rbd_liveness_of(intent.nonce, known);
  if (alive != Liveness::dead || known.contains(intent.nonce) || intent.owner.same_process(this_process()))
    return alive;
  return liveness_here(intent.owner) == Liveness::live ? Liveness::live : Liveness::dead;
}

/// Puts a client on the cluster's block list, for a day: its last messages may still be on their way. It fences all
/// images of that client's connection. Errors: permission_denied. Blocks: until the OSDs know.
inline Result<void> rbd_lock_out(const RbdPool& pool, std::string address) {
  constexpr std::uint32_t day = 86400;
  const int code = ::rados_blocklist_add(pool.cluster->client(), address.data(), day);
  if (code == -EPERM || code == -EACCES) {
    return fail(
        Error{Errc::permission_denied, "client " + address + " cannot be put on the block list", native_errno(code)}
            .advise("the monitors must allow 'osd blocklist add': 'profile rbd'"));
  }
  return rbd_check(code, "putting client " + address + " on the block list");
}

/// The client of a dead run, if it is not our own.
inline Result<void> rbd_fence(const RbdPool& pool, const RbdLease& self, const std::string& address) {
  if (address.empty() || address == self.owner().client) return {};
  return rbd_lock_out(pool, address);
}

}  // namespace stowage::detail
