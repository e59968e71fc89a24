// What LVM's tools say, and what is made of it, without LVM.

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_error.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_pool.hpp>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "support/lvm_lines.hpp"
#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;
using testing::lvs_line;
using testing::lvs_pool;
using testing::lvs_rows;
using testing::lvs_volume;

namespace {

detail::LvmReport report_of(const json& lines) {
  std::string text;
  for (const json& line : lines) text += testing::lvs_line_of_reference(line.get<std::string>());
  const auto report = detail::parse_lvm_report(lvs_rows(text));
  REQUIRE(report);
  return *report;
}

detail::LvmView view_of(const std::string& lines, const std::string& pool = "pool") {
  auto report = detail::parse_lvm_report(lvs_rows(lines));
  REQUIRE(report);
  return detail::LvmView{*std::move(report), pool};
}

std::vector<std::string> owners(const std::string& lines, const std::string& snapshot) {
  const detail::LvmView view = view_of(lines);
  return view.owners(*view.report().find(snapshot));
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a report of lvs is read as the reference reads it, and a colon in a tag shifts nothing") {
  for (const json& row : testing::vectors("lvs_report")) {
    INFO(row.dump(1));
    std::size_t parsed = 0;
    for (const auto& [vg, volumes] : row.at("parsed").items()) {
      for (const auto& [name, expected] : volumes.items()) {
        ++parsed;
        const detail::LvmReport report = report_of(row.at("lines"));
        const detail::LvmVolume* volume = report.find(name);
        REQUIRE(volume != nullptr);
        CHECK(volume->vg == vg);
        CHECK(volume->size.count == expected.at("lv_size"));
        CHECK(volume->attr.substr(0, 1) == expected.at("lv_type"));
        CHECK(volume->active() == (expected.at("lv_state") == "a"));
        if (row.contains("defect")) {
          CHECK(volume->tags == Names{"owner:x"});
          CHECK(volume->ctime == 1700000000);
          CHECK(volume->metadata_size == 1_GiB);
          continue;
        }
        CHECK(std::to_string(volume->ctime.value_or(0)) == expected.at("ctime"));
        if (!volume->is_pool()) continue;
        CHECK(volume->metadata_size.count == expected.at("metadata_size"));
        CHECK(volume->data.value_or(detail::LvmPercent{}).of(volume->size).count == expected.at("used"));
        CHECK(volume->metadata.value_or(detail::LvmPercent{}).of(volume->metadata_size).count ==
              expected.at("metadata_used"));
      }
    }
    CHECK(report_of(row.at("lines")).volumes.size() == parsed);
  }
}

TEST_CASE("the status of a thin pool is the reference's, but what is not known is not zero") {
  int rows = 0;
  for (const json& row : testing::vectors("lvs_report")) {
    if (!row.contains("thinpool_scfg")) continue;
    INFO(row.dump(1));
    ++rows;
    const detail::LvmView view{report_of(row.at("lines")), row.at("thinpool_scfg").at("thinpool")};
    const auto pool = view.pool();
    const json& expected = row.at("thin_status");
    REQUIRE(pool.has_value() != expected.is_null());
    CHECK(detail::lvm_infos(view).size() == row.at("thin_list").size());
    if (!pool) continue;
    const Status status = detail::lvm_pool_status(detail::lvm_thin_pool(view.report(), **pool));
    CHECK(status.active == (expected.at("active") == 1));
    CHECK(status.total.value().count == expected.at("total"));
    CHECK(status.used.has_value() == status.active);
    if (!status.used) continue;
    CHECK(status.used.value().count == expected.at("used"));
    CHECK(status.available.value().count == expected.at("avail"));
  }
  CHECK(rows >= 5);
}

TEST_CASE("what a volume group has left is told with its pools") {
  for (const json& row : testing::vectors("vgs_report")) {
    INFO(row.dump(1));
    for (const json& text : row.at("lines")) {
      const std::string line = text;
      const auto field = detail::lvm_split(line, ':');
      const std::string free{field[2]};
      const detail::LvmView view = view_of(lvs_pool({{"vg_name", std::string{field[0]}}, {"vg_free", free}}));
      const json& expected = row.at("parsed").at(std::string{field[0]});
      CHECK(detail::lvm_thin_pools(view.report()).at(0).vg_free.count == expected.at("free"));
    }
  }
}

TEST_CASE("output that cannot be understood is corrupt, and told") {
  const std::string good = lvs_rows(lvs_volume("vm-1-x") + lvs_volume("vm-1-y"));
  for (const std::string& text :
       {std::string{"garbage\n"}, std::string{"a|b|c\n"}, std::string(70000, 'x'), good + "more\n", "more|\n" + good,
        good.substr(0, good.size() - 2), good.substr(good.find('\n') + 1), good + good,
        std::string{"{\"report\": []}\n"}, std::string(24, '\n') + "x",
        lvs_rows(lvs_volume("vm-1-x", {{"lv_size", "8m"}})), lvs_rows(lvs_volume("vm-1-x", {{"lv_size", "-1"}})),
        lvs_rows(lvs_volume("vm-1-x", {{"lv_size", "99999999999999999999"}})),
        lvs_rows(lvs_volume("vm-1-x", {{"vg_extent_size", "0"}})),
        lvs_rows(lvs_volume("vm-1-x", {{"lv_attr", "V"}}))}) {
    INFO(text.substr(0, 100));
    const auto report = detail::parse_lvm_report(text);
    REQUIRE_FALSE(report);
    CHECK(report.error().code() == Errc::corrupt);
  }
  const auto odd =
      detail::parse_lvm_report(lvs_rows(lvs_volume("vm-1-x", {{"lv_time", "yesterday"}, {"data_percent", "x.y"}})));
  REQUIRE(odd);
  CHECK_FALSE(odd->volumes.at(0).ctime);
  CHECK_FALSE(odd->volumes.at(0).data);
  CHECK(detail::parse_lvm_report("")->volumes.empty());
  CHECK(detail::parse_lvm_report("\n \n")->volumes.empty());
}

TEST_CASE("percentages are exact") {
  CHECK(detail::lvm_percent("33.33") == detail::LvmPercent{3333});
  CHECK(detail::lvm_percent("7.5") == detail::LvmPercent{750});
  CHECK(detail::lvm_percent("100") == detail::LvmPercent{10000});
  for (const char* text : {"", "x", "-1", "101.00", "1.x", "1,5"}) CHECK_FALSE(detail::lvm_percent(text));
  CHECK(detail::LvmPercent{9999}.of(Bytes{1ULL << 62U}).count ==
        (1ULL << 62U) / 10000 * 9999 + (1ULL << 62U) % 10000 * 9999 / 10000);
}

TEST_CASE("hidden volumes lose their brackets, segments count once") {
  const auto report = detail::parse_lvm_report(lvs_rows(lvs_volume("[lvol0_pmspare]", {{"lv_uuid", "a"}}) +
                                                        lvs_volume("thick", {{"lv_uuid", "b"}}) +
                                                        lvs_volume("thick", {{"lv_uuid", "b"}})));
  REQUIRE(report);
  REQUIRE(report->volumes.size() == 2);
  CHECK(report->volumes[0].name == "lvol0_pmspare");
  CHECK(report->volumes[0].hidden);
}

TEST_CASE("a snapshot is its tag's volume's, else the one's with the longest name, and an origin rules out others") {
  const std::string both = lvs_pool() + lvs_volume("vm-7-x") + lvs_volume("vm-7-x_y");
  const std::string name = "snap_vm-7-x_y_z1";
  CHECK(owners(both + lvs_volume(name), name) == Names{"vm-7-x_y", "vm-7-x"});
  CHECK(owners(both + lvs_volume(name, {{"lv_tags", "stowage.of=vm-7-x"}}), name) == Names{"vm-7-x"});
  CHECK(owners(both + lvs_volume(name, {{"lv_tags", "other,stowage.of=vm-7-x_y"}}), name) == Names{"vm-7-x_y"});
  CHECK(owners(both + lvs_volume(name, {{"origin", "vm-7-x"}}), name) == Names{"vm-7-x"});
  CHECK(owners(both + lvs_volume(name, {{"origin", "vm-7-x_y"}}), name) == Names{"vm-7-x_y"});
  // an origin that is no volume whose name fits says nothing: after a rollback it may be anything
  CHECK(owners(both + lvs_volume(name, {{"origin", "vm-8-z"}}) + lvs_volume("vm-8-z"), name).size() == 2);
  // a tag that does not fit the name is somebody's mistake
  CHECK(owners(both + lvs_volume(name, {{"lv_tags", "stowage.of=vm-9-z"}}), name).size() == 2);
  CHECK(owners(lvs_pool() + lvs_volume("vm-7-a-b") + lvs_volume("vm-7-a.b") + lvs_volume("snap_vm-7-a-b_s1"),
               "snap_vm-7-a-b_s1") == Names{"vm-7-a-b"});
  CHECK(owners(lvs_pool() + lvs_volume("snap_vm-7-x_s1"), "snap_vm-7-x_s1").empty());
  CHECK(owners(lvs_pool() + lvs_volume("vm-7-x") + lvs_volume("snap_vm-7-x_"), "snap_vm-7-x_").empty());
}

TEST_CASE("snapshots come oldest first, by our tag, whatever LVM made of them in a rollback") {
  const detail::LvmView view = view_of(
      lvs_pool() + lvs_volume("vm-7-x") +
      lvs_volume("snap_vm-7-x_new", {{"lv_tags", "stowage.of=vm-7-x,stowage.at=1700000002000001"}, {"lv_time", "1"}}) +
      lvs_volume("snap_vm-7-x_old",
                 {{"lv_tags", "stowage.at=1700000001000000,stowage.of=vm-7-x"}, {"lv_time", "1800000000"}}) +
      lvs_volume("snap_vm-7-x_pvesm", {{"lv_time", "1700000002"}}) +
      lvs_volume("snap_vm-7-x_after", {{"lv_time", "1700000003"}, {"thin_id", "12"}}) +
      // what a rollback has made of one that was as old as `after`, with the thin id 11
      lvs_volume("snap_vm-7-x_before",
                 {{"lv_tags", "stowage.of=vm-7-x,stowage.at=1700000003000011"}, {"thin_id", "13"}}));
  Names names;
  for (const auto& snapshot : view.snapshots("vm-7-x")) names.push_back(snapshot.name);
  CHECK(names == Names{"old", "pvesm", "new", "before", "after"});
  const auto* after = view.report().find("snap_vm-7-x_after");
  REQUIRE(after != nullptr);
  CHECK(detail::LvmView::taken_at(*after) == 1700000003000012);
}

TEST_CASE("traces of unfinished verbs are found on the volumes themselves") {
  const auto intent_of = [](const std::string& lines, const std::string& volume) {
    for (const VolumeInfo& info : detail::lvm_infos(view_of(lvs_pool() + lines))) {
      if (info.name.str() == volume) return info.intent;
    }
    return std::string{"not listed"};
  };
  const std::string plain = lvs_volume("vm-7-x", {{"lv_uuid", "old"}});
  CHECK(intent_of(plain, "vm-7-x").empty());
  CHECK(intent_of(lvs_volume("vm-7-x", {{"lv_tags", "stowage.intent=import"}}), "vm-7-x") == "import");
  CHECK(intent_of(lvs_volume("vm-7-x", {{"lv_tags", "stowage.intent=rename/vm-7-x/vm-8-x"}}), "vm-7-x") == "rename");
  CHECK(intent_of(lvs_volume("vm-7-x", {{"lv_tags", "stowage.intent=template"}}), "vm-7-x") == "template");
  CHECK(intent_of(lvs_volume("base-7-x", {{"lv_tags", "stowage.intent=template"}}), "base-7-x").empty());
  CHECK(intent_of(plain + lvs_volume("roll_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x"}}), "vm-7-x") == "rollback");
  CHECK(intent_of(plain + lvs_volume("roll_vm-7-x_s1"), "vm-7-x").empty());  // somebody else's
  const std::string next = lvs_volume("next_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x,stowage.replaces=old"}});
  CHECK(intent_of(plain + next, "vm-7-x") == "rollback");
  CHECK(intent_of(lvs_volume("gone_vm-7-x", {{"lv_uuid", "old"}}) + next, "vm-7-x") == "rollback");  // missing just now
  const std::string placed =
      lvs_volume("vm-7-x", {{"lv_tags", "stowage.of=vm-7-x,stowage.replaces=old,stowage.id=first"}});
  CHECK(intent_of(lvs_volume("gone_vm-7-x", {{"lv_uuid", "old"}}) + placed, "vm-7-x") == "rollback");
  CHECK(intent_of(placed, "vm-7-x").empty());
  CHECK(detail::lvm_infos(view_of(placed)).at(0).identity == "first");
}

TEST_CASE("what a clone was made of stands in its tag, or in LVM's origin") {
  const std::string there = lvs_pool() + lvs_volume("base-7-x") + lvs_volume("vm-7-y") +
                            lvs_volume("snap_vm-7-y_s1", {{"lv_tags", "stowage.of=vm-7-y"}});
  const auto parent = [&](const std::map<std::string, std::string>& columns) {
    return detail::lvm_infos(view_of(there + lvs_volume("vm-8-x", columns))).back().parent;
  };
  CHECK_FALSE(parent({}));
  CHECK(parent({{"lv_tags", "stowage.parent=base-7-x"}}).value().image == "base-7-x");
  CHECK(parent({{"lv_tags", "stowage.parent=vm-7-y/s1"}}).value().snapshot == "s1");
  CHECK_FALSE(parent({{"lv_tags", "stowage.parent=base-9-gone"}}));
  CHECK(parent({{"origin", "base-7-x"}}).value().image == "base-7-x");
  CHECK(parent({{"origin", "snap_vm-7-y_s1"}}).value() == Parent{{}, {}, "vm-7-y", "s1"});
  CHECK_FALSE(parent({{"origin", "vm-7-y"}}));
}

TEST_CASE("the words of LVM's tools have a meaning, and the last line is told") {
  const auto code = [](const std::string& err) {
    const Error error = detail::lvm_error("trying", {.exit_code = 5, .out = {}, .err = err});
    CHECK_FALSE(error.detail().empty());
    return error.code();
  };
  // as lvm2 2.03.16 wrote them
  CHECK(code("  Volume group \"nope\" not found\n  Cannot process volume group nope\n") == Errc::unavailable);
  CHECK(code("  Logical Volume \"vm-1-x\" already exists in volume group \"vg\"\n") == Errc::already_exists);
  CHECK(code("  Failed to find logical volume \"vg/vm-1-x\"\n") == Errc::not_found);
  CHECK(code("  Logical volume vg/vm-1-x in use.\n") == Errc::in_use);
  CHECK(code("  Logical volume vg/vm-1-x contains a filesystem in use.\n") == Errc::in_use);
  CHECK(code("  WARNING: Running as a non-root user. Functionality may be unavailable.\n"
             "  /run/lock/lvm/P_global:aux: open failed: Permission denied\n") == Errc::permission_denied);
  CHECK(code("  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.\n") ==
        Errc::no_space);
  CHECK(code("  Volume group \"vg\" has insufficient free space (0 extents): 3 required.\n") == Errc::no_space);
  CHECK(code("  Check of pool vg/pool failed (status:1). Manual repair required!\n") == Errc::corrupt);
  const auto hint = [&](const std::string& err) {
    CHECK(code(err) == Errc::unavailable);
    return detail::lvm_error("trying", {.exit_code = 5, .out = {}, .err = err}).hint();
  };
  CHECK(hint("  /dev/mapper/control: open failed: No such device\n"
             "  Failure to communicate with kernel device-mapper driver.\n"
             "  Check that device-mapper is available in the kernel.\n"
             "  Incompatible libdevmapper 1.02.185 (2022-05-18) and kernel driver (unknown version).\n") ==
        "modprobe dm_mod");
  CHECK(hint("  /sbin/modprobe failed: 1\n"
             "  thin-pool: Required device-mapper target(s) not detected in your kernel.\n") ==
        "modprobe dm_thin_pool");
  CHECK(hint("  Can't process LV vg/pool: thin-pool target support missing from kernel?\n") == "modprobe dm_thin_pool");
  CHECK(code("  Something new.\n") == Errc::command_failed);
  CHECK(code("") == Errc::command_failed);
  const Error mismatch = detail::lvm_error(
      "trying",
      {.exit_code = 5, .out = {}, .err = "  Thin pool vg-pool-tpool (253:2) transaction_id is 5, while expected 4.\n"});
  CHECK(mismatch.code() == Errc::corrupt);
  CHECK(mismatch.detail().find("is 5, while expected 4") != std::string::npos);
  CHECK(detail::lvm_error("trying", {.exit_code = 5,
                                     .out = {},
                                     .err = "  the reason\n  WARNING: beside it\n"
                                            "  /dev/sr0: open failed: No medium found\n"
                                            "File descriptor 9 (pipe) leaked on lvs invocation.\n"})
            .detail() == "trying: the reason");
}

TEST_CASE("a listing asks for less, and is read too") {
  const auto columns = [](detail::LvmDetail detail) {
    const auto argv = detail::lvm_report_argv("vg", detail);
    return detail::lvm_split(*(std::find(argv.begin(), argv.end(), "-o") + 1), ',').size();
  };
  CHECK(columns(detail::LvmDetail::all) == detail::lvm_columns.size());
  CHECK(columns(detail::LvmDetail::listing) == detail::lvm_listing_columns);
  const std::string text =
      "  vg\n  vm-1-x\n  u\n  8388608\n  Vwi-a-tz-k\n  pool\n  base-1-x\n  50.00\n  1700000000\n  a,b\n  group\n";
  const auto report = detail::parse_lvm_report(text);
  REQUIRE(report);
  const detail::LvmVolume& volume = report->volumes.at(0);
  CHECK(volume.size == 8_MiB);
  CHECK(volume.origin == "base-1-x");
  CHECK(volume.data == detail::LvmPercent{5000});
  CHECK(volume.tags == Names{"a", "b"});
  CHECK(volume.vg_uuid == "group");
  CHECK_FALSE(detail::parse_lvm_report(text + "  more\n"));
}

TEST_CASE("LVM is kept away from the volumes of the group, not from other devices") {
  const std::string settings = detail::lvm_settings("my-vg.1");
  CHECK(settings.find("\"r|^/dev/my-vg[.]1/|\"") != std::string::npos);
  CHECK(settings.find("\"r|^/dev/mapper/my--vg[.]1-[^-]|\"") != std::string::npos);
  CHECK(settings.find("global_filter") == std::string::npos);
}

TEST_CASE("ten thousand volumes are read, and none is lost") {
  std::string text;
  for (int n = 0; n < 10'000; ++n) text += lvs_volume("vm-1-disk-" + std::to_string(n));
  const auto report = detail::parse_lvm_report(lvs_rows(text));
  REQUIRE(report);
  CHECK(report->volumes.size() == 10'000);
}
