#include <stowage/features.hpp>

#include <catch2/catch.hpp>
#include <stowage/names.hpp>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;

namespace {

Capability capability(const std::string& text) {
  for (unsigned i = 0; i < static_cast<unsigned>(Capability::count_); ++i) {
    if (name(static_cast<Capability>(i)) == text) return static_cast<Capability>(i);
  }
  FAIL("no capability is called " << text);
  return Capability::count_;
}

}  // namespace

TEST_CASE("a volume has a feature where the reference says so") {
  for (const auto& row : testing::vectors("volume_has_feature")) {
    CAPTURE(row.dump());
    const Features* features = find_features(testing::text(row, "type"));
    REQUIRE(features != nullptr);
    const auto parts = parse_volume_name(features->type, *VolumeName::parse(testing::text(row, "volname")));
    REQUIRE(parts);
    const State state = row["snap"].is_null() ? parts->state() : State::snapshot;
    CHECK(features->can.has(capability(testing::text(row, "feature")), state) == row["result"].get<bool>());
  }
}

TEST_CASE("rows are found by the name in storage.cfg") {
  CHECK(find_features("lvmthin") == &lvm_thin_row);
  CHECK(find_features("iscsi") == &open_iscsi_row);
  CHECK(find_features("iscsidirect") == &iscsi_direct_row);
  CHECK(find_features("rbd") == &rbd_row);
  for (const char* text : {"", "lvm", "RBD", "dir", "zfspool", "rbd "}) CHECK(find_features(text) == nullptr);
}

TEST_CASE("the words of JSON and storage.cfg") {
  CHECK(name(Capability::make_template) == "template");
  CHECK(name(Capability::sparse_init) == "sparseinit");
  CHECK(name(Capability::import) == "import");
  CHECK(name(Content::rootdir) == "rootdir");
  CHECK(name(Format::raw) == "raw");
  CHECK(name(State::snapshot) == "snapshot");
}

TEST_CASE("a flag set holds what was put in") {
  FlagSet<State> set{State::base};
  CHECK(set.has(State::base));
  CHECK_FALSE(set.has(State::current));
  set.insert(State::current);
  CHECK(set == FlagSet<State>{State::current, State::base});
  CHECK(FlagSet<State>{}.empty());
}
