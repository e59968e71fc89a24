// What IscsiDirect says without asking anybody: paths, blockdev objects, and who takes snapshots.

#include <catch2/catch.hpp>

#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/storage.hpp>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;

TEST_CASE("path and blockdev of a LUN are what QEMU gets from the reference") {
  int rows = 0;
  for (const json& row : testing::vectors("qemu_path")) {
    const json& scfg = row.at("scfg");
    if (scfg.value("type", "") != "iscsidirect") continue;
    ++rows;
    INFO(row.dump());
    const IscsiDirectConfig config{.portal = *Portal::parse(testing::text(scfg, "portal")),
                                   .target = *Iqn::parse(testing::text(scfg, "target"))};
    const StorageId id = *StorageId::parse(testing::text(row, "storeid"));
    const auto storage = Storage<IscsiDirect>::open(id, config, {.priv = "/nonexistent"});
    REQUIRE(storage);
    CHECK(storage->snapshot_method() == SnapshotMethod::storage);
    const VolumeName lun = *VolumeName::parse(testing::text(row, "volname"));
    if (!testing::text(row, "snapname").empty()) continue;  // refused by the compiler: tests/must_fail
    CHECK(storage->path(lun).value() == row.at("path"));
    CHECK(json::parse(storage->blockdev(lun).value().to_json()) == row.at("blockdev"));
  }
  CHECK(rows >= 3);
}
