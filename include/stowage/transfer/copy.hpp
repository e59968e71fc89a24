#pragma once
// All bytes of one volume onto another, of whatever types.

#include <cstdint>
#include <numeric>
#include <span>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/transfer/copier.hpp>
#include <stowage/transfer/copy_options.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// Copies what `source` reads to `destination`. Both queues are idle and nobody else's, and are idle again afterwards.
/// `extents`: where the source has data, as `MappedDevice::extents` tells it; what lies after the last of them is not
/// known, and read: it may have grown. With `only_extents`
/// they are all that is copied, sorted and from block to block; see `TracksChanges`.
///
/// The destination is as large as the source or larger; what lies behind the end of the source is left as it is, but
/// for the rest of its last block, which becomes zeros. After an error the destination has some of the bytes. Where a
/// side is striped over many disks (`RbdQueue::stripe`), so many stripes are copied side by side as there are requests
/// in flight; a stream is moved from its begin to its end.
///
/// A destination that is `fresh` and has a `fresh_block` gets zeros only in blocks that have data too; all of them, if
/// the block is larger than `chunk`, or with `only_extents`.
///
/// Errors: invalid_argument (sizes, options, a destination opened to read); those of either side, which say where and
/// at which offset; corrupt (`verify`); cancelled.
/// Blocks: until the end; after an error or a stop until all requests in flight have come back.
/// Cost: `queue_depth` * `chunk` bytes; with `verify` another 8 for each chunk of the source.
template <IoQueue Source, IoQueue Destination>
[[nodiscard]] Result<Copied> copy_queues(Source& source, Destination& destination, std::span<const Extent> extents = {},
                                         const CopyOptions& options = {}) {
  if (destination.size() < source.size()) {
    return fail(Errc::invalid_argument, "the destination has " + std::to_string(destination.size().count) +
                                            " bytes, and the source " + std::to_string(source.size().count));
  }
  if (auto good = detail::check_depth(options.queue_depth); !good) return fail(std::move(good.error()));
  if (options.chunk < 512_B || options.chunk > 256_MiB) {
    return fail(Errc::invalid_argument,
                "a chunk has 512 bytes to 256 MiB, not " + std::to_string(options.chunk.count) + " bytes");
  }
  if (options.only_extents && options.verify) {
    return fail(Errc::invalid_argument, "only a copy of all can be verified");
  }
  CopyOptions used = options;
  Bytes block{std::lcm(source.block_size().count, destination.block_size().count)};
  if (used.fresh && used.fresh_block != Bytes{}) {
    used.fresh = used.fresh_block <= used.chunk && !used.only_extents;
    if (used.fresh) block = Bytes{std::lcm(block.count, used.fresh_block.count)};
  }
  const std::uint64_t chunk = round_up(used.chunk, block).count;
  return detail::Copier<Source, Destination>{source, destination, extents, chunk, used}.run();
}

namespace detail {

/// Where the data of a volume are; empty, when it does not know that, or cannot tell: its map only saves reading, and
/// what is wrong with the volume itself is seen when it is read. Errors: cancelled.
template <class Device>
Result<std::vector<Extent>> known_extents(Device& device, const std::stop_token& stop = {}) {
  if constexpr (MappedDevice<Device>) {
    auto extents = extents_of(device, stop);
    if (extents) return extents;
    if (extents.error().code() == Errc::cancelled) {
      return fail(std::move(extents.error()).during("asking the source where its data are"));
    }
  }
  return std::vector<Extent>{};
}

}  // namespace detail

/// The same for open volumes. A source that knows where its data are is read only there; one that cannot tell just now
/// (a thin pool whose metadata another program reads) as a whole.
template <QueuedDevice Source, QueuedDevice Destination>
[[nodiscard]] Result<Copied> copy(Source& source, Destination& destination, const CopyOptions& options = {}) {
  const auto extents = detail::known_extents(source, options.stop);
  if (!extents) return fail(extents.error());
  auto from = source.queue(options.queue_depth);
  if (!from) return fail(std::move(from.error()).during("the source"));
  auto to = destination.queue(options.queue_depth);
  if (!to) return fail(std::move(to.error()).during("the destination"));
  return copy_queues(*from, *to, *extents, options);
}

}  // namespace stowage
