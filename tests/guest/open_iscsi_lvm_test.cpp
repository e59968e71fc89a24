// The composition of the manual: LUNs from `iscsi` with `content none`, and a thin pool on one of them.

#include <stowage/backends/lvm_thin.hpp>

#include <string>
#include <vector>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

/// A volume group with a thin pool of 64 MiB, on `device`.
Storage<LvmThin> make_pool(const std::string& vg, const std::string& device) {
  sh("vgcreate -q " + vg + " " + device + " && lvcreate -q -Zn -L 64M --type thin-pool -n pool " + vg);
  auto pool = must(Storage<LvmThin>::open(must(StorageId::parse("pool")), {.vgname = vg, .thinpool = "pool"},
                                          OpenOptions{.timeout = 30s}));
  must(pool.activate());
  return pool;
}

}  // namespace

TEST_CASE("OpenIscsi below LvmThin: up from the LUN, down from the volume") {
  const Server target = Server::own_target("compose", "--luns 1 --size 128 --thin --iqn iqn.2026-11.lab.compose");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const VolumeName lun = san.volume(1);
  must(san->activate(lun));
  auto pool = make_pool("composed", must(san->path(lun)));
  const VolumeName disk = must(pool.create({.vmid = VmId{100}, .size = 256_MiB}));
  {
    auto device = must(pool.open_volume(disk, Access::read_write));
    must(device.write_at(1_MiB, pattern(1, 65536)));
    must(device.close());
  }
  const Error used = refusal_of(san->deactivate(), Errc::in_use);
  CHECK(used.detail().find("is in use by: LVM composed-") != std::string::npos);
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

TEST_CASE("OpenIscsi below LvmThin: of a LUN with two paths LVM uses the multipath device, and no path beneath it") {
  // tgtd's, for LVM of this machine would see the loop device behind a LUN of the kernel's target as one path more.
  const Server target =
      Server::own_target("layers", "--luns 1 --size 128 --thin --portals 2 --iqn iqn.2026-11.lab.layers");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  // tgtd tells of the portal only that it is asked at: the other one is known from its record.
  const std::string portals = target["PORTALS"];
  sh("iscsiadm -m node -o new -T " + target["IQN1"] + " -p " + portals.substr(portals.find(' ') + 1) + ",1");
  must(san->activate());
  const VolumeName lun = san.volume(1);
  std::vector<std::string> disks;
  const auto make_map = [&] {
    disks.clear();
    std::string devices;
    for (const IscsiPath& path : must(san->backend().paths())) disks.push_back(path.luns.at(0).device);
    for (const std::string& disk : disks) devices += " /dev/" + disk;
    REQUIRE(disks.size() == 2);
    inside("multipath layers " + must(san->info(lun)).identity + devices);
  };
  make_map();
  must(san->activate(lun));
  auto pool = make_pool("layered", "/dev/mapper/layers");
  const VolumeName disk = must(pool.create({.vmid = VmId{100}, .size = 64_MiB}));
  auto device = must(pool.open_volume(disk, Access::read_write));
  must(device.write_at(1_MiB, pattern(1, 65536)));
  must(device.flush());

  const std::string map = sh("basename $(realpath /dev/mapper/layers)");
  for (const std::string& path : disks) CHECK(sh("ls /sys/block/" + path + "/holders") == map);
  CHECK(sh("dmsetup deps -o devname layered-pool_tdata").find(": (layers)") != std::string::npos);
  const std::string ours = " --config '" + stowage::detail::lvm_settings("layered") + "'";
  for (const std::string& config : {std::string{}, ours}) {
    CHECK(sh("pvs --noheadings -o pv_name" + config + " 2>/dev/null | tr -d ' '") == "/dev/mapper/layers\n");
  }
  const Error used = refusal_of(san->deactivate(), Errc::in_use);
  CHECK(used.detail().find("LVM layered-pool_tdata on dm-") != std::string::npos);

  // One path fails: the other one does.
  sh("dmsetup message layers 0 fail_path $(cat /sys/block/" + disks[0] + "/dev)");
  std::vector<std::byte> seen(65536);
  must(device.read_at(1_MiB, seen));
  CHECK(seen == pattern(1, 65536));
  must(device.write_at(2_MiB, pattern(2, 65536)));
  must(device.close());
  must(pool.deactivate());
  sh("dmsetup remove --retry layers");
  must(san->deactivate());

  // Up again. Without its map, the LUN is two disks with one identity: LVM takes neither.
  must(san->activate());
  refused(pool.activate(), Errc::unavailable);
  make_map();
  must(pool.activate());
  auto again = must(pool.open_volume(disk, Access::read_only));
  must(again.read_at(2_MiB, seen));
  CHECK(seen == pattern(2, 65536));
  must(again.close());
  sh("vgremove -q -f layered && dmsetup remove --retry layers");
}
