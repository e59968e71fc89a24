#pragma once
// A snapshot as a stream that another storage, of whatever type, can receive: all of it, or what has changed since an
// earlier one. The snapshot is read ahead of the stream with many requests in flight: it is a copy, see copy.hpp.

#include <algorithm>
#include <optional>
#include <span>
#include <stowage/backend.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/increment/format.hpp>
#include <stowage/increment/record_queue.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/names.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage {

struct SendOptions {
  std::optional<SnapshotName> since{};  ///< only what has changed since this snapshot, which the receiver has
  Bytes begin{};                        ///< goes on there: the receiver has what lies before (`Receipt::done`)
  std::size_t queue_depth = 16;         ///< requests in flight, and buffers of 1 MiB
  Bytes rate_limit{};                   ///< bytes of data a second; zero: as fast as it goes
  Work work{};
};

/// What was sent.
struct Sent {
  Bytes size{};   ///< of the volume at the snapshot
  Bytes data{};   ///< bytes of data in the stream
  Bytes zeros{};  ///< what became zeros since the base
};

namespace detail {

/// Calls `verb(storage, backend)` with a storage whose type streams can be made of. Errors: not_supported.
template <class T, class Storage, class Verb>
Result<T> with_increments(Storage& storage, Verb verb) {
  const auto call = [&]<class S>(S& concrete) -> Result<T> {
    if constexpr (IncrementBackend<std::remove_cvref_t<decltype(concrete.backend())>>) {
      return verb(concrete, concrete.backend());
    } else {
      return fail(Error{Errc::not_supported, "type " + std::string{concrete.features().name} +
                                                 ": this storage type has no streams of snapshots"}
                      .about(concrete.id().str()));
    }
  };
  if constexpr (requires { storage.backend(); }) {
    return call(storage);
  } else {
    return storage.visit(call);
  }
}

/// The ranges on blocks of the stream. A block that is only in part zeros is data.
inline std::vector<Extent> stream_ranges(std::span<const Extent> extents, Bytes begin, Bytes size, bool zeros) {
  const auto down = [](Bytes at) { return Bytes{at.count / stream_block * stream_block}; };
  const auto up = [&](Bytes at) { return std::min(round_up(at, Bytes{stream_block}), size); };
  std::vector<Extent> ranges;
  const auto add = [&](Bytes from, Bytes to, bool allocated) {
    append_extent(ranges, std::max(from, begin), to, allocated);
  };
  for (const Extent& extent : extents) {
    const Bytes end = end_of(extent);
    const Bytes inner_begin = up(extent.offset);
    const Bytes inner_end = end == size ? size : down(end);
    if (extent.allocated) {
      add(down(extent.offset), up(end), true);
    } else if (zeros) {
      if (inner_begin != extent.offset) add(down(extent.offset), inner_begin, true);
      if (inner_begin < inner_end) add(inner_begin, inner_end, false);
      if (inner_end != end) add(down(end), up(end), true);
    }
  }
  return ranges;
}

/// The snapshots at both ends. Errors: not_found, wrong_state (the volume was larger).
template <class Backend>
Result<StreamHeader> stream_header(const Backend& backend, const VolumeName& volume, const SnapshotName& target,
                                   const SendOptions& options) {
  const auto snapshots = backend.snapshots(volume);
  if (!snapshots) return fail(snapshots.error());
  const auto size_of = [&](const SnapshotName& name) -> Result<Bytes> {
    for (const SnapshotInfo& snapshot : *snapshots) {
      if (snapshot.name == name) return snapshot.size;
    }
    return fail(Errc::not_found, "volume '" + volume.str() + "' has no snapshot '" + name.str() + "'");
  };
  const auto named = [&](const SnapshotName& name) {
    return backend.snapshot_identity(volume, name).map([&](std::string identity) {
      return StreamedSnapshot{name, std::move(identity)};
    });
  };
  const auto size = size_of(target);
  if (!size) return fail(size.error());
  auto end = named(target);
  if (!end) return fail(std::move(end.error()));
  StreamHeader header{.size = *size, .begin = Bytes{options.begin.count / stream_block * stream_block}, .target = *end};
  if (header.begin > header.size) {
    return fail(Errc::invalid_argument, "the stream would begin at " + std::to_string(options.begin.count) +
                                            ", and the snapshot has " + std::to_string(size->count) + " bytes");
  }
  if (!options.since) return header;
  const auto before = size_of(*options.since);
  if (!before) return fail(before.error());
  if (*before > *size) {
    return fail(Error{Errc::wrong_state, "the volume had " + to_string(*before) + " at snapshot '" +
                                             options.since->str() + "' and has " + to_string(*size) + " at '" +
                                             target.str() + "': no receiver can shrink"}
                    .advise("send all of it"));
  }
  auto base = named(*options.since);
  if (!base) return fail(std::move(base.error()));
  header.base = *std::move(base);
  return header;
}

template <class Storage, class Backend, ByteSink Sink>
Result<Sent> send_from(Storage& storage, const Backend& backend, const VolumeName& volume, const SnapshotName& snapshot,
                       Sink& sink, const SendOptions& options) {
  auto device = storage.open_volume(volume, snapshot);
  if (!device) return fail(std::move(device.error()));
  const auto parts = parse_volume_name(storage.features().type, volume);
  if (!parts) return fail(parts.error());
  const VolumeName image = parts->base ? *VolumeName::parse(parts->name) : volume;
  const auto header = stream_header(backend, image, snapshot, options);
  if (!header) return fail(header.error());
  const std::stop_token& stop = options.work.stop;
  auto extents = options.since ? changes_of(*device, *options.since, stop) : known_extents(*device, stop);
  if (!extents) return fail(std::move(extents.error()));
  if (extents->empty() && !options.since) extents->push_back({Bytes{}, header->size, true});  // it does not know
  const std::vector<Extent> ranges = stream_ranges(*extents, header->begin, header->size, options.since.has_value());
  const auto bytes = header_bytes(*header);
  if (!bytes) return fail(bytes.error());
  if (auto sent = sink.write(*bytes); !sent) return fail(std::move(sent.error()));
  auto from = device->queue(options.queue_depth);
  if (!from) return fail(std::move(from.error()));
  RecordQueue<Sink> to{
      sink,
      options.queue_depth,
      {header->size, ranges, options.since.has_value(), get_number<std::uint64_t>(*bytes, bytes->size() - 8)}};
  const auto copied = copy_queues(*from, to, ranges,
                                  {.queue_depth = options.queue_depth,
                                   .chunk = Bytes{stream_most_data},
                                   .only_extents = true,
                                   .rate_limit = options.rate_limit,
                                   .progress = copy_progress(options.work.progress),
                                   .stop = options.work.stop});
  if (!copied) return fail(copied.error());
  if (auto ended = sink.write(to.end()); !ended) return fail(std::move(ended.error()));
  return Sent{header->size, copied->written, options.since ? copied->skipped : Bytes{}};
}

}  // namespace detail

/// Writes a snapshot to `sink`, or what has changed since another. `storage` is a `Storage` or a `BasicAnyStorage`.
/// Errors: not_supported (a type that does not track changes), not_found (the volume, a snapshot), invalid_argument
/// (`since` is not older), wrong_state (the volume has shrunk since); those of reading, and of the sink; cancelled.
/// Blocks: until the last byte is written. Memory: `queue_depth` MiB.
template <class Storage, ByteSink Sink>
Result<Sent> send_snapshot(Storage& storage, const VolumeName& volume, const SnapshotName& snapshot, Sink& sink,
                           const SendOptions& options = {}) {
  return detail::with_increments<Sent>(storage, [&](auto& concrete, auto& backend) {
    return detail::send_from(concrete, backend, volume, snapshot, sink, options).map_error([&](Error&& error) {
      return std::move(error).about(concrete.id().str() + ":" + volume.str() + "@" + snapshot.str());
    });
  });
}

}  // namespace stowage
