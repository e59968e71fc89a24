#include <stowage/core/bytes.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;

namespace {

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

/// Bytes of a size; the largest number where it does not parse.
std::uint64_t bytes(std::string_view text) {
  const auto size = Bytes::parse(text);
  return size ? size->count : most;
}

}  // namespace

TEST_CASE("sizes are powers of 1024, and a bare number is KiB") {
  CHECK(bytes("4G") == 4ULL << 30U);
  CHECK(bytes("512M") == 512ULL << 20U);
  CHECK(bytes("17k") == 17ULL << 10U);
  CHECK(bytes("2t") == 2ULL << 40U);
  CHECK(bytes("1P") == 1ULL << 50U);
  CHECK(bytes("1024") == 1024ULL << 10U);
  CHECK(bytes("4096B") == 4096);
  CHECK(bytes("0") == 0);
  CHECK(bytes("007G") == 7ULL << 30U);
}

TEST_CASE("fractions are exact, and rounded up to a byte") {
  CHECK(bytes("1.5T") == 3ULL << 39U);
  CHECK(bytes("0.5K") == 512);
  CHECK(bytes("0.1K") == 103);  // 102.4
  CHECK(bytes("1.5B") == 2);
  CHECK(bytes("1.000000000000000000G") == 1ULL << 30U);
  CHECK(bytes("0.000000000000000001P") == 1);
  CHECK(bytes("0.999999999999999999K") == 1024);
}

TEST_CASE("a size beyond 64 bits is refused, at the very edge") {
  CHECK(bytes("18446744073709551614B") == most - 1);
  CHECK(Bytes::parse("18446744073709551615B")->count == most);
  CHECK_FALSE(Bytes::parse("18446744073709551616B"));
  CHECK(bytes("16383P") == 16383ULL << 50U);
  CHECK_FALSE(Bytes::parse("16384P"));
  CHECK(Bytes::parse("16383.999999999999999P"));
  CHECK_FALSE(Bytes::parse("16383.999999999999999999P"));  // rounds up to 2^64
  CHECK_FALSE(Bytes::parse("99999999999999999999999999"));
}

TEST_CASE("what is no size is refused with the text") {
  for (const char* text : {"",    "G",    "-1",  "+1",        " 1",     "1 ",   "1 G",
                           ".5G", "5.",   "1.G", "1..5G",     "1.5.5G", "4GiB", "4GB",
                           "1e9", "0x10", "4E",  "4\xc3\xa4", "1,5G",   "G4",   "1.0000000000000000000G"}) {
    CAPTURE(text);
    const auto size = Bytes::parse(text);
    REQUIRE_FALSE(size);
    CHECK(size.error().code() == Errc::parse_failed);
    CHECK(size.error().detail().find("'" + std::string{text} + "'") != std::string::npos);
  }
  CHECK_FALSE(Bytes::parse(std::string_view{"1\0G", 3}));
}

TEST_CASE("sizes are printed exactly, in the largest unit that divides them") {
  CHECK(to_string(0_B) == "0B");
  CHECK(to_string(513_B) == "513B");
  CHECK(to_string(1_KiB) == "1K");
  CHECK(to_string(1536_MiB) == "1536M");
  CHECK(to_string(4_GiB) == "4G");
  CHECK(to_string(2048_TiB) == "2P");
  CHECK(to_string(Bytes{most}) == "18446744073709551615B");
}

TEST_CASE("what is printed is read back") {
  CHECK(rc::check([](std::uint64_t number, std::uint8_t shift) {
    const Bytes size{number << (shift % 64U)};
    RC_ASSERT(Bytes::parse(to_string(size)).value() == size);
  }));
}

TEST_CASE("parse takes any bytes, and what it takes is a number with a unit") {
  CHECK(rc::check([](const std::string& text) {
    const auto size = Bytes::parse(text);
    if (size) RC_ASSERT(text.find_first_not_of("0123456789.BKMGTPbkmgtp") == std::string::npos);
  }));
}

TEST_CASE("fractions agree with division") {
  CHECK(rc::check([] {
    const auto whole = *rc::gen::inRange<std::uint64_t>(0, 1000);
    const auto thousandths = *rc::gen::inRange<std::uint64_t>(0, 1000);
    std::string digits = std::to_string(thousandths);
    digits.insert(0, 3 - digits.size(), '0');
    const std::uint64_t expected = (whole * 1000 + thousandths) * 1024 * 1024;
    RC_ASSERT(Bytes::parse(std::to_string(whole) + "." + digits + "M")->count == (expected + 999) / 1000);
  }));
}

TEST_CASE("round_up gives the least multiple") {
  CHECK(round_up(0_B, 4_KiB) == 0_B);
  CHECK(round_up(1_B, 4_KiB) == 4_KiB);
  CHECK(round_up(4_KiB, 4_KiB) == 4_KiB);
  CHECK(round_up(Bytes{most - 1}, 1_B).count == most - 1);
  CHECK(rc::check([](std::uint32_t size, std::uint16_t unit_minus_1) {
    const Bytes unit{unit_minus_1 + std::uint64_t{1}};
    const Bytes rounded = round_up(Bytes{size}, unit);
    RC_ASSERT(rounded.count >= size);
    RC_ASSERT(rounded.count - size < unit.count);
    RC_ASSERT(rounded.count % unit.count == 0U);
  }));
}

TEST_CASE("the reference's size arguments are ours, and more") {
  for (const auto& row : testing::vectors("size_argument")) {
    const std::string text = testing::text(row, "size");
    CAPTURE(text);
    const auto size = Bytes::parse(text);
    if (row.contains("kib")) {
      REQUIRE(size);
      CHECK(size->count == row["kib"].get<std::uint64_t>() * 1024);
    } else {
      // Our extensions: terabytes, small letters, fractions. A sign is an error here too.
      const bool ours = text == "4T" || text == "4g" || text == "1.5G";
      CHECK(size.has_value() == ours);
    }
  }
}
