// Paths and blockdev objects of what the kernel has: a volume of LVM, a LUN of its initiator. Nobody is asked for them.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/storage.hpp>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;

namespace {

template <class B>
void check_rows(const char* type, int least, typename B::Config (*read)(const json& scfg)) {
  int rows = 0;
  for (const json& row : testing::vectors("qemu_path")) {
    if (row.at("scfg").value("type", "") != type) continue;
    ++rows;
    INFO(row.dump());
    const auto storage = Storage<B>::open(*StorageId::parse(testing::text(row, "storeid")), read(row.at("scfg")),
                                          {.priv = "/nonexistent"});
    REQUIRE(storage);
    CHECK(storage->snapshot_method() == SnapshotMethod::storage);
    const VolumeName volume = *VolumeName::parse(testing::text(row, "volname"));
    CHECK(storage->path(volume).value() == row.at("path"));
    CHECK(json::parse(storage->blockdev(volume).value().to_json()) == row.at("blockdev"));
  }
  CHECK(rows >= least);
}

}  // namespace

TEST_CASE("path and blockdev of a thin volume are what QEMU gets from the reference") {
  check_rows<LvmThin>("lvmthin", 3, [](const json& scfg) {
    return LvmThinConfig{testing::text(scfg, "vgname"), testing::text(scfg, "thinpool")};
  });
}

TEST_CASE("path and blockdev of a kernel's LUN are what QEMU gets from the reference") {
  check_rows<OpenIscsi>("iscsi", 1, [](const json& scfg) {
    return OpenIscsiConfig{*Portal::parse(testing::text(scfg, "portal")), *Iqn::parse(testing::text(scfg, "target"))};
  });
}
