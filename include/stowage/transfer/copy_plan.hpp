#pragma once
// What a copy does in which order, and how it knows afterwards that it did.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <stowage/io/extents.hpp>
#include <vector>

namespace stowage::detail {

/// A part of a copy: at most one chunk with data in it, or a hole of whole chunks.
struct CopyPiece {
  std::uint64_t at = 0;
  std::uint64_t length = 0;
  std::uint64_t data_begin = 0;  // of that, what is to be read; the rest are zeros
  std::uint64_t data_end = 0;

  [[nodiscard]] bool hole() const noexcept { return data_begin == data_end; }
};

/// Cuts a volume into pieces, from its begin to its end.
class CopyPlan {
 public:
  struct Sizes {
    std::uint64_t total;
    std::uint64_t chunk;
    std::uint64_t block;  ///< of the source; divides the chunk
    std::uint64_t most_hole;
    bool only_extents = false;  ///< and nothing between them
  };

  /// What lies after the last extent is data: without any, all of it; else what a volume has grown by since.
  CopyPlan(const Sizes& sizes, std::span<const Extent> extents) noexcept
      : sizes_{sizes}, extents_{extents}, known_{extents.empty() ? 0 : end_of(extents.back())} {}

  /// How many bytes all pieces have.
  [[nodiscard]] std::uint64_t total() const noexcept {
    if (!sizes_.only_extents) return sizes_.total;
    return std::accumulate(extents_.begin(), extents_.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const Extent& extent) { return sum + extent.length.count; });
  }

  std::optional<CopyPiece> next() noexcept {
    if (sizes_.only_extents) return next_of_extents();
    if (at_ == sizes_.total) return std::nullopt;
    const std::uint64_t begin = at_;
    const std::uint64_t chunk_end = std::min(begin / sizes_.chunk * sizes_.chunk + sizes_.chunk, sizes_.total);
    const std::uint64_t data = data_from(begin);
    if (data >= chunk_end) {
      const std::uint64_t end = data == sizes_.total ? data : data / sizes_.chunk * sizes_.chunk;
      at_ = std::min(end, begin + sizes_.most_hole);
      return CopyPiece{begin, at_ - begin, begin, begin};
    }
    at_ = chunk_end;
    return CopyPiece{begin, at_ - begin, data / sizes_.block * sizes_.block, data_until(chunk_end)};
  }

 private:
  std::optional<CopyPiece> next_of_extents() noexcept {
    while (!extents_.empty() && end_of(extents_.front()) <= at_) extents_ = extents_.subspan(1);
    if (extents_.empty()) return std::nullopt;
    const Extent& extent = extents_.front();
    const std::uint64_t begin = std::max(at_, extent.offset.count);
    const std::uint64_t limit =
        extent.allocated ? begin / sizes_.chunk * sizes_.chunk + sizes_.chunk : begin + sizes_.most_hole;
    at_ = std::min(end_of(extent), limit);
    return CopyPiece{begin, at_ - begin, begin, extent.allocated ? at_ : begin};
  }
  /// Where the first data at or behind `at` are.
  std::uint64_t data_from(std::uint64_t at) noexcept {
    while (!extents_.empty() && (!extents_.front().allocated || end_of(extents_.front()) <= at)) {
      extents_ = extents_.subspan(1);
    }
    return std::clamp(extents_.empty() ? known_ : extents_.front().offset.count, at, sizes_.total);
  }
  /// Where the last data before `limit` end, on a block.
  [[nodiscard]] std::uint64_t data_until(std::uint64_t limit) const noexcept {
    if (limit > known_) return limit;
    std::uint64_t end = 0;
    for (const Extent& extent : extents_) {
      if (extent.offset.count >= limit) break;
      if (extent.allocated) end = end_of(extent);
    }
    return end >= limit ? limit : std::min((end + sizes_.block - 1) / sizes_.block * sizes_.block, limit);
  }
  static std::uint64_t end_of(const Extent& extent) noexcept { return extent.offset.count + extent.length.count; }

  Sizes sizes_;
  std::span<const Extent> extents_;
  std::uint64_t known_;  // what lies before it is told by the extents
  std::uint64_t at_ = 0;
};

/// The pieces of a plan, in an order in which those that follow each other lie in different stripes, so that more of
/// what a striped volume stands on is at work at once. It looks ahead as far as `window` pieces; without stripes, or
/// when one is no larger than a chunk, it leaves the order as it is.
class CopyOrder {
 public:
  CopyOrder(const CopyPlan& plan, std::uint64_t stripe, std::size_t window)
      : plan_{plan}, stripe_{stripe}, window_{stripe == 0 ? 1 : window} {
    ahead_.reserve(window_);
  }

  /// How many bytes all pieces have. Pre: none was handed out.
  [[nodiscard]] std::uint64_t total() const noexcept { return plan_.total(); }

  std::optional<CopyPiece> next() {
    if (next_ == ahead_.size()) look_ahead();
    if (ahead_.empty()) return std::nullopt;
    return ahead_[next_++].piece;
  }

 private:
  struct Ranked {
    CopyPiece piece;
    std::size_t rank;  // of those in its stripe
  };

  void look_ahead() {
    next_ = 0;
    ahead_.clear();
    while (ahead_.size() < window_) {
      const auto piece = plan_.next();
      if (!piece) break;
      const bool same = !ahead_.empty() && stripe_ != 0 && ahead_.back().piece.at / stripe_ == piece->at / stripe_;
      ahead_.push_back({*piece, same ? ahead_.back().rank + 1 : 0});
    }
    std::sort(ahead_.begin(), ahead_.end(), [](const Ranked& a, const Ranked& b) {
      return a.rank != b.rank ? a.rank < b.rank : a.piece.at < b.piece.at;
    });
  }

  CopyPlan plan_;
  std::uint64_t stripe_;
  std::size_t window_;
  std::vector<Ranked> ahead_;
  std::size_t next_ = 0;
};

/// Tells whether bytes are those that were seen before: against mistakes, not against an enemy. Never zero.
inline std::uint64_t copy_checksum(std::span<const std::byte> data) noexcept {
  // Four chains that do not wait for each other; each step can be undone, so that one wrong word always shows.
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;
  std::uint64_t chains[4] = {1, 2, 3, 4};
  const auto take = [&](std::size_t chain, std::uint64_t word) {
    chains[chain] = std::rotl((chains[chain] ^ word) * odd, 29);
  };
  std::size_t at = 0;
  for (; at + 32 <= data.size(); at += 32) {
    std::uint64_t words[4];
    std::memcpy(words, data.data() + at, sizeof words);
    for (std::size_t i = 0; i < 4; ++i) take(i, words[i]);
  }
  for (; at < data.size(); ++at) take(0, std::to_integer<std::uint64_t>(data[at]) + 1);
  std::uint64_t sum = data.size();
  for (const std::uint64_t chain : chains) sum = std::rotl((sum ^ chain) * odd, 31);
  return sum != 0 ? sum : 1;
}

}  // namespace stowage::detail
