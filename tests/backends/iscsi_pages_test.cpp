// What IscsiDirect reads out of the bytes that targets send: real answers of tgt, one of each kind of designator, and
// answers that lie about their length.

#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <random>
#include <stowage/backends/detail/iscsi_pages.hpp>
#include <stowage/backends/detail/iscsi_piece.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;
using namespace stowage::detail;

namespace {

using Raw = std::vector<std::uint8_t>;

Raw hex(std::string_view text) {
  Raw bytes;
  std::string digits;
  for (const char c : text) {
    if (c == ' ') continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(digits, nullptr, 16)));
    digits.clear();
  }
  return bytes;
}

Raw text(std::string_view characters) { return {characters.begin(), characters.end()}; }

struct Designator {
  unsigned code_set;  // 1 binary, 2 ASCII
  unsigned type;      // 0 vendor, 1 T10, 2 EUI-64, 3 NAA
  Raw id;
  unsigned association = 0;
};

Raw page_83(std::initializer_list<Designator> designators) {
  Raw page{0, 0x83, 0, 0};
  for (const Designator& d : designators) {
    page.push_back(static_cast<std::uint8_t>(d.code_set));
    page.push_back(static_cast<std::uint8_t>(d.association << 4U | d.type));
    page.push_back(0);
    page.push_back(static_cast<std::uint8_t>(d.id.size()));
    page.insert(page.end(), d.id.begin(), d.id.end());
  }
  page[2] = static_cast<std::uint8_t>((page.size() - 4) >> 8U);
  page[3] = static_cast<std::uint8_t>((page.size() - 4) & 0xffU);
  return page;
}

// tgt 1.0.85, LUN 1 of a thin target
const Raw tgt_inquiry =
    hex("00 00 05 12 3d 00 00 02 49 45 54 20 20 20 20 20 56 49 52 54 55 41 4c 2d 44 49 53 4b 20 20 20 20 30 30 30 31 "
        "00 00");
const Raw tgt_83 = hex(
    "00 83 00 48 02 01 00 24 36 30 37 62 66 33 33 38 62 64 35 64 65 31 61 32 30 35 30 65 36 32 66 37 00 00 00 00 00 00 "
    "00 00 00 00 00 00 01 03 00 08 30 00 00 01 00 00 00 01 01 03 00 10 60 00 00 00 60 7b f3 38 bd 5d e1 a2 05 0e 62 "
    "f7");
const Raw tgt_80 =
    hex("00 80 00 24 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 6c 61 "
        "62 31 2e "
        "31");
const Raw tgt_b0 = hex(
    "00 b0 00 3c 00 80 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff 00 00 00 00 00 00 00 00 00 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
const Raw tgt_b2 = hex("00 b2 00 04 00 e4 02 00");
const Raw tgt_capacity = hex("00 00 00 00 00 01 ff ff 00 00 02 00 00 03 c0 00 00 00 00 00 00 00 00 00");

const Raw naa_6 = hex("600000000607bf338bd5de1a2050e62f");
const Raw naa_5 = hex("5000c5001a2b3c4d");
const Raw naa_3 = hex("3000000100000001");
const Raw eui = hex("0050c2fffe123456");

}  // namespace

TEST_CASE("answers of a real tgt") {
  const Inquiry inquiry = parse_inquiry(tgt_inquiry);
  CHECK(inquiry.is_disk());
  CHECK(inquiry.vendor_and_model == "IET     VIRTUAL-DISK    ");
  CHECK(wwid_from_page_83(tgt_83, inquiry) == "360000000607bf338bd5de1a2050e62f7");
  CHECK(wwid_from_page_80(tgt_80, inquiry) == "SIET_VIRTUAL-DISK_lab1.1");
  const auto capacity = parse_capacity(tgt_capacity);
  REQUIRE(capacity.has_value());
  CHECK(capacity->size == 64_MiB);
  CHECK(capacity->block == 512_B);
  CHECK((capacity->thin && capacity->reads_zeros));
  const BlockLimits limits = parse_block_limits(tgt_b0, tgt_b2);
  CHECK(limits.max_transfer == 0);
  CHECK((limits.granularity == 0 && limits.optimal_transfer == 0));
  CHECK(limits.max_unmap == 0xffffffffU);
  CHECK((limits.unmap && limits.write_same_unmaps && limits.unmapped_reads_zeros));
  CHECK_FALSE(is_write_protected(hex("61 00 10 00")));
  CHECK(is_write_protected(hex("61 00 90 00")));
}

TEST_CASE("controllers and missing LUNs are no disks") {
  CHECK_FALSE(parse_inquiry(hex("0c 00 05 12")).is_disk());
  CHECK_FALSE(parse_inquiry(hex("7f 00 05 12")).is_disk());
  CHECK_FALSE(parse_inquiry(hex("20 00 05 12")).is_disk());  // could be there, but is not connected
  CHECK_FALSE(parse_inquiry({}).is_disk());
}

TEST_CASE("the WWID is made of the best designator, wherever it stands") {
  const Inquiry inquiry = parse_inquiry(tgt_inquiry);
  const Designator t10{2, 1, text("ATA     SAMSUNG  X Y/1 ")};
  const Designator vendor{2, 0, text(" lun 7 ")};
  const auto wwid = [&](std::initializer_list<Designator> list) { return wwid_from_page_83(page_83(list), inquiry); };

  CHECK(wwid({vendor}) == "0IET_VIRTUAL-DISK_lun_7");
  CHECK(wwid({vendor, t10}) == "1ATA_SAMSUNG_X_Y_1");
  CHECK(wwid({t10, {1, 2, eui}}) == "20050c2fffe123456");
  CHECK(wwid({{1, 2, eui}, {1, 3, naa_3}}) == "33000000100000001");
  CHECK(wwid({{1, 3, naa_3}, {1, 3, naa_5}}) == "35000c5001a2b3c4d");
  CHECK(wwid({{1, 3, naa_5}, t10, {1, 3, naa_6}}) == "3600000000607bf338bd5de1a2050e62f");
  CHECK(wwid({{2, 2, text("0050c2")}, {1, 2, eui}}) == "20050c2fffe123456");  // binary first
  CHECK(wwid({{2, 3, text("6abc")}}) == "36abc");
}

TEST_CASE("designators that do not name the LUN are left aside") {
  const Inquiry inquiry = parse_inquiry(tgt_inquiry);
  const auto wwid = [&](std::initializer_list<Designator> list) { return wwid_from_page_83(page_83(list), inquiry); };
  CHECK(wwid({}).empty());
  CHECK(wwid({{1, 3, naa_6, 1}}).empty());                                    // of the port
  CHECK(wwid({{1, 3, naa_6, 2}, {1, 3, naa_5}}) == "35000c5001a2b3c4d");      // of the target
  CHECK(wwid({{1, 4, hex("00000001")}, {3, 8, text("iqn.a:1")}}).empty());    // port number, SCSI name
  CHECK(wwid({{1, 3, {}}, {1, 2, eui}}) == "20050c2fffe123456");              // empty
  CHECK(wwid_from_page_83(page_83({{2, 0, text("7")}}), Inquiry{}).empty());  // a vendor's number without the vendor
  CHECK(wwid_from_page_80(tgt_80, Inquiry{}).empty());
}

TEST_CASE("a page 0x83 from before SPC-3 is a bare WWN") {
  CHECK(wwid_from_page_83(hex("00 83 00 08 60 06 04 80 00 00 01 02"), {}) == "36006048000000102");
}

TEST_CASE("serial numbers as udev writes them") {
  CHECK(udev_serial("  a  b\t c ") == "a_b_c");
  CHECK(udev_serial("a/b\\c\"d") == "a_b_c_d");
  CHECK(udev_serial("x#+-.:=@_9") == "x#+-.:=@_9");
  CHECK(udev_serial(std::string_view{"a b\0c", 5}) == "a_b");
  CHECK(udev_serial("   ").empty());
}

TEST_CASE("REPORT LUNS") {
  const ReportedLuns luns = parse_report_luns(
      hex("00 00 00 28 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 41 2c 00 00 00 00 00 00 "
          "c1 01 00 00 00 00 00 00 00 02 00 05 00 00 00 00"));
  CHECK(luns.length == 48);
  CHECK(luns.wire == std::vector<std::uint16_t>{0, 1, 0x412c});  // not the well known one, nor the one of two levels
  CHECK(parse_report_luns({}).wire.empty());
  CHECK(parse_report_luns(hex("ff ff ff ff 00 00 00 00 00 07 00 00 00 00 00 00 00 08 00")).wire ==
        std::vector<std::uint16_t>{7});
  CHECK(parse_report_luns(hex("00 00 00 00 00 00 00 00 00 07 00 00 00 00 00 00")).wire.empty());
}

TEST_CASE("capacities are exact, and impossible ones are corrupt") {
  CHECK(parse_capacity(hex("00 00 00 01 7f ff ff ff 00 00 02 00"))->size == 3_TiB);
  CHECK(parse_capacity(hex("00 00 00 00 00 00 00 00 00 00 10 00"))->size == 4_KiB);
  CHECK(parse_capacity(hex("00 00 00 00 00 1f 40 00 00 00 02 00"))->size == Bytes{0x1f4001 * 512ULL});  // odd
  CHECK(parse_capacity(hex("00 00 00 00 00 00 00 09 00 00 02 08"))->block == 520_B);
  for (const char* bad : {"", "00 00 00 00 00 00 00 01 00 00 02", "00 00 00 00 00 00 00 01 00 00 00 00",
                          "ff ff ff ff ff ff ff ff 00 00 02 00", "00 3f ff ff ff ff ff ff 00 00 02 00"}) {
    CAPTURE(bad);
    const auto capacity = parse_capacity(hex(bad));
    REQUIRE_FALSE(capacity.has_value());
    CHECK(capacity.error().code() == Errc::corrupt);
  }
}

TEST_CASE("limits that were not told are none, and UNMAP of nothing is no UNMAP") {
  const BlockLimits none = parse_block_limits({}, {});
  CHECK((none.max_transfer == 0 && none.max_write_same == 0 && !none.unmap && !none.write_same_unmaps));
  CHECK_FALSE(parse_block_limits(hex("00 b0 00 0c 00 00 00 00 00 00 08 00 00 00 00 00"), tgt_b2).unmap);
  CHECK(parse_block_limits(hex("00 b0 00 0c 00 00 00 00 00 00 08 00 00 00 00 00"), {}).max_transfer == 2048);
  const BlockLimits sizes = parse_block_limits(hex("00 b0 00 0c 00 00 00 08 00 00 08 00 00 00 01 00"), {});
  CHECK((sizes.granularity == 8 && sizes.optimal_transfer == 256));
  CHECK_FALSE(parse_block_limits(tgt_b0, tgt_83).unmap);  // another page than asked for
}

TEST_CASE("GET LBA STATUS: what is deallocated or anchored is not mapped, and nothing is read behind the end") {
  const Raw three =
      hex("00 00 00 34 00 00 00 00  00 00 00 00 00 00 00 10 00 00 00 08 00 00 00 00"
          " 00 00 00 00 00 00 00 18 00 00 01 00 01 00 00 00  00 00 00 01 00 00 00 00 00 00 00 01 02 00 00 00");
  const auto ranges = parse_lba_status(three);
  REQUIRE(ranges.size() == 3);
  CHECK((ranges[0].block == 16 && ranges[0].blocks == 8 && ranges[0].mapped));
  CHECK((ranges[1].block == 24 && ranges[1].blocks == 256 && !ranges[1].mapped));
  CHECK((ranges[2].block == std::uint64_t{1} << 32U && ranges[2].blocks == 1 && !ranges[2].mapped));
  CHECK(parse_lba_status(std::span{three}.first(39)).size() == 1);
  Raw shorter = three;
  shorter[3] = 0x23;  // one byte less than two
  CHECK(parse_lba_status(shorter).size() == 1);
  CHECK(parse_lba_status({}).empty());
}

TEST_CASE("what a LUN answers to a request of a queue is what the kernel would say of a disk") {
  const auto answer = [](int status, int key, int code) {
    IscsiCommand command;
    command.status = status;
    command.sense_key = key;
    command.sense_code = code;
    return errno_of_answer(command);
  };
  constexpr int check = SCSI_STATUS_CHECK_CONDITION;
  CHECK(answer(check, SCSI_SENSE_DATA_PROTECTION, 0x2707) == -ENOSPC);  // a thin LUN whose pool is full
  CHECK(answer(check, SCSI_SENSE_DATA_PROTECTION, 0x2700) == -EROFS);   // write-protected
  CHECK(answer(check, SCSI_SENSE_ILLEGAL_REQUEST, 0x2500) == -ENODEV);
  CHECK(answer(check, SCSI_SENSE_ILLEGAL_REQUEST, 0x2000) == -EOPNOTSUPP);
  CHECK(answer(check, SCSI_SENSE_ILLEGAL_REQUEST, 0x2400) == -EOPNOTSUPP);
  CHECK(answer(check, SCSI_SENSE_ILLEGAL_REQUEST, 0x2100) == -EIO);
  CHECK(answer(check, SCSI_SENSE_NOT_READY, 0x0400) == -ENOLINK);
  CHECK(answer(check, SCSI_SENSE_MEDIUM_ERROR, 0x1100) == -EIO);
  CHECK(answer(SCSI_STATUS_RESERVATION_CONFLICT, 0, 0) == -EBADE);
}

TEST_CASE("no answer makes the parsers read where they may not") {
  // Cut short everywhere, and bytes at random. The sanitizers say whether a byte too many was read; the vectors are of
  // exact size.
  std::mt19937 random{42};  // NOLINT: the same each time
  std::size_t named = 0;
  const auto read_all = [&](const Raw& raw) {
    const Raw exact(raw.begin(), raw.end());
    const Inquiry inquiry = parse_inquiry(exact);
    named += wwid_from_page_83(exact, inquiry).size() + wwid_from_page_83(exact, parse_inquiry(tgt_inquiry)).size();
    named += wwid_from_page_80(exact, parse_inquiry(tgt_inquiry)).size();
    named += parse_report_luns(exact).wire.size();
    named += parse_capacity(exact).has_value() ? 1U : 0U;
    named += parse_block_limits(exact, exact).unmap ? 1U : 0U;
    named += parse_lba_status(exact).size();
    named += is_write_protected(exact) ? 1U : 0U;
  };
  for (const Raw& whole : {tgt_inquiry, tgt_83, tgt_80, tgt_b0, tgt_b2, tgt_capacity}) {
    for (std::size_t length = 0; length <= whole.size(); ++length) {
      read_all(Raw(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
    }
    for (int round = 0; round < 2000; ++round) {
      Raw changed = whole;
      for (int flips = 0; flips < 3; ++flips) changed[random() % changed.size()] = static_cast<std::uint8_t>(random());
      read_all(changed);
    }
  }
  for (int round = 0; round < 2000; ++round) {
    Raw noise(random() % 300);
    std::generate(noise.begin(), noise.end(), [&] { return static_cast<std::uint8_t>(random()); });
    if (noise.size() > 1 && round % 2 == 0) noise[1] = 0x83;
    read_all(noise);
  }
  CHECK(named > 0);
}

// The rows are of `iscsi-ls -s`, which rounds sizes to words. We ask the LUNs of the one target that is ours: theirs
// are exact, so that the rows "tiny" and "petabyte" lose no disk here, and "two targets" (a defect) has ours. Of "tur
// error" nothing is left to tolerate: a LUN that is not ready is asked by itself, and its trouble is not the others'.
TEST_CASE("iscsi_ls: the reference's rows, as the LUNs tell of themselves") {
  const std::map<char, unsigned> units{{' ', 0}, {'K', 10}, {'M', 20}, {'G', 30}, {'T', 40}, {'P', 50}};
  const std::map<std::string, std::map<std::string, std::uint64_t>> ours{
      {"tiny disk unit blank dropped", {{"lun3", 512}}},
      {"petabyte unit unsupported", {{"lun0", std::uint64_t{2} << 50U}}},
      {"two targets same lun: last wins", {{"lun1", std::uint64_t{9} << 30U}}}};
  for (const auto& row : stowage::testing::vectors("iscsi_ls")) {
    const std::string name = stowage::testing::text(row, "name");
    CAPTURE(name);
    std::map<std::string, std::uint64_t> found;
    bool our_target = true;
    for (const auto& each : row.at("lines")) {
      const std::string line = each.get<std::string>();
      if (line.starts_with("Target:")) our_target = line.starts_with("Target:iqn.a:1 ");
      if (!line.starts_with("Lun:") || !our_target) continue;
      // REPORT LUNS, INQUIRY and READ CAPACITY(16) of this LUN
      const auto number = static_cast<std::uint8_t>(std::stoi(line.substr(4)));
      const bool disk = line.find("Type:DIRECT_ACCESS") != line.npos;
      const Raw luns{0, 0, 0, 8, 0, 0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0};
      const Raw inquiry{static_cast<std::uint8_t>(disk ? 0x00 : 0x0c)};
      REQUIRE(parse_report_luns(luns).wire.size() == 1);
      CHECK(parse_inquiry(inquiry).is_disk() == disk);
      if (!disk) continue;
      const std::string words = line.substr(line.find("Size:") + 5);
      std::size_t digits = 0;
      const double size = std::stod(words, &digits);
      const auto bytes = static_cast<std::uint64_t>(size * static_cast<double>(1ULL << units.at(words[digits])));
      Raw capacity(32);
      for (unsigned at = 0; at < 8; ++at) capacity[at] = static_cast<std::uint8_t>((bytes / 512 - 1) >> (56 - 8 * at));
      capacity[10] = 2;  // blocks of 512 bytes
      found["lun" + std::to_string(*iscsi_lun_number(parse_report_luns(luns).wire.front()))] =
          parse_capacity(capacity)->size.count;
    }
    std::map<std::string, std::uint64_t> expected;
    const auto parsed = row.value("parsed", nlohmann::json::object());
    for (const auto& [volume, about] : parsed.items()) {
      expected[volume] = about.at("size").get<std::uint64_t>();
    }
    if (ours.contains(name)) expected = ours.at(name);
    CHECK(found == expected);
  }
}
