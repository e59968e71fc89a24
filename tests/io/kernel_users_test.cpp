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

TEST_CASE("mounts and swaps") {
  const std::string mountinfo =
      "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
      "40 22 8:17 / /srv/with\\040blank rw shared:1 - ext4 /dev/sdb1 rw\n"
      "41 22 8:1 / /no rw - ext4 /dev/sda1 rw\n"
      "8:17\n\ngarbage\n";
  CHECK(mounts_of(mountinfo, "8:17") == Users{"/srv/with\\040blank"});
  CHECK(mounts_of(mountinfo, "8:18").empty());
  CHECK(mounts_of(mountinfo, "").empty());
  CHECK(mounts_of("", "8:17").empty());
  CHECK(is_swap("Filename Type\n/dev/sdb2 partition 1 0 -2\n", "/dev/sdb2"));
  CHECK_FALSE(is_swap("Filename Type\n/dev/sdb22 partition 1 0 -2\n", "/dev/sdb2"));
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
  host.put("proc/swaps", "Filename Type\n" + host.at("dev/sdb1") + " partition 1 0 -2\n");
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
  CHECK(built.list().empty());  // whoever reads does not stand in the way of a writer
}

TEST_CASE("users in an error") {
  CHECK(in_use_by({}) == "in use by: somebody who cannot be seen from here");
  CHECK(in_use_by({"a"}) == "in use by: a");
  CHECK(in_use_by({"a", "b"}) == "in use by: a, b");
  CHECK(in_use_by(Users(8, "x")).ends_with("x, x"));
  CHECK(in_use_by(Users(10, "x")).ends_with("x, x and 2 more"));
}
