#include <stowage/core/ids.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;

TEST_CASE("storage ids are those of the reference") {
  for (const auto& row : testing::vectors("storage_id")) {
    const std::string text = testing::text(row, "id");
    CAPTURE(text);
    const bool good = !row.contains("error") && !row.contains("defect");  // "local\n" is refused
    const auto id = StorageId::parse(text);
    REQUIRE(id.has_value() == good);
    if (id) {
      CHECK(id->str() == text);
    } else {
      CHECK(id.error().code() == Errc::parse_failed);
      CHECK(id.error().detail().find(text) != std::string::npos);
    }
  }
  CHECK(StorageId::parse(std::string(300, 'x')));
  CHECK(*StorageId::parse("Ceph") != *StorageId::parse("ceph"));
  for (const char* text : {"9a", "_a", "-a", "a:b", "a/b", "ä9", "\nab"}) CHECK_FALSE(StorageId::parse(text));
  CHECK_FALSE(StorageId::parse(std::string_view{"a\0b", 3}));
}

TEST_CASE("volume ids are those of the reference") {
  for (const auto& row : testing::vectors("volid")) {
    const std::string text = testing::text(row, "volid");
    CAPTURE(text);
    const auto id = VolumeId::parse(text);
    REQUIRE(id.has_value() == !row.contains("error"));
    if (id) {
      CHECK(id->storage.str() == testing::text(row, "storeid"));
      CHECK(id->volume.str() == testing::text(row, "volname"));
      CHECK(id->str() == text);
    } else {
      CHECK(id.error().code() == Errc::parse_failed);
      CHECK(id.error().detail().find(text) != std::string::npos);
    }
  }
  for (const char* text : {"", ":", "ab", "ab:", ":x", "ab:x\ny", "ab:x\x7f"}) CHECK_FALSE(VolumeId::parse(text));
}

TEST_CASE("a volume id that parses is written back as it was") {
  CHECK(rc::check([](const std::string& volume) {
    const std::string text = "ceph:" + volume;
    if (const auto id = VolumeId::parse(text)) RC_ASSERT(id->str() == text);
  }));
}

TEST_CASE("volume and snapshot names are any text without control characters") {
  for (const char* text : {"vm-100-disk-0", "__base__", "csi vol", "a:b/c@d", "\xc3\xa4", "0"}) {
    CHECK(VolumeName::parse(text)->str() == text);
    CHECK(SnapshotName::parse(text)->str() == text);
  }
  for (const std::string& text : {std::string{}, std::string{"a\nb"}, std::string{"\t"}, std::string{"a\0", 2},
                                  std::string{"a\x7f"}, std::string{"\x1b[0m"}}) {
    CHECK_FALSE(VolumeName::parse(text));
    CHECK_FALSE(SnapshotName::parse(text));
  }
}

TEST_CASE("parsing tells where it was called") {
  const unsigned line = __LINE__ + 1;
  const auto id = StorageId::parse("x");
  REQUIRE_FALSE(id);
  CHECK(id.error().where().line == line);
}

TEST_CASE("guests have numbers from 100 to 999999999") {
  CHECK(VmId::parse("100")->number() == 100);
  CHECK(VmId::parse("999999999")->number() == 999'999'999);
  CHECK(to_string(VmId{4711}) == "4711");
  for (const char* text : {"", "99", "0", "0100", "1000000000", "-100", "+100", "1e3", " 100", "100 ", "0x64",
                           "99999999999999999999999"}) {
    CAPTURE(text);
    const auto vmid = VmId::parse(text);
    REQUIRE_FALSE(vmid);
    CHECK(vmid.error().code() == Errc::parse_failed);
  }
}
