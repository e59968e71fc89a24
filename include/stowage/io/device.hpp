#pragma once
// What an open volume is: blocking reads and writes at byte offsets.

#include <concepts>
#include <cstddef>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <string>

namespace stowage {

namespace detail {
template <class T, class R>
concept returns = std::same_as<T, Result<R>>;
}

/// An open volume. It belongs to one thread at a time, and is closed when it goes.
///
/// | Expression | Errors | Meaning |
/// |---|---|---|
/// | `size()`, `block_size()` | | in bytes; offsets and lengths are multiples of the block size |
/// | `read_at(offset, buffer)` | invalid_argument, timed_out, unavailable | the whole buffer, or an error |
/// | `write_at(offset, data)` | also wrong_state (opened to read), no_space, outcome_unknown | acknowledged, not yet durable |
/// | `discard(offset, length)` | as write_at | the range may lose its storage; what it reads as is the type's matter |
/// | `write_zeroes(offset, length)` | as write_at | the range reads as zeros |
/// | `flush()` | as write_at | all that was acknowledged survives a power cut |
/// | `close()` | as flush | flushes and closes, and says whether that went well; the destructor cannot |
///
/// Blocks: until the storage answers, at most the deadline of `OpenOptions::timeout`.
template <class D>
concept BlockDevice = std::movable<D> && requires(D& device, const D& seen, Bytes at, std::span<std::byte> buffer,
                                                  std::span<const std::byte> data, Bytes length) {
  { seen.size() } -> std::same_as<Bytes>;
  { seen.block_size() } -> std::same_as<Bytes>;
  { device.read_at(at, buffer) } -> detail::returns<void>;
  { device.write_at(at, data) } -> detail::returns<void>;
  { device.discard(at, length) } -> detail::returns<void>;
  { device.write_zeroes(at, length) } -> detail::returns<void>;
  { device.flush() } -> detail::returns<void>;
  { device.close() } -> detail::returns<void>;
};

/// Which sizes of requests suit a volume, as far as it tells; zero: it does not. Linux has the same two of every block
/// device, as `minimum_io_size` and `optimal_io_size`.
struct IoSizes {
  Bytes smallest{};  ///< whole multiples of it are written without more being read first
  Bytes optimal{};   ///< of long transfers
  friend constexpr bool operator==(const IoSizes&, const IoSizes&) = default;
};

/// A device that tells which sizes suit it: `io_sizes()`. Costs no round trip.
template <class D>
concept SizedDevice = BlockDevice<D> && requires(const D& seen) {
  { seen.io_sizes() } -> std::same_as<IoSizes>;
};

/// A device that may find old bytes in blocks that it is newly given: `unzeroed_block()` is their size. What was never
/// written reads as zeros, until a part of its block is written: then the rest of the block holds whatever was there
/// before, of removed volumes too. Zero: there is nothing of that kind.
template <class D>
concept UnzeroedDevice = BlockDevice<D> && requires(const D& seen) {
  { seen.unzeroed_block() } -> std::same_as<Bytes>;
};

/// A device that can also have many requests in flight: `queue(depth)` gives a queue on it, which the device must
/// outlive. The blocking calls may go on beside it.
/// Errors of `queue`: invalid_argument (closed, or a depth below 1 or above 4096).
template <class D>
concept QueuedDevice = BlockDevice<D> && requires(D& device, std::size_t depth) {
  requires IoQueue<typename decltype(device.queue(depth))::value_type>;
};

namespace detail {

template <class Device>
Bytes unzeroed_block_of(const Device& device) {
  if constexpr (UnzeroedDevice<Device>) return device.unzeroed_block();
  return Bytes{};
}

/// The range lies inside the device and on its blocks.
/// Errors: invalid_argument, with the numbers.
inline Result<void> check_range(Bytes size, Bytes block, Bytes at, std::uint64_t length) {
  if (at.count > size.count || length > size.count - at.count) {
    return fail(Errc::invalid_argument, "range " + std::to_string(at.count) + "+" + std::to_string(length) +
                                            " goes beyond the end, the volume has " + std::to_string(size.count) +
                                            " bytes");
  }
  if (at.count % block.count != 0 || length % block.count != 0) {
    return fail(Errc::invalid_argument, "range " + std::to_string(at.count) + "+" + std::to_string(length) +
                                            " does not lie on blocks of " + std::to_string(block.count) + " bytes");
  }
  return {};
}

}  // namespace detail
}  // namespace stowage
