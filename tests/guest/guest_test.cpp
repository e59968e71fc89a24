// The guest itself: it is one, has a kernel that can do what the backends need, disks, real udev, iSCSI targets of two
// kinds, and a way to the Ceph cluster and to nothing else.

#define CATCH_CONFIG_EXTERNAL_INTERFACES  // the listener
#include <catch2/catch.hpp>

#include <sys/utsname.h>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "support/guest_lab.hpp"
#include "support/lab.hpp"

using namespace stowage::testing;

namespace {

/// Outside the guest no test of this program runs: it would work on this machine's own disks and sessions.
struct OnlyInTheGuest : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    if (std::getenv("STOWAGE_GUEST") != nullptr) return;  // NOLINT(concurrency-mt-unsafe)
    std::fputs("these tests run in the guest only: ctest -L guest, or tests/lab/guest test PROGRAM NAME\n", stderr);
    std::_Exit(EXIT_FAILURE);
  }
};
CATCH_REGISTER_LISTENER(OnlyInTheGuest)

std::string content(const std::string& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

bool has(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// One session with a target, ended with the test.
class Session {
 public:
  Session(const std::string& portal, std::string target) : target_{std::move(target)} {
    inside("iscsid start");
    sh("iscsiadm -m discovery -t sendtargets -p " + portal);
    sh("iscsiadm -m node -T " + target_ + " -p " + portal + " --login");
    sh("udevadm settle");
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { ask("iscsiadm -m node -T " + target_ + " --logout; iscsiadm -m node -T " + target_ + " -o delete"); }

  /// The by-path links of the target's LUNs, one a line.
  std::string links() const { return sh("ls /dev/disk/by-path | grep -F " + target_ + " || true"); }
  /// The kernel's name of a LUN's disk, such as sda.
  std::string disk(const std::string& portal, int lun) const {
    std::string path =
        sh("realpath /dev/disk/by-path/ip-" + portal + "-iscsi-" + target_ + "-lun-" + std::to_string(lun));
    return path.substr(5, path.size() - 6);
  }

 private:
  std::string target_;
};

}  // namespace

TEST_CASE("the guest has a kernel of its own on the host's root") {
  utsname name{};
  REQUIRE(::uname(&name) == 0);
  CHECK(std::string{name.nodename} == "stowage-guest");
  CHECK(has(content("/proc/mounts"), " / overlay "));
}

TEST_CASE("three scratch disks of 4 GiB, each with its link, empty when asked for") {
  for (int number : {1, 2, 3}) {
    const std::string disk = fresh_disk(number);
    CHECK(sh("blockdev --getsize64 " + disk) == "4294967296\n");
    sh("echo text | dd of=" + disk + " conv=notrunc,fsync status=none");
    CHECK(sh("head -c 4 " + disk) == "text");
    CHECK(sh("head -c 4096 " + fresh_disk(number) + " | tr -d '\\0' | wc -c") == "0\n");
  }
}

TEST_CASE("a thin pool, a volume, a snapshot, and udev's links to them") {
  const std::string disk = fresh_disk(1);
  sh("pvcreate -q " + disk + " && vgcreate -q smoke " + disk);
  sh("lvcreate -q -L 64M --type thin-pool -n pool smoke && lvcreate -q -V 16M --thinpool smoke/pool -n volume");
  sh("lvcreate -q -s -n snap smoke/volume");
  CHECK(sh("lvs --noheadings -o lv_name smoke | tr -d ' ' | sort | tr '\\n' ' '") == "pool snap volume ");
  CHECK(has(sh("readlink /dev/smoke/volume"), "../dm-"));
  CHECK(has(sh("lsmod"), "dm_thin_pool"));
  sh("vgremove -q -f smoke && pvremove -q " + disk);
}

TEST_CASE("the kernel has what the fault tests need") {
  for (const char* module : {"dm_flakey", "dm_delay", "dm_snapshot", "dm_multipath", "loop", "rbd", "dm_log_writes"}) {
    INFO(module);
    CHECK(ask(std::string{"modprobe "} + module).status == 0);
  }
}

TEST_CASE("LUNs of a private tgtd, with links of udev, and a portal that is cut off") {
  const Server target = Server::own_target("smoke", "--luns 2 --size 16");
  {
    const Session session{target["PORTAL"], target["IQN1"]};
    CHECK(has(session.links(), "-lun-1\n"));
    CHECK(has(session.links(), "-lun-2\n"));
    const std::string disk = session.disk(target["PORTAL"], 2);
    CHECK(content("/sys/block/" + disk + "/size") == "65536\n");
    CHECK(has(sh("ls -l /dev/disk/by-id"), "/" + disk + "\n"));
  }
  ShutPortal shut{target["PORTAL"], ShutPortal::How::refuse};
  const std::string connect = "timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + target["PORT"] + "'";
  CHECK(ask(connect).status == 1);
  shut.open();
  CHECK(ask(connect).status == 0);
  const ShutPortal cut{target["PORTAL"]};
  CHECK(ask(connect).status == 124);
}

TEST_CASE("LUNs of the kernel's own target: one grows, one is replaced, one goes") {
  const KernelTarget target{"smoke", "--luns 3 --size 16"};
  const Session session{target["PORTAL"], target["IQN1"]};
  const std::string second = session.disk(target["PORTAL"], 2);
  const auto rescan = [&] { sh("iscsiadm -m node -T " + target["IQN1"] + " --rescan && udevadm settle"); };
  const auto identity = [&] { return sh("/lib/udev/scsi_id -g -u /dev/" + second); };
  target.command("grow", "2 128");
  rescan();
  CHECK(content("/sys/block/" + second + "/size") == "262144\n");
  const std::string before = identity();
  target.command("replace", "2");
  CHECK(identity() != before);
  target.command("remove", "3");
  CHECK(ask("/lib/udev/scsi_id -g -u /dev/" + session.disk(target["PORTAL"], 3)).status != 0);
}

TEST_CASE("CHAP on the kernel's own target: only who knows the password comes in") {
  const KernelTarget target{"chap", "--luns 1 --chap stowage:initiator-pw1"};
  inside("iscsid start");
  sh("iscsiadm -m discovery -t sendtargets -p " + target["PORTAL"]);
  const std::string node = "iscsiadm -m node -T " + target["IQN1"] + " ";
  CHECK(ask(node + "--login").status == 24);
  for (const char* setting : {"authmethod -v CHAP", "username -v stowage", "password -v initiator-pw1"}) {
    sh(node + "-o update -n node.session.auth." + setting);
  }
  CHECK(ask(node + "--login").status == 0);
  CHECK(ask(node + "--logout").status == 0);
  sh(node + "-o delete");
}

TEST_CASE("a multipath device over two paths to one LUN, without multipathd") {
  const Server target = Server::own_target("paths", "--luns 1 --size 16 --portals 2");
  const std::string portals = target["PORTALS"];
  const std::string second = portals.substr(portals.find(' ') + 1);
  const Session one{target["PORTAL"], target["IQN1"]};
  const Session two{second, target["IQN1"]};
  const std::string disk = one.disk(target["PORTAL"], 1);
  std::string wwid = sh("/lib/udev/scsi_id -g -u /dev/" + disk);
  wwid.pop_back();
  inside("multipath mpatha " + wwid + " /dev/" + disk + " /dev/" + two.disk(second, 1));
  CHECK(has(sh("ls -l /dev/disk/by-id"), "dm-uuid-mpath-" + wwid));
  CHECK(has(sh("ls /sys/block/" + disk + "/holders"), "dm-"));
  sh("dmsetup remove --retry mpatha");
}

TEST_CASE("the kernel's rbd maps an image of the host's cluster, and bytes come back") {
  const std::string rbd = "rbd -c " + guest_variable("STOWAGE_GUEST_CEPH_CONF") + " ";
  sh(rbd + "create --size 8M --image-feature layering,exclusive-lock rbd/smoke");
  std::string device = sh(rbd + "map rbd/smoke 2>/dev/null");
  device.pop_back();
  sh("echo through the kernel | dd of=" + device + " conv=fsync status=none");
  CHECK(sh(rbd + "export --no-progress rbd/smoke - 2>/dev/null | head -c 18") == "through the kernel");
  sh(rbd + "unmap " + device);
  sh(rbd + "rm --no-progress rbd/smoke");
}

TEST_CASE("the guest reaches nothing outside but the cluster") {
  CHECK(ask("ping -c 1 -W 1 10.0.2.2").status != 0);
  for (const char* address : {"10.0.2.2/22", "10.0.2.3/53", "192.0.2.1/80"}) {
    INFO(address);
    CHECK(ask(std::string{"timeout 2 bash -c 'exec 3<>/dev/tcp/"} + address + "'").status != 0);
  }
}

// For tests/guest/promises, which looks at what becomes of a test that does not end.
TEST_CASE("a thin pool that is full holds its writer for ever", "[.hang]") {
  const std::string disk = fresh_disk(2);
  sh("pvcreate -q " + disk + " && vgcreate -q stuck " + disk);
  sh("lvcreate -q -L 16M --type thin-pool -n pool stuck && lvcreate -q -V 64M --thinpool stuck/pool -n volume");
  ask("dd if=/dev/urandom of=/dev/stuck/volume bs=1M oflag=direct");
  FAIL("the pool took 64 MiB");
}
