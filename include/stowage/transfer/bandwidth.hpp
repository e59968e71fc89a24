#pragma once
// How fast bytes may go to and from storages, as their configuration says.

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <stowage/core/bytes.hpp>
#include <stowage/storage_config.hpp>
#include <string_view>
#include <system_error>

namespace stowage {

/// What bytes are moved for, in the words of `bwlimit` (storage.cfg; pvesm(1)).
enum class Traffic : std::uint8_t { clone, migration, move, restore };

constexpr std::string_view name(Traffic what) noexcept {
  switch (what) {
    case Traffic::clone: return "clone";
    case Traffic::migration: return "migration";
    case Traffic::move: return "move";
    case Traffic::restore: return "restore";
  }
  return {};
}

namespace detail {

/// What stands behind `key=` in a list of limits, in KiB a second with fractions; zero: no limit.
inline std::optional<Bytes> bwlimit_item(std::string_view limits, std::string_view key) noexcept {
  while (!limits.empty()) {
    const std::string_view item = limits.substr(0, limits.find(','));
    limits.remove_prefix(std::min(limits.size(), item.size() + 1));
    if (!item.starts_with(key) || item.substr(key.size(), 1) != "=") continue;
    const std::string_view number = item.substr(key.size() + 1);
    double kib = 0;
    const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), kib);
    if (code != std::errc{} || end != number.data() + number.size() || !(kib > 0)) return Bytes{};
    constexpr double most = 1e15;
    return std::max(Bytes{static_cast<std::uint64_t>(std::min(kib * 1024, most))}, Bytes{1});
  }
  return std::nullopt;
}

/// What a list of limits says of `what`, or else by default.
inline std::optional<Bytes> bwlimit_for(std::string_view limits, Traffic what) noexcept {
  const auto limit = bwlimit_item(limits, name(what));
  return limit ? limit : bwlimit_item(limits, "default");
}

}  // namespace detail

/// So many bytes a second may be moved for that between these storages, or to or from one: the smallest of what their
/// `bwlimit` says of it, or else by default; for one that says neither, what the datacenter's says
/// (`read_datacenter_config`), and so where there is no storage. Zero: no limit. What the caller asks for himself goes
/// before it, as it does in Proxmox VE for who may configure the storage. For `CopyOptions::rate_limit` and its like.
template <std::same_as<CommonConfig>... Storages>
[[nodiscard]] Bytes bandwidth_limit(Traffic what, const DatacenterConfig& datacenter,
                                    const Storages&... storages) noexcept {
  const auto otherwise = detail::bwlimit_for(datacenter.bwlimit, what);
  Bytes least{};
  const auto keep_to = [&](const std::optional<Bytes>& limit) {
    if (limit && limit->count != 0 && (least.count == 0 || *limit < least)) least = *limit;
  };
  if (sizeof...(Storages) == 0) keep_to(otherwise);
  for (const std::string_view limits : std::array<std::string_view, sizeof...(Storages)>{storages.bwlimit...}) {
    const auto own = detail::bwlimit_for(limits, what);
    keep_to(own ? own : otherwise);
  }
  return least;
}

/// The same in a datacenter that has no limits.
template <std::same_as<CommonConfig>... Storages>
  requires(sizeof...(Storages) > 0)
[[nodiscard]] Bytes bandwidth_limit(Traffic what, const Storages&... storages) noexcept {
  return bandwidth_limit(what, DatacenterConfig{}, storages...);
}

}  // namespace stowage
