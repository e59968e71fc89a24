// What goes wrong between a host and its target, each with the right error in bounded time.

#include <future>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

bool has(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// Waits until `done` says yes.
template <class Done>
bool soon(Done done, std::chrono::seconds limit = 60s) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(100ms);
  }
  return true;
}

}  // namespace

TEST_CASE("OpenIscsi: iscsid is stopped") {
  const Server target = Server::own_target("daemon", "--luns 1 --size 16 --iqn iqn.2026-11.lab.daemon");
  KernelSan san{target["PORTAL"], target["IQN1"], 5s};
  inside("iscsid stop");
  const Error error = refusal_soon(10s, Errc::unavailable, [&] { return san->activate(); });
  CHECK(has(error.message(), "iscsid"));
  refused_soon(10s, Errc::unavailable,
               [&] { return scan<OpenIscsi>(must(Portal::parse(target["PORTAL"])), OpenOptions{.timeout = 5s}); });
  inside("iscsid start");
  KernelSan again{target["PORTAL"], target["IQN1"]};
  must(again->activate());
  inside("iscsid stop");
  const Status status = must(again->status());  // the sessions live in the kernel
  CHECK(status.active);
  REQUIRE(status.health.size() == 1);
  CHECK(has(status.health.front(), "iscsid"));
  CHECK(must(again->list()).size() == 1);
  inside("iscsid start");
}

TEST_CASE("OpenIscsi: activation is over when the kernel has looked for all LUNs, whoever logged in") {
  const Server target = Server::own_target("scan", "--luns 6 --size 16 --iqn iqn.2026-11.lab.scan");
  const auto count = [](KernelSan& san) { return must(san->list()).size(); };
  {
    KernelSan one{target["PORTAL"], target["IQN1"]};
    KernelSan other{target["PORTAL"], target["IQN1"]};
    auto beside = std::async(std::launch::async, [&] { return other->activate(); });
    must(one->activate());
    CHECK(count(one) == 6);
    must(beside.get());
    CHECK(count(other) == 6);
  }
  // Here it takes seconds: more than this one waits.
  KernelSan impatient{target["PORTAL"], target["IQN1"], 1s};
  REQUIRE(soon([&] {
    const auto active = impatient->activate();
    if (!active) CHECK(active.error().code() == Errc::timed_out);
    return active.has_value();
  }));
  CHECK(count(impatient) == 6);
}

TEST_CASE("OpenIscsi: a portal that is dropped, and one that refuses") {
  const Server target = Server::own_target("portal", "--luns 1 --size 16 --iqn iqn.2026-11.lab.portal");
  KernelSan san{target["PORTAL"], target["IQN1"], 5s};
  {
    const ShutPortal shut{target["PORTAL"]};
    const Error error = refusal_soon(12s, Errc::timed_out, [&] { return san->activate(); });
    CHECK(has(error.detail(), target["PORTAL"]));
  }
  const ShutPortal refusing{target["PORTAL"], ShutPortal::How::refuse};
  const Error error = refusal_of(
      KernelSan { target["PORTAL"], target["IQN1"], 30s } -> activate(), Errc::unavailable);
  CHECK(has(error.detail(), target["PORTAL"]));
}

TEST_CASE("OpenIscsi: one of two portals is dropped before the login") {
  const KernelTarget target{"half", "--luns 1 --size 16 --portals 2"};
  const std::string portals = target["PORTALS"];
  const std::string second = portals.substr(portals.find(' ') + 1);
  const ShutPortal shut{second, ShutPortal::How::refuse};
  KernelSan san{target["PORTAL"], target["IQN1"], 30s};
  must(san->activate());
  CHECK(must(san->list()).size() == 1);
  const Status status = must(san->status());
  CHECK(status.active);
  CHECK(has(joined(status.health), second));
}

TEST_CASE("OpenIscsi: a portal is dropped under a session, and comes back") {
  const Server target = Server::own_target("cut", "--luns 1 --size 16 --iqn iqn.2026-11.lab.cut");
  KernelSan san{target["PORTAL"], target["IQN1"], 3s};
  must(san->activate());
  const VolumeName disk = san.volume(1);
  ShutPortal shut{target["PORTAL"]};
  // The session is not known to be lost yet: what asks the target waits for no longer than it may.
  refused_soon(8s, Errc::timed_out, [&] { return san->activate(disk); });
  REQUIRE(soon([&] { return !must(san->status()).active; }));
  refused_soon(8s, Errc::unavailable, [&] { return san->activate(disk); });
  refused_soon(8s, Errc::unavailable, [&] { return san->open_volume(disk, Access::read_only); });
  CHECK(has(joined(must(san->status()).health), "is FAILED"));
  shut.open();
  REQUIRE(soon([&] { return must(san->status()).active; }));
  REQUIRE(soon([&] { return san->activate(disk).has_value(); }));
}

TEST_CASE("OpenIscsi: tgtd is killed and comes back") {
  const Server target = Server::own_target("killed", "--luns 1 --size 16 --iqn iqn.2026-11.lab.killed");
  KernelSan san{target["PORTAL"], target["IQN1"], 5s};
  must(san->activate());
  const VolumeName disk = san.volume(1);
  auto device = must(san->open_volume(disk, Access::read_write));
  must(device.write_at(Bytes{}, pattern(1, 4096)));
  must(device.flush());
  target.command("kill");
  REQUIRE(soon([&] { return !must(san->status()).active; }));
  refused_soon(10s, Errc::unavailable, [&] { return san->activate(disk); });
  target.command("up");
  REQUIRE(soon([&] { return must(san->status()).active; }));
  std::vector<std::byte> seen(4096);
  must(device.read_at(Bytes{}, seen));
  CHECK(seen == pattern(1, 4096));
  must(device.close());
  must(san->activate(disk));
}

TEST_CASE("OpenIscsi: a logout right behind a restart of iscsid") {
  const Server target = Server::own_target("restart", "--luns 1 --size 16 --iqn iqn.2026-11.lab.restart");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  inside("iscsid stop");
  inside("iscsid start");  // it begins all sessions anew
  must(san->deactivate());
  CHECK(ask("iscsiadm -m session").status == 21);
}

TEST_CASE("OpenIscsi: another LUN has the number of ours") {
  const KernelTarget target{"replaced", "--luns 2 --size 16"};
  KernelSan san{target["PORTAL"], target["IQN1"], 20s};
  must(san->activate());
  const VolumeName disk = san.volume(2);
  must(san->activate(disk));
  target.command("replace", "2");
  const Error error =
      refusal_soon(25s, Errc::identity_changed, [&] { return san->open_volume(disk, Access::read_write); });
  CHECK(has(error.detail(), "scsi-3"));
  refused_soon(25s, Errc::identity_changed, [&] { return san->open_volume(disk, Access::read_only); });
  refused_soon(25s, Errc::identity_changed, [&] { return san->activate(disk); });

  must(san->backend().rescan());
  const VolumeName fresh = san.volume(2);
  CHECK(fresh != disk);
  must(san->activate(fresh));
  refused(san->info(disk), Errc::identity_changed);
}

TEST_CASE("OpenIscsi: a name without a serial number is only the LUN that udev's link of that name leads to") {
  const KernelTarget target{"nameless", "--luns 2 --size 16"};
  KernelSan san{target["PORTAL"], target["IQN1"], 20s};
  must(san->activate());
  const auto refuses = [&](const std::string& name, Errc code) {
    CAPTURE(name);
    const VolumeName volume = volume_name(name);
    refused_soon(25s, code, [&] { return san->activate(volume); });
    refused_soon(25s, code, [&] { return san->open_volume(volume, Access::read_only); });
    refused_soon(25s, code, [&] { return san->open_volume(volume, Access::read_write); });
    refused_soon(25s, code, [&] { return san->info(volume); });
  };
  refuses("0.0.1.foo", Errc::not_found);
  refuses("0.0.1.lvm-pv-uuid-none", Errc::not_found);

  sh("pvcreate -qq -y " + must(san->path(san.volume(2))) + " && udevadm settle --timeout=30");
  std::string name = sh("find /dev/disk/by-id -name 'lvm-pv-uuid-*' -lname '*/" + san.disk(2) + "' -printf %f");
  REQUIRE(name.starts_with("lvm-pv-uuid-"));
  must(san->activate(volume_name("0.0.2." + name)));
  {
    auto device = must(san->open_volume(volume_name("0.0.2." + name), Access::read_write));
    must(device.write_at(8_MiB, pattern(1, 4096)));
    must(device.close());
  }
  refuses("0.0.1." + name, Errc::identity_changed);

  // Another LUN has the number, and udev has not looked at it: its link is still there.
  target.command("replace", "2");
  CHECK(has(sh("readlink /dev/disk/by-id/" + name), san.disk(2)));
  refuses("0.0.2." + name, Errc::identity_changed);
}

TEST_CASE("OpenIscsi: the LUN is taken away under us") {
  const Server target = Server::own_target("taken", "--luns 2 --size 16 --iqn iqn.2026-11.lab.taken");
  KernelSan san{target["PORTAL"], target["IQN1"], 20s};
  must(san->activate());
  const VolumeName disk = san.volume(2);
  sh("udevadm settle");  // tgtd keeps a LUN that is being read, and udev looks at new disks
  target.command("adm", "--mode logicalunit --op delete --tid 1 --lun 2");
  refused_soon(25s, Errc::not_found, [&] { return san->activate(disk); });
  refused_soon(25s, Errc::not_found, [&] { return san->open_volume(disk, Access::read_only); });
  must(san->activate(san.volume(1)));
}

TEST_CASE("OpenIscsi: no such target at the portal") {
  const Server target = Server::own_target("other", "--luns 1 --size 16 --iqn iqn.2026-11.lab.other");
  KernelSan san{target["PORTAL"], "iqn.2026-11.lab.local:nobody"};
  refused(san->activate(), Errc::not_found);
}
