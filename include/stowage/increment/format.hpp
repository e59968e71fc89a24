#pragma once
// What a stream of a snapshot looks like. All numbers are little-endian.
//
//   header   magic        8 bytes, "stowinc\n"
//            version      4 bytes, 1
//            length       4 bytes, of the header from the magic to the checksum, both included
//            size         8 bytes, of the volume
//            begin        8 bytes: what lies before is in another stream, which was interrupted
//            lengths      4 times 2 bytes, of the texts
//            texts        name and identity of the base, name and identity of the target; without a base its are empty
//            checksum     8 bytes
//   records  kind         4 bytes: 1 data, 2 zeros, 3 the end
//            nothing      4 bytes, zero
//            offset       8 bytes, a multiple of 4096, not before the end of the last record; of the end: the size
//            length       8 bytes, a multiple of 4096, or up to the end of the volume; of the end: how many records
//                         there were before it; of data at most 1 MiB
//            checksum     8 bytes
//            data         of data
//
// A stream with a base has what is different from it; one without has what is not zero. The checksum of the header is
// XXH3 (64 bits) of what lies before it. That of a record is XXH3 of its first 24 bytes, with the seed XXH3 of its
// data, with the seed that is the checksum before: so a record that is lost, doubled or in another's place shows.

#include <xxhash.h>
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// A snapshot, as a stream knows it.
struct StreamedSnapshot {
  SnapshotName name;
  std::string identity;  ///< of its content: see `IncrementBackend`

  friend bool operator==(const StreamedSnapshot&, const StreamedSnapshot&) = default;
};

/// What a stream says of itself.
struct StreamHeader {
  Bytes size{};                            ///< of the volume at `target`
  Bytes begin{};                           ///< what lies before is not in the stream
  std::optional<StreamedSnapshot> base{};  ///< only what is different from it is in the stream
  StreamedSnapshot target;

  friend bool operator==(const StreamHeader&, const StreamHeader&) = default;
};

namespace detail {

inline constexpr std::string_view stream_magic = "stowinc\n";
inline constexpr std::uint32_t stream_version = 1;
inline constexpr std::size_t stream_header_begin = 40;  ///< bytes before the texts
inline constexpr std::size_t stream_most_text = 128;
inline constexpr std::size_t stream_most_header = stream_header_begin + 4 * stream_most_text + 8;
inline constexpr std::uint64_t stream_block = 4096;
inline constexpr std::size_t stream_most_data = std::size_t{1} << 20U;

enum class RecordKind : std::uint32_t { data = 1, zeros = 2, end = 3 };

/// The begin of a record.
struct RecordHead {
  static constexpr std::size_t size = 32;

  RecordKind kind = RecordKind::end;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t checksum = 0;

  /// How many bytes of data follow.
  [[nodiscard]] std::size_t data_size() const noexcept { return kind == RecordKind::data ? length : 0; }
};

template <std::unsigned_integral N>
void put_number(std::span<std::byte> out, std::size_t at, N number) noexcept {
  for (std::size_t i = 0; i < sizeof number; ++i) out[at + i] = static_cast<std::byte>(number >> (8 * i) & 0xFFU);
}
template <std::unsigned_integral N>
N get_number(std::span<const std::byte> in, std::size_t at) noexcept {
  N number = 0;
  for (std::size_t i = 0; i < sizeof number; ++i) {
    number = static_cast<N>(number | std::to_integer<N>(in[at + i]) << (8 * i));
  }
  return number;
}

inline std::uint64_t stream_checksum(std::span<const std::byte> data, std::uint64_t seed = 0) noexcept {
  return ::XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

/// The head as it stands in the stream, behind a record or header whose checksum is `before`.
inline std::array<std::byte, RecordHead::size> record_bytes(const RecordHead& head, std::span<const std::byte> data,
                                                            std::uint64_t before) noexcept {
  std::array<std::byte, RecordHead::size> bytes{};
  put_number(bytes, 0, static_cast<std::uint32_t>(head.kind));
  put_number(bytes, 8, head.offset);
  put_number(bytes, 16, head.length);
  put_number(bytes, 24, stream_checksum(std::span{bytes}.first<24>(), stream_checksum(data, before)));
  return bytes;
}

/// What an identity is made of; also LVM allows it in a tag.
constexpr bool is_stream_identity(std::string_view text) noexcept {
  return !text.empty() && text.size() <= stream_most_text &&
         all_of(text, [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '+' || c == '-'; });
}

/// Errors: invalid_argument (a name or identity that does not fit).
inline Result<std::vector<std::byte>> header_bytes(const StreamHeader& header) {
  const auto part = [](const std::optional<StreamedSnapshot>& s, bool name) -> std::string_view {
    if (!s) return {};
    return name ? s->name.str() : s->identity;
  };
  const std::array<std::string_view, 4> texts{part(header.base, true), part(header.base, false),
                                              header.target.name.str(), header.target.identity};
  std::vector<std::byte> bytes(stream_header_begin);
  std::transform(stream_magic.begin(), stream_magic.end(), bytes.begin(), [](char c) { return std::byte(c); });
  put_number(bytes, 8, stream_version);
  put_number(bytes, 16, header.size.count);
  put_number(bytes, 24, header.begin.count);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool identity = i % 2 == 1 && !texts[i].empty();
    if (texts[i].size() > stream_most_text || (identity && !is_stream_identity(texts[i]))) {
      return fail(Errc::invalid_argument, "a stream cannot name '" + std::string{texts[i]} + "'");
    }
    put_number(bytes, 32 + 2 * i, static_cast<std::uint16_t>(texts[i].size()));
    for (const char c : texts[i]) bytes.push_back(static_cast<std::byte>(c));
  }
  const std::size_t end = bytes.size();
  bytes.resize(end + 8);
  put_number(bytes, 12, static_cast<std::uint32_t>(bytes.size()));
  put_number(bytes, end, stream_checksum(std::span{bytes}.first(end)));
  return bytes;
}

/// A whole header, whose length was looked at. Errors: corrupt.
inline Result<StreamHeader> parse_header(std::span<const std::byte> bytes) {
  const auto bad = [](const char* why) { return fail(Errc::corrupt, std::string{"the header of the stream "} + why); };
  const std::size_t end = bytes.size() - 8;
  if (get_number<std::uint64_t>(bytes, end) != stream_checksum(bytes.first(end))) return bad("has a wrong checksum");
  std::array<std::string, 4> texts;
  std::size_t at = stream_header_begin;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t length = get_number<std::uint16_t>(bytes, 32 + 2 * i);
    if (length > stream_most_text || length > end - at) return bad("has texts that do not fit into it");
    for (; texts[i].size() < length; ++at) texts[i] += static_cast<char>(bytes[at]);
  }
  if (at != end) return bad("has more than it should");
  const auto snapshot = [](const std::string& name, std::string& identity) -> std::optional<StreamedSnapshot> {
    auto parsed = SnapshotName::parse(name);
    if (!parsed || !is_stream_identity(identity)) return std::nullopt;
    return StreamedSnapshot{*std::move(parsed), std::move(identity)};
  };
  const bool has_base = !texts[0].empty() || !texts[1].empty();
  auto base = snapshot(texts[0], texts[1]);
  auto target = snapshot(texts[2], texts[3]);
  if (!target || (has_base && !base)) return bad("names no snapshot");
  StreamHeader header{.size = Bytes{get_number<std::uint64_t>(bytes, 16)},
                      .begin = Bytes{get_number<std::uint64_t>(bytes, 24)},
                      .base = std::move(base),
                      .target = *std::move(target)};
  if (header.size.count > std::uint64_t{1} << 62U || header.begin > header.size) return bad("has an impossible size");
  return header;
}

}  // namespace detail
}  // namespace stowage
