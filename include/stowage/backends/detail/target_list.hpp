#pragma once
// What a portal answers to SendTargets, for whichever initiator asked.

#include <algorithm>
#include <stowage/core/net.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// A target, and the portals at which it says it can be reached.
struct IscsiTarget {
  Iqn target;
  std::vector<Portal> portals;
};

namespace detail {

/// Collects the answer, a target at a portal at a time.
class IscsiTargetList {
 public:
  /// `address`: `10.0.0.1:3260,1`; the number of the portal group is of no use here. What is neither is left out.
  void add(std::string_view name, std::string_view address) {
    const auto target = Iqn::parse(name);
    if (!target) return;
    auto known =
        std::find_if(targets_.begin(), targets_.end(), [&](const IscsiTarget& t) { return t.target == *target; });
    if (known == targets_.end()) known = targets_.insert(known, IscsiTarget{*target, {}});
    const auto at = Portal::parse(address.substr(0, address.rfind(',')));
    if (at && std::find(known->portals.begin(), known->portals.end(), *at) == known->portals.end()) {
      known->portals.push_back(*at);
    }
  }

  /// Targets by name, and the portals of each.
  [[nodiscard]] std::vector<IscsiTarget> sorted() && {
    for (IscsiTarget& target : targets_) std::sort(target.portals.begin(), target.portals.end());
    std::sort(targets_.begin(), targets_.end(),
              [](const IscsiTarget& a, const IscsiTarget& b) { return a.target < b.target; });
    return std::move(targets_);
  }

 private:
  std::vector<IscsiTarget> targets_;
};

}  // namespace detail
}  // namespace stowage
