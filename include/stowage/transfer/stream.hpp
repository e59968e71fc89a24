#pragma once
// A volume as a stream of bytes and back: the formats of `pvesm export` and `pvesm import`. The volume is read ahead of
// the stream, and written behind it, with many requests in flight: it is a copy, see copy.hpp.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/features.hpp>
#include <stowage/names.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <stowage/transfer/stream_queues.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// How a volume is written to a stream.
enum class StreamFormat {
  raw,       ///< the bytes of the volume
  raw_size,  ///< `raw+size`: before them their number, 8 bytes, little-endian
};

/// `raw` or `raw+size`. Errors: parse_failed.
inline Result<StreamFormat> parse_stream_format(std::string_view text, SourceLoc at = SourceLoc::here()) {
  if (text == "raw") return StreamFormat::raw;
  if (text == "raw+size") return StreamFormat::raw_size;
  return fail(Errc::parse_failed, "not a format of streams (raw, raw+size): '" + std::string{text} + "'", {}, at);
}

struct ExportOptions {
  StreamFormat format = StreamFormat::raw_size;
  std::size_t queue_depth = 16;  ///< requests in flight, and buffers: memory is `queue_depth` * `chunk`
  Bytes chunk = 1_MiB;           ///< 512 bytes to 256 MiB
  Bytes rate_limit{};            ///< bytes of data a second; zero: as fast as it goes
  Work work{};
};

struct ImportOptions {
  StreamFormat format = StreamFormat::raw_size;
  Content content = Content::images;
  bool allow_rename = false;    ///< when the name is taken, the guest's next free one
  std::optional<Bytes> size{};  ///< of a `raw` stream that does not know it: a pipe
  std::size_t queue_depth = 16;
  Bytes chunk = 1_MiB;
  Bytes rate_limit{};
  Work work{};
};

/// What `import_volume` made.
struct Imported {
  VolumeName volume;
  Bytes size;  ///< of the data; the volume may be larger
};

namespace detail {

inline std::array<std::byte, 8> little_endian(std::uint64_t number) noexcept {
  std::array<std::byte, 8> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(number >> (8 * i) & 0xFFU);
  return out;
}

template <class Options>
CopyOptions stream_copy(const Options& options) {
  return {.queue_depth = options.queue_depth,
          .chunk = options.chunk,
          .rate_limit = options.rate_limit,
          .progress = copy_progress(options.work.progress),
          .stop = options.work.stop};
}

/// All bytes of a volume; what it knows to be holes is not read.
template <class Device, ByteSink Sink>
Result<void> export_bytes(Device& device, Sink& sink, const ExportOptions& options) {
  const auto extents = known_extents(device, options.work.stop);
  if (!extents) return fail(extents.error());
  auto from = device.queue(options.queue_depth);
  if (!from) return fail(std::move(from.error()));
  SinkQueue<Sink> to{sink, device.size(), options.queue_depth};
  CopyOptions copied = stream_copy(options);
  copied.sparse = false;  // a stream takes zeros as it takes all else
  return copy_queues(*from, to, *extents, copied).map([](const Copied&) {});
}

template <class Device, ByteSink Sink>
Result<Bytes> export_device(Device device, Sink& sink, const ExportOptions& options) {
  const Bytes size = device.size();
  if (options.format == StreamFormat::raw_size) {
    if (auto sent = sink.write(little_endian(size.count)); !sent) return fail(std::move(sent.error()));
  }
  if (auto sent = export_bytes(device, sink, options); !sent) return fail(std::move(sent.error()));
  if (auto closed = device.close(); !closed) return fail(std::move(closed.error()));
  return size;
}

template <class Storage, class Device, ByteSource Source>
Result<void> import_bytes(const Storage& storage, Device& device, Source& source, Bytes size,
                          const ImportOptions& options) {
  auto to = device.queue(options.queue_depth);
  if (!to) return fail(std::move(to.error()));
  SourceQueue<Source> from{source, size};
  const CopyOptions copied = onto_new(storage, device, stream_copy(options));
  return copy_queues(from, *to, {}, copied).map([](const Copied&) {});
}

template <class Storage, class Device, ByteSource Source>
Result<void> import_stream(const Storage& storage, Device& device, Source& source, Bytes size,
                           const ImportOptions& options) {
  if (auto done = import_bytes(storage, device, source, size, options); !done) return done;
  std::byte more{};
  auto got = source.read(std::span{&more, 1});
  if (!got) return fail(std::move(got.error()));
  if (*got == 0) return {};
  return fail(Errc::corrupt, "the stream goes on after the " + std::to_string(size.count) + " bytes it should have");
}

/// How many bytes of data will come.
template <ByteSource Source>
Result<Bytes> incoming_size(Source& source, const ImportOptions& options) {
  if (options.format == StreamFormat::raw_size) {
    std::array<std::byte, 8> header{};
    const auto got = read_fully(source, header);
    if (!got) return fail(got.error());
    if (*got < header.size()) return fail(Errc::corrupt, "the stream has no size in front of its data");
    std::uint64_t size = 0;
    for (std::size_t i = 0; i < header.size(); ++i) size |= std::to_integer<std::uint64_t>(header[i]) << (8 * i);
    return Bytes{size};
  }
  if (options.size) return *options.size;
  if (const auto size = source.size()) return *size;
  return fail(Error{Errc::invalid_argument, "a raw stream from a pipe does not say how large it is"}.advise(
      "say the size, or use raw+size"));
}

/// Makes the volume under the name asked for, or, where that is taken and it is allowed, under another.
template <class Storage>
Result<VolumeName> make_room(Storage& storage, CreateSpec spec, bool allow_rename) {
  auto made = storage.begin_import(spec);
  if (made || !allow_rename || made.error().code() != Errc::already_exists) return made;
  spec.name.reset();
  return storage.begin_import(spec);
}

}  // namespace detail

/// Writes a volume to `sink`, and says how many bytes of data that were. `storage` is a `Storage` or a
/// `BasicAnyStorage`. Errors: those of `open_volume` and of reading; those of the sink; cancelled.
/// Blocks: until the last byte is written. Memory: `queue_depth` * `chunk`.
template <class Storage, ByteSink Sink>
Result<Bytes> export_volume(Storage& storage, const VolumeName& volume, Sink& sink, const ExportOptions& options = {}) {
  auto device = storage.open_volume(volume, Access::read_only);
  if (!device) return fail(std::move(device.error()));
  return detail::export_device(*std::move(device), sink, options).map_error([&](Error&& error) {
    return std::move(error).about(storage.id().str() + ":" + volume.str());
  });
}

/// The same of a snapshot: its bytes, not the volume's of today.
template <class Storage, ByteSink Sink>
Result<Bytes> export_volume(Storage& storage, const VolumeName& volume, const SnapshotName& snapshot, Sink& sink,
                            const ExportOptions& options = {}) {
  auto device = storage.open_volume(volume, snapshot);
  if (!device) return fail(std::move(device.error()));
  return detail::export_device(*std::move(device), sink, options).map_error([&](Error&& error) {
    return std::move(error).about(storage.id().str() + ":" + volume.str() + "@" + snapshot.str());
  });
}

/// Makes a volume of the bytes that `source` gives. A name with a base in front makes a volume without one; the name
/// of a template (`base-...`) makes a template. Until all is there the volume is `incomplete`; when it fails, the
/// volume is removed again.
/// Errors: corrupt (the stream ends too early or goes on too long), already_exists, no_space, cancelled, those of the
/// source, and not_supported or wrong_state as for `create`.
template <class Storage, ByteSource Source>
Result<Imported> import_volume(Storage& storage, const VolumeName& volume, Source& source,
                               const ImportOptions& options = {}) {
  const std::string object = storage.id().str() + ":" + volume.str();
  const auto parts = parse_volume_name(storage.features().type, volume);
  if (!parts) return fail(Error{parts.error()}.about(object));
  const auto owner = parts->owner();
  if (!owner || !storage.features().can.has(Capability::import)) {
    return fail(Error{Errc::not_supported, "this storage type cannot be imported to"}.about(object));
  }
  auto name = *VolumeName::parse(parts->name);
  if (parts->is_base) {
    // Later it would cost the whole import to find out.
    if (storage.info(name)) return fail(Error{Errc::already_exists, "this template exists"}.about(object));
    name = *VolumeName::parse("vm" + name.str().substr(4));
  }
  const auto size = detail::incoming_size(source, options);
  if (!size) return fail(Error{size.error()}.about(object));
  const CreateSpec spec{
      .vmid = *owner, .size = detail::volume_size_for(*size), .name = name, .content = options.content};
  auto made = detail::make_room(storage, spec, options.allow_rename);
  if (!made) return fail(std::move(made.error()));
  const auto fill = [&](auto& device) { return detail::import_stream(storage, device, source, *size, options); };
  auto done = detail::fill_volume(storage, *made, spec.size, fill).and_then([&]() -> Result<Imported> {
    if (!parts->is_base) return Imported{*made, *size};
    return storage.make_template(*made).map([&](const VolumeName& base) { return Imported{base, *size}; });
  });
  if (done) return done;
  return fail(detail::take_back(storage, *made, std::move(done.error()).about(object)));
}

}  // namespace stowage
