// A thin pool on a LUN: the `iscsi` storage (with `content none`) brings the LUN, `lvmthin` makes volumes in the pool
// on it.
//   example_lvm_on_iscsi PORTAL TARGET VG POOL
// Without the volume group it only tells where to make it:
//   vgcreate VG PATH && lvcreate --type thin-pool -L SIZE -n POOL VG
#include <cstdio>
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/stowage.hpp>

using namespace stowage;

/// Up from the bottom: sessions, then the pool on the LUN. Down from the top.
Result<void> work_on(Storage<OpenIscsi>& san, Storage<LvmThin>& pool) {
  if (auto up = san.activate(); !up) return up;
  const auto luns = san.list();
  if (!luns) return fail(luns.error());
  for (const VolumeInfo& lun : *luns) {
    if (auto there = san.activate(lun.name); !there) return there;  // it is the LUN that it was
    std::printf("%s %s\n", san.path(lun.name)->c_str(), to_string(lun.size).c_str());
  }
  if (auto up = pool.activate(); !up) return up;
  const auto disk = pool.create({.vmid = VmId{100}, .size = 1_GiB});
  if (!disk) return fail(disk.error());
  std::printf("%s\n", pool.path(*disk)->c_str());
  if (auto gone = pool.remove(*disk); !gone) return gone;
  // While the pool is active, the SAN says who uses the LUN.
  if (const auto refused = san.deactivate(); !refused) std::printf("%s\n", refused.error().message().c_str());
  if (auto down = pool.deactivate(); !down) return down;
  return san.deactivate();
}

int main(int argc, char** argv) {
  if (argc != 5) {
    std::puts("usage: example_lvm_on_iscsi PORTAL TARGET VG POOL");
    return 2;
  }
  const auto portal = Portal::parse(argv[1]);
  const auto target = Iqn::parse(argv[2]);
  if (!portal || !target) return 2;
  OpenIscsiConfig config{*portal, *target};
  config.common.content = {Content::none};
  auto san = Storage<OpenIscsi>::open(*StorageId::parse("san"), config);
  auto pool = Storage<LvmThin>::open(*StorageId::parse("pool"), {.vgname = argv[3], .thinpool = argv[4]});
  if (!san || !pool) return 2;
  const auto done = work_on(*san, *pool);
  if (!done) std::printf("%s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
