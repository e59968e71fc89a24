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

TEST_CASE("streams go out and come in where the reference says so, and of snapshots where they can be read") {
  for (const auto& row : testing::vectors("export_import_formats")) {
    CAPTURE(row.dump());
    const Features* features = find_features(testing::text(row, "type"));
    REQUIRE(features != nullptr);
    // Neither the difference to a snapshot nor a volume with its snapshots has a format.
    const bool whole = row["base"].is_null() && row["with_snapshots"] == 0;
    const bool snapshot = !row["snapshot"].is_null();
    const bool goes_out = whole && features->can.has(Capability::copy, snapshot ? State::snapshot : State::current);
    // The reference exports no snapshot of an lvmthin volume; its bytes can be read all the same.
    const bool ours_alone = snapshot && whole && features->type == StorageType::lvmthin;
    CHECK(goes_out == (ours_alone || row["export"] == nlohmann::json{"raw+size"}));
    CHECK((whole && features->can.has(Capability::import)) == (row["import"] == nlohmann::json{"raw+size"}));
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
