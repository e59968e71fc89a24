// The composition of the manual: LUNs from `iscsi` with `content none`, and a thin pool on one of them.

#include <stowage/backends/lvm_thin.hpp>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

TEST_CASE("OpenIscsi below LvmThin: up from the LUN, down from the volume") {
  const Server target = Server::own_target("compose", "--luns 1 --size 128 --thin --iqn iqn.2026-11.lab.compose");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const VolumeName lun = san.volume(1);
  must(san->activate(lun));
  sh("vgcreate -q composed " + must(san->path(lun)) + " && lvcreate -q -Zn -L 64M --type thin-pool -n pool composed");

  auto pool = must(Storage<LvmThin>::open(must(StorageId::parse("pool")), {.vgname = "composed", .thinpool = "pool"},
                                          OpenOptions{.timeout = 30s}));
  must(pool.activate());
  const VolumeName disk = must(pool.create({.vmid = VmId{100}, .size = 256_MiB}));
  {
    auto device = must(pool.open_volume(disk, Access::read_write));
    must(device.write_at(1_MiB, pattern(1, 65536)));
    must(device.close());
  }
  const Error used = refusal_of(san->deactivate(), Errc::in_use);
  CHECK(used.detail().find("LVM composed-") != std::string::npos);
  CHECK(san.volume(1) == lun);  // what is on a LUN does not change its name
  must(pool.deactivate());
  must(san->deactivate());

  must(san->activate());
  must(san->activate(lun));
  must(pool.activate());
  must(pool.activate(disk));
  std::vector<std::byte> seen(65536);
  auto device = must(pool.open_volume(disk, Access::read_only));
  must(device.read_at(1_MiB, seen));
  CHECK(seen == pattern(1, 65536));
  must(device.close());
  sh("vgremove -q -f composed");
}
