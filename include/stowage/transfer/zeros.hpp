#pragma once
// Ranges of zeros, which need not be moved.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace stowage::detail {

/// A smaller hole costs more requests than it saves bytes.
inline constexpr std::size_t zero_granule = 64 * 1024;

inline bool is_zero(std::span<const std::byte> data) noexcept {
  // Compares the range with itself, one byte on: as fast as memcmp is.
  return data.empty() || (data[0] == std::byte{} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

/// A part of a buffer that is all zeros, granule by granule, or has something in each.
struct ZeroRun {
  std::size_t length = 0;
  bool zero = false;
};

/// The run at the begin of `data`. Pre: it is not empty.
inline ZeroRun next_zero_run(std::span<const std::byte> data, std::size_t granule) noexcept {
  const auto zero_at = [&](std::size_t at) { return is_zero(data.subspan(at, std::min(granule, data.size() - at))); };
  const bool zero = zero_at(0);
  std::size_t end = std::min(granule, data.size());
  while (end < data.size() && zero_at(end) == zero) end = std::min(end + granule, data.size());
  return {end, zero};
}

}  // namespace stowage::detail
