#pragma once
// How fast bytes may go to and from storages, as their configuration says.

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstdint>
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

/// What stands behind `key=` in a list of limits, in KiB a second with fractions; zero: nothing, or no limit.
inline Bytes bwlimit_item(std::string_view limits, std::string_view key, Bytes otherwise) noexcept {
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
  return otherwise;
}

}  // namespace detail

/// So many bytes a second may be moved for that between these storages, or to or from one: the smallest of what their
/// `bwlimit` says of it, or else by default. Zero: no limit. What the caller asks for himself goes before it, as it
/// does in Proxmox VE for who may configure the storage. For `CopyOptions::rate_limit` and its like.
template <std::same_as<CommonConfig>... Storages>
  requires(sizeof...(Storages) > 0)
[[nodiscard]] Bytes bandwidth_limit(Traffic what, const Storages&... storages) noexcept {
  Bytes least{};
  for (const std::string_view limits : {std::string_view{storages.bwlimit}...}) {
    const Bytes limit = detail::bwlimit_item(limits, name(what), detail::bwlimit_item(limits, "default", Bytes{}));
    if (limit.count != 0 && (least.count == 0 || limit < least)) least = limit;
  }
  return least;
}

}  // namespace stowage
