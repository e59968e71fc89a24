// What OpenIscsi reads and writes as text: recorded output, the reference's rows, and what no tool would say.

#include <catch2/catch.hpp>

#include <map>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <string>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;
using namespace stowage::detail;
using stowage::testing::text;
using stowage::testing::vectors;

namespace {

std::string lines_of(const nlohmann::json& row) {
  std::string all;
  for (const auto& line : row.at("lines")) all += line.get<std::string>() + "\n";
  return all;
}

std::vector<std::string> portals(const std::vector<IscsiRecord>& records, const std::string& target) {
  std::vector<std::string> found;
  for (const IscsiRecord& record : records) {
    if (record.target == target) found.push_back(record.portal.str());
  }
  return found;
}

}  // namespace

TEST_CASE("iscsi_discovery: the reference's rows") {
  for (const auto& row : vectors("iscsi_discovery")) {
    CAPTURE(text(row, "name"));
    const auto records = parse_iscsi_nodes(lines_of(row));
    std::size_t expected = 0;
    for (const auto& [target, list] : row.at("parsed").items()) {
      CHECK(portals(records, target) == list.get<std::vector<std::string>>());
      expected += list.size();
    }
    CHECK(records.size() == expected);
  }
}

// What falls back to the configured portal there is a discovery at this portal here: open_iscsi_test.cpp has these
// rows.
TEST_CASE("iscsi_node_portals: the reference's rows") {
  for (const auto& row : vectors("iscsi_node_portals")) {
    CAPTURE(text(row, "name"));
    if (!text(row, "cmd_error").empty()) continue;
    CHECK(portals(parse_iscsi_nodes(lines_of(row)), text(row, "target")) ==
          row.at("portals").get<std::vector<std::string>>());
  }
}

TEST_CASE("lines that no iscsiadm prints are left out") {
  for (const std::string line :
       {"", " ", ",", "10.0.0.1:3260,", "10.0.0.1:3260,1", "10.0.0.1:3260,1 ", " 10.0.0.1:3260,1 iqn.a:1",
        "10.0.0.1,1 iqn.a:1", ":3260,1 iqn.a:1", "10.0.0.1:,1 iqn.a:1", "10.0.0.1:3260,x iqn.a:1",
        "10.0.0.1:3260,1;2 iqn.a:1", "$(reboot):3260,1 iqn.a:1", "[fe80::1:3260,1 iqn.a:1",
        "iscsiadm: No records found", "10.0.0.1:3260,1 iqn.a\x01"}) {
    CAPTURE(line);
    CHECK(parse_iscsi_nodes(line + "\n").empty());
  }
  CHECK(parse_iscsi_nodes(std::string(100'000, 'x')).empty());
  CHECK(parse_iscsi_nodes("garbage\n10.0.0.1:3260,1 iqn.a:1").size() == 1);
}

TEST_CASE("a portal has one spelling") {
  const auto canonical = [](const char* portal) { return canonical_portal(*Portal::parse(portal)); };
  CHECK(canonical("10.0.0.1") == "10.0.0.1:3260");
  CHECK(canonical("10.0.0.1:860") == "10.0.0.1:860");
  CHECK(canonical("Nas.Example") == "nas.example:3260");
  CHECK(canonical("FD00:0::0001") == "[fd00::1]:3260");
  CHECK(canonical("[fd00::1]:3260") == "[fd00::1]:3260");
}

TEST_CASE("stable_path: the reference's rows") {
  for (const auto& row : vectors("stable_path")) {
    std::vector<ByIdLink> links;
    std::map<std::string, std::string> found;
    for (const auto& link : row.at("links")) {
      links.push_back({link[0].get<std::string>(), link[1].get<std::string>().substr(6)});
    }
    for (const ByIdLink& link : links) {
      const std::vector<std::string> device{link.device};
      if (const auto name = stable_name(links, device, {})) found[link.device] = *name;
    }
    CHECK(found == row.at("result").get<std::map<std::string, std::string>>());
  }
}

TEST_CASE("the link of the WWID comes before all others, whatever device it leads to") {
  const std::vector<ByIdLink> links{{"scsi-36e843b6a", "sdb"}, {"scsi-SQNAP_abc", "sdb"}, {"scsi-3other", "sdc"}};
  const std::vector<std::string> both{"dm-0", "sdb"};
  CHECK(stable_name(links, both, "36e843b6a") == "scsi-36e843b6a");
  CHECK(stable_name(links, both, "3other") == "scsi-SQNAP_abc");
  CHECK_FALSE(stable_name(links, std::vector<std::string>{"sdd"}, "36e843b6a").has_value());
}

TEST_CASE("which names a LUN can have") {
  const std::vector<std::string> serials{"36000", "1IET_00010001", "SIET_VIRTUAL-DISK_x"};
  for (const char* name :
       {"scsi-36000", "wwn-0x6000", "dm-uuid-mpath-36000", "scsi-1IET_00010001", "scsi-SIET_VIRTUAL-DISK_x"}) {
    CAPTURE(name);
    CHECK(can_be_named(serials, name) == true);
  }
  for (const char* name : {"scsi-3600", "scsi-360000", "wwn-0x36000", "dm-uuid-mpath-", "scsi-"}) {
    CAPTURE(name);
    CHECK(can_be_named(serials, name) != true);
  }
  CHECK(can_be_named({}, "scsi-36000") == false);
  CHECK_FALSE(can_be_named(serials, "dm-name-mpatha").has_value());
}

TEST_CASE("the place of a LUN") {
  CHECK(lun_address("2:0:0:1") == "0.0.1");
  CHECK(lun_address("12:0:3:16684") == "0.3.16684");
  for (const char* name : {"", "2:0:0", "2:0:0:", "2:0:0:1:4", "a:0:0:1", "2:0::1", "power", ":::", "2:0:0:1x"}) {
    CAPTURE(name);
    CHECK_FALSE(lun_address(name).has_value());
  }
  CHECK(split_lun_name("0.0.1.scsi-3.6").address == "0.0.1");
  CHECK(split_lun_name("0.0.1.scsi-3.6").by_id == "scsi-3.6");
}

TEST_CASE("iscsiadm_measured: what exit statuses mean") {
  for (const auto& row : vectors("iscsiadm_measured")) {
    if (!row.contains("exit")) continue;
    const Error error =
        iscsiadm_error({.exit_code = row.at("exit").get<int>(), .out = {}, .err = text(row, "stderr")}, "asking");
    CHECK(error.code() == Errc::not_found);
    CHECK(error.detail() == "asking: " + text(row, "stderr").substr(10));
  }
  const auto code = [](int status) { return iscsiadm_error({.exit_code = status, .out = {}, .err = {}}, "x").code(); };
  CHECK(code(24) == Errc::permission_denied);
  CHECK(code(5) == Errc::unavailable);
  CHECK(code(8) == Errc::unavailable);
  CHECK(code(20) == Errc::unavailable);
  CHECK(code(12) == Errc::unavailable);
  CHECK(code(1) == Errc::command_failed);
  CHECK(code(139) == Errc::command_failed);
  const Error module = iscsiadm_error({.exit_code = 12, .out = {}, .err = {}}, "x");
  CHECK(module.message().find("iscsi_tcp") != std::string::npos);
  const Error daemon = iscsiadm_error({.exit_code = 20, .out = {}, .err = {}}, "x");
  CHECK(daemon.message().find("iscsid") != std::string::npos);
}

TEST_CASE("of what iscsiadm says, the daemon's verdict is told") {
  CHECK(iscsiadm_words("iscsiadm: Could not login to [iface: default, target: iqn.a:1, portal: 10.0.0.1,3260].\n"
                       "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n"
                       "iscsiadm: Could not log into all portals\n") ==
        "initiator reported error (24 - iSCSI login failed due to authorization failure)");
  CHECK(iscsiadm_words("iscsiadm: one\niscsiadm: two\n\n") == "two");
  CHECK(iscsiadm_words("").empty());
  CHECK(iscsiadm_words(std::string(5000, 'x')).size() == 300);
}

TEST_CASE("settings of a node record") {
  const std::string record =
      "# BEGIN RECORD 2.1.8\n"
      "node.name = iqn.a:1\n"
      "node.session.auth.authmethod = None\n"
      "node.session.auth.username_in = old\n"
      "node.session.initial_login_retry_max = 8\n"
      "# END RECORD\n";
  const std::vector<RecordSetting> settings{{"node.session.initial_login_retry_max", "0"},
                                            {"node.session.auth.authmethod", "CHAP"},
                                            {"node.session.auth.username_in", ""}};
  const std::string fresh = with_settings(record, settings);
  CHECK(fresh ==
        "# BEGIN RECORD 2.1.8\n"
        "node.name = iqn.a:1\n"
        "node.session.initial_login_retry_max = 0\n"
        "node.session.auth.authmethod = CHAP\n"
        "# END RECORD\n");
  CHECK(with_settings(fresh, settings) == fresh);
  CHECK(with_settings("", settings) ==
        "node.session.initial_login_retry_max = 0\nnode.session.auth.authmethod = CHAP\n");
  CHECK(with_settings("node.session.auth.authmethod_x = 1", settings).starts_with("node.session.auth.authmethod_x"));
}
