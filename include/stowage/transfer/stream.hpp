#pragma once
// A volume as a stream of bytes and back: the formats of `pvesm export` and `pvesm import`. One buffer, one request at
// a time.

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
#include <stowage/transfer/descriptors.hpp>
#include <stowage/transfer/zeros.hpp>
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
  Bytes buffer = 4_MiB;
  Work work{};
};

struct ImportOptions {
  StreamFormat format = StreamFormat::raw_size;
  Content content = Content::images;
  bool allow_rename = false;    ///< when the name is taken, the guest's next free one
  std::optional<Bytes> size{};  ///< of a `raw` stream that does not know it: a pipe
  Bytes buffer = 4_MiB;
  Work work{};
};

/// What `import_volume` made.
struct Imported {
  VolumeName volume;
  Bytes size;  ///< of the data; the volume may be larger
};

namespace detail {

inline Result<void> go_on(const Work& work) {
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "stopped before the end");
  return {};
}

inline std::array<std::byte, 8> little_endian(std::uint64_t number) noexcept {
  std::array<std::byte, 8> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(number >> (8 * i) & 0xFFU);
  return out;
}

/// Fills the buffer, or as much of it as there is.
template <ByteSource Source>
Result<std::size_t> read_fully(Source& source, std::span<std::byte> buffer) {
  std::size_t have = 0;
  while (have < buffer.size()) {
    auto got = source.read(buffer.subspan(have));
    if (!got) return got;
    if (*got == 0) break;
    have += *got;
  }
  return have;
}

template <class Device, ByteSink Sink>
Result<Bytes> export_device(Device device, Sink& sink, const ExportOptions& options) {
  const Bytes size = device.size();
  if (options.format == StreamFormat::raw_size) {
    if (auto sent = sink.write(little_endian(size.count)); !sent) return fail(std::move(sent.error()));
  }
  const Bytes piece = round_up(std::max(options.buffer, Bytes{1}), device.block_size());
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(piece, size).count));
  for (Bytes at{}; at < size;) {
    if (auto on = go_on(options.work); !on) return fail(std::move(on.error()));
    const auto part = std::span{buffer}.first(static_cast<std::size_t>(std::min(piece, size - at).count));
    if (auto read = device.read_at(at, part); !read) return fail(std::move(read.error()));
    if (auto sent = sink.write(part); !sent) return fail(std::move(sent.error()));
    at += Bytes{part.size()};
    options.work.progress(at.count, size.count);
  }
  if (auto closed = device.close(); !closed) return fail(std::move(closed.error()));
  return size;
}

/// Writes what is not zero, in runs of whole granules, where the volume reads as zeros before.
template <class Device>
Result<void> write_data(Device& device, Bytes at, std::span<const std::byte> data, bool skip_zeros) {
  constexpr std::size_t granule = 65536;
  std::size_t begin = 0;
  while (begin < data.size()) {
    std::size_t end = begin;
    while (end < data.size()) {
      const std::size_t length = std::min(granule, data.size() - end);
      if (skip_zeros && is_zero(data.subspan(end, length))) break;
      end += length;
    }
    if (end > begin) {
      if (auto put = device.write_at(at + Bytes{begin}, data.subspan(begin, end - begin)); !put) return put;
      begin = end;
    } else {
      begin += std::min(granule, data.size() - begin);
    }
  }
  return {};
}

template <class Device, ByteSource Source>
Result<void> import_device(Device device, Source& source, Bytes size, bool skip_zeros, const ImportOptions& options) {
  const Bytes piece = round_up(std::max(options.buffer, Bytes{1}), device.block_size());
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(piece, round_up(size, device.block_size())).count));
  for (Bytes at{}; at < size;) {
    if (auto on = go_on(options.work); !on) return on;
    const auto want = static_cast<std::size_t>(std::min(piece, size - at).count);
    auto got = read_fully(source, std::span{buffer}.first(want));
    if (!got) return fail(std::move(got.error()));
    if (*got < want) {
      return fail(Errc::corrupt, "the stream ends after " + std::to_string(at.count + *got) + " of " +
                                     std::to_string(size.count) + " bytes");
    }
    // The data may end in the middle of a block; the rest of that block is zeros.
    const auto padded = static_cast<std::size_t>(round_up(Bytes{want}, device.block_size()).count);
    std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(want), buffer.begin() + static_cast<std::ptrdiff_t>(padded),
              std::byte{});
    if (auto put = write_data(device, at, std::span{buffer}.first(padded), skip_zeros); !put) return put;
    at += Bytes{want};
    options.work.progress(at.count, size.count);
  }
  std::byte more{};
  auto got = source.read(std::span{&more, 1});
  if (!got) return fail(std::move(got.error()));
  if (*got != 0) {
    return fail(Errc::corrupt, "the stream goes on after the " + std::to_string(size.count) + " bytes it should have");
  }
  return device.close();
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

template <class Storage, ByteSource Source>
Result<void> fill(Storage& storage, const VolumeName& volume, Source& source, Bytes size,
                  const ImportOptions& options) {
  auto device = storage.open_volume(volume, Access::read_write);
  if (!device) return fail(std::move(device.error()));
  const bool reads_as_zeros = storage.features().can.has(Capability::sparse_init);
  if (auto done = import_device(*std::move(device), source, size, reads_as_zeros, options); !done) return done;
  return storage.end_import(volume);
}

}  // namespace detail

/// Writes a volume to `sink`, and says how many bytes of data that were. `storage` is a `Storage` or a
/// `BasicAnyStorage`. Errors: those of `open_volume` and of reading; those of the sink; cancelled.
/// Blocks: until the last byte is written. Memory: one buffer.
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
  // Proxmox VE rounds up to KiB. (Not where that would overflow: `create` refuses such a size.)
  const Bytes rounded = size->count > (std::uint64_t{1} << 63U) ? *size : round_up(*size, 1_KiB);
  auto made =
      detail::make_room(storage, CreateSpec{.vmid = *owner, .size = rounded, .name = name, .content = options.content},
                        options.allow_rename);
  if (!made) return fail(std::move(made.error()));
  auto done = detail::fill(storage, *made, source, *size, options).and_then([&]() -> Result<Imported> {
    if (!parts->is_base) return Imported{*made, *size};
    return storage.make_template(*made).map([&](const VolumeName& base) { return Imported{base, *size}; });
  });
  if (done) return done;
  Error error = std::move(done.error()).about(object);
  if (auto removed = storage.remove(*made); !removed && removed.error().code() != Errc::not_found) {
    return fail(std::move(error).advise("the unfinished volume " + made->str() +
                                        " is still there, recover it: " + removed.error().detail()));
  }
  return fail(std::move(error));
}

}  // namespace stowage
