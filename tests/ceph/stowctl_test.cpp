// The life of a volume through the command line, on the real cluster; and QEMU reads what stowctl says.

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>

#include "support/lab.hpp"
#include "support/stowctl.hpp"

using stowage::testing::json;
using stowage::testing::Run;
using stowage::testing::Server;
using stowage::testing::Stowctl;

namespace {

/// Guests of these tests have numbers of their own: the cluster is shared.
constexpr const char* guest = "7100";

struct Ceph {
  Server server = Server::shared("ceph");
  Stowctl stowctl{"rbd: ceph\n\tmonhost " + server["MONHOST"] + "\n\tpool rbd\n\tcontent images,rootdir\n\n" +
                  "rbd: managed\n\tpool other\n\n" + "rbd: wrong-key\n\tpool rbd\n\n" + "rbd: no-pool\n\tmonhost " +
                  server["MONHOST"] + "\n\tpool nothing\n\n" + "rbd: dead\n\tmonhost 127.0.0.1:1\n"};

  Ceph() {
    for (const char* id : {"ceph", "managed", "no-pool"}) copy_key(id);
    stowctl.write("priv/ceph/wrong-key.keyring", "[client.admin]\n\tkey = AQAAAAAAAAAAABAAQUJDREVGR0hJSktMTU5PUA==\n");
    stowctl.environment("STOWAGE_CEPH_CONF=" + server["CONF"]);
    sweep();
  }
  Ceph(const Ceph&) = delete;
  Ceph& operator=(const Ceph&) = delete;
  ~Ceph() { sweep(); }

  void copy_key(const std::string& id) const {
    std::filesystem::copy_file(server["KEYRING"], stowctl.file("priv/ceph/" + id + ".keyring"));
  }
  /// Whatever an earlier run left: clones first, templates last.
  void sweep() const {
    for (const char* id : {"ceph", "managed"}) {
      for (int round = 0; round < 3; ++round) {
        const Run listed = stowctl({"--json", "list", id, "--vmid", guest});
        if (listed.status != 0) return;
        for (const json& volume : listed.document()) stowctl({"free", volume["volid"], "--snapshots"});
      }
    }
  }
  [[nodiscard]] std::string alloc(const std::string& size = "8M", const std::string& storage = "ceph") const {
    return stowctl.ask({"alloc", storage, guest, "", size})["volid"];
  }
};

std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random{seed};
  std::string data(size, '\0');
  for (char& c : data) c = static_cast<char>(random() & 0xFFU);
  return data;
}

}  // namespace

TEST_CASE("stowctl on Ceph: beside pvesm it takes turns under the lock of the storage") {
  Ceph lab;
  Stowctl& stowctl = lab.stowctl;
  stowctl.environment("STOWAGE_CLUSTER=" + stowctl.file(""));
  const std::string disk = lab.alloc();
  const std::string lock = stowctl.file("priv/lock/storage-ceph");
  REQUIRE_FALSE(std::filesystem::exists(lock));
  REQUIRE(std::filesystem::create_directory(lock));  // somebody else's turn
  for (const auto& arguments : {std::vector<std::string>{"alloc", "ceph", guest, "", "8M"},
                                {"free", disk},
                                {"rename", disk, "vm-7100-other"},
                                {"template", disk}}) {
    CAPTURE(arguments);
    std::vector<std::string> all{"--timeout", "2"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const json error = stowctl.refused(6, all);
    CHECK(error["code"] == "timed_out");
    CHECK(error["message"].get<std::string>().find(lock) != std::string::npos);
  }
  // What it does not touch goes on.
  CHECK(stowctl.ask({"list", "ceph", "--vmid", guest}).size() == 1);
  CHECK(stowctl({"snapshot", disk, "s1"}).status == 0);
  CHECK(stowctl({"resize", disk, "+8M"}).status == 0);
  // It waits for its turn, and Ctrl-C ends that.
  const auto waiting = stowctl.start({"alloc", "ceph", guest, "", "8M"});
  std::this_thread::sleep_for(std::chrono::milliseconds{1500});
  ::kill(waiting.pid, SIGINT);
  CHECK(Stowctl::finish(waiting).status == 130);
  CHECK(std::filesystem::remove(lock));
  CHECK(stowctl({"free", disk, "--snapshots"}).status == 0);
  CHECK_FALSE(std::filesystem::exists(lock));
}

TEST_CASE("stowctl on Ceph: the life of a volume") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.alloc("5000");  // KiB, rounded up to MiB
  CHECK(volid == "ceph:vm-7100-disk-0");
  CHECK(stowctl({"alloc", "ceph", guest, "vm-7100-cloudinit", "4M"}).out ==
        "successfully created 'ceph:vm-7100-cloudinit'\n");

  const json listed = stowctl.ask({"list", "ceph", "--vmid", guest});
  REQUIRE(listed.size() == 2);
  CHECK(listed[0]["volid"] == "ceph:vm-7100-cloudinit");
  CHECK(listed[1]["format"] == "raw");
  CHECK(listed[1]["size"] == 5 << 20);
  CHECK(listed[1]["vmid"] == 7100);
  CHECK(listed[1]["state"] == "current");
  CHECK(listed[1]["content"].is_null());  // the storage holds both kinds, and no guest is configured
  CHECK(listed[1]["ctime"].is_number_integer());

  CHECK(stowctl.ask({"resize", volid, "+3M"}) == json{{"volid", volid}, {"size", 8 << 20}});
  CHECK(stowctl.refused(2, {"resize", volid, "1M"})["code"] == "invalid_argument");

  CHECK(stowctl.ask({"snapshot", volid, "s1"}) == json{{"volid", volid}, {"snapshot", "s1"}});
  CHECK(stowctl.refused(4, {"snapshot", volid, "s1"})["code"] == "already_exists");
  CHECK(stowctl.refused(2, {"snapshot", volid, "1"})["code"] == "parse_failed");
  const json snapshots = stowctl.ask({"snapshots", volid});
  REQUIRE(snapshots.size() == 1);
  CHECK(snapshots[0]["name"] == "s1");
  CHECK(snapshots[0]["size"] == 8 << 20);
  CHECK(snapshots[0]["protected"].is_boolean());
  CHECK(stowctl.ask({"info", volid})["snapshots"] == snapshots);

  const std::string clone = stowctl.ask({"clone", volid, guest, "--snapshot", "s1"})["volid"];
  const json busy = stowctl.refused(7, {"free", volid, "--snapshots"});
  CHECK(busy["code"] == "in_use");
  CHECK(busy["message"].get<std::string>().find(clone.substr(5)) != std::string::npos);  // it says which
  CHECK(stowctl.refused(5, {"clone", volid, guest})["code"] == "wrong_state");
  CHECK(stowctl.ask({"info", clone})["parent"] == "rbd/vm-7100-disk-0@s1");
  stowctl.ask({"flatten", clone});
  CHECK_FALSE(stowctl.ask({"info", clone}).contains("parent"));
  stowctl.ask({"delsnapshot", volid, "s1"});

  const std::string base = stowctl.ask({"template", volid})["volid"];
  CHECK(base == "ceph:base-7100-disk-0");
  const std::string linked = stowctl.ask({"clone", base, guest, "--name", "vm-7100-root"})["volid"];
  CHECK(linked == "ceph:base-7100-disk-0/vm-7100-root");
  CHECK(stowctl.ask({"info", base})["state"] == "base");
  CHECK(stowctl.refused(7, {"free", base})["code"] == "in_use");

  CHECK(stowctl.ask({"rename", clone, "vm-7100-moved"})["volid"] == "ceph:vm-7100-moved");
  CHECK(stowctl.ask({"activate", "ceph:vm-7100-moved"}) == json{{"active", true}});
  stowctl.ask({"snapshot", "ceph:vm-7100-moved", "s1"});
  CHECK(stowctl.ask({"activate", "ceph:vm-7100-moved", "--snapshot", "s1"}) == json{{"active", true}});
  CHECK(stowctl.ask({"deactivate", "ceph:vm-7100-moved", "--snapshot", "s1"}) == json{{"active", false}});
  CHECK(stowctl.refused(3, {"activate", "ceph:vm-7100-moved", "--snapshot", "s2"})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"activate", "ceph", "--snapshot", "s1"})["code"] == "invalid_argument");
  const json mapped = stowctl.ask({"path", "ceph:vm-7100-moved", "--snapshot", "s1", "--kernel"});  // krbd 0
  CHECK(mapped["path"].get<std::string>().ends_with("/vm-7100-moved@s1"));
  CHECK(mapped["path"].get<std::string>().starts_with("/dev/rbd"));
  CHECK(stowctl.ask({"blockdev", "ceph:vm-7100-moved", "--kernel"})["driver"] == "host_device");
  CHECK(stowctl.ask({"blockdev", "ceph:vm-7100-moved"})["driver"] == "rbd");
  CHECK(stowctl.refused(5, {"--yes", "rollback", "ceph:vm-7100-moved", "s1", "--at-next-activation"})["code"] ==
        "not_supported");
  stowctl.ask({"delsnapshot", "ceph:vm-7100-moved", "s1"});
  CHECK(stowctl.ask({"free", "ceph:vm-7100-moved"}) == json{{"freed", "ceph:vm-7100-moved"}});
  CHECK(stowctl.refused(3, {"free", "ceph:vm-7100-moved"})["code"] == "not_found");
  CHECK(stowctl.ask({"check", "ceph"}).is_array());
  const json nothing{{"done", json::array()}, {"busy", json::array()}, {"left", json::array()}};
  CHECK(stowctl.ask({"recover", "ceph"}) == nothing);
  CHECK(stowctl.ask({"--dry-run", "recover", "ceph"}) == nothing);
}

TEST_CASE("stowctl on Ceph: a stream out and in again, through files and pipes, of today and of a snapshot") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string data = noise(3'000'001, 1) + std::string(4 << 20, '\0') + noise(100, 2);
  stowctl.write("image.raw", data);
  const json made = stowctl.ask({"import", "ceph:vm-7100-disk-3", "raw", stowctl.file("image.raw")});
  CHECK(made == json{{"volid", "ceph:vm-7100-disk-3"}, {"bytes", data.size()}});
  const std::string volid = made["volid"];
  stowctl.ask({"snapshot", volid, "s1"});

  // QEMU writes into it, by the path that stowctl tells.
  const std::string path = stowctl.ask({"path", volid})["path"];
  const std::string write = "qemu-io -f raw -c 'write -P 7 0 65536' '" + path + "' >/dev/null 2>&1";
  REQUIRE(std::system(write.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)

  const std::string out = stowctl.file("out");
  CHECK(stowctl.ask({"export", volid, "raw", out})["bytes"].get<std::uint64_t>() % (1 << 20) == 0);
  CHECK(stowctl.read("out").substr(0, 65536) == std::string(65536, 7));
  CHECK(stowctl.refused(4, {"export", volid, "raw", out})["code"] == "already_exists");
  stowctl.ask({"--yes", "export", volid, "raw", out, "--snapshot", "s1"});
  CHECK(stowctl.read("out").substr(0, data.size()) == data);
  stowctl.ask({"rollback", volid, "s1"});

  const Run stream = stowctl({"export", volid, "raw+size", "-"});
  REQUIRE(stream.status == 0);
  CHECK(stream.err.empty());
  CHECK(stream.out.substr(0, 8) == std::string{"\x00\x00\x70\x00\x00\x00\x00\x00", 8});  // 7 MiB
  CHECK(stream.out.substr(8, data.size()) == data);
  const json copy = stowctl.ask({"import", volid, "raw+size", "-", "--allow-rename"}, stream.out);
  CHECK(copy["volid"] == "ceph:vm-7100-disk-0");
  CHECK(stowctl.refused(4, {"import", volid, "raw+size", "-"}, stream.out)["code"] == "already_exists");
  stowctl.ask({"--yes", "export", copy["volid"], "raw", out});
  CHECK(stowctl.read("out") == stream.out.substr(8));

  // Written by hand: three bytes in, and the MiB that they have become out.
  const std::string three{"\x03\x00\x00\x00\x00\x00\x00\x00xyz", 11};
  CHECK(stowctl.ask({"import", "ceph:vm-7100-three", "raw+size", "-"}, three)["bytes"] == 3);
  const Run mebibyte = stowctl({"export", "ceph:vm-7100-three", "raw+size", "-"});
  CHECK((mebibyte.out == std::string{"\x00\x00\x10\x00\x00\x00\x00\x00xyz", 11} + std::string((1 << 20) - 3, '\0')));

  const std::size_t before = stowctl.ask({"list", "ceph", "--vmid", guest}).size();
  const std::string half = stream.out.substr(0, stream.out.size() / 2);
  CHECK(stowctl.refused(1, {"import", "ceph:vm-7100-half", "raw+size", "-"}, half)["code"] == "corrupt");
  CHECK(stowctl.refused(1, {"import", "ceph:vm-7100-half", "raw+size", "-"}, "abc")["code"] == "corrupt");
  CHECK(stowctl.refused(2, {"import", "ceph:vm-7100-half", "raw", "-"}, "abc")["code"] == "invalid_argument");
  CHECK(stowctl.refused(3, {"import", "ceph:vm-7100-half", "raw", "/nonexistent"})["code"] == "not_found");
  CHECK(stowctl.ask({"list", "ceph", "--vmid", guest}).size() == before);
  CHECK_FALSE(std::filesystem::exists(stowctl.file("out.partial")));
}

TEST_CASE("stowctl on Ceph: Ctrl-C in the middle of an import leaves nothing behind") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  // A stream that promises 64 MiB, and stalls after one.
  std::string start{"\0\0\0\4\0\0\0\0", 8};
  start += noise(1 << 20, 3);
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto running = stowctl.start({"--json", "import", "ceph:vm-7100-stuck", "raw+size", "-"}, start, true);
    for (int tries = 0; tries < 250 && stowctl.ask({"list", "ceph", "--vmid", guest}).empty(); ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    const json listed = stowctl.ask({"list", "ceph", "--vmid", guest});
    REQUIRE(listed.size() == 1);
    CHECK(listed[0]["state"] == "incomplete");
    CHECK(listed[0]["intent"] == "import");
    REQUIRE(::kill(running.pid, signal) == 0);
    const Run run = Stowctl::finish(running);
    CHECK(run.status == 130);
    CHECK(run.error()["code"] == "cancelled");
    CHECK(stowctl.ask({"list", "ceph", "--vmid", guest}).empty());
  }
}

TEST_CASE("stowctl on Ceph: --dry-run changes nothing, and finds out what can be known") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.alloc();
  const json before = stowctl.ask({"list", "ceph"});
  const std::vector<std::vector<std::string>> changes{
      {"alloc", "ceph", guest, "", "1G"},
      {"free", volid},
      {"resize", volid, "1G"},
      {"snapshot", volid, "s1"},
      {"rollback", volid, "s1"},
      {"delsnapshot", volid, "s1"},
      {"template", volid},
      {"flatten", volid},
      {"rename", volid, "7101"},
      {"export", volid, "raw", stowctl.file("none")},
      {"import", "ceph:vm-7100-new", "raw", stowctl.file("storage.cfg")},
      {"clone", volid, guest, "--snapshot", "s1"},
      {"activate", volid}};
  for (auto arguments : changes) {
    CAPTURE(arguments);
    arguments.insert(arguments.begin(), "--dry-run");
    const json document = stowctl.ask(arguments);
    CHECK(document["dry_run"] == true);
    CHECK(document["would"].is_string());
  }
  CHECK(stowctl.ask({"list", "ceph"}) == before);
  CHECK(stowctl.ask({"snapshots", volid}).empty());
  CHECK_FALSE(std::filesystem::exists(stowctl.file("none")));
  CHECK(stowctl.refused(3, {"--dry-run", "free", "ceph:vm-7100-nothing"})["code"] == "not_found");
  CHECK(stowctl.refused(5, {"--dry-run", "clone", volid, guest})["code"] == "wrong_state");
  CHECK(stowctl.refused(2, {"--dry-run", "resize", volid, "1M"})["code"] == "invalid_argument");
}

TEST_CASE("stowctl on Ceph: the guest's configuration tells what its volumes hold") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.alloc();
  CHECK(stowctl.ask({"info", volid})["content"].is_null());
  stowctl.write("lxc/7100.conf", "");
  CHECK(stowctl.ask({"info", volid})["content"] == "rootdir");
  CHECK(stowctl.ask({"list", "ceph", "--content", "images", "--vmid", guest}).empty());
  CHECK(stowctl.ask({"list", "ceph", "--content", "rootdir", "--vmid", guest}).size() == 1);
  std::filesystem::remove(stowctl.file("lxc/7100.conf"));
  stowctl.write("qemu-server/7100.conf", "");
  CHECK(stowctl.ask({"list", "ceph", "--vmid", guest})[0]["content"] == "images");
  CHECK(lab.stowctl.ask({"info", lab.alloc("4M", "managed")})["content"] == "images");  // the only kind it takes
}

TEST_CASE("stowctl on Ceph: status and scan, and failures told apart") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const json rows = stowctl.ask({"--timeout", "3", "status"});
  REQUIRE(rows.size() == 5);
  std::map<std::string, json> row;
  for (const json& r : rows) row[r["storage"]] = r;
  CHECK(row["ceph"]["status"] == "active");
  CHECK(row["ceph"]["error"].is_null());
  CHECK(row["ceph"]["health"].is_array());
  CHECK(row["managed"]["status"] == "active");
  CHECK(row["dead"]["status"] == "inactive");
  CHECK(row["dead"]["error"]["code"] == "unavailable");
  CHECK(row["wrong-key"]["status"] == "error");
  CHECK(row["wrong-key"]["error"]["code"] == "permission_denied");
  CHECK(row["no-pool"]["error"]["code"] == "not_found");

  CHECK(stowctl.refused(6, {"--timeout", "1", "list", "dead"})["retryable"] == true);
  CHECK(stowctl.refused(1, {"list", "wrong-key"})["code"] == "permission_denied");
  CHECK(stowctl.refused(3, {"list", "no-pool"})["storage"] == "no-pool");

  const json pools = stowctl.ask({"scan", "rbd", "no-pool"});  // its own pool need not be there
  const auto found = std::find_if(pools.begin(), pools.end(), [](const json& p) { return p["pool"] == "rbd"; });
  REQUIRE(found != pools.end());
  const json& namespaces = (*found)["namespaces"];
  CHECK(std::find(namespaces.begin(), namespaces.end(), "ns") != namespaces.end());
  CHECK(stowctl.refused(1, {"scan", "rbd", "wrong-key"})["code"] == "permission_denied");

  const auto watching = stowctl.start({"watch", "ceph", "--used", "0"});
  const std::string line = Stowctl::lines(watching, 1)[0];
  CHECK(line.find("Z ceph: used is at ") != std::string::npos);
  CHECK(line.ends_with(" %, over 0 %"));
  ::kill(watching.pid, SIGTERM);
  CHECK(Stowctl::finish(watching).status == 130);
}

TEST_CASE("stowctl on Ceph: QEMU opens what path and blockdev say") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.alloc("8M", "managed");
  const std::string node = stowctl.ask({"blockdev", volid}).dump();
  const std::string by_node = "CEPH_KEYRING=" + stowctl.file("priv/ceph/managed.keyring") +
                              " qemu-img info 'json:" + node + "' 2>&1 | grep -q '8388608 bytes'";
  CHECK(std::system(by_node.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  const std::string by_path =
      "qemu-img info '" + stowctl.ask({"path", volid})["path"].get<std::string>() + "' 2>&1 | grep -q '8388608 bytes'";
  CHECK(std::system(by_path.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
}

TEST_CASE("the README's first program lists the volumes and takes a snapshot") {
  const Ceph lab;
  const std::string volid = lab.alloc();
  const auto program = std::filesystem::path{STOWAGE_TEST_STOWCTL}.parent_path() / "../example_first_program";
  const std::string command = "'" + program.string() + "' rbd " + lab.server["MONHOST"] + " '" +
                              lab.stowctl.file("priv") + "' " + volid.substr(5) + " >'" + lab.stowctl.file("out") + "'";
  REQUIRE(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  CHECK(lab.stowctl.read("out").find(volid.substr(5) + " 8M\n") != std::string::npos);
  CHECK(lab.stowctl.ask({"snapshots", volid})[0]["name"] == "before-upgrade");
}

TEST_CASE("stowctl on Ceph: bytes go no faster than the storages allow, unless somebody says so") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  stowctl.ask({"set", "managed", "--bwlimit", "default=1,clone=4096,migration=4096,move=2048"});
  const std::string from = lab.alloc("2M");
  stowctl.write("image", noise(2 << 20, 1));
  // 2 MiB, at twice as many a second as the last piece begins later than the first.
  const auto seconds = [&](std::vector<std::string> arguments) {
    const auto begin = std::chrono::steady_clock::now();
    stowctl.ask(std::move(arguments));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  CHECK(stowctl.ask({"--yes", "copy", stowctl.file("image"), from})["bytes"] == 2 << 20);
  const json moved = stowctl.ask({"copy", from, "managed:7100"});
  CHECK(moved["seconds"] >= 0.35);  // a tenth may be made up for
  CHECK(seconds({"clone", from, "7100", "--full", "--storage", "managed"}) >= 0.15);
  CHECK(seconds({"export", moved["volid"], "raw", stowctl.file("out")}) >= 0.15);
  CHECK(stowctl.read("out") == stowctl.read("image"));
  CHECK(seconds({"import", "managed:vm-7100-in", "raw", stowctl.file("out")}) >= 0.15);
  CHECK(seconds({"export", from, "raw", "--limit", "4M", stowctl.file("slow")}) >= 0.15);
  // What is asked for goes before it: by default, this would take two thousand seconds.
  stowctl.ask({"set", "managed", "--bwlimit", "default=1"});
  CHECK(stowctl.ask({"copy", from, "managed:7100", "--limit", "0"})["bytes"] == 2 << 20);
  // Of a storage that says nothing, the datacenter does.
  stowctl.ask({"set", "managed", "--delete", "bwlimit"});
  stowctl.write("datacenter.cfg", "bwlimit: default=1,move=2048\n");
  CHECK(stowctl.ask({"copy", from, "managed:7100"})["seconds"] >= 0.35);
  stowctl.write("datacenter.cfg", "bwlimit: none\n");
  CHECK(stowctl.refused(2, {"copy", from, "managed:7100"})["code"] == "parse_failed");
  CHECK(stowctl.ask({"copy", from, "managed:7100", "--limit", "0"})["bytes"] == 2 << 20);
  CHECK(stowctl.refused(2, {"copy", from, "managed:7100", "--limit", "fast"})["code"] == "parse_failed");
  CHECK(stowctl.refused(2, {"clone", from, "7100", "--snapshot", "s", "--limit", "1M"})["code"] == "invalid_argument");
}

TEST_CASE("stowctl on Ceph: snapshots as streams, whole and what has changed") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string from = lab.alloc("24M");
  const std::string to = "managed:vm-7100-copy";
  const std::string whole = stowctl.file("whole");
  const std::string more = stowctl.file("more");
  const auto raw = [&](const std::string& volid, const std::string& snapshot) {
    const Run run = stowctl({"export", volid, "raw", "-", "--snapshot", snapshot});
    CHECK(run.status == 0);
    return run.out;
  };
  stowctl.ask({"free", from});
  std::string image = noise(5 << 20, 1) + std::string(19 << 20, '\0');
  CHECK(stowctl({"import", from, "raw", "-", "--size", "24M"}, image).status == 0);
  stowctl.ask({"snapshot", from, "s1"});
  const json sent = stowctl.ask({"export", from, "stowage", whole, "--snapshot", "s1"});
  CHECK(sent["bytes"] == 5 << 20);
  const json got = stowctl.ask({"import", to, "stowage", whole});
  CHECK(got["volid"] == to);
  CHECK(got["snapshot"] == "s1");
  CHECK(raw(to, "s1") == image);

  std::copy_n(noise(1 << 20, 2).begin(), 1 << 20, image.begin() + (9 << 20));
  std::ofstream{stowctl.file("image"), std::ios::binary} << image;
  CHECK(stowctl({"--yes", "copy", stowctl.file("image"), from}).status == 0);
  stowctl.ask({"snapshot", from, "s2"});
  const json changed = stowctl.ask({"extents", from, "--from", "s1"});
  REQUIRE_FALSE(changed.empty());
  CHECK(changed[0].contains("allocated"));
  CHECK(stowctl({"export", from, "stowage", more, "--snapshot", "s2", "--from", "s1"}).status == 0);
  // Through a pipe, too.
  const Run piped = stowctl({"export", from, "stowage", "-", "--snapshot", "s2", "--from", "s1"});
  REQUIRE(piped.status == 0);
  CHECK(stowctl({"import", to, "stowage", "-"}, piped.out).status == 0);
  CHECK(raw(to, "s2") == image);

  CHECK(stowctl.refused(4, {"import", to, "stowage", more})["code"] == "already_exists");
  CHECK(stowctl.refused(4, {"import", to, "stowage", whole})["code"] == "already_exists");
  CHECK(stowctl.refused(3, {"import", "managed:vm-7100-none", "stowage", more})["code"] == "not_found");
  CHECK(stowctl({"import", "managed:vm-7100-other", "stowage", whole}).status == 0);
  CHECK(stowctl({"import", "managed:vm-7100-other", "raw", "-", "--rollback"}).status == 2);
  CHECK(stowctl({"--yes", "copy", stowctl.file("image"), "managed:vm-7100-other"}).status == 0);
  CHECK(stowctl.refused(7, {"import", "managed:vm-7100-other", "stowage", more})["code"] == "conflict");
  const Run rest = stowctl({"export", from, "stowage", "-", "--snapshot", "s2", "--from", "s1", "--at", "9437184"});
  REQUIRE(rest.status == 0);
  CHECK(stowctl({"import", "managed:vm-7100-other", "stowage", "-", "--rollback"}, rest.out).status == 7);
  CHECK(stowctl({"import", "managed:vm-7100-other", "stowage", more, "--rollback"}).status == 0);
  CHECK(raw("managed:vm-7100-other", "s2") == image);
  const std::string empty = lab.alloc("24M", "managed");
  stowctl.ask({"snapshot", empty, "s1"});
  CHECK(stowctl.refused(7, {"import", empty, "stowage", more})["code"] == "identity_changed");
  CHECK(stowctl.refused(1, {"import", "managed:vm-7100-bad", "stowage", "-"})["code"] == "corrupt");
  CHECK(stowctl.refused(2, {"export", from, "stowage", "-"})["code"] == "invalid_argument");
}
