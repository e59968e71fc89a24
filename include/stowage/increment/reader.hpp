#pragma once
// Reads a stream of a snapshot: nothing of it is believed before its checksum fits.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/increment/format.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <stowage/transfer/stream_queues.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage {

/// What a stream has for one range of the volume.
struct StreamRecord {
  enum class Kind { data, zeros, end };
  Kind kind = Kind::end;
  Bytes offset{};
  Bytes length{};

  [[nodiscard]] Bytes end() const noexcept { return offset + length; }
  friend bool operator==(const StreamRecord&, const StreamRecord&) = default;
};

/// A stream, from its begin to its end. First `header`, then `next` until that gives the end; nothing after an error.
template <ByteSource Source>
class StreamReader {
 public:
  explicit StreamReader(Source& source) : source_{source} {}

  /// Errors: corrupt; not_supported (a newer version); those of the source.
  Result<StreamHeader> header() {
    std::vector<std::byte> bytes(detail::stream_most_header);
    const std::span begin = std::span{bytes}.first(16);
    if (auto read = fill(begin); !read) return fail(std::move(read.error()));
    const auto same = [](char a, std::byte b) { return std::byte(a) == b; };
    if (!std::equal(detail::stream_magic.begin(), detail::stream_magic.end(), begin.begin(), same)) {
      return fail(Errc::corrupt, "it is not a stream of a snapshot");
    }
    if (const auto version = detail::get_number<std::uint32_t>(bytes, 8); version != detail::stream_version) {
      return fail(
          Error{Errc::not_supported, "a stream of version " + std::to_string(version)}.advise("use a newer stowage"));
    }
    const auto length = detail::get_number<std::uint32_t>(bytes, 12);
    if (length < detail::stream_header_begin + 8 || length > bytes.size()) {
      return fail(Errc::corrupt, "the header of the stream has an impossible length");
    }
    bytes.resize(length);
    if (auto read = fill(std::span{bytes}.subspan(16)); !read) return fail(std::move(read.error()));
    return detail::parse_header(bytes).map([&](StreamHeader header) {
      checksum_ = detail::get_number<std::uint64_t>(bytes, length - 8);
      size_ = header.size.count;
      at_ = header.begin.count;
      return header;
    });
  }

  /// The next record; of data, with the data in `room`, which has 1 MiB. Errors: corrupt; those of the source.
  Result<StreamRecord> next(std::span<std::byte> room) {
    using detail::RecordKind;
    std::array<std::byte, detail::RecordHead::size> head{};
    if (auto read = fill(head); !read) return fail(std::move(read.error()));
    const detail::RecordHead record{
        static_cast<RecordKind>(detail::get_number<std::uint32_t>(head, 0)), detail::get_number<std::uint64_t>(head, 8),
        detail::get_number<std::uint64_t>(head, 16), detail::get_number<std::uint64_t>(head, 24)};
    if (record.kind == RecordKind::data && record.length > detail::stream_most_data) return bad("has too many data");
    const auto data = room.first(record.data_size());
    if (auto read = fill(data); !read) return fail(std::move(read.error()));
    // Compared as bytes: what has no meaning is zero.
    if (detail::record_bytes(record, data, checksum_) != head) return bad("has a wrong checksum");
    checksum_ = record.checksum;
    if (record.kind == RecordKind::end) return end(record);
    if (record.kind != RecordKind::data && record.kind != RecordKind::zeros) return bad("is of no known kind");
    const bool fits = record.offset >= at_ && record.offset < size_ && record.length <= size_ - record.offset;
    if (!fits || record.length == 0) return bad("is out of order or out of range");
    at_ = record.offset + record.length;
    if (record.offset % detail::stream_block != 0 || (at_ % detail::stream_block != 0 && at_ != size_)) {
      return bad("does not lie on blocks");
    }
    ++count_;
    return StreamRecord{record.kind == RecordKind::data ? StreamRecord::Kind::data : StreamRecord::Kind::zeros,
                        Bytes{record.offset}, Bytes{record.length}};
  }

 private:
  Result<StreamRecord> end(const detail::RecordHead& record) {
    if (record.offset != size_ || record.length != count_) return bad("ends a stream with other records");
    std::byte more{};
    const auto got = source_.read(std::span{&more, 1});
    if (!got) return fail(got.error());
    if (*got != 0) return fail(Errc::corrupt, "the stream goes on behind its end");
    return StreamRecord{.offset = Bytes{size_}};
  }
  Result<void> fill(std::span<std::byte> buffer) {
    const auto got = detail::read_fully(source_, buffer);
    if (!got) return fail(got.error());
    if (*got < buffer.size()) return fail(Errc::corrupt, "the stream ends too early");
    return {};
  }
  [[nodiscard]] tl::unexpected<Error> bad(const char* why) const {
    return fail(Errc::corrupt, "record " + std::to_string(count_ + 1) + " of the stream " + why);
  }

  Source& source_;
  std::uint64_t checksum_ = 0;  // of what was read last
  std::uint64_t size_ = 0;      // of the volume
  std::uint64_t at_ = 0;        // where the last record ended
  std::uint64_t count_ = 0;
};

}  // namespace stowage
