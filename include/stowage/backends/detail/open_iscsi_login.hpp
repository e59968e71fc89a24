#pragma once
// How a host gets to a target and leaves it: discovery, node records, sessions, and the waits for udev.

#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/chap_file.hpp>
#include <stowage/backends/detail/open_iscsi_lun.hpp>
#include <stowage/backends/detail/open_iscsi_quiet.hpp>
#include <stowage/backends/detail/open_iscsi_records.hpp>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/backends/detail/open_iscsi_tool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_users.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The target of one storage. Threads: any number at once.
template <class Runner>
class OpenIscsiLogin {
 public:
  OpenIscsiLogin(const StorageId& id, const OpenIscsiConfig& config, const OpenOptions& options, Runner runner,
                 OpenIscsiHost host)
      : portal_{config.portal},
        target_{config.target.str()},
        options_{options},
        chap_file_{iscsi_chap_file(options.priv, id)},
        host_{std::move(host)},
        tool_{std::move(runner), host_, options.timeout, options.stop} {}

  [[nodiscard]] const OpenIscsiHost& host() const noexcept { return host_; }
  /// What stands in the .chap file just now. Errors: as `read_iscsi_chap`.
  [[nodiscard]] Result<std::optional<IscsiChap>> chap() const { return read_iscsi_chap(chap_file_); }

  /// Logs in by every portal that has no session yet, and waits until the kernel has found the LUNs and udev has named
  /// them. With all sessions there: looks for new LUNs and sizes, at most every ten seconds. Programs of this host log
  /// in to a target one after the other.
  /// Errors: unavailable (no portal lets us in; iscsid, the kernel module or open-iscsi is missing), permission_denied
  /// (CHAP; not root), not_found (no such target), timed_out.
  /// Blocks: on whoever is logging in, discovery, each login attempt, the kernel and udev, each at most
  /// `OpenOptions::timeout`.
  Result<void> activate() const {
    for (std::optional<Lock> turn;;) {
      auto records = own_records();
      // A database that iscsiadm cannot read: what it told of it is not believed, the target is asked.
      if (!records && records.error().code() == Errc::command_failed) records = std::vector<IscsiRecord>{};
      if (!records) return fail(std::move(records.error()));
      auto before = sessions();
      if (!before.empty() && without_session(*records, before).empty()) return look_after(std::move(before));
      if (turn) return log_in(*records);
      // iscsiadm makes anew the records that somebody else has just prepared. What stood here is read again after it.
      auto taken = Lock::take_own(options_.lock_folder, "iscsi-" + target_, options_.timeout, options_.stop);
      if (!taken) {
        // Somebody is at a portal that does not answer. With another one the storage can be used.
        const bool busy = taken.error().code() == Errc::timed_out && !before.empty();
        return busy ? look_after(std::move(before)) : fail(std::move(taken.error()));
      }
      turn.emplace(*std::move(taken));
    }
  }

  /// Logs out by all portals. Does nothing when a LUN of the target is in use, also by another storage or by hand. What
  /// was written is flushed first, and while the sessions end nobody can mount a LUN or build on it. Which users are
  /// not found: see `DeviceUsers`; a process that opens a LUN without a claim after the last look has its disk taken
  /// away. Errors: in_use (the users of each LUN are named), timed_out, unavailable (also: a LUN cannot be flushed).
  Result<void> deactivate() const {
    const auto before = sessions();
    if (before.empty()) return {};
    if (auto good = wait_for_udev(); !good) return good;
    const std::vector<KernelLun> luns = group_luns(host_, before);
    if (auto unused = check_unused(host_, luns); !unused) return unused;
    for (const KernelLun& lun : luns) {
      if (auto flushed = flush(host_, lun, options_.timeout); !flushed) return flushed;
    }
    for (const KernelLun& lun : luns) {
      if (lun.multipath.empty()) continue;
      if (auto done = tool_.flush_multipath(multipath_name(host_, lun)); !done) return done;
    }
    const auto claims = LunClaims::take(host_, luns);
    if (!claims) return fail(claims.error());
    if (auto unused = check_unused(host_, luns, claims->descriptors()); !unused) return unused;
    for (const KernelSession& session : before) {
      if (auto done = log_out(session); !done) return done;
    }
    if (sessions().empty()) return {};
    return fail(Errc::outcome_unknown, "iscsiadm logged out, but sessions are left");
  }

  /// Looks for new LUNs and new sizes in the sessions of this target, and forgets LUNs that are gone or that another
  /// one has taken the number of, unless somebody uses them: these stay, see `check`.
  /// Errors: unavailable, timed_out; command_failed (multipathd does not take a new size; all else is done).
  Result<void> rescan() const {
    Result<void> sizes;
    const auto fit = [&](const KernelLun& lun) {
      if (auto done = fit_multipath(lun); !done) sizes = std::move(done);
    };
    if (auto done = look_again(fit); !done) return done;
    if (auto named = wait_for_names(); !named) return named;
    return sizes;
  }

  /// The multipath device of a LUN has the size that its paths have. Nothing is done where it has that already, or
  /// where the paths disagree. Errors: unavailable (multipathd is not there), command_failed, timed_out.
  Result<void> fit_multipath(const KernelLun& lun) const {
    if (!outgrown_multipath(host_, lun)) return {};
    return tool_.resize_multipath(multipath_name(host_, lun));
  }

  /// The sessions of the target, just now.
  [[nodiscard]] std::vector<KernelSession> sessions() const { return read_sessions(host_, target_); }
  /// The node records of the target: the portals that it is to be reached by.
  [[nodiscard]] Result<std::vector<IscsiRecord>> own_records() const {
    auto records = tool_.records();
    if (records) std::erase_if(*records, [&](const auto& record) { return record.target != target_; });
    return records;
  }
  /// The portals among them that have no session.
  static std::vector<std::string> without_session(const std::vector<IscsiRecord>& records,
                                                  const std::vector<KernelSession>& sessions) {
    std::vector<std::string> portals;
    for (const IscsiRecord& record : records) {
      std::string portal = canonical_portal(record.portal);
      const bool has = std::any_of(sessions.begin(), sessions.end(), [&](const auto& s) { return s.portal == portal; });
      const bool known = std::find(portals.begin(), portals.end(), portal) != portals.end();
      if (!has && !known) portals.push_back(std::move(portal));
    }
    return portals;
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// All sessions are there, or on their way.
  [[nodiscard]] Result<void> look_after(std::vector<KernelSession> before) const {
    if (auto good = some_session_up(std::move(before)); !good) return good;
    // A size that multipath does not take is no reason to refuse the storage; `check` tells of it.
    return seconds_since_looked_after() < 10 ? Result<void>{} : look_again().and_then([&] { return wait_for_names(); });
  }

  Result<void> log_in(const std::vector<IscsiRecord>& known) const {
    if (auto good = make_records(known); !good) return good;
    const auto logged_in = tool_.login(target_);
    if (!logged_in && logged_in.error().code() == Errc::cancelled) return fail(logged_in.error());
    if (auto good = some_session_up(sessions()); !good) return logged_in ? good : refused(logged_in.error());
    // The kernel may still be looking for LUNs. To have it look once more is to wait for that.
    if (!logged_in || *logged_in == LoggedIn::before) {
      if (auto done = rescan_sessions(); !done) return done;
    }
    return wait_for_names();
  }

  /// Of these sessions, as they were just now. One that somebody is logging in to is waited for.
  [[nodiscard]] Result<void> some_session_up(std::vector<KernelSession> now) const {
    bool up = false;
    bool fresh = true;
    const auto settled = poll_until([&] {
      if (!std::exchange(fresh, false)) now = sessions();
      up = std::any_of(now.begin(), now.end(), [](const auto& session) { return session.up(); });
      return up || std::none_of(now.begin(), now.end(), [](const auto& session) { return session.state == "FREE"; });
    });
    if (!settled) return fail(settled.error());
    if (up) return {};
    std::string states;
    for (const KernelSession& session : now) {
      states += (states.empty() ? ": " : ", ") + session.portal + " is " + session.state;
    }
    return fail(Errc::unavailable, "no session of " + target_ + " is logged in" + states);
  }
  [[nodiscard]] Result<void> refused(const Error& error) const {
    const auto chap = this->chap();
    // 19, "non-retryable": also what is said of a target that does not prove who it is.
    const bool unproven = error.native().value() == 19 && chap && *chap && (*chap)->mutual();
    if (error.code() != Errc::permission_denied && !unproven) return fail(error);
    return fail(Error{Errc::permission_denied, error.detail(), error.native()}.advise(
        "the target wants CHAP, or other secrets than those in " + chap_file_));
  }

  /// A node record for every portal that the target tells of, beside those that there are; and our settings in all.
  Result<void> make_records(const std::vector<IscsiRecord>& known) const {
    std::vector<Portal> ask{portal_};
    for (const IscsiRecord& record : known) {
      if (canonical_portal(record.portal) != canonical_portal(portal_)) ask.push_back(record.portal);
    }
    std::optional<Error> error;
    bool found = false;
    for (auto portal = ask.begin(); portal != ask.end() && !found; ++portal) {
      const auto told = tool_.discover(*portal);
      if (!told) {
        if (!error) error = told.error();
        if (told.error().code() == Errc::cancelled || !iscsid_listens(host_)) return fail(told.error());
        continue;
      }
      for (const IscsiRecord& record : *told) {
        if (record.target != target_) continue;
        found = true;
        const auto same = [&](const IscsiRecord& r) {
          return canonical_portal(r.portal) == canonical_portal(record.portal);
        };
        if (std::any_of(known.begin(), known.end(), same)) continue;
        if (auto made = tool_.add_record(record); !made) return made;
      }
    }
    if (!found && known.empty()) {
      if (error) return fail(*std::move(error));
      return fail(Errc::not_found, "portal " + portal_.str() + " has no target " + target_);
    }
    const auto chap = this->chap();
    if (!chap) return fail(chap.error());
    return prepare_records(host_, target_, *chap);
  }

  /// iscsid cannot end a session that it is about to bring back, as it does with all of them when it was started anew
  /// (32: not connected): that is waited for.
  Result<void> log_out(const KernelSession& session) const {
    auto done = tool_.logout(session);
    if (done || done.error().native().value() != 32) return done;
    const auto settled = poll_until([&] {
      const auto now = sessions();
      const auto same = [&](const KernelSession& s) { return s.number == session.number; };
      const auto found = std::find_if(now.begin(), now.end(), same);
      return found == now.end() || found->up();
    });
    if (!settled) return fail(settled.error());
    return *settled ? tool_.logout(session) : done;
  }

  Result<void> look_again() const {
    return look_again([&](const KernelLun& lun) { static_cast<void>(fit_multipath(lun)); });
  }
  /// Asks every session, forgets what is gone, and gives `fit` each LUN that is there.
  template <class Fit>
  Result<void> look_again(Fit fit) const {
    if (auto done = rescan_sessions(); !done) return done;
    if (forget_what_is_gone()) {
      if (auto done = rescan_sessions(); !done) return done;
    }
    for (const KernelLun& lun : group_luns(host_, sessions())) fit(lun);
    return {};
  }

  Result<void> rescan_sessions() const {
    for (const KernelSession& session : sessions()) {
      if (!session.up()) continue;
      if (auto done = tool_.rescan(session); !done) return done;
    }
    return {};
  }

  /// Takes away what the kernel still has of LUNs that are gone or were replaced. Whether one was replaced: its number
  /// may bear another LUN now.
  [[nodiscard]] bool forget_what_is_gone() const {
    bool replaced = false;
    const auto links = read_by_id(host_);
    for (const KernelLun& lun : group_luns(host_, sessions())) {
      std::vector<const KernelDisk*> lost;
      bool other = false;
      for (const KernelLun::Path& path : lun.paths) {
        const KernelDisk& disk = path.disk;
        if (!path.session_up || !disk.is_disk || disk.name.empty()) continue;
        const bool another = named_after_another(links, disk.name, disk.serials) ||
                             (!lun.multipath.empty() && named_after_another(links, lun.multipath, disk.serials));
        other = other || another;
        if (another || disk.size.count == 0) lost.push_back(&disk);
      }
      if (!lun.multipath.empty() && (lost.size() < lun.paths.size() || !multipath_lets_go(lun))) continue;
      for (const KernelDisk* disk : lost) {
        if (!device_users(host_.kernel, std::array{disk->name}).empty()) continue;
        const auto forgotten = write_attribute(disk->folder + "/delete", "1\n", options_.timeout);
        replaced = replaced || (forgotten && other);
      }
    }
    return replaced;
  }

  /// Nobody used the multipath device of a LUN, and it is gone now. While a path of it is good it is multipath's own
  /// matter.
  [[nodiscard]] bool multipath_lets_go(const KernelLun& lun) const {
    return device_users(host_.kernel, lun.devices()).empty() &&
           tool_.flush_multipath(multipath_name(host_, lun)).has_value();
  }

  /// Calls `done` until it says yes. False: the time was over.
  template <class Done>
  [[nodiscard]] Result<bool> poll_until(Done done) const {
    const Waited waited = wait_until(std::move(done), Clock::now() + options_.timeout, options_.stop);
    if (waited == Waited::stopped) return fail(Errc::cancelled, "stopped by the caller");
    return waited == Waited::done;
  }
  [[nodiscard]] bool udev_works() const { return ::access(host_.udev_queue.c_str(), F_OK) == 0; }
  [[nodiscard]] Result<void> wait_for_udev() const {
    return poll_until([&] { return !udev_works(); }).map([](bool) {});
  }
  /// After a scan: until every disk has its name, or udev has nothing left to do for it. If the time is over first, the
  /// next activation does it again.
  [[nodiscard]] Result<void> wait_for_names() const {
    auto idle_since = Clock::now();
    std::string nameless;
    const auto named = poll_until([&] {
      nameless.clear();
      for (const KernelLun& lun : group_luns(host_, sessions())) {
        // The kernel finds LUNs first, and makes disks of them while we look.
        const bool coming = lun.devices().size() < lun.paths.size();
        if (lun.is_disk() && (coming || (!lun.by_id && lun.size(host_).count > 0))) nameless = lun.address;
      }
      if (udev_works()) idle_since = Clock::now();
      return nameless.empty() || Clock::now() - idle_since > std::chrono::seconds{2};
    });
    if (!named) return fail(named.error());
    if (*named) {
      looked_after_.store(Clock::now().time_since_epoch(), std::memory_order_relaxed);
      return {};
    }
    return fail(Error{Errc::timed_out, "udev has not named LUN " + nameless + " within " +
                                           std::to_string(options_.timeout.count()) + " ms"}
                    .advise("the sessions are there: repeat it"));
  }

  [[nodiscard]] double seconds_since_looked_after() const noexcept {
    const auto last = looked_after_.load(std::memory_order_relaxed);
    return std::chrono::duration<double>(Clock::now().time_since_epoch() - last).count();
  }

  Portal portal_;
  std::string target_;
  OpenOptions options_;
  std::string chap_file_;
  OpenIscsiHost host_;
  Iscsiadm<Runner> tool_;
  // Of this storage, not of the host: with two storages, each is looked after.
  mutable std::atomic<Clock::duration> looked_after_{-std::chrono::hours{1}};
};

}  // namespace stowage::detail
