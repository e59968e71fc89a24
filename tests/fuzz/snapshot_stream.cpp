// Any bytes as a stream of a snapshot: they are read without harm, and what is taken for good is what a sender may
// write. So that more than checksums are looked at, the input is also taken for what a stream has under its checksums.
// By hand, for long: fuzz_snapshot_stream -max_total_time=600 SCRATCH tests/fuzz/corpus/snapshot_stream

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <stowage/increment/reader.hpp>
#include <vector>

using namespace stowage;

namespace {

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

struct Input {
  std::span<const std::byte> data;
  Result<std::size_t> read(std::span<std::byte> buffer) {
    const std::size_t n = std::min(buffer.size(), data.size());
    std::copy_n(data.begin(), n, buffer.begin());
    data = data.subspan(n);
    return n;
  }
  [[nodiscard]] static std::optional<Bytes> size() { return std::nullopt; }
};

void check(std::span<const std::byte> stream) {
  static std::vector<std::byte> room(detail::stream_most_data);
  Input input{stream};
  StreamReader reader{input};
  const auto header = reader.header();
  if (!header) return;
  const auto again = detail::header_bytes(*header);
  must(again && std::equal(again->begin(), again->end(), stream.begin()), "a header that is read can be written");
  Bytes at = header->begin;
  for (;;) {
    const auto record = reader.next(room);
    if (!record) return;
    if (record->kind == StreamRecord::Kind::end) break;
    must(record->offset >= at && record->length > Bytes{}, "records are in order");
    must(record->end() <= header->size && record->end() > record->offset, "records are in range");
    must(record->offset.count % 4096 == 0, "records lie on blocks");
    at = record->end();
  }
  must(input.data.empty(), "the end is the end");
}

/// The input with checksums where a stream has them.
std::vector<std::byte> with_checksums(std::span<const std::byte> data) {
  const StreamHeader header{.size = Bytes{std::uint64_t{1} << 30U}, .target = {*SnapshotName::parse("s"), "identity"}};
  std::vector<std::byte> stream = *detail::header_bytes(header);
  std::uint64_t checksum = detail::get_number<std::uint64_t>(stream, stream.size() - 8);
  while (data.size() >= 24) {
    const detail::RecordHead head{static_cast<detail::RecordKind>(detail::get_number<std::uint32_t>(data, 0)),
                                  detail::get_number<std::uint64_t>(data, 8),
                                  detail::get_number<std::uint64_t>(data, 16)};
    data = data.subspan(24);
    const auto own = data.first(std::min<std::size_t>(head.data_size(), data.size()));
    const auto bytes = detail::record_bytes(head, own, checksum);
    checksum = detail::get_number<std::uint64_t>(bytes, 24);
    stream.insert(stream.end(), bytes.begin(), bytes.end());
    stream.insert(stream.end(), own.begin(), own.end());
    data = data.subspan(own.size());
  }
  return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes{reinterpret_cast<const std::byte*>(data), size};
  check(bytes);
  check(with_checksums(bytes));
  return 0;
}
