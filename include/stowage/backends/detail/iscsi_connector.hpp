#pragma once
// How an IscsiDirect storage gets a session: who we are, the secrets, and the portals one after the other.

#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <stowage/backends/detail/chap_file.hpp>
#include <stowage/backends/detail/iscsi_resolve.hpp>
#include <stowage/backends/detail/iscsi_session.hpp>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The name of this host as an initiator: the one that open-iscsi has, or else a stable one of our own.
inline std::string host_initiator_name() {
  if (const auto text = read_small_file("/etc/iscsi/initiatorname.iscsi", false); text && *text) {
    if (auto name = parse_initiator_name(**text)) return *std::move(name);
  }
  std::array<char, 256> host{};
  static_cast<void>(::gethostname(host.data(), host.size() - 1));
  return default_initiator_name(host.data());
}

/// Half of an ISID: with a new one a session stands beside the others of this host, with an old one it replaces it. So
/// it must be one of its own, but it need not be a secret: without random numbers (an early boot, a filter of system
/// calls) it is made of the time, the process and a counter.
template <class Source>
std::uint32_t make_isid(Source random) noexcept {
  std::uint32_t number = 0;
  if (random(&number, sizeof number) == static_cast<::ssize_t>(sizeof number)) return number;
  static std::atomic<std::uint64_t> counter{0};
  ::timespec now{};
  static_cast<void>(::clock_gettime(CLOCK_REALTIME, &now));
  std::uint64_t mixed =
      static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  for (const std::uint64_t part : {static_cast<std::uint64_t>(::getpid()), counter.fetch_add(1)}) {
    mixed = (mixed ^ part) * 0x9e37'79b9'7f4a'7c15;  // spreads each bit over all higher ones
    mixed ^= mixed >> 32U;
  }
  return static_cast<std::uint32_t>(mixed);
}
inline std::uint32_t random_isid() noexcept {
  return make_isid([](void* into, std::size_t size) noexcept { return ::getrandom(into, size, GRND_NONBLOCK); });
}

/// Logs in to the target of one storage, by the first portal that answers. Threads: any number at once.
class IscsiConnector {
 public:
  using Clock = IscsiSession::Clock;

  IscsiConnector(const StorageId& id, IscsiDirectConfig config, OpenOptions options)
      : config_{std::move(config)},
        options_{std::move(options)},
        chap_file_{iscsi_chap_file(options_.priv, id)},
        initiator_{host_initiator_name()} {
    portals_.push_back(config_.portal);
    portals_.insert(portals_.end(), config_.more_portals.begin(), config_.more_portals.end());
  }

  [[nodiscard]] const IscsiDirectConfig& config() const noexcept { return config_; }
  [[nodiscard]] const OpenOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::string& initiator() const noexcept { return initiator_; }

  /// What stands in the .chap file just now; nothing when there is none. Errors: as `read_iscsi_chap`.
  [[nodiscard]] Result<std::optional<IscsiChap>> chap() const { return read_iscsi_chap(chap_file_); }

  /// A session. Each portal, and each address of its name, has its share of the time, so that a dead one does not use
  /// up that of the others. The portal that answered last time comes first.
  /// Errors: those of `IscsiSession::login`, of `chap` and of `resolve_portal`.
  [[nodiscard]] Result<std::unique_ptr<IscsiSession>> connect(std::uint32_t isid, Clock::time_point deadline) const {
    return connect(isid, deadline, options_.stop, {});
  }
  /// The same for a session that obeys another `stop`. `home`: the portal that comes first instead, because only its
  /// portal group can end the session before (see `IscsiPlace`).
  [[nodiscard]] Result<std::unique_ptr<IscsiSession>> connect(std::uint32_t isid, Clock::time_point deadline,
                                                              const std::stop_token& stop,
                                                              std::optional<std::size_t> home) const {
    auto secrets = chap();
    if (!secrets) return fail(std::move(secrets.error()));
    if (config_.target.str().size() > 223) {
      return fail(Errc::invalid_argument, "the target's name has more than 223 bytes");
    }
    IscsiLogin who{initiator_, config_.target.str(), *std::move(secrets), isid, {}};

    std::optional<Error> worst;
    std::string tried;
    const std::size_t first = home.value_or(preferred_.load(std::memory_order_relaxed));
    for (std::size_t n = 0; n < portals_.size(); ++n) {
      const std::size_t which = (first + n) % portals_.size();
      who.portal = which;
      auto session = connect_to(portals_[which], who, share(deadline, portals_.size() - n), stop);
      if (session) {
        preferred_.store(which, std::memory_order_relaxed);
        return session;
      }
      Error& error = session.error();
      // With wrong secrets, more tries only lock the account; and who was told to stop does not ask the next.
      const bool final = error.code() == Errc::permission_denied || error.code() == Errc::cancelled;
      if (!tried.empty()) tried += ", ";
      tried += error.detail();
      if (final || !worst || retryable(worst->code())) worst = std::move(error);
      if (final) break;
    }
    if (portals_.size() == 1) return fail(*std::move(worst));
    return fail(Error{worst->code(), "no portal lets us in: " + tried, worst->native()}.advise(worst->hint()));
  }

 private:
  [[nodiscard]] static Clock::time_point share(Clock::time_point deadline, std::size_t of) {
    const Clock::time_point now = Clock::now();
    return now + std::max(deadline - now, Clock::duration::zero()) / static_cast<Clock::rep>(of);
  }

  [[nodiscard]] Result<std::unique_ptr<IscsiSession>> connect_to(const Portal& portal, IscsiLogin& who,
                                                                 Clock::time_point deadline,
                                                                 const std::stop_token& stop) const {
    who.where = who.target + " at " + portal.str();
    const auto addresses = resolve_portal(portal, deadline);
    if (!addresses) return fail(addresses.error());
    std::optional<Error> error;
    for (std::size_t n = 0; n < addresses->size(); ++n) {
      auto session =
          IscsiSession::login(who, (*addresses)[n], share(deadline, addresses->size() - n), options_.timeout, stop);
      if (session || !retryable(session.error().code())) return session;
      error = std::move(session.error());
    }
    return fail(*std::move(error));
  }

  IscsiDirectConfig config_;
  OpenOptions options_;
  std::vector<Portal> portals_;
  std::string chap_file_;
  std::string initiator_;
  mutable std::atomic<std::size_t> preferred_{0};
};

/// A few sessions that wait for the next verb, so that it need not log in. Threads: any number at once.
class IscsiPool {
 public:
  using Clock = IscsiSession::Clock;

  explicit IscsiPool(std::shared_ptr<const IscsiConnector> connector) : connector_{std::move(connector)} {}

  /// Calls `work(session)`, and calls it again on a fresh session when that one was lost on the way: it only asks.
  /// Errors: of `connect`, of `work`.
  template <class Work>
  auto with_session(Work work) -> decltype(work(std::declval<IscsiSession&>())) {
    const Clock::time_point deadline = Clock::now() + connector_->options().timeout;
    for (int turn = 0;; ++turn) {
      auto session = turn == 0 ? idle() : nullptr;
      if (!session) {
        auto fresh = connector_->connect(random_isid(), deadline);
        if (!fresh) return fail(std::move(fresh.error()));
        session = *std::move(fresh);
      }
      auto answer = work(*session);
      const bool lost = session->lost();
      if (!lost) keep(std::move(session));
      if (answer || !lost || turn == 2 || answer.error().code() != Errc::unavailable) return answer;
    }
  }

  void clear() {
    const std::lock_guard lock{mutex_};
    idle_.clear();
  }

 private:
  struct Idle {
    std::unique_ptr<IscsiSession> session;
    Clock::time_point since;
  };
  static constexpr std::size_t most_idle = 4;
  // Targets ping idle initiators (LIO: each 15 s), and nobody would answer here.
  static constexpr std::chrono::seconds longest_idle{10};

  std::unique_ptr<IscsiSession> idle() {
    for (;;) {
      std::unique_ptr<IscsiSession> session;
      {
        const std::lock_guard lock{mutex_};
        if (idle_.empty()) return nullptr;
        if (Clock::now() - idle_.back().since <= longest_idle) session = std::move(idle_.back().session);
        idle_.pop_back();
      }
      if (session && session->alive()) return session;
    }
  }

  void keep(std::unique_ptr<IscsiSession> session) {
    const std::lock_guard lock{mutex_};
    if (idle_.size() < most_idle) idle_.push_back({std::move(session), Clock::now()});
  }

  std::shared_ptr<const IscsiConnector> connector_;
  std::mutex mutex_;
  std::vector<Idle> idle_;
};

}  // namespace stowage::detail
