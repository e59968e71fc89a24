#pragma once
// Which parts of a volume hold data, and which have changed.

#include <algorithm>
#include <concepts>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/io/device.hpp>
#include <utility>
#include <vector>

namespace stowage {

/// A range of a volume. What is not allocated reads as zeros; what is may do so too.
struct Extent {
  Bytes offset{};
  Bytes length{};
  bool allocated = false;

  friend bool operator==(const Extent&, const Extent&) = default;
};

/// A device that knows where its data are: `extents()` covers the volume from its begin to its end, in order. One that
/// has to ask for long may also take a `stop_token`, here and in `changes_since`; Errc::cancelled then.
template <class D>
concept MappedDevice = requires(D& device) {
  { device.extents() } -> detail::returns<std::vector<Extent>>;
};

/// A device that knows what was written to it: `changes_since(snapshot)` has the ranges that may differ from what the
/// volume was at that snapshot, in order, and no others; what of them is not allocated reads as zeros now.
/// Errors: not_found (no such snapshot), invalid_argument (it is not older than what is open).
template <class D>
concept TracksChanges = requires(D& device, const SnapshotName& snapshot) {
  { device.changes_since(snapshot) } -> detail::returns<std::vector<Extent>>;
};

namespace detail {

/// `extents()`, which some devices can be stopped in.
template <MappedDevice D>
Result<std::vector<Extent>> extents_of(D& device, const std::stop_token& stop) {
  if constexpr (requires { device.extents(stop); }) {
    return device.extents(stop);
  } else {
    return device.extents();
  }
}

/// `changes_since()`, likewise.
template <TracksChanges D>
Result<std::vector<Extent>> changes_of(D& device, const SnapshotName& snapshot, const std::stop_token& stop) {
  if constexpr (requires { device.changes_since(snapshot, stop); }) {
    return device.changes_since(snapshot, stop);
  } else {
    return device.changes_since(snapshot);
  }
}

constexpr Bytes end_of(const Extent& extent) noexcept { return extent.offset + extent.length; }

/// Puts a range behind others, without what they have of it already. Neighbours of one kind become one.
inline void append_extent(std::vector<Extent>& extents, Bytes begin, Bytes end, bool allocated) {
  if (!extents.empty()) begin = std::max(begin, end_of(extents.back()));
  if (begin >= end) return;
  if (!extents.empty() && extents.back().allocated == allocated && end_of(extents.back()) == begin) {
    extents.back().length += end - begin;
  } else {
    extents.push_back({begin, end - begin, allocated});
  }
}

/// Extents as they are learnt, in order: what was left out is a hole, and neighbours of one kind become one.
class ExtentMap {
 public:
  /// From `offset` to `end`, as far as that goes on from what is known.
  void add(Bytes offset, Bytes end, bool allocated) {
    if (known_ < offset) append(offset, false);
    if (known_ < end) append(end, allocated);
  }
  /// Up to where it is known.
  [[nodiscard]] Bytes known() const noexcept { return known_; }
  /// All of a volume of that size. It is empty afterwards.
  [[nodiscard]] std::vector<Extent> take(Bytes size) {
    add(size, size, false);
    known_ = Bytes{};
    return std::exchange(extents_, {});
  }

 private:
  void append(Bytes end, bool allocated) {
    const Bytes length = end - known_;
    if (!extents_.empty() && extents_.back().allocated == allocated) {
      extents_.back().length += length;
    } else {
      extents_.push_back({known_, length, allocated});
    }
    known_ = end;
  }

  Bytes known_{};
  std::vector<Extent> extents_;
};

}  // namespace detail
}  // namespace stowage
