// What OpenIscsi does on real targets, and that the tools of the host see the same.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cstring>
#include <stowage/io/kernel_files.hpp>
#include <thread>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

bool has(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// What programs write to the log of the system while this lives: nobody else takes it in the guest.
class SystemLog {
 public:
  SystemLog() {
    ::sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, "/dev/log");
    REQUIRE(::bind(socket_.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) == 0);  // NOLINT
  }
  SystemLog(const SystemLog&) = delete;
  SystemLog& operator=(const SystemLog&) = delete;
  ~SystemLog() { ::unlink("/dev/log"); }

  /// All lines until `word` is among them, for it comes late.
  std::string until(const std::string& word) {
    std::array<char, 4096> line{};
    for (const auto end = std::chrono::steady_clock::now() + 20s;
         !has(text_, word) && std::chrono::steady_clock::now() < end;) {
      const ::ssize_t length = ::recv(socket_.get(), line.data(), line.size(), 0);
      if (length > 0) text_.append(line.data(), static_cast<std::size_t>(length)).append("\n");
      if (length <= 0) std::this_thread::sleep_for(20ms);
    }
    return text_;
  }

 private:
  Fd socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  std::string text_;
};

/// The arguments and the environment of every process.
std::string told_by_processes() {
  std::string all;
  for (const std::string& process : stowage::detail::names_in("/proc")) {
    if (!stowage::detail::all_digits(process)) continue;
    for (const char* file : {"/cmdline", "/environ"}) {
      all += stowage::detail::read_attribute("/proc/" + process + file) + "\n";
    }
  }
  return all;
}

}  // namespace

TEST_CASE("OpenIscsi: from nothing to bytes and back, and iscsiadm and lsblk agree") {
  const Server target = Server::own_target("verbs", "--luns 2 --size 16");
  KernelSan san{target["PORTAL"], target["IQN1"]};

  const auto targets = must(scan<OpenIscsi>(must(Portal::parse(target["PORTAL"]))));
  REQUIRE(targets.size() == 1);
  CHECK(targets[0].target.str() == target["IQN1"]);
  CHECK(ask("iscsiadm -m node").status == 21);  // it leaves no records
  CHECK_FALSE(must(san->status()).active);
  refused(san->list(), Errc::unavailable);

  must(san->activate());
  CHECK(must(san->status()).health.empty());
  const auto sessions = parse_sessions(sh("iscsiadm -m session"));
  const auto paths = must(san->backend().paths());
  REQUIRE(paths.size() == 1);
  REQUIRE(sessions.contains(target["IQN1"]));
  CHECK(sessions.at(target["IQN1"]) == std::vector{std::pair{paths[0].session, paths[0].portal}});
  CHECK(paths[0].up());
  CHECK(paths[0].luns.size() == 2);

  const auto volumes = must(san->list());
  REQUIRE(volumes.size() == 2);
  for (const VolumeInfo& volume : volumes) {
    const std::string device = must(san->path(volume.name));
    CHECK(sh("lsblk --bytes --nodeps --noheadings --output SIZE " + device + " | tr -d ' '") ==
          std::to_string(volume.size.count) + "\n");
    CHECK("/dev/disk/by-id/scsi-" + volume.identity == device);
    CHECK(sh("/lib/udev/scsi_id -g -u -d " + device) == volume.identity + "\n");
    must(san->activate(volume.name));
  }
  const VolumeName disk = volumes[1].name;
  auto device = must(san->open_volume(disk, Access::read_write));
  must(device.write_at(1_MiB, pattern(1, 65536)));
  const std::string us = "is in use by: process " + std::to_string(::getpid()) + " (this program)";
  CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), us));
  CHECK(has(refusal_of(san->open_volume(disk, Access::read_write), Errc::in_use).detail(), us));
  must(device.close());
  sh("dd if=" + must(san->path(disk)) + " of=/run/lab/seen bs=64k skip=16 count=1 status=none");
  std::ifstream seen{"/run/lab/seen", std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{seen}, {}};
  const auto written = pattern(1, 65536);
  CHECK(std::equal(bytes.begin(), bytes.end(), written.begin(), written.end(),
                   [](char a, std::byte b) { return static_cast<std::byte>(a) == b; }));

  must(san->deactivate());
  CHECK(ask("iscsiadm -m session").status == 21);
  CHECK_FALSE(must(san->status()).active);
}

TEST_CASE("OpenIscsi: whoever uses a LUN is named, and keeps it") {
  const Server target = Server::own_target("users", "--luns 2 --size 32");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const std::string one = "/dev/" + san.disk(1);
  sh("mkfs.ext4 -q " + one + " && mkdir -p /run/lab/mount && mount " + one + " /run/lab/mount");
  CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), san.disk(1) + " mounted on /run/lab/mount"));
  CHECK(has(refusal_of(san->open_volume(san.volume(1), Access::read_write), Errc::in_use).detail(),
            "in use by: " + san.disk(1) + " mounted"));
  must(san->open_volume(san.volume(1), Access::read_only));
  sh("umount /run/lab/mount");

  const std::string two = "/dev/" + san.disk(2);
  sh("pvcreate -q " + two + " && vgcreate -q lent " + two + " && lvcreate -q -Zn -L 4M -n volume lent");
  CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), "LVM lent-volume on " + san.disk(2)));
  CHECK(san.volume(2).str().find("scsi-3") != std::string::npos);
  sh("vgremove -q -f lent && pvremove -q " + two);
  must(san->deactivate());
}

TEST_CASE("OpenIscsi: a mount over a loop device over a LUN keeps the LUN") {
  const Server target = Server::own_target("loop", "--luns 1 --size 32");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const std::string disk = san.disk(1);
  std::string loop = sh("modprobe loop && losetup -f --show /dev/" + disk);
  loop.erase(0, 5).pop_back();
  sh("mkfs.ext4 -q /dev/" + loop + " && mkdir -p /run/lab/mount && mount /dev/" + loop + " /run/lab/mount");
  sh("echo written >/run/lab/mount/file");
  const Error error = refusal_of(san->deactivate(), Errc::in_use);
  CHECK(has(error.detail(), loop + " on " + disk + ", " + loop + " mounted on /run/lab/mount"));
  CHECK(has(refusal_of(san->open_volume(san.volume(1), Access::read_write), Errc::in_use).detail(),
            loop + " mounted on /run/lab/mount"));
  sh("sync && umount /run/lab/mount");
  CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), loop + " on " + disk));
  // It is the device that counts, not the name that it had.
  sh("mv /dev/" + disk + " /dev/hidden");
  CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), loop + " on " + disk));
  sh("mv /dev/hidden /dev/" + disk + " && losetup -d /dev/" + loop);
  must(san->deactivate());
}

TEST_CASE("OpenIscsi: a LUN that somebody has open without a claim is not opened for writing") {
  const Server target = Server::own_target("open", "--luns 1 --size 16");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const VolumeName lun = san.volume(1);
  const std::string disk = "/dev/" + san.disk(1);
  const std::string pid = "/run/lab/opener.pid";
  const auto opened_by = [&](const std::string& how) {
    sh("(exec 9" + how + disk + "; exec sleep 60) >/dev/null 2>&1 & echo $! >" + pid);
    for (int n = 0; n < 100 && ask("readlink /proc/$(cat " + pid + ")/fd/9").text != disk + "\n"; ++n) {
      std::this_thread::sleep_for(20ms);
    }
    std::string number = sh("cat " + pid);
    number.pop_back();
    return number;
  };
  for (const char* how : {"<>", "<"}) {
    const std::string opener = opened_by(how);
    const Error error = refusal_of(san->open_volume(lun, Access::read_write), Errc::in_use);
    CHECK(has(error.detail(), "in use by: process " + opener + " (sleep)"));
    must(san->open_volume(lun, Access::read_only));
    sh("kill " + opener);
  }
  // udev and what it starts let go in time: each close of a writer has them look.
  for (int n = 0; n < 5; ++n) {
    auto device = must(san->open_volume(lun, Access::read_write));
    must(device.write_at(Bytes{}, pattern(1, 4096)));
  }
}

TEST_CASE("OpenIscsi: what somebody wrote who cannot be seen is on the disk before the logout") {
  const Server target = Server::own_target("unseen", "--luns 1 --size 16");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  // A descriptor on its way through a socket is none of any process.
  int ends[2] = {-1, -1};  // NOLINT(modernize-avoid-c-arrays)
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd here{ends[0]};
  const Fd there{ends[1]};
  {
    const Fd writer{::open(("/dev/" + san.disk(1)).c_str(), O_RDWR | O_CLOEXEC)};
    REQUIRE(::pwrite(writer.get(), "unseen", 6, 4096) == 6);
    char byte = 'x';
    ::iovec data{&byte, 1};
    alignas(::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    ::msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ::cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = writer.get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    REQUIRE(::sendmsg(here.get(), &message, 0) == 1);
  }
  must(san->deactivate());
  must(san->activate());
  CHECK(sh("dd if=/dev/" + san.disk(1) + " bs=4096 skip=1 count=1 status=none | head -c 6") == "unseen");
}

TEST_CASE("OpenIscsi: two portals are two paths, and multipath over them is the LUN") {
  const KernelTarget target{"paths", "--luns 1 --size 16 --portals 2"};
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  const auto paths = must(san->backend().paths());
  REQUIRE(paths.size() == 2);
  CHECK((paths[0].up() && paths[1].up()));
  REQUIRE(must(san->list()).size() == 1);
  const VolumeName disk = san.volume(1);
  CHECK(has(must(san->check()).front().problem, "2 paths"));

  const std::string wwid = must(san->info(disk)).identity;
  inside("multipath mpatha " + wwid + " /dev/" + paths[0].luns[0].device + " /dev/" + paths[1].luns[0].device);
  CHECK(must(san->check()).empty());
  const VolumeName through = volume_name("0.0.1.dm-uuid-mpath-" + wwid);
  must(san->activate(through));
  {
    auto device = must(san->open_volume(disk, Access::read_write));
    must(device.write_at(Bytes{}, pattern(1, 4096)));
    CHECK(has(sh("dmsetup info -c --noheadings -o open mpatha"), "1"));
    CHECK(has(refusal_of(san->deactivate(), Errc::in_use).detail(), "process"));
  }
  sh("dmsetup remove --retry mpatha");
  must(san->deactivate());
}

TEST_CASE("OpenIscsi: a LUN under multipath grows and goes, and its multipath device with it") {
  const KernelTarget target{"mapped", "--luns 1 --size 16 --portals 2"};
  // multipath and multipathd are not installed here: this does to the map what they do.
  const std::string tool = "/run/lab/multipath-tool";
  std::ofstream{tool} << "#!/bin/bash\nexport STOWAGE_GUEST=1 PATH=/usr/sbin:/usr/bin\ncase $1 in\n"
                         "  resize) [ \"$2\" = map ] && " STOWAGE_TEST_LAB
                         "/inside resize \"$3\" && echo ok ;;\n  -f) exec dmsetup remove --retry \"$2\" ;;\nesac\n";
  sh("chmod 700 " + tool);
  stowage::detail::OpenIscsiHost host;
  host.multipath = {tool};
  host.multipathd = {tool};
  KernelSan san{target["PORTAL"], target["IQN1"], 30s, {}, host};
  must(san->activate());
  const VolumeName disk = san.volume(1);
  const auto paths = must(san->backend().paths());
  REQUIRE(paths.size() == 2);
  inside("multipath mapped " + must(san->info(disk)).identity + " /dev/" + paths[0].luns[0].device + " /dev/" +
         paths[1].luns[0].device);
  const std::string map = sh("basename $(realpath /dev/mapper/mapped)");

  target.command("grow", "1 64");
  {
    auto device = must(san->open_volume(disk, Access::read_write));
    CHECK(stowage::detail::link_name("/sys/dev/block/" + stowage::detail::number_text(device.number())) + "\n" == map);
    CHECK(device.size() == 64_MiB);
    CHECK(must(device.extents()) == std::vector<Extent>{{Bytes{}, 64_MiB, true}});
    must(device.write_at(60_MiB, pattern(1, 4096)));
    // It grows under whoever has it open.
    target.command("grow", "1 128");
    must(san->activate(disk));
    CHECK(must(device.refresh_size()) == 128_MiB);
    must(device.close());
  }
  target.command("grow", "1 256");
  must(san->backend().rescan());
  CHECK(must(san->info(disk)).size == 256_MiB);
  CHECK(sh("blockdev --getsize64 /dev/mapper/mapped") == std::to_string((256_MiB).count) + "\n");
  CHECK(must(san->check()).empty());

  target.command("remove", "1");
  must(san->backend().rescan());
  CHECK(must(san->list()).empty());
  CHECK(ask("dmsetup info mapped").status != 0);
  CHECK(ask("ls -d /sys/block/" + paths[0].luns[0].device).status != 0);
}

TEST_CASE("OpenIscsi: new LUNs and sizes are found, and what is gone is forgotten") {
  const KernelTarget target{"rescan", "--luns 3 --size 16"};
  target.command("remove", "3");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  REQUIRE(must(san->list()).size() == 2);
  target.command("add", "3");
  target.command("grow", "1 64");
  must(san->backend().rescan());
  REQUIRE(must(san->list()).size() == 3);
  CHECK(must(san->info(san.volume(1))).size == 64_MiB);

  // The size of one volume is asked for when it is activated, without a rescan.
  target.command("grow", "2 128");
  must(san->activate(san.volume(2)));
  CHECK(must(san->info(san.volume(2))).size == 128_MiB);

  const VolumeName gone = san.volume(3);
  target.command("remove", "3");
  refused(san->activate(gone), Errc::not_found);
  must(san->backend().rescan());
  CHECK(must(san->list()).size() == 2);
  refused(san->info(gone), Errc::not_found);
}

TEST_CASE("OpenIscsi: CHAP one way and both ways") {
  const std::string good = "user=stowage\npassword=initiator-pw1\n";
  SECTION("one way, on the kernel's target") {
    const KernelTarget target{"chap", "--luns 1 --size 16 --chap stowage:initiator-pw1"};
    {
      KernelSan san{target["PORTAL"], target["IQN1"], 30s, good};
      activate_beside_target(san);
      CHECK(must(san->list()).size() == 1);
      CHECK(has(sh("stat -c %a /etc/iscsi/nodes/" + target["IQN1"] + "/*/*"), "600"));
      must(san->deactivate());
    }
    {
      KernelSan none{target["PORTAL"], target["IQN1"]};
      refused_soon(30s, Errc::permission_denied, [&] { return none->activate(); });
    }
    {
      KernelSan wrong{target["PORTAL"], target["IQN1"], 30s, "user=stowage\npassword=wrong-wrong-wrong\n"};
      const Error error = refusal_soon(30s, Errc::permission_denied, [&] { return wrong->activate(); });
      CHECK_FALSE(has(error.message(), "wrong-wrong"));
      CHECK(has(error.hint(), ".chap"));
    }
    KernelSan again{target["PORTAL"], target["IQN1"], 30s, good};
    activate_beside_target(again);
    must(again->deactivate());
  }
  SECTION("both ways, on tgtd") {
    const Server target =
        Server::own_target("mutual", "--luns 1 --size 16 --chap stowage:initiator-pw1 --mutual target:target-pw-123");
    {
      KernelSan wrong{target["PORTAL"], target["IQN1"], 30s, good + "user_in=target\npassword_in=wrong-wrong-wrong\n"};
      refused_soon(30s, Errc::permission_denied, [&] { return wrong->activate(); });
    }
    KernelSan san{target["PORTAL"], target["IQN1"], 30s, good + "user_in=target\npassword_in=target-pw-123\n"};
    must(san->activate());
    CHECK(must(san->list()).size() == 1);
    must(san->deactivate());
  }
}

TEST_CASE("OpenIscsi: CHAP secrets are in the node records, and in no argv, environment or log") {
  const Server target =
      Server::own_target("secrets", "--luns 1 --size 16 --chap stowage:initiator-pw1 --mutual target:target-pw-123");
  const auto told = [](const std::string& text) { return has(text, "initiator-pw1") || has(text, "target-pw-123"); };
  SystemLog log;
  KernelSan san{target["PORTAL"], target["IQN1"], 30s,
                "user=stowage\npassword=initiator-pw1\nuser_in=target\npassword_in=target-pw-123\n"};
  Result<void> active;
  std::atomic<bool> done = false;
  int seen_tool = 0;
  int seen_secret = 0;
  {
    const std::jthread work{[&] {
      active = san->activate();
      done = true;
    }};
    while (!done) {
      const std::string all = told_by_processes();
      seen_tool += has(all, "--login") ? 1 : 0;
      seen_secret += told(all) ? 1 : 0;
    }
  }
  must(std::move(active));
  CHECK(seen_tool > 0);  // we look while iscsiadm runs
  CHECK(seen_secret == 0);
  CHECK(told(sh("cat /etc/iscsi/nodes/" + target["IQN1"] + "/*/*")));
  CHECK(sh("stat -c %a /etc/iscsi/nodes/" + target["IQN1"] + "/*/*") == "600\n");
  const std::string logged = log.until("is operational now") + sh("dmesg");
  CHECK(has(logged, "is operational now"));
  CHECK_FALSE(told(logged));
}
