#include <stowage/blockdev.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

using namespace stowage;
using nlohmann::json;

namespace {

json parsed(const Blockdev& blockdev) { return json::parse(blockdev.to_json()); }

}  // namespace

TEST_CASE("a host device") {
  CHECK(parsed({HostDeviceNode{"/dev/pve/vm-100-disk-0"}, {}}) ==
        json{{"driver", "host_device"}, {"filename", "/dev/pve/vm-100-disk-0"}});
}

TEST_CASE("a LUN without CHAP has exactly the keys that the reference gives") {
  const IscsiNode node{.portal = "10.0.0.1:3260",
                       .target = "iqn.a:1",
                       .lun = 0,
                       .user = {},
                       .password_secret = {},
                       .initiator_name = {}};
  CHECK(
      parsed({node, {}}) ==
      json{{"driver", "iscsi"}, {"transport", "tcp"}, {"portal", "10.0.0.1:3260"}, {"target", "iqn.a:1"}, {"lun", 0}});
}

TEST_CASE("a LUN with CHAP names its secret and never holds it") {
  const IscsiNode node{.portal = "10.0.0.1:3260",
                       .target = "iqn.a:1",
                       .lun = 16383,
                       .user = "me",
                       .password_secret = "chap0",
                       .initiator_name = "iqn.b:2"};
  const Blockdev blockdev{node, QemuSecret{"chap0", Secret{"hunter2"}}};
  const json object = parsed(blockdev);
  CHECK(object["lun"] == 16383);
  CHECK(object["user"] == "me");
  CHECK(object["password-secret"] == "chap0");
  CHECK(object["initiator-name"] == "iqn.b:2");
  CHECK(blockdev.to_json().find("hunter2") == std::string::npos);
}

TEST_CASE("an RBD image: what is empty is left out") {
  RbdNode node{.pool = "p",
               .name_space = {},
               .image = "vm-100-disk-0",
               .snapshot = {},
               .conf = {},
               .user = {},
               .server = {},
               .auth_client_required = {}};
  CHECK(parsed({node, {}}) == json{{"driver", "rbd"}, {"pool", "p"}, {"image", "vm-100-disk-0"}});
  node.name_space = "ns";
  node.snapshot = "s1";
  node.conf = "/etc/pve/ceph.conf";
  node.user = "admin";
  node.server = {{"10.0.0.1", "3300"}, {"fd00::1", "6789"}};
  node.auth_client_required = {"cephx", "none"};
  CHECK(parsed({node, {}}) ==
        json{{"driver", "rbd"},
             {"pool", "p"},
             {"namespace", "ns"},
             {"image", "vm-100-disk-0"},
             {"snapshot", "s1"},
             {"conf", "/etc/pve/ceph.conf"},
             {"user", "admin"},
             {"server", {{{"host", "10.0.0.1"}, {"port", "3300"}}, {{"host", "fd00::1"}, {"port", "6789"}}}},
             {"auth-client-required", {"cephx", "none"}}});
}

TEST_CASE("any text survives the quoting") {
  CHECK(rc::check([] {
    const auto letters = *rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127));
    if (letters.empty()) return;  // an empty member is left out
    RC_ASSERT(json::parse(Blockdev{HostDeviceNode{letters}, {}}.to_json())["filename"].get<std::string>() == letters);
  }));
  CHECK(parsed({HostDeviceNode{"\xc3\xa4\"\\\n\x01/"}, {}})["filename"] == "\xc3\xa4\"\\\n\x01/");
}
