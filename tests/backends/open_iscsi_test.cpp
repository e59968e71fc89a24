// OpenIscsi on a host that the test makes up: what it runs, what it reads out of sysfs, and what it refuses.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <stop_token>
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/fake_runner.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/open_iscsi_tree.hpp"
#include "support/vectors.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

const std::string target = "iqn.2026-11.lab:t1";
const std::string first = "6000000000000000000000000000000a";
const std::string second = "6000000000000000000000000000000b";

/// A host, and an iscsiadm that the test plays.
struct Initiator {
  using Backend = BasicOpenIscsi<FakeRunner>;
  using Words = std::vector<std::string>;

  FakeHost host{};
  FakeRunner runner{};
  std::string configured{"10.0.0.1"};  ///< portal
  std::string records{};               ///< what `--mode node` prints
  std::string told{"10.0.0.1:3260,1 " + target + "\n"};
  CommandOutput login{};
  std::function<void()> at_login = [this] { log_in(1, "10.0.0.1"); };
  int discovery_status = 0;
  int records_status = 0;

  Initiator() {
    runner.play(host.at("bin/iscsiadm"), [this](const Command& command) { return answer(command); });
    runner.play(host.at("bin/multipath"), [](const Command&) { return Result<CommandOutput>{CommandOutput{}}; });
  }

  Storage<Backend> storage(std::chrono::milliseconds timeout = 2s) const {
    return {
        must(StorageId::parse("san")),
        must(Backend::open(must(StorageId::parse("san")), {must(Portal::parse(configured)), must(Iqn::parse(target))},
                           OpenOptions{.timeout = timeout, .priv = host.at("priv"), .lock_folder = host.at("lock")},
                           runner, host.host()))};
  }

  void log_in(int number, const std::string& address, const std::string& state = "LOGGED_IN") const {
    host.session(number, target, address, "3260", state);
  }

  /// Logged in by one portal; LUN 1 is sda, LUN 2 is sdb.
  void two_luns() const {
    log_in(1, "10.0.0.1");
    host.disk(1, 1, "sda", first, 64 << 20);
    host.disk(1, 2, "sdb", second, 128 << 20);
  }

  /// The arguments of iscsiadm, a command a line.
  std::vector<std::string> ran() const {
    std::vector<std::string> all;
    for (const Command& command : runner.log()) {
      std::string line;
      for (std::size_t n = 1; n < command.argv.size(); ++n) line += (line.empty() ? "" : " ") + command.argv[n];
      all.push_back(line);
    }
    return all;
  }

 private:
  static bool has(const Command& command, const char* word) {
    return std::find(command.argv.begin(), command.argv.end(), word) != command.argv.end();
  }
  Result<CommandOutput> answer(const Command& command) {
    if (has(command, "discovery")) return CommandOutput{.exit_code = discovery_status, .out = told, .err = {}};
    if (has(command, "--login")) {
      at_login();
      return login;
    }
    if (has(command, "new")) {
      const std::string portal = command.argv.back();
      const std::string comma = portal.substr(0, portal.find(':')) + ",3260,1";
      host.put("iscsi/nodes/" + target + "/" + comma + "/default",
               "# BEGIN RECORD 2.1.8\nnode.name = " + target + "\n# END RECORD\n");
      records += portal + " " + target + "\n";
    }
    if (has(command, "--logout")) host.end_session(std::stoi(command.argv[4]));
    if (command.argv.size() == 3) {
      return CommandOutput{.exit_code = records_status != 0 ? records_status
                                        : records.empty()   ? 21
                                                            : 0,
                           .out = records,
                           .err = {}};
    }
    return CommandOutput{};
  }
};

std::vector<std::string> names(const std::vector<VolumeInfo>& volumes) {
  std::vector<std::string> all;
  for (const VolumeInfo& volume : volumes) all.push_back(volume.name.str());
  return all;
}

VolumeName lun(int number, const std::string& naa) {
  return volume_name("0.0." + std::to_string(number) + ".scsi-3" + naa);
}

bool has(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

}  // namespace

TEST_CASE("OpenIscsi: the first activation discovers, makes a record, logs in") {
  Initiator san;
  auto storage = san.storage();
  must(storage.activate());
  CHECK(san.ran() == Initiator::Words{
                         "--mode node",
                         "--mode node",  // what it is when nobody else is at it
                         "--mode discovery --type sendtargets --portal 10.0.0.1 --op nonpersistent",
                         "--mode node --op new --targetname " + target + " --portal 10.0.0.1:3260,1",
                         "--mode node --targetname " + target + " --login",
                     });
  CHECK(has(san.host.get("iscsi/nodes/" + target + "/10.0.0.1,3260,1/default"),
            "node.session.initial_login_retry_max = 0\n"));
  for (const Command& command : san.runner.log()) CHECK(command.timeout == 2s);
  CHECK(must(storage.status()).active);
}

TEST_CASE("OpenIscsi: activation logs in by the portals that have no session") {
  Initiator san;
  san.log_in(1, "10.0.0.1");
  san.records = "10.0.0.1:3260,1 " + target + "\n10.0.0.2:3260,1 " + target + "\n10.9.9.9:3260,1 iqn.other:1\n";
  san.login.exit_code = 15;  // of the session that exists
  san.at_login = [&] { san.log_in(2, "10.0.0.2"); };
  auto storage = san.storage();
  must(storage.activate());
  auto ran = san.ran();
  // Whoever made the first session: the kernel may not have found its LUNs.
  CHECK(ran.back() == "--mode session --sid 2 --rescan");
  ran.resize(ran.size() - 2);
  CHECK(ran.back() == "--mode node --targetname " + target + " --login");
  CHECK(must(storage.status()).health.empty());

  san.runner.clear_log();
  must(storage.activate());  // all there
  CHECK(san.ran() == Initiator::Words{"--mode node"});
}

TEST_CASE("OpenIscsi: a session that somebody is logging in to is waited for") {
  Initiator san;
  san.records = san.told;
  san.two_luns();
  san.log_in(1, "10.0.0.1", "FREE");
  auto storage = san.storage(100ms);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(has(refusal_of(storage.activate(), Errc::unavailable).detail(), "10.0.0.1:3260 is FREE"));
  CHECK(std::chrono::steady_clock::now() - begin >= 100ms);
  san.runner.clear_log();
  san.host.put("up", "LOGGED_IN\n");
  const std::jthread other{[&] {
    while (san.runner.log().empty()) std::this_thread::yield();  // until the activation has begun
    std::filesystem::rename(san.host.at("up"), san.host.at("sys/class/iscsi_session/session1/state"));
  }};
  auto patient = san.storage(60s);
  must(patient.activate());
  CHECK(must(patient.list()).size() == 2);
}

TEST_CASE("OpenIscsi: programs log in to a target one after the other") {
  Initiator san;
  auto other = must(Lock::take_own(san.host.at("lock"), "iscsi-" + target, 0s));
  auto storage = san.storage(100ms);
  CHECK(has(refusal_of(storage.activate(), Errc::timed_out).detail(), "lock/iscsi-" + target));
  // While somebody tries the second portal, the first one will do.
  san.records = "10.0.0.1:3260,1 " + target + "\n10.0.0.2:3260,1 " + target + "\n";
  san.log_in(1, "10.0.0.1");
  must(storage.activate());
  const auto ran = san.ran();
  CHECK(std::none_of(ran.begin(), ran.end(), [](const auto& line) { return has(line, "--login"); }));
  { const Lock let_go{std::move(other)}; }
  must(storage.activate());
  CHECK(san.ran().back() == "--mode node --targetname " + target + " --login");
}

TEST_CASE("OpenIscsi: one dead portal is told, and only all of them are an error") {
  Initiator san;
  san.records = "10.0.0.1:3260,1 " + target + "\n10.0.0.2:3260,1 " + target + "\n";
  san.login = {.exit_code = 8, .out = {}, .err = "iscsiadm: initiator reported error (8 - connection timed out)\n"};
  auto storage = san.storage();
  must(storage.activate());
  const Status status = must(storage.status());
  CHECK(status.active);
  REQUIRE(status.health.size() == 1);
  CHECK(status.health.front() == "portal 10.0.0.2:3260 has no session");
  const auto paths = must(storage.backend().paths());
  REQUIRE(paths.size() == 2);
  CHECK((paths[0].up() && paths[0].portal == "10.0.0.1:3260"));
  CHECK((paths[1].state == "no session" && paths[1].session.empty()));

  Initiator dead;
  dead.login = san.login;
  dead.at_login = [] {};
  auto down = dead.storage();
  const Error error = refusal_of(down.activate(), Errc::unavailable);
  CHECK(has(error.message(), "connection timed out"));
  CHECK_FALSE(must(down.status()).active);
  refused(down.list(), Errc::unavailable);
}

TEST_CASE("OpenIscsi: a session that is lost does not count") {
  Initiator san;
  san.records = san.told;
  san.log_in(1, "10.0.0.1", "FAILED");
  auto storage = san.storage();
  CHECK(has(refusal_of(storage.activate(), Errc::unavailable).detail(), "10.0.0.1:3260 is FAILED"));
  const Status status = must(storage.status());
  CHECK_FALSE(status.active);
  CHECK(status.health == std::vector<std::string>{"session 1 to 10.0.0.1:3260 is FAILED"});
}

TEST_CASE("OpenIscsi: the portal answers, but has no such target") {
  Initiator san;
  san.told = "10.0.0.1:3260,1 iqn.other:1\n";
  auto storage = san.storage();
  refused(storage.activate(), Errc::not_found);
  san.discovery_status = 21;
  san.told.clear();
  refused(storage.activate(), Errc::not_found);
  san.discovery_status = 4;
  refused(storage.activate(), Errc::unavailable);
}

TEST_CASE("OpenIscsi: discovery goes on until a portal tells of the target") {
  Initiator san;
  san.records = "10.0.0.2:3260,1 " + target + "\n";
  san.discovery_status = 4;
  auto storage = san.storage();
  must(storage.activate());
  const auto ran = san.ran();
  CHECK(std::count_if(ran.begin(), ran.end(), [](const auto& line) { return has(line, "discovery"); }) == 2);
  CHECK(ran.back() == "--mode node --targetname " + target + " --login");  // it was known before
}

TEST_CASE("OpenIscsi: a database that cannot be read is not believed") {
  Initiator san;
  san.records = "10.0.5.1:3260,1 " + target + "\n";
  san.records_status = 6;
  auto storage = san.storage();
  must(storage.activate());
  CHECK(has(san.ran()[2], "--portal 10.0.0.1 "));
}

TEST_CASE("iscsi_node_portals: where the records cannot be read, the reference's portal is asked") {
  int rows = 0;
  for (const auto& row : vectors("iscsi_node_portals")) {
    if (text(row, "cmd_error").empty()) continue;
    CAPTURE(text(row, "name"));
    ++rows;
    Initiator san;
    san.configured = text(row, "configured_portal");
    for (const auto& line : row.at("lines")) {
      const auto words = line.get<std::string>();
      san.records += words.substr(0, words.find(' ') + 1) + target + "\n";
    }
    san.records_status = std::stoi(text(row, "cmd_error").substr(std::string{"exit code "}.size()));
    must(san.storage().activate());
    REQUIRE(row.at("portals").size() == 1);
    CHECK(has(san.ran().at(2),
              "--mode discovery --type sendtargets --portal " + row.at("portals").at(0).get<std::string>() + " "));
  }
  CHECK(rows == 2);
}

TEST_CASE("OpenIscsi: CHAP secrets go into the records and nowhere else") {
  Initiator san;
  san.host.put("priv/iscsi/san.chap", "user=me\npassword=initiator-pw1\nuser_in=you\npassword_in=target-pw-123\n");
  ::chmod(san.host.at("priv/iscsi/san.chap").c_str(), 0600);
  const std::string old = "iscsi/nodes/" + target + "/10.0.0.2,3260,1/eth1";
  san.host.put(old, "node.name = " + target + "\nnode.session.auth.authmethod = None\n# END RECORD\n");
  auto storage = san.storage();
  must(storage.activate());
  for (const std::string& file : {old, "iscsi/nodes/" + target + "/10.0.0.1,3260,1/default"}) {
    const std::string record = san.host.get(file);
    CAPTURE(file);
    CHECK(has(record,
              "node.session.auth.authmethod = CHAP\nnode.session.auth.username = me\n"
              "node.session.auth.password = initiator-pw1\nnode.session.auth.username_in = you\n"
              "node.session.auth.password_in = target-pw-123\n# END RECORD\n"));
    CHECK_FALSE(has(record, "None"));
    struct ::stat about {};
    REQUIRE(::stat(san.host.at(file).c_str(), &about) == 0);
    CHECK((about.st_mode & 0777U) == 0600U);
  }
  REQUIRE_FALSE(san.runner.log().empty());
  for (const Command& command : san.runner.log()) {
    std::vector<std::string> told = command.argv;
    told.push_back(command.input);
    for (const std::string& word : told) CHECK_FALSE((has(word, "initiator-pw1") || has(word, "target-pw-123")));
  }
  CHECK(detail::names_in(san.host.at("iscsi")) == std::vector<std::string>{"nodes"});
}

TEST_CASE("OpenIscsi: CHAP that is refused says where the secrets are") {
  Initiator san;
  san.at_login = [] {};
  san.login = {.exit_code = 24, .out = {}, .err = "iscsiadm: initiator reported error (24 - authorization failure)\n"};
  auto storage = san.storage();
  const Error error = refusal_of(storage.activate(), Errc::permission_denied);
  CHECK(has(error.hint(), "priv/iscsi/san.chap"));

  // A target that cannot prove who it is looks like this to iscsiadm.
  san.login.exit_code = 19;
  refused(storage.activate(), Errc::command_failed);
  san.host.put("priv/iscsi/san.chap", "user=me\npassword=initiator-pw1\nuser_in=you\npassword_in=target-pw-123\n");
  ::chmod(san.host.at("priv/iscsi/san.chap").c_str(), 0600);
  refused(storage.activate(), Errc::permission_denied);

  san.host.put("priv/iscsi/san.chap", "user=me\npassword=a blank behind \n");
  ::chmod(san.host.at("priv/iscsi/san.chap").c_str(), 0600);
  CHECK_FALSE(has(refusal_of(storage.activate(), Errc::invalid_argument).message(), "a blank"));
}

TEST_CASE("OpenIscsi: open-iscsi, iscsid and a good configuration are needed, and named") {
  Initiator san;
  san.host.remove("bin/iscsiadm");
  auto storage = san.storage();
  const Error missing = refusal_of(storage.activate(), Errc::unavailable);
  CHECK(has(missing.message(), "open-iscsi"));
  CHECK_FALSE(must(storage.status()).active);

  Initiator without_module;
  without_module.at_login = [] {};
  without_module.login = {.exit_code = 12, .out = {}, .err = "iscsiadm: iSCSI driver tcp is not loaded.\n"};
  auto no_module = without_module.storage();
  const Error module = refusal_of(no_module.activate(), Errc::unavailable);
  CHECK(has(module.message(), "iscsi_tcp"));
  CHECK(module.hint() == "modprobe iscsi_tcp");

  Initiator stopped;
  stopped.host.put("proc/net/unix", "");
  stopped.runner.always({stopped.host.at("bin/iscsiadm"), "--mode", "node"}, fail(Errc::timed_out, "killed"));
  auto without = stopped.storage();
  const Error error = refusal_of(without.activate(), Errc::unavailable);
  CHECK(has(error.message(), "iscsid does not run"));

  for (const char* name : {"iqn.a/b", "iqn.a b"}) {
    refused(
        Initiator::Backend::open(must(StorageId::parse("san")), {must(Portal::parse("h")), must(Iqn::parse(name))}, {}),
        Errc::invalid_argument);
  }
  refused(Initiator::Backend::open(must(StorageId::parse("san")),
                                   {must(Portal::parse("h:99999")), must(Iqn::parse("iqn.a"))}, {}),
          Errc::invalid_argument);
}

TEST_CASE("OpenIscsi: LUNs are volumes, named by their WWID") {
  Initiator san;
  san.two_luns();
  san.host.disk(1, 0, "sr0", "6000000000000000000000000000000c", 0);
  san.host.put(FakeHost::lun(1, 0) + "/type", "12\n");  // the target's controller
  san.host.session(9, "iqn.other:1", "10.0.0.1");
  san.host.disk(9, 1, "sdx", "6000000000000000000000000000000d", 1 << 20);
  san.host.link("by-id/scsi-SIET_VIRTUAL-DISK_x", "../../sda");
  san.host.link("by-id/scsi-3" + first + "-part1", "../../sda1");
  auto storage = san.storage();
  const auto volumes = must(storage.list());
  CHECK(names(volumes) == std::vector<std::string>{lun(1, first).str(), lun(2, second).str()});
  CHECK(volumes[0].size == 64_MiB);
  CHECK(volumes[0].identity == "3" + first);
  CHECK(must(storage.list({.vmid = VmId{100}, .content = {}})).empty());
  CHECK(must(storage.info(lun(2, second))).size == 128_MiB);
  CHECK(must(storage.path(lun(2, second))) == san.host.at("by-id/scsi-3" + second));
  CHECK(must(storage.blockdev(lun(2, second))).to_json() ==
        R"({"driver":"host_device","filename":")" + san.host.at("by-id/scsi-3" + second) + "\"}");
  must(storage.activate(lun(1, first)));
  CHECK(san.host.get(FakeHost::lun(1, 1) + "/rescan") == "1\n");
  CHECK(san.runner.log().empty());

  CHECK(must(storage.info(volume_name("0.0.1.wwn-0x" + first))).size == 64_MiB);
  refused(storage.activate(volume_name("0.0.1.wwn-0x" + first)), Errc::unavailable);  // udev has no such link
  refused(storage.info(volume_name("0.0.3.scsi-3dead")), Errc::not_found);
  refused(storage.info(volume_name("0.0.0.scsi-3dead")), Errc::not_found);  // no disk
}

TEST_CASE("OpenIscsi: a LUN that is not the one that was meant is refused") {
  Initiator san;
  san.two_luns();
  auto storage = san.storage();
  must(storage.activate(lun(1, first)));

  SECTION("another LUN has its number") {
    san.host.put(FakeHost::lun(1, 1) + "/vpd_pg83", page_83("6000000000000000000000000000000e"));
    for (const Access access : {Access::read_only, Access::read_write}) {
      refused(storage.open_volume(lun(1, first), access), Errc::identity_changed);
    }
    const Error error = refusal_of(storage.activate(lun(1, first)), Errc::identity_changed);
    CHECK(has(error.detail(), "6000000000000000000000000000000e"));
    CHECK(error.object() == "san:" + lun(1, first).str());
    CHECK(must(storage.check()).size() == 1);
  }
  SECTION("it has another number") {
    san.host.put(FakeHost::lun(1, 1) + "/vpd_pg83", page_83(second));
    san.host.put(FakeHost::lun(1, 2) + "/vpd_pg83", page_83(first));
    refused(storage.activate(lun(1, first)), Errc::identity_changed);
    san.host.remove(FakeHost::lun(1, 1));
    CHECK(has(refusal_of(storage.info(lun(1, first)), Errc::identity_changed).detail(), "is LUN 0.0.2 now"));
  }
  SECTION("its link leads to a disk of somebody else") {
    san.host.link("by-id/scsi-3" + first, "../../sdz");
    refused(storage.activate(lun(1, first)), Errc::identity_changed);
  }
  SECTION("two paths lead to different LUNs") {
    san.log_in(2, "10.0.0.2");
    san.host.disk(2, 1, "sdc", second, 64 << 20);
    refused(storage.activate(lun(1, first)), Errc::identity_changed);
  }
  SECTION("the target has taken it away") {
    san.host.put("sys/block/sda/size", "0\n");
    refused(storage.activate(lun(1, first)), Errc::not_found);
    CHECK(names(must(storage.list())) == std::vector<std::string>{lun(2, second).str()});
    CHECK(must(storage.check()).size() == 1);
  }
  SECTION("it tells nothing of itself") {
    san.host.put(FakeHost::lun(1, 1) + "/vpd_pg83", std::string{"\x00\x83\xff\xff\x01\x03", 6});
    refused(storage.activate(lun(1, first)), Errc::identity_changed);
  }
}

TEST_CASE("OpenIscsi: a name without a serial number is a LUN only by udev's link of that name") {
  Initiator san;
  san.two_luns();
  auto storage = san.storage();
  const VolumeName named = volume_name("0.0.1.lvm-pv-uuid-a1");
  const auto refuses = [&](const VolumeName& volume, Errc code) {
    CAPTURE(volume.str());
    refused(storage.info(volume), code);
    refused(storage.activate(volume), code);
    for (const Access access : {Access::read_only, Access::read_write}) {
      refused(storage.open_volume(volume, access), code);
    }
  };
  SECTION("there is no such link") {
    for (const char* name :
         {"0.0.1.foo", "0.0.1.lvm-pv-uuid-a1", "0.0.1.dm-uuid-mpath-", "0.0.1.scsi-", "0.0.3.lvm-pv-uuid-a1"}) {
      refuses(volume_name(name), Errc::not_found);
    }
    CHECK(has(refusal_of(storage.info(named), Errc::not_found).detail(), san.host.at("by-id/lvm-pv-uuid-a1")));
  }
  SECTION("it leads to the LUN") {
    san.host.link("by-id/lvm-pv-uuid-a1", "../../sda");
    CHECK(must(storage.info(named)).size == 64_MiB);
    must(storage.activate(named));
    // As far as a file can be opened: it is no block device.
    refused(storage.open_volume(named, Access::read_only), Errc::invalid_argument);
  }
  SECTION("it leads to multipath over the LUN") {
    san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda"}, 64 << 20);
    san.host.link("by-id/dm-name-mpatha", "../../dm-0");
    must(storage.activate(volume_name("0.0.1.dm-name-mpatha")));
    refuses(volume_name("0.0.2.dm-name-mpatha"), Errc::identity_changed);
  }
  SECTION("it leads to a LUN of another number, or to a disk of somebody else") {
    san.host.link("by-id/lvm-pv-uuid-a1", "../../sdb");
    refuses(named, Errc::identity_changed);
    CHECK(has(refusal_of(storage.info(volume_name("0.0.3.lvm-pv-uuid-a1")), Errc::identity_changed).detail(),
              "is LUN 0.0.2 now"));
    san.host.link("by-id/lvm-pv-uuid-a1", "../../vda");
    refuses(named, Errc::identity_changed);
    san.host.link("by-id/lvm-pv-uuid-a1", "../../sda1");
    refuses(named, Errc::identity_changed);
  }
  SECTION("it is of the LUN that had this number before") {
    san.host.link("by-id/lvm-pv-uuid-a1", "../../sda");
    san.host.put(FakeHost::lun(1, 1) + "/vpd_pg83", page_83("6000000000000000000000000000000e"));
    refuses(named, Errc::identity_changed);
  }
}

TEST_CASE("OpenIscsi: no path that works, and one that does not answer") {
  Initiator san;
  san.two_luns();
  auto storage = san.storage(100ms);
  san.host.put(FakeHost::lun(1, 1) + "/state", "transport-offline\n");
  CHECK(has(refusal_of(storage.activate(lun(1, first)), Errc::unavailable).detail(), "sda at 10.0.0.1:3260"));
  CHECK(has(must(storage.status()).health.front(), "LUN 0.0.1 at 10.0.0.1:3260 is transport-offline"));

  san.host.put(FakeHost::lun(1, 1) + "/state", "running\n");
  const std::string rescan = san.host.at(FakeHost::lun(1, 1) + "/rescan");
  san.host.remove(FakeHost::lun(1, 1) + "/rescan");
  REQUIRE(::mkfifo(rescan.c_str(), 0600) == 0);  // who writes to it sleeps
  const auto begin = std::chrono::steady_clock::now();
  refused(storage.activate(lun(1, first)), Errc::timed_out);
  CHECK(std::chrono::steady_clock::now() - begin < 2s);
  // Wakes the sleeper.
  const Fd reader{::open(rescan.c_str(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 2> word{};
  CHECK(::read(reader.get(), word.data(), word.size()) == 2);
}

TEST_CASE("OpenIscsi: multipath is the LUN, LVM is a user of it") {
  Initiator san;
  san.two_luns();
  san.log_in(2, "10.0.0.2");
  san.host.disk(2, 1, "sdc", first, 64 << 20);
  san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda", "sdc"}, 64 << 20);
  san.host.mapper("dm-1", "vg-root", "LVM-abc", {"sdb"}, 128 << 20);
  auto storage = san.storage();
  san.host.link("by-id/scsi-3" + first, "../../dm-0");
  CHECK(names(must(storage.list())) == std::vector<std::string>{lun(1, first).str(), lun(2, second).str()});
  must(storage.activate(lun(1, first)));
  const auto luns = detail::group_luns(san.host.host(), detail::read_sessions(san.host.host(), target));
  REQUIRE(luns.size() == 2);
  CHECK(luns[0].device() == "dm-0");
  CHECK(luns[0].paths.size() == 2);
  CHECK(luns[1].device() == "sdb");
  CHECK(luns[1].multipath.empty());
  const Error error = refusal_of(storage.open_volume(lun(2, second), Access::read_write), Errc::in_use);
  CHECK(has(error.detail(), "LVM vg-root on sdb"));

  // without a link of the WWID, multipath's own
  san.host.remove("by-id/scsi-3" + first);
  san.host.link("by-id/dm-uuid-mpath-3" + first, "../../dm-0");
  CHECK(names(must(storage.list())).front() == "0.0.1.dm-uuid-mpath-3" + first);
  must(storage.activate(volume_name("0.0.1.dm-uuid-mpath-3" + first)));
}

TEST_CASE("OpenIscsi: multipath is told the size that its paths have now") {
  Initiator san;
  san.log_in(1, "10.0.0.1");
  san.log_in(2, "10.0.0.2");
  san.host.disk(1, 1, "sda", first, 96 << 20);
  san.host.disk(2, 1, "sdc", first, 96 << 20);
  san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda", "sdc"}, 64 << 20);
  san.host.link("by-id/scsi-3" + first, "../../dm-0");
  const std::vector<std::string> resize{san.host.at("bin/multipathd"), "resize", "map", "mpatha"};
  const auto told = [&] {
    int times = 0;
    for (const Command& command : san.runner.log()) times += command.argv == resize ? 1 : 0;
    return times;
  };
  san.runner.always(resize, [&](const Command& command) {
    CHECK(command.timeout == 2s);
    san.host.block("dm-0", 96 << 20);
    return Result<CommandOutput>{CommandOutput{.exit_code = 0, .out = "ok\n", .err = {}}};
  });
  auto storage = san.storage();
  SECTION("by the activation of the volume") {
    CHECK(must(storage.info(lun(1, first))).size == 64_MiB);
    must(storage.activate(lun(1, first)));
    CHECK(must(storage.info(lun(1, first))).size == 96_MiB);
    must(storage.activate(lun(1, first)));
    CHECK(told() == 1);
    CHECK(must(storage.check()).empty());
  }
  SECTION("by a rescan") {
    must(storage.backend().rescan());
    CHECK(must(storage.info(lun(1, first))).size == 96_MiB);
    CHECK(told() == 1);
  }
  SECTION("when it refuses, or is not there, it is told how to do it, and the volume is used as it was") {
    const std::string why = GENERATE("fail\n", "", "not installed");
    if (why == "not installed") san.host.remove("bin/multipathd");
    san.runner.always(resize, CommandOutput{.exit_code = 1, .out = why, .err = {}});  // no daemon: no words
    must(storage.activate());
    must(storage.activate(lun(1, first)));
    CHECK(must(storage.info(lun(1, first))).size == 64_MiB);
    const auto findings = must(storage.check());
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].object == "LUN 0.0.1");
    CHECK(has(findings[0].problem, "mpatha has 67108864 bytes, its paths have 100663296"));
    CHECK(findings[0].advice == "multipathd resize map mpatha");
    const auto rescanned = storage.backend().rescan();
    REQUIRE_FALSE(rescanned.has_value());
    CHECK(has(rescanned.error().message(), "mpatha"));
  }
  SECTION("not while its paths disagree") {
    san.host.block("sdc", 64 << 20);
    must(storage.activate(lun(1, first)));
    CHECK(told() == 0);
  }
}

TEST_CASE("OpenIscsi: a LUN that is gone is forgotten with its multipath device, unless that is used") {
  Initiator san;
  san.log_in(1, "10.0.0.1");
  san.log_in(2, "10.0.0.2");
  san.host.disk(1, 1, "sda", first, 64 << 20);
  san.host.disk(2, 1, "sdc", first, 64 << 20);
  san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda", "sdc"}, 64 << 20);
  san.host.link("by-id/scsi-3" + first, "../../dm-0");
  const std::vector<std::string> flush{san.host.at("bin/multipath"), "-f", "mpatha"};
  Result<CommandOutput> answer = CommandOutput{};
  san.runner.always(flush, [&](const Command&) {
    if (answer && answer->exit_code == 0) {
      for (const char* holder : {"sda/holders/dm-0", "sdc/holders/dm-0", "dm-0"}) {
        san.host.remove(std::string{"sys/block/"} + holder);
      }
    }
    return answer;
  });
  const auto forgotten = [&] {
    return (san.host.get(FakeHost::lun(1, 1) + "/delete") == "1\n" ? 1 : 0) +
           (san.host.get(FakeHost::lun(2, 1) + "/delete") == "1\n" ? 1 : 0);
  };
  const auto gone = [&] {
    san.host.block("sda", 0);
    san.host.block("sdc", 0);
    for (const char* disk : {"sda", "sdc"}) {
      san.host.put(std::string{"sys/block/"}.append(disk).append("/holders/dm-0"), "");
    }
  };
  auto storage = san.storage(1s);
  SECTION("unused") {
    gone();
    must(storage.backend().rescan());
    CHECK(forgotten() == 2);
  }
  SECTION("replaced by another one") {
    for (const int session : {1, 2}) san.host.put(FakeHost::lun(session, 1) + "/vpd_pg83", page_83(second));
    san.host.link("by-id/scsi-3" + second, "../../sda");
    must(storage.backend().rescan());
    CHECK(forgotten() == 2);
  }
  SECTION("used") {
    gone();
    san.host.process(77, "qemu", "dm-0");
    must(storage.backend().rescan());
    CHECK(forgotten() == 0);
  }
  SECTION("multipath holds it") {
    gone();
    answer = CommandOutput{.exit_code = 1, .out = {}, .err = "mpatha: map in use\n"};
    must(storage.backend().rescan());
    CHECK(forgotten() == 0);
  }
  SECTION("one path still has it") {
    san.host.block("sda", 0);
    san.host.put("sys/block/sda/holders/dm-0", "");
    must(storage.backend().rescan());
    CHECK(forgotten() == 0);
    for (const Command& command : san.runner.log()) CHECK(command.argv != flush);
  }
}

TEST_CASE("OpenIscsi: without multipath the path that works is taken") {
  Initiator san;
  san.two_luns();
  san.log_in(2, "10.0.0.2", "FAILED");
  san.host.disk(2, 1, "sdc", first, 64 << 20);  // udev's link leads to it
  const auto luns = detail::group_luns(san.host.host(), detail::read_sessions(san.host.host(), target));
  REQUIRE_FALSE(luns.empty());
  CHECK(luns[0].linked == "sdc");
  CHECK(luns[0].device() == "sda");
  auto storage = san.storage();
  must(storage.activate(lun(1, first)));
  CHECK(san.host.get(FakeHost::lun(2, 1) + "/rescan").empty());
  CHECK(has(must(storage.check()).front().problem, "2 paths"));
}

TEST_CASE("OpenIscsi: a write-protected LUN is not opened for writing") {
  Initiator san;
  san.two_luns();
  san.host.put("sys/block/sda/ro", "1\n");
  auto storage = san.storage();
  refused(storage.open_volume(lun(1, first), Access::read_write), Errc::permission_denied);
}

TEST_CASE("OpenIscsi: who has a LUN open for writing is alone, when udev has looked") {
  Initiator san;
  san.two_luns();
  const auto luns = detail::group_luns(san.host.host(), detail::read_sessions(san.host.host(), target));
  REQUIRE(luns.size() == 2);
  std::stop_source stop;
  const auto alone = [&](std::chrono::milliseconds patience) {
    return detail::check_no_other_user(san.host.host(), luns[1], 7, stop.get_token(), patience);
  };
  san.host.process(::getpid(), "unit", "sdb");  // ours, descriptor 7
  san.host.process(70, "(udev-worker)", "sdb");
  san.host.process(71, "qemu", "sda");
  must(alone(0ms));
  san.host.process(77, "qemu-system-x86", "sdb");
  CHECK(
      has(refusal_of(alone(1ms), Errc::in_use).detail(), "LUN 0.0.2 (scsi-3" + second + ") is in use by: process 77"));
  san.host.process(77, "pvscan", "sdb");
  {
    const std::jthread done{[&] {
      std::this_thread::sleep_for(50ms);
      san.host.remove("proc/77");
    }};
    must(alone(20s));
  }
  san.host.process(77, "qemu-system-x86", "sdb");
  stop.request_stop();
  refused(alone(20s), Errc::cancelled);
}

TEST_CASE("OpenIscsi: a file in the place of a disk's node is not the LUN") {
  Initiator san;
  san.two_luns();
  auto storage = san.storage();
  must(storage.activate(lun(1, first)));
  for (const char* there : {"", "8:98\n"}) {  // a file, and the node of another disk
    san.host.put("dev/sda", there);
    const Error error = refusal_of(storage.activate(lun(1, first)), Errc::unavailable);
    CHECK(has(error.detail(), "'" + san.host.at("dev/sda") + "' is not the device 8:97"));
  }
}

TEST_CASE("OpenIscsi: nobody is logged out from what he uses") {
  Initiator san;
  san.two_luns();
  auto storage = san.storage();
  const auto refuses_for = [&](const std::string& user) {
    const Error error = refusal_of(storage.deactivate(), Errc::in_use);
    CHECK(has(error.detail(), user));
    CHECK(has(error.detail(), "LUN 0.0."));
    CHECK(san.runner.log().empty());
  };
  SECTION("LVM") {
    san.host.mapper("dm-1", "vg-root", "LVM-abc", {"sdb"}, 128 << 20);
    refuses_for("LVM vg-root on sdb");
  }
  SECTION("LVM on multipath") {
    san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda"}, 64 << 20);
    san.host.mapper("dm-1", "vg-root", "LVM-abc", {"dm-0"}, 64 << 20);
    refuses_for("LVM vg-root on dm-0");
  }
  SECTION("a file system on a partition") {
    san.host.put("sys/block/sdb/sdb1/partition", "1\n");
    san.host.put("sys/block/sdb/sdb1/dev", "8:17\n");
    san.host.put("proc/self/mountinfo", "40 22 8:17 / /srv rw - ext4 /dev/sdb1 rw\n");
    refuses_for("is in use by: sdb1 mounted on /srv");
  }
  SECTION("swap") {
    san.host.put("proc/swaps", san.host.at("dev/sdb") + " partition 1 0 -2\n");
    refuses_for("swap on sdb");
  }
  SECTION("md") {
    san.host.put("sys/block/sdb/holders/md0", "");
    refuses_for("md0 on sdb");
  }
  SECTION("a loop device, and what is mounted from it") {
    san.host.block("loop0", 64 << 20);
    san.host.put("sys/block/loop0/loop/backing_file", san.host.at("dev/sda") + "\n");
    san.host.put("proc/self/mountinfo", "40 22 " + FakeHost::number_of("loop0") + " / /srv rw - ext4 /dev/loop0 rw\n");
    refuses_for("in use by: loop0 on sda, loop0 mounted on /srv");
    CHECK(has(refusal_of(storage.open_volume(lun(1, first), Access::read_write), Errc::in_use).detail(),
              "in use by: loop0 on sda, loop0 mounted on /srv"));
  }
  SECTION("a program") {
    san.host.process(77, "qemu-system-x86", "sdb");
    san.host.process(78, "multipathd", "sda");
    refuses_for("process 77 (qemu-system-x86)");
  }
}

TEST_CASE("OpenIscsi: deactivation lets multipath go, then logs out of every session") {
  Initiator san;
  san.two_luns();
  san.log_in(12, "10.0.0.2");
  san.host.disk(12, 1, "sdc", first, 64 << 20);
  san.host.mapper("dm-0", "mpatha", "mpath-3" + first, {"sda", "sdc"}, 64 << 20);
  san.host.session(9, "iqn.other:1", "10.0.0.1");
  auto storage = san.storage();
  must(storage.deactivate());
  CHECK(san.ran() ==
        Initiator::Words{"-f mpatha", "--mode session --sid 1 --logout", "--mode session --sid 12 --logout"});
  san.runner.clear_log();
  must(storage.deactivate());
  CHECK(san.ran().empty());
  CHECK_FALSE(must(storage.status()).active);
}

TEST_CASE("OpenIscsi: a LUN that cannot be flushed is not logged out from, unless no path to it works") {
  Initiator san;
  san.two_luns();
  san.host.remove("dev/sdb");
  REQUIRE(::mkfifo(san.host.at("dev/sdb").c_str(), 0600) == 0);  // which has no fsync
  auto storage = san.storage();
  const Error error = refusal_of(storage.deactivate(), Errc::unavailable);
  CHECK(has(error.detail(), "flushing LUN 0.0.2 (scsi-3" + second + ") on " + san.host.at("dev/sdb")));
  CHECK(san.runner.log().empty());
  san.log_in(1, "10.0.0.1", "FAILED");
  must(storage.deactivate());
  CHECK(san.ran() == Initiator::Words{"--mode session --sid 1 --logout"});
}

TEST_CASE("OpenIscsi: a session that iscsid is bringing back is logged out when it is back") {
  Initiator san;
  san.two_luns();
  san.log_in(1, "10.0.0.1", "FAILED");
  const std::vector<std::string> logout{san.host.at("bin/iscsiadm"), "--mode", "session", "--sid", "1", "--logout"};
  const CommandOutput not_connected{
      .exit_code = 32, .out = {}, .err = "iscsiadm: initiator reported error (32 - target likely not connected)\n"};
  int tried = 0;
  san.runner.always(logout, [&](const Command&) -> Result<CommandOutput> {
    if (++tried == 1) return not_connected;
    if (san.host.get("sys/class/iscsi_session/session1/state") != "LOGGED_IN\n") return CommandOutput{.exit_code = 2};
    san.host.end_session(1);
    return CommandOutput{};
  });
  SECTION("it comes back") {
    const std::jthread iscsid{[&] {
      std::this_thread::sleep_for(50ms);
      san.host.put("sys/class/iscsi_session/session1/state", "LOGGED_IN\n");
    }};
    must(san.storage(20s).deactivate());
    CHECK(tried == 2);
  }
  SECTION("it ends meanwhile") {
    const std::jthread iscsid{[&] {
      std::this_thread::sleep_for(50ms);
      san.host.end_session(1);
    }};
    must(san.storage(20s).deactivate());
    CHECK(tried == 2);
  }
  SECTION("its portal is gone for good") {
    const Error error = refusal_of(san.storage(50ms).deactivate(), Errc::unavailable);
    CHECK(has(error.detail(), "logout from 10.0.0.1:3260: initiator reported error (32"));
    CHECK(tried == 1);
  }
}

TEST_CASE("OpenIscsi: a rescan asks each session, and forgets what is gone or replaced unless it is used") {
  Initiator san;
  san.two_luns();
  san.host.put("sys/block/sda/size", "0\n");
  san.host.put(FakeHost::lun(1, 2) + "/vpd_pg83", page_83("6000000000000000000000000000000e"));
  auto storage = san.storage(1s);
  const auto forgotten = [&](int number) { return san.host.get(FakeHost::lun(1, number) + "/delete") == "1\n"; };
  SECTION("unused") {
    must(storage.backend().rescan());
    CHECK((forgotten(1) && forgotten(2)));
    CHECK(san.ran() == Initiator::Words(2, "--mode session --sid 1 --rescan"));
  }
  SECTION("used") {
    san.host.process(77, "qemu", "sda");
    san.host.mapper("dm-1", "vg-root", "LVM-abc", {"sdb"}, 128 << 20);
    must(storage.backend().rescan());
    CHECK_FALSE((forgotten(1) || forgotten(2)));
    CHECK(must(storage.check()).size() == 2);
  }
}

TEST_CASE("OpenIscsi: what udev has not named yet is waited for") {
  Initiator san;
  san.host.put("queue", "");  // udev works
  san.at_login = [&] {
    san.two_luns();
    san.host.remove("by-id/scsi-3" + second);
  };
  auto storage = san.storage(200ms);
  CHECK(has(refusal_of(storage.activate(), Errc::timed_out).detail(), "LUN 0.0.2"));
  san.host.remove("queue");  // it has done what it could
  auto patient = san.storage(5s);
  must(patient.activate());
  CHECK(must(patient.list()).size() == 1);
  CHECK(has(must(patient.check()).front().problem, "udev has no name"));
}

TEST_CASE("OpenIscsi: an activation after one that ran out of time waits for what that one has waited for") {
  Initiator san;
  san.host.put("queue", "");
  // A name; the size of a disk, of which there is the folder only.
  const std::string late = GENERATE("by-id/scsi-3" + second, std::string{"sys/block/sdb"});
  san.at_login = [&] {
    san.two_luns();
    san.host.remove(late);
  };
  auto storage = san.storage(200ms);
  for (int times = 0; times < 2; ++times) {
    CHECK(has(refusal_of(storage.activate(), Errc::timed_out).detail(), "LUN 0.0.2"));
  }
  san.two_luns();
  must(storage.activate());
  CHECK(must(storage.list()).size() == 2);
}

TEST_CASE("OpenIscsi: scan gives targets and portals, and leaves no records") {
  Initiator san;
  san.told =
      "10.0.0.2:3260,1 iqn.b:1\n10.0.0.1:3260,1 iqn.b:1\n[fd00::1]:3260,-1 iqn.a:1\nnonsense\n10.0.0.1:3260,2 "
      "iqn.b:1\n";
  const auto targets =
      must(Initiator::Backend::scan(must(Portal::parse("[fd00::1]")), {}, san.runner, san.host.host()));
  REQUIRE(targets.size() == 2);
  CHECK(targets[0].target.str() == "iqn.a:1");
  CHECK(targets[1].portals.size() == 2);
  CHECK(san.ran() == Initiator::Words{"--mode discovery --type sendtargets --portal [fd00::1] --op nonpersistent"});
}

// The rows are of `iscsiadm --mode session`, which we do not ask: the kernel tells of the same sessions, whatever
// carries them ("iser transport ignored": not here) and without a note on flash ("old format": not lost here). What is
// no session there, an error of the tool among it, is none here.
TEST_CASE("iscsi_session: the reference's rows, as the kernel shows these sessions") {
  using Sessions = std::map<std::string, std::vector<std::pair<std::string, std::string>>>;
  for (const auto& row : vectors("iscsi_session")) {
    const std::string name = text(row, "name");
    CAPTURE(name);
    const FakeHost host;
    Sessions expected;
    const auto parsed = row.value("parsed", nlohmann::json::object());
    for (const auto& [iqn, sessions] : parsed.items()) {
      for (const auto& session : sessions) {
        expected[iqn].emplace_back(text(session, "session_id"), text(session, "portal"));
      }
    }
    if (name == "iser transport ignored" || name == "old format without flash note") {
      expected["iqn.a:1"] = {{"1", "10.0.0.1:3260"}};
    }
    Sessions found;
    for (const auto& line : row.at("lines")) {
      const std::string all = line.get<std::string>();
      const auto words = detail::words_of(all);
      REQUIRE(words.size() >= 4);
      const std::string portal{words[2].substr(0, words[2].rfind(','))};
      const std::size_t colon = portal.rfind(':');
      host.session(std::stoi(std::string{words[1].substr(1)}), std::string{words[3]}, portal.substr(0, colon),
                   portal.substr(colon + 1));
      found[std::string{words[3]}] = {};
    }
    for (auto& [iqn, sessions] : found) {
      for (const auto& session : detail::read_sessions(host.host(), iqn)) {
        sessions.emplace_back(session.number, session.portal);
      }
    }
    CHECK(found == expected);
    CHECK(detail::read_sessions(host.host(), "iqn.c:3").empty());
  }
}
