// The example that takes a kernel: it does what its head says, on a real LUN.

#include <string>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

TEST_CASE("example lvm_on_iscsi: tells where to make the pool, and then works in it") {
  const Server target = Server::own_target("example", "--luns 1 --size 512 --thin --iqn iqn.2026-11.lab.example");
  const KernelSan san{target["PORTAL"], target["IQN1"]};  // leaves the target, whatever becomes of the example
  const std::string run = STOWAGE_TEST_LVM_ON_ISCSI " " + target["PORTAL"] + " " + target["IQN1"] + " onexample pool";
  const Said first = ask(run);
  INFO(first.text);
  REQUIRE(first.status == 1);
  const std::string lun = first.text.substr(0, first.text.find('\n') + 1);
  const std::string path = lun.substr(0, lun.find(' '));
  CHECK(path.starts_with("/dev/disk/by-id/scsi-3"));
  CHECK(lun == path + " 512M\n");
  CHECK(first.text.find("onexample", lun.size()) != std::string::npos);  // which is not there

  sh("vgcreate -qq -y onexample " + path + " && lvcreate -qq -y --type thin-pool -L 384M -n pool onexample");
  const Said second = ask(run);
  INFO(second.text);
  REQUIRE(second.status == 0);
  const std::string disk = lun + "/dev/onexample/vm-100-disk-0\n";
  REQUIRE(second.text.starts_with(disk));
  const std::string refused = second.text.substr(disk.size());
  CHECK(refused.find("LVM onexample-pool") != std::string::npos);
  CHECK(refused.find('\n') == refused.size() - 1);
  CHECK(ask("iscsiadm -m session").status == 21);
}
