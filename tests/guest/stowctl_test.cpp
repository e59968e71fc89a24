// stowctl on the storages of the kernel: a thin pool, and one that stands on a LUN of an iSCSI target.

#include <fstream>
#include <string>

#include "support/lvm_lab.hpp"
#include "support/open_iscsi_lab.hpp"
#include "support/stowctl.hpp"

using namespace stowage::testing;

namespace {

std::string thin_section(const std::string& id, const std::string& vg) {
  return "lvmthin: " + id + "\n\tvgname " + vg + "\n\tthinpool pool\n\n";
}

/// Allocates, fills, goes back, clones, and frees: what is read is what was written.
void live(const Stowctl& stowctl) {
  CHECK(stowctl.ask({"activate", "thin"}) == json{{"active", true}});
  const std::string volid = stowctl.ask({"alloc", "thin", "100", "", "64M"})["volid"];
  CHECK(volid == "thin:vm-100-disk-0");
  const std::string device = stowctl.ask({"path", volid})["path"];
  CHECK(stowctl.ask({"blockdev", volid}) == json{{"driver", "host_device"}, {"filename", device}});
  const auto fill = [&](const std::string& letter) {
    sh("yes " + letter + " | dd of=" + device + " bs=64k count=16 iflag=fullblock oflag=direct status=none");
  };
  const auto first = [&](const std::string& volume) {
    stowctl.ask({"activate", volume});
    return sh("dd if=" + stowctl.ask({"path", volume})["path"].get<std::string>() + " bs=512 count=1 status=none")
        .at(0);
  };
  fill("a");
  const json extents = stowctl.ask({"extents", volid});
  REQUIRE(extents.size() == 2);
  CHECK(extents[0] == json{{"offset", 0}, {"length", 1 << 20}, {"allocated", true}});
  CHECK(extents[1]["allocated"] == false);
  stowctl.ask({"snapshot", volid, "before"});
  fill("b");
  CHECK(stowctl.ask({"snapshots", volid}).size() == 1);
  const std::string clone = stowctl.ask({"clone", volid, "101", "--snapshot", "before"})["volid"];
  CHECK(clone == "thin:vm-101-disk-0");
  CHECK(first(volid) == 'b');
  stowctl.ask({"activate", volid, "--snapshot", "before"});
  const std::string frozen = stowctl.ask({"path", volid, "--snapshot", "before"})["path"];
  CHECK(sh("dd if=" + frozen + " bs=512 count=1 status=none").at(0) == 'a');
  stowctl.ask({"deactivate", volid, "--snapshot", "before"});
  {
    const std::ifstream user{device};
    stowctl.refused(7, {"rollback", volid, "before"});
    stowctl.ask({"--yes", "rollback", volid, "before", "--at-next-activation"});
  }
  CHECK(stowctl.ask({"info", volid})["pending"] == "rollback");
  CHECK(first(volid) == 'b');
  stowctl.ask({"deactivate", volid});
  CHECK(first(volid) == 'a');
  CHECK(first(clone) == 'a');
  CHECK(stowctl.ask({"resize", volid, "+64M"})["size"] == 128 << 20);
  const json listed = stowctl.ask({"list", "thin"});
  REQUIRE(listed.size() == 2);
  CHECK(listed[0]["size"] == 128 << 20);
  CHECK(listed[1]["parent"].dump().find("before") != std::string::npos);
  const json status = stowctl.ask({"status", "thin"});
  CHECK(status[0]["status"] == "active");
  CHECK(status[0]["used"].get<std::uint64_t>() > 0);
  CHECK(status[0]["metadata_used"].get<std::uint64_t>() > 0);
  stowctl.refused(7, {"free", volid});  // its snapshot stands in the way
  stowctl.ask({"--yes", "free", volid, "--snapshots"});
  stowctl.ask({"--yes", "free", clone});
  CHECK(stowctl.ask({"check", "thin"}) == json::array());
}

}  // namespace

TEST_CASE("stowctl on a thin pool: the life of a volume") {
  const LvmLab lab;
  const Stowctl stowctl{thin_section("thin", lab.vg())};
  const json pools = stowctl.ask({"scan", "lvmthin", lab.vg()});
  REQUIRE(pools.size() == 1);
  CHECK(pools[0]["lv"] == "pool");
  CHECK(pools[0]["lv_size"] == 1 << 30);
  CHECK(pools[0]["metadata_size"].get<std::uint64_t>() > 0);
  live(stowctl);
}

TEST_CASE("stowctl: a package that is missing is told in one line, by its name") {
  const Stowctl stowctl{"iscsi: san\n\tportal 127.0.0.1\n\ttarget iqn.2026-11.lab.local:t1\n\tcontent none\n\n" +
                        thin_section("thin", "nowhere")};
  const auto without_tools = [&](const std::string& command) {
    return ask("STOWAGE_CONFIG=" + stowctl.file("storage.cfg") +
               " unshare -m sh -c 'mount -t tmpfs none /usr/sbin && exec " STOWAGE_TEST_STOWCTL " " + command + "'");
  };
  for (const auto& [command, package] : {std::pair{"activate san", "open-iscsi"}, {"list thin", "lvm2"}}) {
    const Said said = without_tools(command);
    CAPTURE(command, said.text);
    CHECK(said.status == 6);
    CHECK(said.text.find('\n') == said.text.size() - 1);
    CHECK(said.text.find(package) != std::string::npos);
  }
}

TEST_CASE("stowctl on a thin pool that stands on a LUN") {
  const Server target = Server::own_target("stowctl", "--luns 1 --size 512 --thin");
  inside("iscsid start");
  const Stowctl stowctl{"iscsi: san\n\tportal " + target["PORTAL"] + "\n\ttarget " + target["IQN1"] +
                        "\n\tcontent none\n\n" + thin_section("thin", "onlun")};
  const json found = stowctl.ask({"scan", "iscsi", target["PORTAL"]});
  REQUIRE(found.size() == 1);
  CHECK(found[0]["target"] == target["IQN1"]);
  stowctl.refused(6, {"list", "san"});  // a listing does not log in
  CHECK(stowctl.ask({"--timeout", "30", "activate", "san"}) == json{{"active", true}});
  const json luns = stowctl.ask({"list", "san"});
  REQUIRE(luns.size() == 1);
  const std::string lun = luns[0]["volid"];
  stowctl.ask({"activate", lun});
  const std::string disk = stowctl.ask({"path", lun})["path"];
  sh("pvcreate -qq -y " + disk + " && vgcreate -qq -y onlun " + disk +
     " && lvcreate -qq -y --type thin-pool -n pool -L 384M onlun");
  live(stowctl);
  const json refused = stowctl.refused(7, {"deactivate", "san"});  // the pool stands on it
  CHECK(refused.dump().find("onlun") != std::string::npos);
  stowctl.ask({"deactivate", "thin"});
  sh("vgchange -qq -an onlun");
  CHECK(stowctl.ask({"deactivate", "san"}) == json{{"active", false}});
}
