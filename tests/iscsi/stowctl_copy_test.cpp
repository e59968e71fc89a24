// stowctl copy, between files and the LUNs of a real target.

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/lab.hpp"
#include "support/stowctl.hpp"

using stowage::testing::json;
using stowage::testing::Run;
using stowage::testing::Server;
using stowage::testing::Stowctl;

namespace {

std::string section(const Server& server) {
  return "iscsidirect: san\n\tportal " + server["PORTAL"] + "\n\ttarget " + server["IQN1"] + "\n\n";
}

std::string bytes(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

}  // namespace

TEST_CASE("stowctl copy: a file onto a LUN, and the LUN into a file", "[own]") {
  const Server server = Server::own_target("ctl-copy", "--luns 2 --size 8");
  const Stowctl stowctl{section(server)};
  std::string image(8 << 20, '\0');
  for (std::size_t at = 1 << 20; at < 2 << 20; ++at) image[at] = static_cast<char>(at * 7 % 251);
  stowctl.write("image", image);

  const json there = stowctl.ask({"copy", stowctl.file("image"), "san:lun1", "--verify", "--queue-depth", "4"});
  CHECK(there["volid"] == "san:lun1");
  CHECK(there["bytes"] == 8 << 20);
  CHECK(there["skipped"] >= 6 << 20);
  CHECK(there["seconds"].is_number());
  const json back = stowctl.ask({"copy", "san:lun1", stowctl.file("back")});
  CHECK(back["volid"] == stowctl.file("back"));
  CHECK((bytes(stowctl.file("back")) == image));
  CHECK(stowctl.ask({"copy", "san:lun1", "san:lun2", "--verify"})["bytes"] == 8 << 20);

  const Run shown = stowctl({"--progress", "always", "copy", "san:lun1", stowctl.file("shown")});
  CHECK(shown.status == 0);
  CHECK(shown.err.find("8.0 MiB of 8.0 MiB") != std::string::npos);
  CHECK(shown.out.find("8388608 bytes to ") != std::string::npos);
}

TEST_CASE("stowctl copy: what cannot be copied, and what is not overwritten", "[own]") {
  const Server server = Server::own_target("ctl-refuse", "--luns 2 --size 8");
  const Stowctl stowctl{section(server)};
  stowctl.write("there", "old");
  CHECK(stowctl.refused(4, {"copy", "san:lun1", stowctl.file("there")})["code"] == "already_exists");
  CHECK(bytes(stowctl.file("there")) == "old");
  CHECK(stowctl.ask({"--yes", "copy", "san:lun1", stowctl.file("there")})["bytes"] == 8 << 20);
  CHECK(stowctl.refused(2, {"copy", "san:lun2", "san:lun1"})["code"] == "invalid_argument");  // 16 MiB onto 8
  CHECK(stowctl.refused(2, {"copy", "san:lun1", "san:lun1"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(5, {"copy", "san:lun1", "san:100"})["code"] == "not_supported");  // a new LUN
  CHECK(stowctl.refused(3, {"copy", stowctl.file("none"), "san:lun1"})["code"] == "not_found");
  CHECK(stowctl.refused(3, {"copy", "san:lun9", stowctl.file("new")})["code"] == "not_found");
  CHECK(stowctl.refused(2, {"copy", "san:lun1", stowctl.file("new"), "--limit", "fast"})["code"] == "parse_failed");
  CHECK(stowctl.ask({"--dry-run", "copy", "san:lun1", stowctl.file("new")})["dry_run"] == true);
  for (const auto& entry : std::filesystem::directory_iterator{stowctl.file(".")}) {
    const std::string name = entry.path().filename();
    CHECK((name != "new" && name.find(".partial-") == std::string::npos));
  }
}

TEST_CASE("stowctl copy: Ctrl-C leaves no file that looks good", "[own]") {
  const Server server = Server::own_target("ctl-stop", "--luns 1 --size 64");
  const Stowctl stowctl{section(server)};
  const Stowctl::Running running =
      stowctl.start({"--progress", "always", "copy", "san:lun1", stowctl.file("slow"), "--limit", "1M"}, "", true);
  for (int tries = 0; bytes(running.err).find("MiB") == std::string::npos && tries < 500; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  ::kill(running.pid, SIGINT);
  const Run run = Stowctl::finish(running);
  CAPTURE(run.err);
  CHECK(run.status == 130);
  for (const auto& entry : std::filesystem::directory_iterator{stowctl.file(".")}) {
    CHECK(entry.path().filename().string().find("slow") == std::string::npos);
  }
}
