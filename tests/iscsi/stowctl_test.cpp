// stowctl on the LUNs of a real target: what can be read is read, and what the table forbids is refused with 5.

#include <catch2/catch.hpp>

#include <string>

#include "support/lab.hpp"
#include "support/stowctl.hpp"

using stowage::testing::json;
using stowage::testing::Run;
using stowage::testing::Server;
using stowage::testing::Stowctl;

namespace {

std::string section(const std::string& id, const Server& server, const std::string& more = "") {
  return "iscsidirect: " + id + "\n\tportal " + server["PORTAL"] + "\n\ttarget " + server["IQN1"] + "\n" + more + "\n";
}

}  // namespace

TEST_CASE("stowctl on a target: list, info, path, blockdev, status, scan, export") {
  const Server server = Server::shared("iscsi");
  const Stowctl stowctl{section("san", server)};
  const json listed = stowctl.ask({"list", "san"});
  REQUIRE(listed.size() == 4);
  CHECK(listed[0]["volid"] == "san:lun1");
  CHECK(listed[0]["vmid"].is_null());
  CHECK(listed[0]["content"] == "images");
  CHECK(listed[0]["format"] == "raw");
  const auto size = listed[0]["size"].get<std::uint64_t>();
  const json info = stowctl.ask({"info", "san:lun1"});
  CHECK(info["size"] == size);
  CHECK(info["snapshots"] == json::array());
  CHECK(stowctl.ask({"path", "san:lun1"})["path"] == "iscsi://" + server["PORTAL"] + "/" + server["IQN1"] + "/1");
  CHECK(stowctl.ask({"blockdev", "san:lun1"}) == json{{"driver", "iscsi"},
                                                      {"transport", "tcp"},
                                                      {"portal", server["PORTAL"]},
                                                      {"target", server["IQN1"]},
                                                      {"lun", 1}});
  const json status = stowctl.ask({"status", "san"});
  CHECK(status[0]["status"] == "active");
  CHECK(status[0]["total"].is_null());  // a target has no size of its own
  const json targets = stowctl.ask({"scan", "iscsidirect", server["PORTAL"]});
  REQUIRE(targets.size() == 2);
  CHECK(targets[0]["target"] == server["IQN1"]);
  CHECK(targets[0]["portals"].size() >= 1);
  CHECK(stowctl.ask({"export", "san:lun1", "raw+size", stowctl.file("lun")}) ==
        json{{"volid", "san:lun1"}, {"bytes", size}});
  CHECK(std::filesystem::file_size(stowctl.file("lun")) == size + 8);
  CHECK(stowctl.read("lun").substr(0, 8) == std::string{"\x00\x00\x00\x04\x00\x00\x00\x00", 8});  // 64 MiB
  CHECK(stowctl.ask({"activate", "san"}) == json{{"active", true}});
}

TEST_CASE("stowctl on a target: what the table forbids is 5, in the words of the compiler") {
  const Server server = Server::shared("iscsi");
  const Stowctl stowctl{section("san", server)};
  stowctl.write("image", std::string(1024, 'x'));
  const std::vector<std::vector<std::string>> all{{"alloc", "san", "100", "", "1G"},
                                                  {"free", "san:lun1"},
                                                  {"resize", "san:lun1", "100G"},
                                                  {"rename", "san:lun1", "100"},
                                                  {"snapshot", "san:lun1", "s1"},
                                                  {"snapshots", "san:lun1"},
                                                  {"rollback", "san:lun1", "s1"},
                                                  {"activate", "san:lun1", "--snapshot", "s1"},
                                                  {"activate", "san:lun1", "--kernel"},
                                                  {"path", "san:lun1", "--kernel"},
                                                  {"blockdev", "san:lun1", "--kernel"},
                                                  {"delsnapshot", "san:lun1", "s1"},
                                                  {"clone", "san:lun1", "100"},
                                                  {"clone", "san:lun1", "100", "--snapshot", "s1"},
                                                  {"template", "san:lun1"},
                                                  {"flatten", "san:lun1"},
                                                  {"import", "san:lun1", "raw", stowctl.file("image")},
                                                  {"export", "san:lun1", "raw", "-", "--snapshot", "s1"},
                                                  {"path", "san:lun1", "--snapshot", "s1"}};
  for (auto arguments : all) {
    CAPTURE(arguments);
    const json error = stowctl.refused(5, arguments);
    CHECK(error["code"] == "not_supported");
    CHECK(error["message"].get<std::string>().find("this storage type") != std::string::npos);
    arguments.insert(arguments.begin(), "--dry-run");
    if (arguments[1] != "snapshots" && arguments[1] != "path" && arguments[1] != "export" && arguments.size() < 6) {
      stowctl.refused(5, arguments);
    }
  }
  CHECK(stowctl.refused(3, {"info", "san:lun99"})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"info", "san:vm-100-disk-0"})["code"] == "parse_failed");
}

TEST_CASE("stowctl on a target with CHAP: no secret is ever shown") {
  const Server server = Server::shared("iscsi-chap");
  const Stowctl stowctl{section("san", server) + section("wrong", server) + section("none", server)};
  stowctl.write("priv/iscsi/san.chap", "user=stowage\npassword=initiator-pw1\n");
  stowctl.write("priv/iscsi/wrong.chap", "user=stowage\npassword=initiator-pw2\n");
  CHECK(stowctl.ask({"list", "san"}).size() >= 1);
  CHECK(stowctl.refused(1, {"path", "san:lun1"})["code"] == "permission_denied");
  const Run text = stowctl({"blockdev", "san:lun1"});
  CHECK(text.status == 0);
  CHECK(json::parse(text.out)["user"] == "stowage");
  CHECK((text.out + text.err).find("initiator-pw") == std::string::npos);
  for (const char* id : {"wrong", "none"}) {
    const Run refused = stowctl({"--json", "list", id});
    CHECK(refused.status == 1);
    CHECK(refused.error()["code"] == "permission_denied");
    CHECK(refused.err.find("initiator-pw") == std::string::npos);
  }
  CHECK(stowctl.ask({"--timeout", "3", "status"}).size() == 3);
}

TEST_CASE("stowctl on a target that hangs: status comes back in time, and Ctrl-C ends a listing at once") {
  const Server good = Server::shared("iscsi");
  const Server hung = Server::own_target("stowctl-hung");
  const Stowctl stowctl{section("hung", hung) + section("san", good)};
  hung.command("kill", "STOP");
  const auto start = std::chrono::steady_clock::now();
  const json rows = stowctl.ask({"--timeout", "2", "status"});
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{6});
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["status"] == "inactive");
  CHECK(rows[1]["status"] == "active");
  CHECK(stowctl.refused(6, {"--timeout", "1", "list", "hung"})["retryable"] == true);

  // The list of all has what the others say, and an exit status that tells of the one that does not answer.
  const auto begin = std::chrono::steady_clock::now();
  const Run all = stowctl({"--json", "--timeout", "2", "list"});
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{6});
  CHECK(all.status == 6);
  CHECK(all.error()["object"] == "hung");
  CHECK(all.document() == stowctl.ask({"list", "san"}));
  CHECK(all.document().size() == 4);

  const auto running = stowctl.start({"list", "hung"});
  std::this_thread::sleep_for(std::chrono::milliseconds{500});
  const auto pressed = std::chrono::steady_clock::now();
  ::kill(running.pid, SIGINT);
  CHECK(Stowctl::finish(running).status == 130);
  CHECK(std::chrono::steady_clock::now() - pressed < std::chrono::seconds{2});
  hung.command("kill", "CONT");
}

TEST_CASE("stowctl on a target: watch says once that it is gone, and once that it is back") {
  const Server steady = Server::shared("iscsi");
  const Server moody = Server::own_target("stowctl-watch");
  const Stowctl stowctl{section("moody", moody) + section("steady", steady) + section("off", moody, "\tdisable\n")};
  const auto running = stowctl.start({"--json", "--timeout", "5", "watch", "--every", "0.1"});
  std::this_thread::sleep_for(std::chrono::milliseconds{500});
  CHECK(Stowctl::lines(running, 0).empty());                                   // nothing is worth a word
  std::filesystem::rename(stowctl.file("storage.cfg"), stowctl.file("away"));  // it goes on with what it knows
  moody.command("kill");
  const json down = json::parse(Stowctl::lines(running, 1)[0]);
  CHECK(down["storage"] == "moody");
  CHECK(down["gauge"] == "down");
  CHECK(down["above"] == true);
  CHECK(down["error"]["code"] == "unavailable");
  std::this_thread::sleep_for(std::chrono::milliseconds{500});
  moody.command("up");
  const auto both = Stowctl::lines(running, 2);
  REQUIRE(both.size() == 2);
  std::filesystem::rename(stowctl.file("away"), stowctl.file("storage.cfg"));
  const json back = json::parse(both[1]);
  CHECK(back["storage"] == "moody");
  CHECK(back["above"] == false);
  CHECK(back["error"].is_null());
  ::kill(running.pid, SIGINT);
  const Run ended = Stowctl::finish(running);
  CHECK(ended.status == 130);
  CHECK(ended.error()["code"] == "cancelled");
  CHECK(stowctl.refused(3, {"watch", "none"})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"watch", "--every", "0"})["code"] == "invalid_argument");
}
