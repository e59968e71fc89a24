// What parsing takes: some copies of the text, and an error about it no more than a page, however long the text is.

#include <stowage/core/bytes.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/net.hpp>
#include <stowage/names.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/allocations.hpp"

using namespace stowage;

namespace {

/// Of an error: the sentence that it is, and the beginning of the text, each built in some steps.
constexpr std::uint64_t fixed = 6144;
/// Of a value: a portal keeps what was written, and its parts; a volume's parts are copied once more. Each copy may be
/// made from a string that has grown.
constexpr std::uint64_t copies = 6;

struct Parser {
  const char* name;
  std::function<bool(std::string_view)> parse;
};

template <class T>
Parser parser(const char* name) {
  return {name, [](std::string_view text) { return T::parse(text).has_value(); }};
}

/// All that take a text from outside. The name of a volume is parsed as such before it is taken apart.
const std::vector<Parser>& parsers() {
  static const std::vector<Parser> all = [] {
    std::vector<Parser> made{parser<StorageId>("StorageId"), parser<VolumeName>("VolumeName"),
                             parser<VolumeId>("VolumeId"),   parser<SnapshotName>("SnapshotName"),
                             parser<VmId>("VmId"),           parser<Bytes>("Bytes"),
                             parser<Portal>("Portal"),       parser<Iqn>("Iqn")};
    for (const StorageType type :
         {StorageType::lvmthin, StorageType::iscsi, StorageType::iscsidirect, StorageType::rbd}) {
      made.push_back({"parse_volume_name", [type](std::string_view text) {
                        const auto name = VolumeName::parse(text);
                        return name && parse_volume_name(type, *name);
                      }});
    }
    made.push_back({"check_new_snapshot_name", [](std::string_view text) {
                      const auto name = SnapshotName::parse(text);
                      return name && check_new_snapshot_name(*name);
                    }});
    made.push_back({"Portal::port_or", [](std::string_view text) {
                      const auto portal = Portal::parse(text);
                      return portal && portal->port_or(3260);
                    }});
    return made;
  }();
  return all;
}

/// Bytes asked for, and whether it parsed.
std::pair<std::uint64_t, bool> cost(const Parser& parser, std::string_view text) {
  const std::uint64_t before = testing::allocated_bytes();
  const bool good = parser.parse(text);
  return {testing::allocated_bytes() - before, good};
}

/// Texts that are right, for one parser or another, and as long as asked for.
std::vector<std::string> long_texts(std::size_t size) {
  const std::string rest(size, 'x');
  const std::string digits(size, '1');
  return {rest,
          "vm-100-" + rest,
          "base-100-" + rest + "/vm-101-" + rest,
          "store:vm-100-" + rest,
          rest + ":" + rest,
          "0.0.1." + rest,
          "lun" + digits,
          digits,
          digits + "G",
          "1." + digits + "G",
          rest + ".example:3260",
          "[" + rest + "]:" + digits,
          "iqn.2003-01.org.example:" + rest,
          rest + "\n",
          "\n" + rest,
          "[" + rest,
          rest + "/@",
          std::string(size, '\xc3')};
}

}  // namespace

TEST_CASE("parsing takes no more memory than some copies of its text") {
  std::size_t parsed = 0;
  for (const std::size_t size : {std::size_t{1}, std::size_t{20}, std::size_t{1000}, std::size_t{1} << 20U}) {
    for (const std::string& text : long_texts(size)) {
      for (const Parser& parser : parsers()) {
        CAPTURE(parser.name, size, text.substr(0, 30));
        const auto [bytes, good] = cost(parser, text);
        parsed += good ? 1 : 0;
        CHECK(bytes <= fixed + copies * text.size());
      }
    }
  }
  CHECK(parsed > 100);
}

TEST_CASE("an error about a text takes no more memory than a short text does, however long it is") {
  const std::string page(1U << 20U, '!');
  for (const char* begin : {"\n", "\x7f", "", ":", "[", "vm-", "1.", "lun"}) {
    const std::string text = begin + page + "\n";
    for (const Parser& parser : parsers()) {
      CAPTURE(parser.name, begin);
      const auto [bytes, good] = cost(parser, text);
      CHECK_FALSE(good);
      CHECK(bytes <= fixed);
    }
  }
}

TEST_CASE("any text costs no parser more than that, and none of them throws") {
  CHECK(rc::check([](const std::string& text) {
    for (const Parser& parser : parsers()) RC_ASSERT(cost(parser, text).first <= fixed + copies * text.size());
  }));
}

TEST_CASE("an error shows a text of 200 bytes whole, and of a longer one the beginning, in whole characters") {
  const std::string whole(200, '!');
  CHECK(StorageId::parse(whole).error().detail().ends_with(": '" + whole + "'"));
  CHECK(StorageId::parse(whole + "!").error().detail().ends_with(": '" + whole + "...', 201 bytes"));
  CHECK(detail::quoted(std::string(199, '!') + "\xc3\xa4!") == "'" + std::string(199, '!') + "...', 202 bytes");
  CHECK(detail::quoted(std::string(197, '!') + "\xf0\x9f\x92\xbe!") == "'" + std::string(197, '!') + "...', 202 bytes");
  CHECK(detail::quoted(std::string(300, '\x80')).size() > 190);  // no UTF-8, so no characters
  CHECK(Bytes::parse(std::string(300, '1')).error().detail().size() < 300);
}
