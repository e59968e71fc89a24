// Who uses a device, on a kernel that is made of files; and on this one, what needs no device.

#include <catch2/catch.hpp>

#include <unistd.h>
#include <array>
#include <stowage/io/kernel_files.hpp>
#include <stowage/io/kernel_users.hpp>
#include <string>
#include <vector>

#include "support/open_iscsi_tree.hpp"

using namespace stowage::detail;
using stowage::testing::FakeHost;
using Users = std::vector<std::string>;

namespace {

Users users(const FakeHost& host, const std::string& device) {
  return device_users(host.host().kernel, std::array{device});
}

}  // namespace

TEST_CASE("files of the kernel") {
  const FakeHost host;
  CHECK(names_in(host.at("nowhere")).empty());
  host.put("folder/b", "");
  host.put("folder/.a", "");
  CHECK(names_in(host.at("folder")) == Users{".a", "b"});
  host.put("text", "a name \n");
  CHECK(attribute(host.at("text")) == "a name ");  // only the end of the line is not part of it
  CHECK(read_attribute(host.at("text")) == "a name \n");
  CHECK(attribute(host.at("nowhere")).empty());
  CHECK(attribute(host.at("folder")).empty());
  host.put("long", std::string(100'000, 'x'));
  CHECK(attribute(host.at("long")).size() == 100'000);
  host.link("link", "../../sdb");
  CHECK(link_name(host.at("link")) == "sdb");
  CHECK(link_name(host.at("text")).empty());
  CHECK(number_text(makedev(252, 17)) == "252:17");
  CHECK(block_name({}, "/dev/null").empty());  // no block device
  CHECK(block_name({}, "/nowhere").empty());
}

TEST_CASE("mounts") {
  const std::string mountinfo =
      "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
      "40 22 8:17 / /srv/with\\040blank rw shared:1 - ext4 /dev/sdb1 rw\n"
      "41 22 8:1 / /no rw - ext4 /dev/sda1 rw\n"
      "8:17\n\ngarbage\n";
  CHECK(mounts_of(mountinfo, "8:17") == Users{"/srv/with\\040blank"});
  CHECK(mounts_of(mountinfo, "8:18").empty());
  CHECK(mounts_of(mountinfo, "").empty());
  CHECK(mounts_of("", "8:17").empty());
}

TEST_CASE("what stands on a device and on its partitions") {
  const FakeHost host;
  host.block("sdb", 1 << 20);
  CHECK(users(host, "sdb").empty());
  CHECK(users(host, "sdz").empty());
  CHECK(device_users(host.host().kernel, {}).empty());
  host.mapper("dm-1", "vg-root", "LVM-abc", {"sdb"}, 1 << 20);
  host.mapper("dm-2", "secret", "CRYPT-LUKS2-x", {"sdb"}, 1 << 20);
  host.put("sys/block/sdb/sdb1/partition", "1\n");
  host.put("sys/block/sdb/sdb1/dev", "8:17\n");
  host.put("sys/block/sdb/sdb1/holders/md0", "");
  host.put("sys/block/sdb/queue/dev", "8:18\n");  // no partition
  host.put("proc/self/mountinfo",
           "40 22 8:17 / /srv/a\\040b rw - ext4 /dev/sdb1 rw\n"
           "41 22 8:170 / /other rw - ext4 /dev/x rw\n"
           "42 22 8:18 / /queue rw - ext4 /dev/x rw\n");
  host.put("proc/swaps", "Filename Type\n" + host.at("dev/sdb1") + " partition 1 0 -2\n" + host.at("dev/sdb12") +
                             " partition 1 0 -2\n" + host.at("dev/sdb") + " file 1 0 -2\n");
  CHECK(users(host, "sdb") == Users{"LVM vg-root on sdb", "/dev/mapper/secret on sdb", "sdb1 mounted on /srv/a\\040b",
                                    "swap on sdb1", "md0 on sdb1"});
}

TEST_CASE("multipath is another way to a device, and its users are those of the device") {
  const FakeHost host;
  for (const char* path : {"sda", "sdb"}) host.block(path, 1 << 20);
  host.mapper("dm-0", "mpatha", "mpath-36000", {"sda", "sdb"}, 1 << 20);
  CHECK(users(host, "sda").empty());
  host.mapper("dm-1", "mpatha-part1", "part1-mpath-36000", {"dm-0"}, 1 << 20);
  CHECK(users(host, "sda").empty());
  host.mapper("dm-2", "vg-root", "LVM-abc", {"dm-1"}, 1 << 20);
  CHECK(users(host, "sda") == Users{"LVM vg-root on dm-1"});
  host.process(7, "qemu", "dm-0");
  CHECK(device_users(host.host().kernel, std::array<std::string, 2>{"sda", "sdb"}) ==
        Users{"LVM vg-root on dm-1", "process 7 (qemu)"});
}

TEST_CASE("a loop device over a device is its user, and so are the users of that") {
  const FakeHost host;
  for (const char* device : {"sdb", "sdc", "loop0", "loop1", "loop2", "loop3", "loop11"}) host.block(device, 1 << 20);
  const auto over = [&](const std::string& loop, const std::string& file) {
    host.put("sys/block/" + loop + "/loop/backing_file", file + "\n");
  };
  CHECK(users(host, "sdb").empty());  // loop devices over nothing
  over("loop1", host.at("dev/sdc"));
  over("loop2", "/srv/image");
  CHECK(users(host, "sdb").empty());
  CHECK(users(host, "sdc") == Users{"loop1 on sdc"});
  over("loop0", host.at("dev/sdb"));
  host.put("sys/block/loop0/loop0p1/partition", "1\n");
  host.put("sys/block/loop0/loop0p1/dev", "259:3\n");
  host.put("proc/self/mountinfo", "40 22 259:3 / /srv rw - ext4 /dev/loop0p1 rw\n");
  CHECK(users(host, "sdb") == Users{"loop0 on sdb", "loop0p1 mounted on /srv"});
  // a loop device over a partition, and one over that; its node was removed and the kernel says so
  host.put("sys/block/sdb/sdb1/partition", "1\n");
  host.put("sys/block/sdb/sdb1/dev", "8:17\n");
  over("loop0", "/srv/image");
  over("loop11", host.at("dev/sdb1"));
  over("loop3", host.at("dev/loop11 (deleted)"));
  host.mapper("dm-1", "vg-root", "LVM-abc", {"loop3"}, 1 << 20);
  host.process(7, "qemu", "loop3");
  CHECK(users(host, "sdb") == Users{"loop11 on sdb1", "loop3 on loop11", "LVM vg-root on loop3", "process 7 (qemu)"});
  DeviceUsers built{host.host().kernel};
  built.add_holders_and_mounts("sdb");
  CHECK(built.list().size() == 3);
}

TEST_CASE("targets of this host that serve a device are its users") {
  const FakeHost host;
  host.block("sdb", 1 << 20);
  const std::string core = "sys/kernel/config/target/core/";
  host.put(core + "alua/lu_gps/default_lu_gp/lu_gp_id", "0\n");
  host.put(core + "iblock_0/one/udev_path", host.at("dev/sdb") + "\n");
  host.put(core + "iblock_0/other/udev_path", host.at("dev/sdc") + "\n");
  host.put(core + "iblock_1/by-hand/info",
           "Status: ACTIVATED  Max Queue Depth: 128\n"
           "        iBlock device: sdb  UDEV PATH:   readonly: 0\n        Major: 8 Minor: 98  CLAIMED: IBLOCK\n");
  host.put(core + "fileio_2/two/info", "Status: ACTIVATED\n        TCM FILEIO ID: 0        File: " +
                                           host.at("dev/sdb") + "  Size: 16777216  Mode: O_DSYNC Async: 0\n");
  host.put(core + "fileio_2/not/info", "Status: ACTIVATED\n        TCM FILEIO ID: 0        File: /srv/sdb  Size: 1\n");
  const std::string nvmet = "sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/";
  host.put(nvmet + "1/device_path", host.at("dev/sdb") + "\n");
  host.put(nvmet + "1/enable", "1\n");
  host.put(nvmet + "2/device_path", host.at("dev/sdb") + "\n");
  host.put(nvmet + "2/enable", "0\n");
  CHECK(users(host, "sdb") == Users{"LIO backstore fileio_2/two on sdb", "LIO backstore iblock_0/one on sdb",
                                    "LIO backstore iblock_1/by-hand on sdb", "NVMe target nqn.x/1 on sdb"});
}

TEST_CASE("programs that have a device open as a generic SCSI device, or under another root") {
  const FakeHost host;
  host.block("sdb", 1 << 20);
  host.put("sys/block/sdb/device/scsi_generic/sg3/dev", "21:3\n");
  host.put("dev/sg3", "");
  host.process(77, "qemu", "sg3");
  CHECK(users(host, "sdb") == Users{"process 77 (qemu)"});
}

TEST_CASE("what we have open ourselves is no user") {
  const FakeHost host;
  host.block("sdb", 1 << 20);
  host.process(::getpid(), "unit", "sdb");  // as descriptor 7
  const auto others = [&](int own) {
    DeviceUsers found{host.host().kernel};
    found.add_holders_and_mounts("sdb");
    found.add_openers(std::array{own});
    return found.list();
  };
  CHECK(others(7).empty());
  CHECK(others(8) == Users{"process " + std::to_string(::getpid()) + " (this program)"});
  host.link("proc/" + std::to_string(::getpid()) + "/fd/9", host.at("dev/sdb"));
  CHECK(others(7) == Users{"process " + std::to_string(::getpid()) + " (this program)"});
}

TEST_CASE("programs that have a device open") {
  const FakeHost host;
  host.block("sdb", 1 << 20);
  host.block("sdbb", 1 << 20);
  host.process(77, "qemu\x1b[31m-system", "sdb");
  host.link("proc/77/fd/8", host.at("dev/sdb"));
  host.process(78, "other", "sdbb");
  host.process(79, "multipathd", "sdb");
  host.process(80, "(udev-worker)", "sdb");
  host.process(::getpid(), "unit", "sdb");
  host.link("proc/81/fd/1", "socket:[1]");
  const Users found = users(host, "sdb");
  REQUIRE(found.size() == 2);
  for (const std::string& user :
       {std::string{"process 77 (qemu[31m-system)"}, "process " + std::to_string(::getpid()) + " (this program)"}) {
    CAPTURE(user);
    CHECK(std::find(found.begin(), found.end(), user) != found.end());
  }
  DeviceUsers built{host.host().kernel};
  built.add_holders_and_mounts("sdb");
  CHECK(built.list().empty());  // until it is asked who has it open
}

TEST_CASE("users in an error") {
  CHECK(in_use_by({}) == "in use by: somebody who cannot be seen from here");
  CHECK(in_use_by({"a"}) == "in use by: a");
  CHECK(in_use_by({"a", "b"}) == "in use by: a, b");
  CHECK(in_use_by(Users(8, "x")).ends_with("x, x"));
  CHECK(in_use_by(Users(10, "x")).ends_with("x, x and 2 more"));
}
