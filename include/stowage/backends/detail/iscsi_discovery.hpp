#pragma once
// Which targets a portal has.

#include <algorithm>
#include <chrono>
#include <memory>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/target_list.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/net.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Asks a portal for its targets (SendTargets), sorted by name. Discovery has no CHAP: targets protect the login.
/// Errors: unavailable, timed_out, cancelled, permission_denied (the portal refuses discovery).
/// Blocks: until the answer, at most `OpenOptions::timeout`.
[[nodiscard]] inline Result<std::vector<IscsiTarget>> discover_targets(const Portal& portal,
                                                                       const OpenOptions& options) {
  using Clock = IscsiSession::Clock;
  const Clock::time_point deadline = Clock::now() + options.timeout;
  const auto addresses = resolve_portal(portal, deadline);
  if (!addresses) return fail(addresses.error());

  const IscsiLogin who{host_initiator_name(), {}, {}, random_isid(), portal.str()};
  Result<std::unique_ptr<IscsiSession>> session;
  for (std::size_t n = 0; n < addresses->size(); ++n) {
    const auto now = Clock::now();
    const auto share =
        std::max(deadline - now, Clock::duration::zero()) / static_cast<Clock::rep>(addresses->size() - n);
    session = IscsiSession::login(who, (*addresses)[n], now + share, options.timeout, options.stop);
    if (session || !retryable(session.error().code())) break;
  }
  if (!session) return fail(std::move(session.error()));

  IscsiTargetList targets;
  const auto add = [&](std::string_view name, std::string_view address) { targets.add(name, address); };
  if (auto good = (*session)->send_targets(deadline, add); !good) return fail(std::move(good.error()));
  return std::move(targets).sorted();
}

}  // namespace stowage::detail
