// The face of stowctl as far as it needs no server: table, configuration, usage, error lines, exit codes.

#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stowage/config/digest.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/features.hpp>
#include <string>

#include "../examples/stowctl/failure.hpp"
#include "support/stowctl.hpp"
#include "support/vectors.hpp"

using namespace stowage;
using stowage::testing::json;
using stowage::testing::Run;
using stowage::testing::Stowctl;

TEST_CASE("stowctl features: the table of features.hpp, in JSON and in words, without a configuration") {
  const Stowctl stowctl;
  std::filesystem::remove(stowctl.file("storage.cfg"));
  const json rows = stowctl.ask({"features"});
  REQUIRE(rows.size() == feature_table.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Features& row = *feature_table[i];
    CHECK(rows[i]["type"] == std::string{row.name});
    CHECK(rows[i]["shared"] == row.shared);
    CHECK(rows[i]["snapshots"] == row.can.has(Capability::snapshot));
    CHECK(rows[i]["clones"] == row.can.has(Capability::clone));
    CHECK(rows[i]["formats"] == json{"raw"});
    REQUIRE(rows[i]["can"].size() == static_cast<std::size_t>(Capability::count_));
    for (unsigned c = 0; c < static_cast<unsigned>(Capability::count_); ++c) {
      for (const State s : {State::current, State::base, State::snapshot}) {
        const json& states = rows[i]["can"][std::string{name(static_cast<Capability>(c))}];
        const bool listed = std::find(states.begin(), states.end(), std::string{name(s)}) != states.end();
        CHECK(listed == row.can.has(static_cast<Capability>(c), s));
      }
    }
  }
  CHECK(stowctl.ask({"features", "rbd"}).size() == 1);
  CHECK(stowctl.refused(3, {"features", "zfs"})["code"] == "not_found");
  const Run text = stowctl({"features"});
  CHECK(text.out.find("iscsidirect images         raw     yes    no        no") != std::string::npos);
}

TEST_CASE("stowctl: every Errc has the exit status of the contract") {
  using enum Errc;
  const std::map<Errc, int> contract{
      {invalid_argument, 2}, {parse_failed, 2},   {not_found, 3},         {already_exists, 4}, {not_supported, 5},
      {wrong_state, 5},      {timed_out, 6},      {unavailable, 6},       {in_use, 7},         {conflict, 7},
      {identity_changed, 7}, {no_space, 1},       {permission_denied, 1}, {corrupt, 1},        {outcome_unknown, 1},
      {command_failed, 1},   {backend_failed, 1}, {cancelled, 130}};
  CHECK(contract.size() == 18);
  for (const auto& [code, status] : contract) CHECK(stowctl::exit_status(code) == status);
}

TEST_CASE("stowctl: an error is one line, or with --json one object, and nothing is on stdout") {
  const Stowctl stowctl{"rbd: off\n\tdisable\n"};
  const Run text = stowctl({"list", "off"});
  CHECK(text.status == 5);
  CHECK(text.out.empty());
  CHECK(text.err == "stowctl: off: this storage is disabled (remove 'disable' from its section)\n");
  const json error = stowctl.refused(5, {"list", "off"});
  CHECK(error["code"] == "wrong_state");
  CHECK(error["storage"] == "off");
  CHECK(error["object"] == "off");
  CHECK(error["native"].is_null());
  CHECK(error["retryable"] == false);
  CHECK(error["message"].is_string());
  CHECK(stowctl({"list", "a"}).err.starts_with("stowctl: list: not a storage id"));
}

TEST_CASE("stowctl: wrong usage is 2, and says so in JSON too") {
  const Stowctl stowctl;
  const std::vector<std::vector<std::string>> all{{},
                                                  {"nonsense"},
                                                  {"list", "a", "b"},
                                                  {"--timeout", "0", "features"},
                                                  {"--timeout", "x", "features"},
                                                  {"--progress", "maybe", "features"},
                                                  {"alloc", "ceph"},
                                                  {"config"},
                                                  {"scan"},
                                                  {"list", "--vmid"},
                                                  {"recover", "ceph:vm-1-x", "--keep", "--finish"},
                                                  {"--nonsense"}};
  for (const auto& arguments : all) {
    const Run run = stowctl(arguments);
    CAPTURE(arguments, run.err);
    CHECK(run.status == 2);
    CHECK(run.out.empty());
    CHECK(run.err.starts_with("stowctl: usage: "));
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  }
  CHECK(stowctl.refused(2, {"nonsense"})["code"] == "invalid_argument");
  CHECK(stowctl({"--help"}).status == 0);
  CHECK(stowctl({"--version"}).out.starts_with("stowctl "));
  CHECK(stowctl({"alloc", "--help"}).out.find("SIZE") != std::string::npos);
}

TEST_CASE("stowctl: arguments that are not what they should be") {
  const Stowctl stowctl{"rbd: ceph\n\tmonhost 127.0.0.1:1\n"};
  CHECK(stowctl.refused(2, {"info", "ceph"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"info", "/dev/sda"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"alloc", "ceph", "99", "", "4G"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"recover", "--keep"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"recover", "ceph", "--adopt"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"recover", "a b:vm-1-x"})["code"] == "parse_failed");
  CHECK(stowctl.refused(3, {"recover", "nothing:vm-1-x"})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"alloc", "ceph", "1000000000", "", "4G"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"list", "ceph", "--content", "iso"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"export", "ceph:vm-1-x", "qcow2", "-"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"scan", "iscsidirect", "nas_1"})["code"] == "parse_failed");
  CHECK(stowctl.refused(3, {"list", "nothing"})["code"] == "not_found");
  CHECK(stowctl.refused(3, {"--config", "/nonexistent", "status"})["code"] == "not_found");
}

TEST_CASE("stowctl: sizes as pvesm reads them, and the suffixes, fractions and bytes that are ours") {
  for (const auto& row : testing::vectors("size_argument")) {
    const std::string text = row.at("size");
    const auto size = Bytes::parse(text);
    CAPTURE(text);
    if (row.contains("kib")) {
      REQUIRE(size);
      CHECK(size->count == row.at("kib").get<std::uint64_t>() * 1024);
    } else if (text == "-1") {
      CHECK_FALSE(size);
    } else {
      CHECK(size);  // 4T, 4g, 1.5G: ours
    }
  }
  const Stowctl stowctl{"rbd: ceph\n\tmonhost 127.0.0.1:1\n"};
  for (const char* bad : {"4x", "G", "1.G", "1e3", "0x10", "99999999999999999999", " 4G", "4 G", ""}) {
    CAPTURE(bad);
    CHECK(stowctl.refused(2, {"alloc", "ceph", "100", "", bad})["code"] == "parse_failed");
  }
  CHECK(stowctl.refused(2, {"alloc", "ceph", "100", "", "--", "-1"})["code"] == "parse_failed");
}

TEST_CASE("stowctl config check: every problem with its line, what is only advice is ok") {
  const std::string bad = "rbd: ceph\n\tpool p\n\tfoo bar\n\nrbd: far\n\tmonhost bad_host\n\nwhat: ever\n";
  const Stowctl stowctl{bad};
  const Run text = stowctl({"config", "check"});
  CHECK(text.status == 2);
  CHECK(text.out.find("storage.cfg:3: section 'ceph': 'foo': ") != std::string::npos);
  CHECK(text.out.find("storage.cfg:6: section 'far': 'monhost': ") != std::string::npos);
  CHECK(text.out.find("storage.cfg:8: section 'ever': ") != std::string::npos);
  const Run machine = stowctl({"--json", "config", "check"});
  CHECK(machine.status == 2);
  const json document = machine.document();
  CHECK(document["ok"] == false);
  CHECK(document["digest"] == config_digest(bad));
  REQUIRE(document["problems"].size() == 3);
  CHECK(document["problems"][0]["line"] == 3);
  CHECK(document["problems"][0]["section"] == "ceph");
  CHECK(document["problems"][0]["property"] == "foo");
  CHECK(document["problems"][2]["property"].is_null());

  const Stowctl advice{"iscsidirect: san\n\tportal nas\n\ttarget odd\n"};
  const json fine = advice.ask({"config", "check"});
  CHECK(fine["ok"] == true);
  CHECK(fine["problems"].size() == 1);
}

TEST_CASE("stowctl config show: typed, in the order of the file") {
  const Stowctl stowctl{
      "rbd: zeta\n\tkrbd\n\tnodes b,a\n\nnfs: share\n\tpath /m\n\tserver s\n\texport /e\n\nlvmthin: alpha\n\tvgname "
      "v1\n"
      "\tthinpool t1\n"};
  const json document = stowctl.ask({"config", "show"});
  REQUIRE(document["storages"].size() == 3);
  CHECK(document["storages"][0] == json{{"storage", "zeta"},
                                        {"type", "rbd"},
                                        {"krbd", true},
                                        {"content", "images"},
                                        {"nodes", "b,a"},
                                        {"shared", true}});
  CHECK(document["storages"][1]["server"] == "s");
  CHECK(document["storages"][2]["content"] == "images,rootdir");
  CHECK(document["storages"][2]["shared"] == false);
  CHECK(stowctl.ask({"config", "show", "alpha"})["storages"].size() == 1);
  CHECK(stowctl.refused(3, {"config", "show", "beta"})["code"] == "not_found");
  CHECK(stowctl({"config", "show", "alpha"}).out.starts_with("lvmthin: alpha\n\tvgname v1\n"));
}

TEST_CASE("stowctl: the environment names the files, and the command line wins") {
  Stowctl stowctl{"rbd: one\n"};
  stowctl.write("other.cfg", "rbd: two\n");
  CHECK(stowctl.ask({"config", "show"})["storages"][0]["storage"] == "one");
  CHECK(stowctl.ask({"--config", stowctl.file("other.cfg"), "config", "show"})["storages"][0]["storage"] == "two");
  CHECK(stowctl.ask({"config", "show", "--config", stowctl.file("other.cfg")})["storages"][0]["storage"] == "two");
}

TEST_CASE("stowctl status: a storage that is down hides none of the others, and delays them only so long") {
  const Stowctl stowctl{
      "rbd: dead\n\tmonhost 127.0.0.1:1\n\nrbd: off\n\tdisable\n\nrbd: there\n\tnodes not-this-node\n\n"
      "iscsidirect: gone\n\tportal 127.0.0.1:1\n\ttarget iqn.2001-04.com.example:t1\n\n"
      "dir: folder\n\tpath /x\n\nrbd: broken\n\tnodes bad_node\n"};
  const auto start = std::chrono::steady_clock::now();
  const json rows = stowctl.ask({"--timeout", "2", "status"});
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{8});
  REQUIRE(rows.size() == 4);  // not those that are no storages of ours
  CHECK(rows[0]["storage"] == "dead");
  CHECK(rows[0]["status"] == "inactive");
  CHECK(rows[0]["total"].is_null());
  CHECK(rows[0]["error"]["code"] == "unavailable");
  CHECK(rows[0]["content"] == "images");
  CHECK(rows[0]["shared"] == true);
  CHECK(rows[1]["storage"] == "gone");
  CHECK(rows[1]["status"] == "inactive");
  CHECK(rows[2]["status"] == "disabled");
  CHECK(rows[2]["error"].is_null());
  CHECK(rows[3]["status"] == "disabled");
  const Run text = stowctl({"--timeout", "2", "status", "off"});
  CHECK(text.status == 0);
  CHECK(text.out ==
        "Name         Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %\n"
        "off           rbd   disabled               0               0               0      N/A\n");
  CHECK(stowctl.refused(3, {"status", "nothing"})["code"] == "not_found");
  CHECK(stowctl.refused(5, {"status", "folder"})["code"] == "not_supported");
  CHECK(stowctl.refused(2, {"status", "broken"})["code"] == "parse_failed");
}

/// A port that takes connections, and never says a word.
class Hanging {
 public:
  Hanging() : fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<::sockaddr*>(&address);  // NOLINT(cppcoreguidelines-pro-type-reinterpret-cast)
    REQUIRE(::bind(fd_.get(), generic, size) == 0);
    REQUIRE(::listen(fd_.get(), 64) == 0);
    REQUIRE(::getsockname(fd_.get(), generic, &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] std::string portal() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  Fd fd_;
  unsigned port_ = 0;
};

TEST_CASE("stowctl list: of all storages, and those that hang cost their time together, not one after the other") {
  const Hanging port;
  std::string config = "rbd: off\n\tdisable\n\nrbd: there\n\tnodes not-this-node\n\ndir: folder\n\tpath /x\n\n";
  for (const char* id : {"s1", "s2", "s3", "s4", "s5"}) {
    config +=
        std::string{"iscsidirect: "} + id + "\n\tportal " + port.portal() + "\n\ttarget iqn.2001-04.com.example:t1\n\n";
  }
  config += "rbd: ceph\n\tmonhost " + port.portal() + "\n";
  const Stowctl stowctl{config};
  const auto start = std::chrono::steady_clock::now();
  const Run run = stowctl({"--timeout", "1", "list"});
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{4});
  CHECK(run.status == 6);
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 6);  // what is disabled is not asked
  for (const char* id : {"ceph", "s1", "s2", "s3", "s4", "s5"}) {
    CHECK(run.err.find(std::string{"stowctl: "} + id + ": ") != std::string::npos);
  }
  CHECK(stowctl.refused(5, {"list", "off"})["code"] == "wrong_state");
  const auto begin = std::chrono::steady_clock::now();
  const json rows = stowctl.ask({"--timeout", "1", "status"});
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{4});
  REQUIRE(rows.size() == 8);
  CHECK(rows[0]["status"] == "inactive");
  CHECK(rows[1]["status"] == "disabled");
}

TEST_CASE("stowctl list: of no storage at all") {
  const Stowctl stowctl;
  CHECK(stowctl.ask({"list"}) == json::array());
  CHECK(stowctl.ask({"status"}) == json::array());
}

TEST_CASE("stowctl copy: a file that takes the place of another has its owner and mode") {
  const Stowctl stowctl;
  stowctl.write("from", std::string(8192, 'a'));
  stowctl.write("to", "before");
  const std::string to = stowctl.file("to");
  REQUIRE(::chmod(to.c_str(), 0604) == 0);
  const bool is_root = ::geteuid() == 0;
  if (is_root) REQUIRE(::chown(to.c_str(), 65534, 65534) == 0);
  stowctl.refused(4, {"copy", stowctl.file("from"), to});
  CHECK(stowctl.ask({"--yes", "copy", stowctl.file("from"), to})["bytes"] == 8192);
  struct ::stat now {};
  REQUIRE(::stat(to.c_str(), &now) == 0);
  CHECK((now.st_mode & 07777U) == 0604);
  if (is_root) CHECK((now.st_uid == 65534 && now.st_gid == 65534));
  CHECK(stowctl.read("to") == std::string(8192, 'a'));
}

TEST_CASE("stowctl: a result that cannot be written is no success") {
  const Stowctl stowctl;
  const std::string command = "'" STOWAGE_TEST_STOWCTL "' features >/dev/full 2>/dev/null";
  CHECK(WEXITSTATUS(std::system(command.c_str())) == 1);  // NOLINT(concurrency-mt-unsafe)
}

TEST_CASE("stowctl add, set, remove: only what was asked for differs, and the section is shown") {
  const std::string house =
      "# our storages, by hand\n\ndir: local\n\tpath /var/lib/vz\n\n# a plugin of ours\nlinstor: odd\n\tcontroller "
      "x\n\n"
      "rbd: ceph\n    pool   one   \n\t# do not touch\n    krbd\n\nlvmthin: broken\n\tvgname pve\n";
  const Stowctl stowctl{house};
  const json added = stowctl.ask({"add", "lvmthin", "thin", "--vgname", "pve", "--thinpool", "data", "--nodes", "b,a"});
  CHECK(added == json{{"storage", "thin"},
                      {"type", "lvmthin"},
                      {"thinpool", "data"},
                      {"vgname", "pve"},
                      {"nodes", "a,b"},
                      {"content", "images,rootdir"},
                      {"shared", false}});
  const std::string with_thin = house + "\nlvmthin: thin\n\tthinpool data\n\tvgname pve\n\tnodes a,b\n\n";
  CHECK(stowctl.read("storage.cfg") == with_thin);
  CHECK(stowctl.refused(4, {"add", "rbd", "ceph"})["code"] == "already_exists");

  const Run set = stowctl({"set", "ceph", "--pool", "two", "--namespace", "n", "--delete", "krbd"});
  CHECK(set.status == 0);
  CHECK(set.out == "rbd: ceph\n\tpool two\n\tnamespace n\n\tcontent images\n\tshared true\n");
  std::string after = with_thin;
  after.replace(after.find("pool   one"), 10, "pool   two");
  after.replace(after.find("    krbd\n"), 9, "    namespace n\n");
  CHECK(stowctl.read("storage.cfg") == after);

  CHECK(stowctl.ask({"remove", "thin"}) == json{{"removed", "thin"}});
  CHECK(stowctl({"remove", "broken"}).out == "Removed storage 'broken'\n");
  after = after.substr(0, after.find("lvmthin: broken"));
  CHECK(stowctl.read("storage.cfg") == after);
  CHECK(stowctl.refused(3, {"remove", "thin"})["code"] == "not_found");
  CHECK(stowctl.refused(5, {"remove", "local"})["code"] == "not_supported");
}

TEST_CASE("stowctl add, set, remove: a file of many years keeps all but the lines that were asked for") {
  std::ifstream in{STOWAGE_TEST_DATA "/storage.cfg", std::ios::binary};
  const std::string house{std::istreambuf_iterator<char>{in}, {}};
  REQUIRE(house.size() > 1000);
  const Stowctl stowctl{house};
  stowctl.write("house", house);
  struct Case {
    std::vector<std::string> arguments;
    std::string difference;  // as `diff -U0` shows it
  };
  const std::vector<Case> all{
      {{"set", "basement", "--pool", "new", "--krbd", "--delete", "username"},
       "@@ -28,2 +28 @@\n-    username  old-admin\n-    pool  disks # fast ones\n+    pool  new\n"
       "@@ -31,0 +31 @@\n+\tkrbd 1\n"},
      {{"set", "local-lvm", "--content", "images"}, "@@ -11 +11 @@\n-\tcontent rootdir,images\n+\tcontent images\n"},
      {{"set", "san", "--delete", "nodes", "--disable"}, "@@ -56 +56 @@\n-\tnodes pve1,pve2\n+\tdisable\n"},
      {{"set", "tape", "--content", "images"}, "@@ -71,0 +72 @@\n+\tcontent images\n"},
      {{"remove", "half"}, "@@ -64,3 +63,0 @@\n-lvmthin: half\n-\tvgname pve\n-\n"},
      {{"remove", "san-lvm"},
       "@@ -58,6 +57,0 @@\n-lvm: san-lvm\n-\tvgname vg_san\n-\tbase san:0.0.1.scsi-36001405f\n-\tshared 1\n"
       "-\tcontent images\n-\n"}};
  for (const Case& c : all) {
    CAPTURE(c.arguments);
    stowctl.write("storage.cfg", house);
    CHECK(stowctl(c.arguments).status == 0);
    const std::string command = "diff -U0 '" + stowctl.file("house") + "' '" + stowctl.file("storage.cfg") +
                                "' | sed 1,2d >'" + stowctl.file("difference") + "'";
    REQUIRE(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
    CHECK(stowctl.read("difference") == c.difference);
  }
  // Its last line has no end.
  stowctl.write("storage.cfg", house);
  CHECK(stowctl({"add", "rbd", "extra", "--pool", "more", "--content", "rootdir,images"}).status == 0);
  CHECK(stowctl.read("storage.cfg") == house + "\n\nrbd: extra\n\tcontent images,rootdir\n\tpool more\n\n");
  stowctl.write("storage.cfg", house);
  CHECK(stowctl({"set", "far", "--namespace", "x"}).status == 0);
  CHECK(stowctl.read("storage.cfg") == house + "\n\tnamespace x\n");
  // The mistakes that make a change a guess: two sections without an empty line between them.
  stowctl.write("storage.cfg", house);
  CHECK(stowctl.refused(5, {"set", "ceph-vm", "--disable"})["message"].get<std::string>().find("line 19") !=
        std::string::npos);
  CHECK(stowctl.refused(5, {"remove", "ceph-vm"})["object"] == "ceph-vm");
  CHECK(stowctl.refused(3, {"set", "ceph-ct", "--disable"})["code"] == "not_found");
  CHECK(stowctl.refused(7, {"remove", "san"})["code"] == "in_use");
  CHECK(stowctl.refused(5, {"remove", "backup"})["code"] == "not_supported");
  CHECK(stowctl.refused(2, {"set", "half", "--thinpool", "data"})["code"] == "invalid_argument");
  CHECK(stowctl.read("storage.cfg") == house);
}

TEST_CASE("stowctl add, set, remove: a configuration of the cluster is changed under pvesm's lock") {
  Stowctl stowctl{"rbd: ceph\n\tpool one\n"};
  stowctl.environment("STOWAGE_CLUSTER=" + stowctl.file(""));
  std::filesystem::create_directories(stowctl.file("priv/lock/file-storage_cfg"));
  const auto start = std::chrono::steady_clock::now();
  const json error = stowctl.refused(6, {"--timeout", "0.3", "set", "ceph", "--pool", "two"});
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{5});
  CHECK(error["code"] == "timed_out");
  CHECK(error["object"] == stowctl.file("storage.cfg"));
  CHECK(error["message"].get<std::string>().find("priv/lock/file-storage_cfg") != std::string::npos);
  CHECK(stowctl.read("storage.cfg") == "rbd: ceph\n\tpool one\n");
  std::filesystem::remove(stowctl.file("priv/lock/file-storage_cfg"));
  CHECK(stowctl.ask({"set", "ceph", "--pool", "two"})["pool"] == "two");
  CHECK(std::filesystem::is_empty(stowctl.file("priv/lock")));
  CHECK_FALSE(std::filesystem::exists(stowctl.file("storage.cfg.lock")));
}

TEST_CASE("stowctl add, set, remove: a dry run shows the difference, and makes none") {
  const std::string text = "rbd: ceph\n\tpool one\n";
  const Stowctl stowctl{text};
  const Run set = stowctl({"--dry-run", "set", "ceph", "--pool", "two"});
  CHECK(set.status == 0);
  CHECK(set.out == "@@ -2 +2 @@ rbd: ceph\n-\tpool one\n+\tpool two\n");
  const json add = stowctl.ask({"--dry-run", "add", "rbd", "more"});
  CHECK(add["dry_run"] == true);
  CHECK(add["diff"] == "@@ -2,0 +3,3 @@ rbd: ceph\n+\n+rbd: more\n+\n");
  CHECK(stowctl({"--dry-run", "remove", "ceph"}).out == "@@ -1,2 +0,0 @@ rbd: ceph\n-rbd: ceph\n-\tpool one\n");
  CHECK(stowctl({"--dry-run", "set", "ceph", "--pool", "one"}).out.starts_with("nothing would change"));
  CHECK(stowctl.read("storage.cfg") == text);
  CHECK_FALSE(std::filesystem::exists(stowctl.file("storage.cfg.lock")));
}

TEST_CASE("stowctl add, set: a switch may stand alone, and has the names that pvesm knows") {
  const Stowctl stowctl;
  CHECK(stowctl.ask({"add", "rbd", "ceph", "--krbd", "--pool", "p"})["krbd"] == true);
  for (const char* off : {"0", "off", "NO", "False"}) {
    CHECK(stowctl.ask({"set", "ceph", "--krbd", off})["krbd"] == false);
    CHECK(stowctl.ask({"set", "ceph", "--krbd", "yes"})["krbd"] == true);
  }
  CHECK(stowctl.refused(2, {"set", "ceph", "--krbd", "maybe"})["code"] == "parse_failed");
  CHECK(stowctl.ask({"set", "ceph", "--disable"})["disable"] == true);
  CHECK(stowctl.read("storage.cfg") == "rbd: ceph\n\tkrbd 1\n\tpool p\n\tdisable\n\n");
  CHECK_FALSE(stowctl.ask({"set", "ceph", "--disable", "off"}).contains("disable"));
}

TEST_CASE("stowctl set, remove: the digest of another file is a conflict, wrong usage is 2") {
  const Stowctl stowctl{
      "rbd: ceph\n\niscsi: san\n\tportal nas\n\ttarget iqn.2001-04.com.example:t1\n\nlvm: top\n\tvgname "
      "v1\n\tbase san:0.0.1.x\n"};
  const std::string digest = stowctl.ask({"config", "check"})["digest"];
  CHECK(stowctl.ask({"set", "ceph", "--pool", "p", "--digest", digest})["pool"] == "p");
  CHECK(stowctl.refused(7, {"set", "ceph", "--pool", "q", "--digest", digest})["code"] == "conflict");
  CHECK(stowctl.refused(7, {"remove", "ceph", "--digest", digest})["code"] == "conflict");
  CHECK(stowctl.refused(7, {"remove", "san"})["code"] == "in_use");
  CHECK(stowctl.refused(2, {"set", "san", "--portal", "other"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"set", "ceph", "--pool", "q", "--delete", "pool"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"set", "ceph", "--nonsense", "q"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"add", "lvmthin", "thin", "--vgname", "pve"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(2, {"add", "rbd", "x"})["code"] == "parse_failed");
  CHECK(stowctl.refused(3, {"--config", "/nonexistent", "set", "ceph"})["code"] == "not_found");
}

TEST_CASE("stowctl add, set: keys come from files, and are never shown") {
  Stowctl stowctl;
  stowctl.write("key", "[client.joe]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n");
  stowctl.write("chap", "user=joe\npassword=verysecretword\n");
  const Run add =
      stowctl({"add", "rbd", "far", "--monhost", "10.0.0.1", "--username", "joe", "--keyring", stowctl.file("key")});
  CHECK(add.status == 0);
  CHECK(add.err.empty());
  CHECK(add.out.find("AQB") == std::string::npos);
  CHECK(stowctl.read("priv/ceph/far.keyring") == stowctl.read("key"));
  const Run san = stowctl({"add", "iscsidirect", "san", "--portal", "nas", "--target", "iqn.2001-04.com.example:t1",
                           "--chap", stowctl.file("chap")});
  CHECK(san.status == 0);
  CHECK(stowctl.read("priv/iscsi/san.chap").ends_with(stowctl.read("chap")));
  CHECK(stowctl.read("storage.cfg").find("secret") == std::string::npos);
  CHECK(stowctl.refused(3, {"set", "far", "--keyring", stowctl.file("none")})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"set", "far", "--chap", stowctl.file("chap")})["code"] == "parse_failed");
  CHECK(stowctl({"set", "san", "--delete", "chap"}).status == 0);
  CHECK_FALSE(std::filesystem::exists(stowctl.file("priv/iscsi/san.chap")));
  CHECK(stowctl({"set", "far", "--delete", "keyring"}).status == 0);
  CHECK_FALSE(std::filesystem::exists(stowctl.file("priv/ceph/far.keyring")));
  const Run none = stowctl({"add", "rbd", "more", "--monhost", "10.0.0.2"});
  CHECK(none.status == 0);
  CHECK(none.err.find("without authentication") != std::string::npos);
}
