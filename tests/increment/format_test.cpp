// The bytes of a stream are a promise: what was sent once must be received for ever.

#include <catch2/catch.hpp>

#include <algorithm>
#include <iterator>
#include <stowage/increment/reader.hpp>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/streams.hpp"

using namespace stowage;
using detail::RecordHead;
using detail::RecordKind;
using testing::GivenBytes;
using testing::must;
using testing::refused;
using testing::snapshot_name;

namespace {

using Data = std::vector<std::byte>;

/// Made by hand, but for the checksums: 12 KiB, of which the second block is data and the third zeros.
constexpr unsigned char golden_header[] = {
    's', 't', 'o',  'w',  'i',  'n',  'c',  '\n', 1,    0,   0,   0,   58,  0,   0,   0,    // magic, version, length
    0,   48,  0,    0,    0,    0,    0,    0,    0,    0,   0,   0,   0,   0,   0,   0,    // size, begin
    2,   0,   3,    0,    2,    0,    3,    0,    's',  '1', 'a', '-', '1', 's', '2', 'a',  // texts
    '-', '2', 0x43, 0xea, 0x4d, 0x08, 0x73, 0xbb, 0xa0, 0xde};
constexpr unsigned char golden_data[] = {1, 0,    0, 0, 0, 0, 0, 0, 0,    0x10, 0,    0,    0,    0,    0,    0,  //
                                         0, 0x10, 0, 0, 0, 0, 0, 0, 0xdb, 0x1b, 0xfa, 0xe3, 0xd8, 0xb4, 0x95, 0x96};
constexpr unsigned char golden_zeros[] = {2, 0,    0, 0, 0, 0, 0, 0, 0,    0x20, 0,    0,    0,    0,    0,    0,  //
                                          0, 0x10, 0, 0, 0, 0, 0, 0, 0x20, 0xda, 0xdd, 0x6a, 0x7a, 0x70, 0xd1, 0x23};
constexpr unsigned char golden_end[] = {3, 0, 0, 0, 0, 0, 0, 0, 0,    0x30, 0,    0,    0,    0,    0,    0,  //
                                        2, 0, 0, 0, 0, 0, 0, 0, 0xa4, 0x5a, 0xa7, 0x8c, 0xc8, 0x08, 0x3d, 0x51};

void put(Data& to, std::span<const unsigned char> more) {
  for (const unsigned char c : more) to.push_back(std::byte{c});
}

Data golden() {
  Data stream;
  put(stream, golden_header);
  put(stream, golden_data);
  stream.insert(stream.end(), 4096, std::byte{0x5a});
  put(stream, golden_zeros);
  put(stream, golden_end);
  return stream;
}

StreamHeader header_of(Bytes size) {
  return {.size = size, .base = StreamedSnapshot{snapshot_name("s1"), "a-1"}, .target = {snapshot_name("s2"), "a-2"}};
}

/// A stream with good checksums, of whatever records.
Data made(const StreamHeader& header, const std::vector<RecordHead>& records) {
  Data stream = must(detail::header_bytes(header));
  std::uint64_t checksum = detail::get_number<std::uint64_t>(stream, stream.size() - 8);
  for (const RecordHead& record : records) {
    const Data data(std::min<std::size_t>(record.data_size(), 3 << 20), std::byte{7});
    const auto head = detail::record_bytes(record, data, checksum);
    checksum = detail::get_number<std::uint64_t>(head, 24);
    stream.insert(stream.end(), head.begin(), head.end());
    stream.insert(stream.end(), data.begin(), data.end());
  }
  return stream;
}

Result<std::vector<StreamRecord>> read_all(const Data& stream) {
  GivenBytes in{stream};
  StreamReader reader{in};
  if (auto header = reader.header(); !header) return fail(std::move(header.error()));
  Data room(detail::stream_most_data);
  std::vector<StreamRecord> records;
  for (;;) {
    const auto record = reader.next(room);
    if (!record) return fail(record.error());
    records.push_back(*record);
    if (record->kind == StreamRecord::Kind::end) return records;
  }
}

}  // namespace

TEST_CASE("stream format: the bytes of version 1") {
  const Data stream = golden();
  GivenBytes in{stream};
  StreamReader reader{in};
  CHECK((must(reader.header()) == header_of(12_KiB)));
  CHECK((must(detail::header_bytes(header_of(12_KiB))) == Data(stream.begin(), stream.begin() + 58)));
  Data room(detail::stream_most_data);
  CHECK((must(reader.next(room)) == StreamRecord{StreamRecord::Kind::data, 4_KiB, 4_KiB}));
  CHECK(std::all_of(room.begin(), room.begin() + 4096, [](std::byte b) { return b == std::byte{0x5a}; }));
  CHECK((must(reader.next(room)) == StreamRecord{StreamRecord::Kind::zeros, 8_KiB, 4_KiB}));
  CHECK(must(reader.next(room)).kind == StreamRecord::Kind::end);
}

TEST_CASE("stream format: what a copy writes are these bytes") {
  const Data stream = golden();
  testing::CollectedBytes out;
  const std::vector<Extent> ranges{{4_KiB, 8_KiB, true}};
  const std::uint64_t checksum = detail::get_number<std::uint64_t>(stream, 50);
  detail::RecordQueue queue{out, 2, {12_KiB, ranges, true, checksum}};
  Data block(4096, std::byte{0x5a});
  const ::iovec memory{block.data(), block.size()};
  REQUIRE(queue.submit({.op = IoOp::write_zeroes, .offset = 8_KiB, .length = 4_KiB}) == Submitted::yes);  // too early
  std::array<IoCompletion, 4> done{};
  CHECK(must(queue.reap(done)) == 0);
  REQUIRE(queue.submit({.op = IoOp::write, .offset = 4_KiB, .buffers = {&memory, 1}}) == Submitted::yes);
  CHECK(must(queue.reap(done)) == 1);
  CHECK(must(queue.reap(done)) == 1);
  Data all(stream.begin(), stream.begin() + 58);
  const auto end = queue.end();
  std::copy(out.data.begin(), out.data.end(), std::back_inserter(all));  // insert() confuses g++ -O2
  std::copy(end.begin(), end.end(), std::back_inserter(all));
  CHECK((all == stream));
}

TEST_CASE("stream format: records that no sender writes are corrupt, whatever their checksums") {
  const StreamHeader header = header_of(Bytes{(4 << 20) + 100});
  const RecordHead end{RecordKind::end, (4 << 20) + 100, 1};
  const auto is_corrupt = [&](const std::vector<RecordHead>& records) {
    refused(read_all(made(header, records)), Errc::corrupt);
  };
  CHECK(must(read_all(made(header, {{RecordKind::data, 4 << 20, 100}, end}))).size() == 2);
  CHECK(must(read_all(made(header, {{RecordKind::zeros, 0, (4 << 20) + 100}, end}))).size() == 2);
  CHECK(must(read_all(made(header, {{RecordKind::data, 4096, 1 << 20}, end}))).size() == 2);
  is_corrupt({{RecordKind::data, 4096, (1 << 20) + 4096}, end});                        // too large
  is_corrupt({{RecordKind::data, 4096, 0}, end});                                       // empty
  is_corrupt({{RecordKind::zeros, 0, 0}, end});                                         //
  is_corrupt({{RecordKind::zeros, 4 << 20, 101}, end});                                 // beyond the end
  is_corrupt({{RecordKind::zeros, 8 << 20, 4096}, end});                                //
  is_corrupt({{RecordKind::zeros, 4096, ~std::uint64_t{0} - 4095}, end});               //
  is_corrupt({{RecordKind::zeros, 512, 4096}, end});                                    // not on blocks
  is_corrupt({{RecordKind::data, 0, 100}, end});                                        //
  is_corrupt({{static_cast<RecordKind>(4), 0, 4096}, end});                             // of no kind
  is_corrupt({{static_cast<RecordKind>(0), 0, 4096}, end});                             //
  is_corrupt({{RecordKind::zeros, 4096, 4096}, {RecordKind::zeros, 4096, 4096}, end});  // twice
  is_corrupt({{RecordKind::zeros, 8192, 4096}, {RecordKind::zeros, 0, 4096}, end});     // out of order
  is_corrupt({end});                                                                    // one was lost
  is_corrupt({{RecordKind::zeros, 0, 4096}, {RecordKind::end, 4 << 20, 1}});            // another's end
  is_corrupt({{RecordKind::zeros, 0, 4096}, end, end});                                 // too much
  StreamHeader later = header;
  later.begin = 8_KiB;
  refused(read_all(made(later, {{RecordKind::zeros, 4096, 8192}, end})), Errc::corrupt);  // before its begin
}

TEST_CASE("stream format: a snapshot that came under a name of others is not taken under it") {
  testing::MemoryBackend memory;
  Storage storage{*StorageId::parse("mem"), memory};
  for (const char* name : {"__base__", "a b", "1st", "x@y"}) {
    GivenBytes in{made({.size = 4_KiB, .target = {snapshot_name(name), "a-1"}}, {{RecordKind::end, 4096, 0}})};
    refused(receive_snapshot(storage, testing::volume_name("vm-1-disk-0"), in), Errc::parse_failed);
  }
  CHECK(must(storage.list()).empty());
}

TEST_CASE("stream format: headers that no sender writes") {
  const auto changed = [](std::size_t at, std::byte value) {
    Data bytes = must(detail::header_bytes(header_of(12_KiB)));
    bytes[at] = value;
    detail::put_number(bytes, 50, detail::stream_checksum(std::span{bytes}.first(50)));
    return bytes;
  };
  refused(read_all(changed(0, std::byte{'S'})), Errc::corrupt);
  refused(read_all(changed(8, std::byte{2})), Errc::not_supported);
  refused(read_all(changed(12, std::byte{1})), Errc::corrupt);     // length
  refused(read_all(changed(15, std::byte{1})), Errc::corrupt);     //
  refused(read_all(changed(23, std::byte{0x80})), Errc::corrupt);  // size
  refused(read_all(changed(25, std::byte{0x31})), Errc::corrupt);  // it begins behind its end
  refused(read_all(changed(32, std::byte{3})), Errc::corrupt);     // texts that are longer
  refused(read_all(changed(38, std::byte{2})), Errc::corrupt);     // shorter
  refused(read_all(changed(33, std::byte{1})), Errc::corrupt);     // much too long
  refused(read_all(changed(42, std::byte{'/'})), Errc::corrupt);   // an identity with a slash
  refused(read_all(changed(45, std::byte{'\n'})), Errc::corrupt);  // a name with a newline
  CHECK_FALSE(detail::header_bytes({.target = {snapshot_name("s"), "a b"}}));
  CHECK_FALSE(detail::header_bytes({.target = {snapshot_name(std::string(129, 's')), "a"}}));
}
