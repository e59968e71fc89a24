// What IscsiDirect says of the LUNs of real targets.

#include <atomic>
#include <map>
#include <thread>

#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

std::vector<std::string> names(const std::vector<VolumeInfo>& volumes) {
  std::vector<std::string> all;
  for (const VolumeInfo& volume : volumes) all.push_back(volume.name.str());
  return all;
}

}  // namespace

TEST_CASE("a list has the disks of its target, without the controller, with exact sizes and identities") {
  const Server server = Server::shared("iscsi");
  const auto one = must(san(server).list());
  const auto two = must(san(server["PORTAL"], server["IQN2"]).list());
  CHECK(names(one) == std::vector<std::string>{"lun1", "lun2", "lun3", "lun4"});
  CHECK(names(two) == names(one));
  for (std::size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i].size == Bytes{(i + 1) << 26U});
    CHECK(one[i].identity.starts_with("360000000"));
    CHECK(one[i].identity.size() == 33);
    CHECK(one[i].identity != two[i].identity);
    CHECK_FALSE(one[i].vmid.has_value());
    CHECK(one[i].content == Content::images);
  }
  refused(san(server).info(volume_name("lun0")), Errc::not_found);
  CHECK(must(san(server).info(volume_name("lun002"))).name == volume_name("lun2"));
  CHECK(must(san(server).list({.vmid = VmId{100}, .content = {}})).empty());
}

TEST_CASE("status asks the target, and has no numbers") {
  const Server server = Server::shared("iscsi");
  const Status status = must(san(server).status());
  CHECK(status.active);
  CHECK_FALSE(status.total.has_value());
  CHECK_FALSE(status.available.has_value());
}

TEST_CASE("sizes are exact: odd ones, 3 TiB, sectors of 4 KiB, LUN numbers above 255 are flat", "[own]") {
  const Server server = Server::own_target("sizes", "--luns 1");
  add_lun(server, 1, 2, "1048576512", "a2");  // 1000 MiB and one sector
  add_lun(server, 1, 3, "1610612736", "a3");  // 1.5 GiB
  add_lun(server, 1, 4, "3T", "a4");
  add_lun(server, 1, 5, "12288", "a5", "", "--blocksize 4096");
  add_lun(server, 1, 255, "1M", "a255");
  add_lun(server, 1, 256, "2M", "a256");
  add_lun(server, 1, 300, "3M", "a300");
  San storage = san(server);
  const std::map<std::string, std::uint64_t> expected{
      {"lun1", 64ULL << 20U}, {"lun2", 1048576512}, {"lun3", 1610612736}, {"lun4", 3ULL << 40U},
      {"lun5", 12288},        {"lun255", 1 << 20U}, {"lun256", 2 << 20U}, {"lun300", 3 << 20U}};
  std::map<std::string, std::uint64_t> seen;
  for (const VolumeInfo& volume : must(storage.list())) seen[volume.name.str()] = volume.size.count;
  CHECK(seen == expected);
  CHECK(must(storage.info(volume_name("lun300"))).size == 3_MiB);

  SECTION("the end of 3 TiB can be written") {
    auto device = must(storage.open_volume(volume_name("lun4"), Access::read_write));
    const auto data = pattern(1, 1 << 20);
    must(device.write_at(device.size() - 1_MiB, data));
    CHECK((read_back(device, device.size() - 1_MiB, data.size()) == data));
    CHECK(all_zero(read_back(device, 1_TiB, 4096)));
  }
  SECTION("QEMU finds the same sizes, also behind large LUN numbers") {
    for (const char* name : {"lun2", "lun4", "lun255", "lun256", "lun300"}) {
      const std::string url = must(storage.path(volume_name(name)));
      const std::string info = output_of("qemu-img info --output=json '" + url + "'");
      CHECK(info.find("\"virtual-size\": " + std::to_string(expected.at(name))) != std::string::npos);
    }
    CHECK(must(storage.path(volume_name("lun300"))).ends_with("/16684"));
    CHECK(must(storage.blockdev(volume_name("lun300"))).to_json().find("\"lun\":16684") != std::string::npos);
  }
}

TEST_CASE("200 LUNs are listed in one session, again and again", "[own]") {
  const Server server = Server::own_target("many", "--luns 200 --size 1");
  San storage = san(server);
  for (int round = 0; round < 3; ++round) {
    std::vector<VolumeInfo> all;
    const auto took = timed([&] { return storage.list(); }, [&](const auto& list) { all = must(list); });
    REQUIRE(all.size() == 200);
    CHECK(took < 1s);
    for (const VolumeInfo& volume : all) {
      const auto number = std::stoull(volume.name.str().substr(3));
      if (volume.size != Bytes{number << 20U} || volume.identity.empty()) FAIL(volume.name.str());
    }
  }
  // all over one connection, that stays for the next verb
  const std::string sessions = output_of(STOWAGE_TEST_LAB "/target adm " + server.folder() +
                                         " --mode conn --op show --tid 1 | grep -c Session || true");
  CHECK(std::stoi(sessions) == 1);
}

TEST_CASE("LUNs that come and go show at once", "[own]") {
  const Server server = Server::own_target("change", "--luns 2");
  San storage = san(server);
  CHECK(must(storage.list()).size() == 2);
  add_lun(server, 1, 7, "5M", "b7");
  CHECK(names(must(storage.list())) == std::vector<std::string>{"lun1", "lun2", "lun7"});
  remove_lun(server, 1, 1);
  CHECK(names(must(storage.list())) == std::vector<std::string>{"lun2", "lun7"});
  refused(storage.info(volume_name("lun1")), Errc::not_found);
  refused(storage.activate(volume_name("lun1")), Errc::not_found);
  must(storage.activate(volume_name("lun7")));
}

TEST_CASE("discovery tells the targets of a portal") {
  const Server server = Server::shared("iscsi");
  const auto targets = must(scan<IscsiDirect>(must(Portal::parse(server["PORTAL"]))));
  REQUIRE(targets.size() == 2);
  CHECK(targets[0].target.str() == server["IQN1"]);
  CHECK(targets[1].target.str() == server["IQN2"]);
  REQUIRE(targets[0].portals.size() == 1);  // tgt names the one that was asked
  CHECK(targets[0].portals[0].str() == server["PORTAL"]);
}

TEST_CASE("the paths of the vectors need no target") {
  const auto open = [](const std::string& portal) { return san(portal, "iqn.a:1"); };
  CHECK(must(open("10.0.0.1").path(volume_name("lun007"))) == "iscsi://10.0.0.1/iqn.a:1/007");
  CHECK(must(open("10.0.0.1").blockdev(volume_name("lun007"))).to_json() ==
        R"({"driver":"iscsi","transport":"tcp","portal":"10.0.0.1","target":"iqn.a:1","lun":7})");
  CHECK(must(open("[2001:db8::1]:3260").path(volume_name("lun5"))) == "iscsi://[2001:db8::1]:3260/iqn.a:1/5");
  // What the reference makes of these, nobody can open.
  CHECK(must(open("2001:db8::1").path(volume_name("lun5"))) == "iscsi://[2001:db8::1]/iqn.a:1/5");
  CHECK(must(open("2001:db8::1.3260").blockdev(volume_name("lun5"))).to_json() ==
        R"({"driver":"iscsi","transport":"tcp","portal":"[2001:db8::1]:3260","target":"iqn.a:1","lun":5})");
}

TEST_CASE("eight threads may ask at once") {
  const Server server = Server::shared("iscsi");
  San storage = san(server);
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int n = 0; n < 8; ++n) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const auto all = storage.list();
        good += all && all->size() == 4 && storage.info(*VolumeName::parse("lun3")) && storage.status() ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 160);
}
