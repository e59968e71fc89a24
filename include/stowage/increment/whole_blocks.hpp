#pragma once
// Blocks that are written in part, on a device that is given blocks with old bytes in them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/device.hpp>
#include <stowage/transfer/zeros.hpp>
#include <vector>

namespace stowage::detail {

/// Sees to it that what reads as zeros goes on doing so when something is written beside it: a block of an
/// `UnzeroedDevice` that has nothing yet becomes zeros first, as a whole. Does nothing for other devices.
template <class Device>
class WholeBlocks {
 public:
  /// Behind `known` the device should have nothing but zeros, whatever is there; before it, what is there counts.
  WholeBlocks(Device& device, Bytes known)
      : device_{device}, known_{round_up(known, device.block_size())}, block_{unzeroed_block_of(device).count} {}

  /// To be called before a range is written; the ranges come in order. Errors, blocks: as the device's.
  Result<void> prepare(Bytes begin, Bytes end) {
    if (block_ == 0) return {};
    const std::uint64_t first = begin.count / block_;
    const std::uint64_t last = (end.count - 1) / block_;
    Result<void> good;
    if (begin.count % block_ != 0) good = complete(first);
    if (good && end.count % block_ != 0) good = complete(last);
    return good;
  }

 private:
  Result<void> complete(std::uint64_t number) {
    if (number < next_) return {};
    next_ = number + 1;
    const Bytes begin{number * block_};
    const Bytes end = std::min(begin + Bytes{block_}, device_.size());
    if (begin < known_) {
      const auto empty = is_empty(begin, std::min(end, known_));
      if (!empty) return fail(empty.error());
      if (!*empty) return known_ < end ? device_.write_zeroes(known_, end - known_) : Result<void>{};
    }
    return device_.write_zeroes(begin, end - begin);
  }
  /// One that was never written is.
  Result<bool> is_empty(Bytes begin, Bytes end) {
    buffer_.resize(1 << 20U);
    for (Bytes at = begin; at < end; at += Bytes{buffer_.size()}) {
      const std::span piece = std::span{buffer_}.first(std::min<std::size_t>(buffer_.size(), (end - at).count));
      if (auto read = device_.read_at(at, piece); !read) return fail(std::move(read.error()));
      if (!is_zero(piece)) return false;
    }
    return true;
  }

  Device& device_;
  Bytes known_;
  std::uint64_t block_;
  std::uint64_t next_ = 0;  // blocks before it are done
  std::vector<std::byte> buffer_;
};

}  // namespace stowage::detail
