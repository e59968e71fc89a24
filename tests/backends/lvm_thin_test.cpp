// Which of LVM's tools LvmThin runs, and what it makes of what they say. Nothing of LVM is here: tests/guest has the
// real one.

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/fake_runner.hpp>
#include <stowage/testing/laws/bench.hpp>

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/folder.hpp"
#include "support/lvm_lines.hpp"
#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;
using testing::FakeRunner;
using testing::lvs_pool;
using testing::lvs_volume;
using testing::must;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;
using testing::volume_name;

namespace {

using FakeLvm = BasicLvmThin<FakeRunner>;
using Lines = std::vector<std::string>;

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// LVM that says of its volumes what it was told to, and agrees to every change that it was not told to refuse.
class Bed {
 public:
  explicit Bed(std::string report = lvs_pool(), LvmThinConfig config = {"vg", "pool", {}})
      : answers_{std::make_shared<std::map<std::string, Result<CommandOutput>>>()}, config_{std::move(config)} {
    options.lock_folder = folder_.file("locks");
    says(std::move(report));
    for (const char* tool : {"lvs", "lvcreate", "lvremove", "lvchange", "lvrename", "lvextend", "lvconvert"}) {
      const auto play = [answers = answers_, made = made_, tool](const Command& command) -> Result<CommandOutput> {
        const auto answer = answers->find(tool);
        auto output = answer == answers->end() ? Result<CommandOutput>{CommandOutput{}} : answer->second;
        if (output && std::string_view{tool} == "lvs") output->out = testing::lvs_answer(output->out + *made, command);
        // what is imported is there after that, for as long as nobody says otherwise
        if (std::string_view{tool} == "lvcreate" && command.argv[5].starts_with("import-")) {
          std::string tag = *std::find_if(command.argv.begin(), command.argv.end(),
                                          [](const auto& arg) { return arg.starts_with("stowage.intent="); });
          *made += testing::lvs_volume(command.argv[5], {{"lv_tags", std::move(tag)}});
        }
        return output;
      };
      runner.play(std::string{"/sbin/"} + tool, play);
    }
  }

  Storage<FakeLvm> storage() {
    const StorageId id = must(StorageId::parse("st"));
    return Storage<FakeLvm>{id, must(FakeLvm::open(id, config_, options, runner))};
  }

  detail::LvmTools<FakeRunner> tools() { return {config_, options, runner}; }

  void says(std::string report) { answer("lvs", CommandOutput{0, std::move(report), {}}); }
  void refuses(const std::string& tool, const std::string& words) { answer(tool, CommandOutput{5, {}, words}); }
  void answer(const std::string& tool, Result<CommandOutput> output) {
    answers_->insert_or_assign(tool, std::move(output));
  }

  /// What ran besides `lvs`, without paths, settings and -y: "lvremove vg/vm-1-x". In records the nonce is N, and this
  /// process is ME.
  Lines changes() const {
    const std::string record = "stowage.intent=1/";
    const std::string owner = "/" + detail::owner_text(this_process());
    Lines lines;
    for (const Command& command : runner.log()) {
      if (command.argv[0] == "/sbin/lvs") continue;
      REQUIRE(command.argv.size() > 4);
      CHECK(command.argv[1] == "-y");
      CHECK(command.argv[2] == "--config");
      std::string line = command.argv[0].substr(6);
      for (std::size_t at = 4; at < command.argv.size(); ++at) line += " " + command.argv[at];
      for (std::size_t at = line.find(record); at != line.npos; at = line.find(record, at + 1)) {
        line.replace(at + record.size(), 16, "N");
      }
      for (std::size_t at = line.find(owner); at != line.npos; at = line.find(owner)) {
        line.replace(at, owner.size(), "/ME");
      }
      lines.push_back(std::move(line));
    }
    return lines;
  }

  FakeRunner runner;
  OpenOptions options;

 private:
  testing::Folder folder_;
  std::shared_ptr<std::map<std::string, Result<CommandOutput>>> answers_;
  std::shared_ptr<std::string> made_ = std::make_shared<std::string>();
  LvmThinConfig config_;
};

LvmThinConfig config_of(const json& scfg) { return {scfg.at("vgname"), scfg.at("thinpool"), {}}; }

std::string report_of(const json& row) {
  const std::string pool = row.at("args").dump().find("\"pve\"") == std::string::npos ? "vg" : "pve";
  std::string text;
  bool has_pool = false;
  for (const json& line : row.at("lvs_lines")) {
    text += testing::lvs_line_of_reference(line.get<std::string>());
    has_pool |= contains(line.get<std::string>(), ":twi-");
  }
  return (has_pool ? "" : lvs_pool({{"vg_name", pool}, {"lv_name", "data"}})) + text;
}

/// The tag of a record that its run has left behind, bound to the LV `uuid`.
std::string left_behind(const std::string& verb, const std::string& uuid, std::vector<std::string> arguments = {}) {
  return "stowage.intent=" + must(intent_text({.verb = verb,
                                               .nonce = "0123456789abcdef",
                                               .bound = "group-uuid." + uuid,
                                               .arguments = std::move(arguments)}));
}

const VolumeName volume = volume_name("vm-7-x");
const SnapshotName s1 = snapshot_name("s1");

}  // namespace

TEST_CASE("one process answers each question") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-x") + lvs_volume("snap_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x"}})};
  auto storage = bed.storage();
  CHECK(bed.runner.log().empty());
  const auto one = [&](auto ask) {
    bed.runner.clear_log();
    ask();
    CHECK(bed.runner.log().size() == 1);
  };
  one([&] { CHECK(must(storage.list()).size() == 1); });
  one([&] { CHECK(must(storage.status()).used == 512_MiB); });
  one([&] { CHECK(must(storage.info(volume)).size == 8_MiB); });
  one([&] { CHECK(must(storage.snapshots(volume)).size() == 1); });
  one([&] { CHECK(must(storage.backend().names()).size() == 3); });
  one([&] { must(storage.activate()); });
  one([&] { must(storage.activate(volume)); });
}

TEST_CASE("alloc, clone, resize and snapshot do what the reference does") {
  int rows = 0;
  for (const json& row : testing::vectors("lvmthin_commands")) {
    if (row.contains("error") || row.contains("defect")) continue;
    INFO(row.dump(1));
    const std::string method = row.at("method");
    const json& args = row.at("args");
    const json* scfg = nullptr;
    for (const json& arg : args) {
      if (arg.is_object() && arg.contains("vgname")) scfg = &arg;
    }
    if (scfg == nullptr) continue;
    Bed bed{report_of(row), config_of(*scfg)};
    auto storage = bed.storage();
    std::string wanted;
    if (method == "alloc_image") {
      ++rows;
      CreateSpec spec{.vmid = VmId{args.at(2)}, .size = Bytes{args.at(5).get<std::uint64_t>() * 1024}};
      if (!args.at(4).is_null()) spec.name = volume_name(args.at(4).get<std::string>());
      CHECK(must(storage.create(spec)).str() == row.at("result"));
      wanted = "lvcreate -n " + row.at("result").get<std::string>() + " -prw -ay -ky -K -Wn -V " +
               std::to_string(spec.size.count) + "b --thinpool pve/data";
    } else if (method == "clone_image" && args.at(4).is_null()) {
      ++rows;
      const VolumeName base = volume_name(args.at(2).get<std::string>());
      CHECK(must(storage.clone(base, {.vmid = VmId{args.at(3)}})).str() == row.at("result"));
      wanted = "lvcreate -n " + row.at("result").get<std::string>() +
               " -prw -ay -ky -K --addtag stowage.parent=" + base.str() + " -s pve/" + base.str();
    } else if (method == "volume_resize") {
      ++rows;
      CHECK(must(storage.resize(volume_name(args.at(2).get<std::string>()), Bytes{args.at(3)})) == Bytes{args.at(3)});
      wanted =
          "lvextend -L " + std::to_string(args.at(3).get<std::uint64_t>()) + "b pve/" + args.at(2).get<std::string>();
    } else if (method == "volume_snapshot_delete") {
      ++rows;
      must(storage.remove_snapshot(volume_name(args.at(2).get<std::string>()),
                                   snapshot_name(args.at(3).get<std::string>())));
      wanted = "lvremove pve/snap_" + args.at(2).get<std::string>() + "_" + args.at(3).get<std::string>();
    } else {
      continue;
    }
    CHECK(bed.changes() == Lines{wanted});
  }
  CHECK(rows >= 5);
}

TEST_CASE("what else the reference does, and what we do instead") {
  const VolumeName vm = volume_name("vm-100-disk-0");
  const VolumeName inactive = volume_name("vm-105-disk-0");
  std::map<std::string, int> rows;
  for (const json& row : testing::vectors("lvmthin_commands")) {
    INFO(row.dump(1));
    const std::string method = row.at("method");
    const json& args = row.at("args");
    Bed bed{report_of(row), {"pve", "data", {}}};
    auto storage = bed.storage();
    if (method == "alloc_image" && row.contains("error")) {
      if (args.at(3) == "qcow2") {
        ++rows["no such format"];  // `Format` has raw only: it cannot be asked for
        continue;
      }
      ++rows["refused"];
      const bool group = row.at("error").get<std::string>().starts_with("no such volume group");
      if (group) bed.refuses("lvs", "  Volume group \"nope\" not found\n  Cannot process volume group nope\n");
      CreateSpec spec{.vmid = VmId{args.at(2)}, .size = 4_MiB};
      if (!group) spec.name = volume_name(args.at(4).get<std::string>());
      refused(storage.create(spec), group ? Errc::unavailable : Errc::parse_failed);
      CHECK(bed.changes().empty());
    } else if (method == "free_image" && !row.contains("defect")) {
      ++rows["what is not there"];  // is freed there; here it is told, and nothing is tried
      refused(storage.remove(volume_name(args.at(2).get<std::string>())), Errc::not_found);
      CHECK(bed.changes().empty());
    } else if (method == "volume_size_info") {
      ++rows["size"];
      CHECK(must(storage.info(vm)).size == 32_GiB);  // of the listing: the reference's answer is its test's own
      CHECK(bed.runner.log().size() == 1);
    } else if (method == "volume_snapshot") {
      ++rows["snapshot"];
      must(storage.snapshot(vm, snapshot_name("s2")));
      REQUIRE(bed.changes().size() == 1);  // and whose it is, and of when
      CHECK(bed.changes()[0].starts_with("lvcreate -s -n snap_vm-100-disk-0_s2 -pr -ky --addtag stowage.of=vm-100-"));
      CHECK(bed.changes()[0].ends_with(" pve/vm-100-disk-0"));
    } else if (method == "deactivate_storage") {
      ++rows["deactivate the storage"];  // the reference does that to the whole group, other pools too
      bed.says(testing::lvs_pool({{"vg_name", "pve"}, {"lv_name", "data"}}) +
               lvs_volume("vm-1-x", {{"vg_name", "pve"}, {"pool_lv", "data"}}) +
               lvs_volume("vm-1-y", {{"vg_name", "pve"}, {"pool_lv", "other"}}));
      must(storage.deactivate());
      CHECK(bed.changes() == Lines{"lvchange -an pve/vm-1-x pve/data"});
    } else if (method == "activate_volume" && !args.at(3).is_null()) {
      ++rows["activate"];  // that it is not active behind that is told
      refused(storage.activate(vm, s1), Errc::unavailable);
      CHECK(bed.changes() == Lines{"lvchange -ay -K pve/snap_vm-100-disk-0_s1"});
    } else if (method == "activate_volume" && args.at(2) == vm.str()) {
      ++rows["activate"];
      must(storage.activate(vm));
      CHECK(bed.changes().empty());
    } else if (method == "activate_volume") {
      ++rows["activate"];
      refused(storage.activate(inactive), Errc::unavailable);
      CHECK(bed.changes() == Lines{"lvchange -ay -K pve/vm-105-disk-0"});
    } else if (method == "deactivate_volume") {
      ++rows["deactivate"];  // the reference leaves volumes active, and lets snapshots go by themselves
      bed.says(
          testing::lvs_pool({{"vg_name", "pve"}, {"lv_name", "data"}}) +
          lvs_volume(vm.str(), {{"vg_name", "pve"}, {"pool_lv", "data"}}) +
          lvs_volume("snap_vm-100-disk-0_s1", {{"vg_name", "pve"}, {"pool_lv", "data"}, {"lv_attr", "Vri-a-tz-k"}}));
      must(storage.deactivate(vm));
      CHECK(bed.changes() == Lines{"lvchange -an pve/vm-100-disk-0 pve/snap_vm-100-disk-0_s1"});
    } else if (method == "volume_snapshot_info") {
      ++rows["snapshots"];  // the reference has none to tell of
      CHECK(must(storage.snapshots(vm)).size() == 2);
    }
  }
  CHECK(rows == std::map<std::string, int>{{"no such format", 1},
                                           {"refused", 2},
                                           {"what is not there", 1},
                                           {"size", 1},
                                           {"snapshot", 1},
                                           {"deactivate the storage", 1},
                                           {"activate", 3},
                                           {"deactivate", 2},
                                           {"snapshots", 1}});
}

TEST_CASE("freeing a volume never takes a snapshot of another one along") {
  int rows = 0;
  for (const json& row : testing::vectors("lvmthin_commands")) {
    if (row.at("method") != "free_image" || !row.contains("defect")) continue;
    INFO(row.dump(1));
    ++rows;
    Bed bed{report_of(row), config_of(row.at("args").at(1))};
    auto storage = bed.storage();
    for (const bool snapshots : {false, true}) {
      const Error error =
          refusal_of(storage.remove(volume_name("vm-7-x"), {.snapshots = snapshots, .trash = false}), Errc::in_use);
      CHECK(contains(error.message(), "'vm-7-x'"));
      CHECK(contains(error.message(), "'vm-7-x_y'"));
    }
    refused(storage.remove_snapshot(volume_name("vm-7-x"), snapshot_name("y_z1")), Errc::in_use);
    refused(storage.rollback(volume_name("vm-7-x_y"), snapshot_name("z1")), Errc::in_use);
    CHECK(bed.changes().empty());
    CHECK(must(storage.snapshots(volume_name("vm-7-x"))).empty());
    CHECK(must(storage.snapshots(volume_name("vm-7-x_y"))).size() == 1);
  }
  CHECK(rows == 1);

  // With our tag it is clear whose it is.
  const std::string theirs = lvs_volume("snap_vm-7-x_y_z1", {{"lv_tags", "stowage.of=vm-7-x_y"}});
  Bed bed{lvs_pool() + lvs_volume("vm-7-x") + lvs_volume("vm-7-x_y") + theirs};
  must(bed.storage().remove(volume_name("vm-7-x"), {.snapshots = true, .trash = false}));
  CHECK(bed.changes() == Lines{"lvremove vg/vm-7-x"});
}

TEST_CASE("a name with a dot is no pattern") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-a.b") + lvs_volume("vm-7-a-b") + lvs_volume("snap_vm-7-a-b_s1")};
  must(bed.storage().remove(volume_name("vm-7-a.b"), {.snapshots = true, .trash = false}));
  CHECK(bed.changes() == Lines{"lvremove vg/vm-7-a.b"});
}

TEST_CASE("a template is refused for any snapshot, also one with a dash") {
  for (const json& row : testing::vectors("lvmthin_commands")) {
    if (row.at("method") != "create_base") continue;
    INFO(row.dump(1));
    Bed bed{report_of(row), config_of(row.at("args").at(1))};
    const auto made = bed.storage().make_template(volume_name(row.at("args").at(2).get<std::string>()));
    if (row.contains("error") || row.contains("defect")) {
      refused(made, Errc::wrong_state);
      CHECK(bed.changes().empty());
    } else {
      CHECK(must(made).str() == "base-105-disk-0");
      CHECK(bed.changes() ==
            Lines{"lvchange -pr -ky --addtag stowage.intent=1/N/template/prepare/.vm-105-disk-0/ME pve/vm-105-disk-0",
                  "lvrename pve vm-105-disk-0 base-105-disk-0"});
    }
  }
}

TEST_CASE("a volume loses its lineage before LVM forgets what its other snapshots were taken of") {
  const std::string lineage = lvs_volume("vm-7-x", {{"lv_tags", "stowage.lineage"}});
  const std::string one = lvs_volume("snap_vm-7-x_s1", {{"origin", "vm-7-x"}});
  const auto first = [&](const std::string& lines) {
    Bed bed{lvs_pool() + lines};
    static_cast<void>(bed.storage().rollback(volume, s1));  // the report does not change, so it does not end well
    const Lines changes = bed.changes();
    return changes.empty() ? std::string{} : changes[0];
  };
  const std::string other = lvs_volume("snap_vm-7-x_s2", {{"origin", "vm-7-x"}});
  CHECK(first(lineage + one + other) == "lvchange --deltag stowage.lineage vg/vm-7-x");
  CHECK(first(lineage + one) == "lvchange --deltag stowage.lineage vg/vm-7-x");  // another may be taken meanwhile
  CHECK(first(lvs_volume("vm-7-x") + one + other).starts_with("lvcreate -s -n roll_vm-7-x_s1 "));
}

TEST_CASE("a removal takes the name away first, and the volume is destroyed last") {
  // inactive, so that no device is needed: whether it has blocks is not known, but nothing is passed down
  const std::string pool = lvs_pool({{"discards", "nopassdown"}});
  Bed bed{pool + lvs_volume("vm-7-x", {{"lv_attr", "Vwi---tz-k"}}) + lvs_volume("snap_vm-7-x_s1") +
          lvs_volume("snap_vm-7-x_s2", {{"lv_tags", "stowage.of=vm-7-x"}})};
  auto storage = bed.storage();
  const Error error = refusal_of(storage.remove(volume), Errc::in_use);
  CHECK(contains(error.message(), "s1, s2"));
  CHECK(bed.changes().empty());
  must(storage.remove(volume, {.snapshots = true, .trash = false}));
  Lines changes = bed.changes();
  REQUIRE(changes.size() == 3);
  REQUIRE(changes[0].starts_with("lvrename vg vm-7-x remove-"));
  CHECK(changes[0].ends_with("-vm-7-x"));
  const std::string name = changes[0].substr(std::string{"lvrename vg vm-7-x "}.size());
  CHECK(changes[1] == "lvremove vg/snap_vm-7-x_s1 vg/snap_vm-7-x_s2");
  CHECK(changes[2] == "lvremove vg/" + name);

  // an obstacle that is met after that, with nothing destroyed
  bed.runner.clear_log();
  bed.refuses("lvremove", "  Logical volume vg/snap_vm-7-x_s1 in use.\n");
  refused(storage.remove(volume, {.snapshots = true, .trash = false}), Errc::in_use);
  changes = bed.changes();
  REQUIRE(changes.size() == 3);
  CHECK(changes[2].starts_with("lvrename vg remove-"));
  CHECK(changes[2].ends_with("-vm-7-x vm-7-x"));
}

TEST_CASE("the private name of a removal tells what it was, whatever its length") {
  const auto read = [](const std::string& name, std::vector<std::string> tags = {}) {
    detail::LvmVolume lv;
    lv.name = name;
    lv.tags = std::move(tags);
    return detail::lvm_removal(lv);
  };
  const detail::LvmRemoval one{"0123456789abcdef", "89abcdef", 0x80, "vm-7-x-y"};
  CHECK(one.name() == "remove-0123456789abcdef-89abcdef-80-vm-7-x-y");
  const auto again = read(one.name());
  REQUIRE(again);
  CHECK(again->nonce == one.nonce);
  CHECK(again->place == one.place);
  CHECK(again->sectors == one.sectors);
  CHECK(again->volume == one.was);
  const std::string longest = "vm-7-" + std::string(122, 'x');
  const std::string name = detail::LvmRemoval{one.nonce, one.place, 0, longest}.name();
  CHECK(name == "remove-0123456789abcdef-89abcdef-0");
  CHECK_FALSE(read(name));
  REQUIRE(read(name, {"stowage.was=" + longest}));
  CHECK(read(name, {"stowage.was=" + longest})->volume == longest);
  for (const char* other : {"remove-x", "remove-0123456789abcdef-89abcdef-8g-vm-7-x", "remove-0123-89abcdef-8-vm-7-x",
                            "vm-7-x", "remove-"}) {
    CHECK_FALSE(read(other));
  }
}

TEST_CASE("renaming takes the snapshots along, with a trace for who finds it half done") {
  const std::string x = lvs_volume("vm-7-x", {{"lv_uuid", "x"}});
  Bed bed{lvs_pool() + x};
  auto storage = bed.storage();
  CHECK(must(storage.rename(volume, {.vmid = VmId{8}, .name = volume_name("vm-8-x")})).str() == "vm-8-x");
  CHECK(bed.changes() == Lines{"lvrename vg vm-7-x vm-8-x"});

  bed.says(lvs_pool() + x + lvs_volume("snap_vm-7-x_s1"));
  bed.runner.clear_log();
  refused(storage.rename(volume, {.vmid = VmId{8}, .name = volume_name("vm-8-x")}), Errc::not_found);
  CHECK(bed.changes() ==
        Lines{"lvchange --addtag stowage.intent=1/N/rename/prepare/group-uuid.x/ME/vm-7-x/vm-8-x vg/vm-7-x",
              "lvchange --deltag stowage.of=vm-7-x --addtag stowage.of=vm-8-x vg/snap_vm-7-x_s1",
              "lvrename vg vm-7-x vm-8-x"});

  // found before the volume has its new name: undone
  const std::string tagged = lvs_volume("snap_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-8-x"}});
  const std::string record = left_behind("rename", "x", {"vm-7-x", "vm-8-x"});
  bed.says(lvs_pool() + lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_tags", record}}) + tagged);
  CHECK(must(storage.snapshots(volume)).size() == 1);
  bed.runner.clear_log();
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(bed.changes() ==
        Lines{"lvchange --deltag stowage.of=vm-8-x --addtag stowage.of=vm-7-x vg/snap_vm-7-x_s1",
              "lvchange --deltag stowage.intent=1/N/rename/prepare/group-uuid.x//vm-7-x/vm-8-x vg/vm-7-x"});

  // found behind it: finished
  bed.says(lvs_pool() + lvs_volume("vm-8-x", {{"lv_uuid", "x"}, {"lv_tags", record}}) + tagged);
  CHECK(must(storage.snapshots(volume_name("vm-8-x"))).size() == 1);
  bed.runner.clear_log();
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(bed.changes() ==
        Lines{"lvrename vg snap_vm-7-x_s1 snap_vm-8-x_s1",
              "lvchange --deltag stowage.intent=1/N/rename/prepare/group-uuid.x//vm-7-x/vm-8-x vg/vm-8-x"});
}

TEST_CASE("recovery leaves alone what a living verb is at, and completes or undoes what a dead one has left") {
  const auto import =
      lvs_volume("import-0123456789abcdef", {{"lv_tags", left_behind("import", "0123456789abcdef", {"vm-7-x"})}});
  Bed bed{lvs_pool() + import};
  auto storage = bed.storage();
  CHECK(must(storage.info(volume)).intent == "import");
  CHECK(contains(refusal_of(storage.open_volume(volume, Access::read_write), Errc::wrong_state).message(), "import"));
  refused(storage.resize(volume, 1_GiB), Errc::wrong_state);
  refused(storage.snapshot(volume, s1), Errc::wrong_state);
  refused(storage.clone(volume, s1, {.vmid = VmId{7}}), Errc::not_found);
  {
    const auto lock = detail::LvmLock::take(bed.options, "vg", "vm-7-x", std::chrono::milliseconds{0});
    REQUIRE(lock);
    const Recovery beside = must(storage.recover());
    CHECK((beside.done.empty() && beside.left.empty()));
    CHECK(beside.busy.size() == 1);
    refused(storage.open_volume(volume, Access::read_write), Errc::in_use);
    const auto second = detail::LvmLock::take(bed.options, "vg", "vm-7-x", std::chrono::milliseconds{0});
    REQUIRE_FALSE(second);
    CHECK(second.error().code() == Errc::in_use);
    CHECK(detail::LvmLock::take(bed.options, "vg", "vm-7-y", std::chrono::milliseconds{0}));
  }
  CHECK(must(storage.recover({.dry_run = true})).done.size() == 1);
  CHECK(bed.changes().empty());
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(bed.changes() == Lines{"lvremove vg/import-0123456789abcdef"});
}

TEST_CASE("a record of another machine, of version 0.1, or of a version that is not known here is left") {
  IntentOwner elsewhere = this_process();
  elsewhere.machine = "another";
  elsewhere.host = "pve2";
  const std::string foreign = "stowage.intent=" + must(intent_text({.verb = "rename",
                                                                    .nonce = "0123456789abcdef",
                                                                    .bound = "group-uuid.x",
                                                                    .owner = elsewhere,
                                                                    .arguments = {"vm-7-x", "vm-8-x"}}));
  for (const std::string& tag : {foreign, std::string{"stowage.intent=import"}, std::string{"stowage.intent=remove"},
                                 std::string{"stowage.intent=dance"}, std::string{"stowage.intent=7/what/dance"}}) {
    INFO(tag);
    Bed bed{lvs_pool() + lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_tags", tag}, {"data_percent", "0.00"}})};
    auto storage = bed.storage();
    const Recovery recovery = must(storage.recover());
    CHECK((recovery.done.empty() && recovery.busy.empty()));
    REQUIRE(recovery.left.size() == 1);
    CHECK(recovery.left.front().object == "vm-7-x");
    CHECK(recovery.left.front().code == (tag == foreign ? Errc::in_use : Errc::wrong_state));
    CHECK(recovery.left.front().holder == (tag == foreign ? elsewhere.str() : ""));
    CHECK_FALSE(storage.resize(volume, 1_GiB));
    CHECK_FALSE(storage.make_template(volume));
    CHECK(bed.changes().empty());
    if (tag == foreign) {
      CHECK(contains(refusal_of(storage.remove(volume), Errc::in_use).message(), "on pve2"));
      CHECK(bed.changes().empty());
    } else {
      must(storage.remove(volume));  // a way out
      CHECK(bed.changes() == Lines{"lvremove vg/vm-7-x"});
    }
  }
  // and the other one
  Bed bed{lvs_pool() + lvs_volume("vm-7-x", {{"lv_tags", "stowage.intent=import"}})};
  CHECK(must(bed.storage().recover(volume, {.then = RecoverOptions::Then::adopt})).done.size() == 1);
}

TEST_CASE("verbs on an unfinished volume are refused by the table, and what is refused changes nothing") {
  struct Record {
    std::string verb;
    std::vector<std::string> arguments;
  };
  const std::vector<Record> records{{"rollback", {"s1"}},
                                    {"remove", {}},
                                    {"receive", {"vm-7-x", "4096", "rbd-1-2", "s1"}},
                                    {"template", {}},
                                    {"rename", {"vm-7-x", "vm-8-x"}}};
  for (const Record& record : records) {
    const std::string tag = left_behind(record.verb, "x", record.arguments);
    const bool aside = record.verb == "rollback";
    const std::string copy = lvs_volume("roll_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x," + tag}});
    const std::string lv =
        lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_attr", "Vwi---tz-k"}, {"lv_tags", aside ? std::string{} : tag}});
    Bed bed{lvs_pool() + (aside ? copy : std::string{}) + lv +
            lvs_volume("snap_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x"}, {"origin", "vm-7-x"}})};
    auto storage = bed.storage();
    for (const bool live : {false, true}) {
      INFO(record.verb << (live ? ", live" : ", dead"));
      const auto lock = detail::LvmLock::take(bed.options, "vg", live ? "vm-7-x" : "vm-7-other", {});
      REQUIRE(lock);
      const auto refuses = [&](std::string_view verb, const auto& result) {
        INFO(verb);
        refused(result, live ? Errc::in_use : Errc::wrong_state);
      };
      refuses("activate", storage.activate(volume));
      refuses("read", storage.open_volume(volume, Access::read_only));
      refuses("write", storage.open_volume(volume, Access::read_write));
      refuses("resize", storage.resize(volume, 1_GiB));
      refuses("clone", storage.clone(volume, s1, {.vmid = VmId{7}}));
      if (!live) {  // each would wait for the lock
        refuses("snapshot", storage.snapshot(volume, snapshot_name("s2")));
        refuses("remove a snapshot", storage.remove_snapshot(volume, s1));
        if (record.verb != "template") refuses("template", storage.make_template(volume));
        refuses("rename", storage.rename(volume, {.vmid = VmId{9}, .name = volume_name("vm-9-x")}));
        if (!aside && record.verb != "receive") refuses("rollback", storage.rollback(volume, s1));
      }
      CHECK(must(storage.info(volume)).intent == record.verb);
      CHECK(must(storage.snapshots(volume)).size() == 1);
      CHECK(bed.changes().empty());
    }
  }
}

TEST_CASE("a record that is bound to another volume is none, and recovery takes it away") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_tags", left_behind("receive", "y", {"1", "2"})}})};
  auto storage = bed.storage();
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  must(storage.resize(volume, 16_MiB));
  must(storage.snapshot(volume, s1));
  CHECK(must(storage.check()).size() == 1);
  bed.runner.clear_log();
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(bed.changes() == Lines{"lvchange --deltag stowage.intent=1/N/receive/prepare/group-uuid.y//1/2 vg/vm-7-x"});
}

TEST_CASE("an import is one run over several calls, which ends with its name, its removal, or when it is given up") {
  Bed bed{lvs_pool()};
  auto storage = bed.storage();
  const CreateSpec spec{.vmid = VmId{7}, .size = 1_MiB, .name = volume};
  must(storage.begin_import(spec));
  REQUIRE(bed.changes().size() == 1);
  const std::string name = bed.changes()[0].substr(12, 23);
  REQUIRE(name.starts_with("import-"));
  CHECK(contains(bed.changes()[0],
                 "--addtag stowage.intent=1/N/import/prepare/group-uuid." + name.substr(7) + "/ME/vm-7-x "));
  CHECK(must(storage.recover()).busy.size() == 1);
  CHECK(must(bed.storage().recover()).busy.size() == 1);
  refused(bed.storage().begin_import(spec), Errc::already_exists);
  refused(bed.storage().remove(volume), Errc::in_use);
  bed.runner.clear_log();
  const std::string record = "stowage.intent=1/N/import/prepare/group-uuid." + name.substr(7);
  SECTION("it gets its name, and then the record goes") {
    must(storage.end_import(volume));
    CHECK(bed.changes() ==
          Lines{"lvrename vg " + name + " vm-7-x", "lvchange --deltag " + record + "/ME/vm-7-x vg/vm-7-x"});
  }
  SECTION("a copy of the policy that began it removes it") {
    auto copy = storage.backend();
    must(copy.remove(volume, {}, {}));
    REQUIRE(bed.changes().size() >= 1);
    CHECK(contains(bed.changes().back(), "lvremove vg/"));
  }
  SECTION("it is given up: then it is nobody's, and the next one to come may remove it") {
    must(storage.abandon_import(volume));
    CHECK(bed.changes() ==
          Lines{"lvchange --deltag " + record + "/ME/vm-7-x --addtag " + record + "//vm-7-x vg/" + name});
    CHECK(must(bed.storage().recover()).done.size() == 1);
  }
}

TEST_CASE("a clone that came to be in another pool is taken back") {
  Bed bed{lvs_pool() + lvs_volume("base-7-x", {{"pool_lv", "other"}}) + lvs_volume("vm-7-new", {{"pool_lv", "other"}})};
  const auto fresh = volume_name("vm-7-new");
  refused(bed.storage().clone(volume_name("base-7-x"), {.vmid = VmId{7}, .name = fresh}), Errc::not_found);
  REQUIRE(bed.changes().size() == 2);
  CHECK(bed.changes()[1] == "lvremove vg/vm-7-new");
}

// Where there are devices, a snapshot of an active volume and a clone of a template cost one: tests/guest.
TEST_CASE("a new volume costs one process, and what needs a look one more") {
  Bed bed{lvs_pool() + lvs_volume("base-7-x") + lvs_volume("vm-7-x", {{"data_percent", "0.00"}}) +
          lvs_volume("vm-7-y") + lvs_volume("snap_vm-7-y_s1", {{"origin", "vm-7-y"}})};
  auto storage = bed.storage();
  const auto costs = [&](auto verb) {
    bed.runner.clear_log();
    must(verb());
    return bed.runner.log().size();
  };
  const auto fresh = volume_name("vm-7-new");
  CHECK(costs([&] { return storage.create({.vmid = VmId{7}, .size = 1_MiB, .name = fresh}); }) == 1);
  CHECK(costs([&] { return storage.begin_import({.vmid = VmId{7}, .size = 1_MiB, .name = fresh}); }) == 3);
  CHECK(costs([&] { return storage.clone(volume_name("base-7-x"), {.vmid = VmId{7}, .name = fresh}); }) == 2);
  CHECK(costs([&] { return storage.clone(volume_name("vm-7-y"), s1, {.vmid = VmId{7}, .name = fresh}); }) == 2);
  CHECK(costs([&] { return storage.snapshot(volume, s1); }) == 2);
  CHECK(costs([&] { return storage.remove_snapshot(volume_name("vm-7-y"), s1); }) == 2);
  CHECK(costs([&] { return storage.resize(volume, 1_GiB); }) == 2);
  CHECK(costs([&] { return storage.remove(volume); }) == 2);
}

TEST_CASE("a volume notes in a tag how far a stream has come, and whose content its snapshots have") {
  const auto received = [](const std::vector<std::string>& arguments) {
    return lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_tags", left_behind("receive", "x", arguments)}});
  };
  const std::string record = "stowage.intent=1/N/receive/prepare/group-uuid.x/";
  const auto snapshot = [](const std::string& more) {
    return lvs_volume("snap_vm-7-x_s1",
                      {{"lv_uuid", "u-1"}, {"lv_tags", "stowage.of=vm-7-x" + more}, {"origin", "vm-7-x"}});
  };
  SECTION("it is read") {
    Bed bed{lvs_pool() + received({"vm-7-x", "4096", "rbd-1-2", "s1"}) + snapshot("") + lvs_volume("vm-7-y")};
    auto storage = bed.storage();
    const auto receipt = must(storage.backend().receipt(volume));
    REQUIRE(receipt);
    CHECK(receipt->target == "rbd-1-2");
    CHECK(receipt->base == s1);
    CHECK(receipt->done == 4_KiB);
    CHECK(must(storage.info(volume)).intent == "receive");
    CHECK_FALSE(must(storage.backend().receipt(volume_name("vm-7-y"))));
    CHECK(must(storage.backend().snapshot_identity(volume, s1)) == "lvm-u-1");
    bed.says(lvs_pool() + received({"vm-7-x", "x", "rbd-1-2"}) +
             snapshot(""
                      ","
                      "stowage.content=rbd-9"));
    refused(storage.backend().receipt(volume), Errc::corrupt);
    CHECK(must(storage.backend().snapshot_identity(volume, s1)) == "rbd-9");
    refused(storage.backend().snapshot_identity(volume, snapshot_name("s2")), Errc::not_found);
    CHECK(bed.changes().empty());
  }
  SECTION("the next one takes its place in one command, and a volume may grow meanwhile") {
    Bed bed{lvs_pool() + received({"vm-7-x", "0", "rbd-1-2", "s1"}) + snapshot("")};
    auto storage = bed.storage();
    refused(storage.resize(volume, 16_MiB), Errc::wrong_state);
    const auto tools = bed.tools();
    must(detail::lvm_set_receipt(tools, volume, {.target = "rbd-1-2", .base = s1, .done = 1_MiB}));
    must(detail::lvm_resize(tools, volume, 16_MiB));
    refused(storage.resize(volume, 16_MiB), Errc::in_use);
    CHECK(bed.changes() == Lines{"lvchange --deltag " + record + "/vm-7-x/0/rbd-1-2/s1 --addtag " + record +
                                     "ME/vm-7-x/0/rbd-1-2/s1 vg/vm-7-x",
                                 "lvchange --deltag " + record + "ME/vm-7-x/0/rbd-1-2/s1 --addtag " + record +
                                     "ME/vm-7-x/1048576/rbd-1-2/s1 vg/vm-7-x",
                                 "lvextend -L 16777216b vg/vm-7-x"});
  }
  SECTION("recovery goes back to the base, and no stream goes on before that has ended") {
    Bed bed{lvs_pool() + received({"vm-7-x", "4096", "rbd-1-2", "s1"}) + snapshot("")};
    CHECK(must(bed.storage().recover()).done.size() == 1);
    const Lines changes = bed.changes();
    REQUIRE(changes.size() == 5);
    CHECK(changes[0] == "lvchange --deltag " + record + "/vm-7-x/4096/rbd-1-2/s1 --addtag " + record +
                            "ME/vm-7-x/0/rollback/s1 vg/vm-7-x");
    CHECK(contains(changes[1], "lvcreate -s -n roll_vm-7-x_s1 "));
    CHECK(contains(changes[1], "--addtag stowage.content=lvm-u-1 "));
    CHECK(changes[2] == "lvconvert --merge vg/snap_vm-7-x_s1");
    CHECK(contains(changes[4], "lvchange --deltag " + record));
  }
  SECTION("what a stream had made in part is removed") {
    Bed bed{lvs_pool() + received({"vm-7-x", "4096", "rbd-1-2"})};
    CHECK(must(bed.storage().recover()).done.size() == 1);
    CHECK(bed.changes().back().starts_with("lvremove "));
  }
}

TEST_CASE("what waits for an activation is finished by it, and nothing else is done to it before") {
  const std::string copy =
      lvs_volume("roll_vm-7-x_s1", {{"lv_tags", "stowage.of=vm-7-x," + left_behind("rollback", "x", {"s1"})}});
  const auto merging = [&](const std::string& attr) {
    return lvs_pool() + lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_attr", attr}}) + copy +
           lvs_volume("[snap_vm-7-x_s1]", {{"lv_attr", "Sri---tz-k"}, {"origin", "vm-7-x"}});
  };
  Bed bed{merging("Owi-a-tz-k")};
  auto storage = bed.storage();
  CHECK(must(storage.info(volume)).pending == "rollback");
  refused(storage.resize(volume, 1_GiB), Errc::wrong_state);  // the snapshot's size comes with its content
  refused(storage.rename(volume, {.vmid = VmId{8}, .name = volume_name("vm-8-x")}), Errc::wrong_state);
  refused(storage.make_template(volume), Errc::wrong_state);
  refused(storage.snapshot(volume, s1), Errc::wrong_state);
  refused(storage.rollback(volume, s1), Errc::wrong_state);
  must(storage.activate(volume));
  CHECK(must(storage.recover()).empty());
  CHECK(bed.changes().empty());
  bed.says(merging("Owi---tz-k"));
  static_cast<void>(storage.activate(volume));  // the report does not change, so it is still inactive
  const Lines changes = bed.changes();
  REQUIRE(changes.size() >= 3);
  CHECK(changes[0] == "lvchange -an vg/vm-7-x");
  CHECK(changes[1] == "lvchange -ay -K vg/vm-7-x");
  CHECK(changes[2] == "lvrename vg roll_vm-7-x_s1 snap_vm-7-x_s1");
}

TEST_CASE("an open volume waits for its rollback only if LVM can do it") {
  const std::string open = lvs_volume("vm-7-x", {{"lv_uuid", "x"}, {"lv_attr", "Vwi-aotz-k"}});
  Bed bed{lvs_pool() + open + lvs_volume("snap_vm-7-x_s1")};  // of which LVM does not know what it was taken of
  refused(bed.storage().rollback(volume, s1, {.when_open = WhenOpen::at_next_activation}), Errc::in_use);
  CHECK(bed.changes().empty());
  bed.says(lvs_pool() + open + lvs_volume("snap_vm-7-x_s1", {{"lv_uuid", "u-1"}, {"origin", "vm-7-x"}}));
  static_cast<void>(bed.storage().rollback(volume, s1, {.when_open = WhenOpen::at_next_activation}));
  const Lines changes = bed.changes();
  REQUIRE(changes.size() >= 2);
  CHECK(changes[0] ==
        "lvcreate -s -n roll_vm-7-x_s1 -pr -ky --addtag stowage.of=vm-7-x --addtag stowage.at=1700000000000000 "
        "--addtag stowage.content=lvm-u-1 --addtag stowage.intent=1/N/rollback/prepare/group-uuid.x/ME/s1 "
        "vg/snap_vm-7-x_s1");
  CHECK(changes[1] == "lvconvert --merge vg/snap_vm-7-x_s1");
}

TEST_CASE("what is open is in use, and nothing is tried") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-x", {{"lv_attr", "Vwi-aotz--"}}) +
          lvs_volume("snap_vm-7-x_s1", {{"origin", "vm-7-x"}})};
  refused(bed.storage().rollback(volume, s1), Errc::in_use);
  refused(bed.storage().deactivate(volume), Errc::in_use);
  refused(bed.storage().deactivate(), Errc::in_use);
  CHECK(bed.changes().empty());
}

TEST_CASE("limits are off by default, and refuse with numbers") {
  const std::string plain = lvs_pool() + lvs_volume("base-7-x", {{"lv_size", "1073741824"}}) + lvs_volume("vm-7-x") +
                            lvs_volume("snap_vm-7-x_s1", {{"origin", "vm-7-x"}});
  const auto refuses = [&](ThinLimits limits, const std::string& numbers) {
    Bed bed{plain};
    bed.options.limits = limits;
    auto storage = bed.storage();
    const CreateSpec spec{.vmid = VmId{7}, .size = 1_GiB, .name = volume_name("vm-7-new")};
    CHECK(contains(refusal_of(storage.create(spec), Errc::no_space).message(), numbers));
    refused(storage.begin_import(spec), Errc::no_space);
    refused(storage.clone(volume_name("base-7-x"), {.vmid = VmId{7}}), Errc::no_space);
    refused(storage.rollback(volume, s1), Errc::no_space);
    CHECK(bed.changes().empty());
  };
  refuses({.data = 50, .metadata = 0, .provisioned = 0}, "50 % (512M of 1G), the limit is 50 %");
  refuses({.data = 0, .metadata = 10, .provisioned = 0}, "metadata");
  refuses({.data = 0, .metadata = 0, .provisioned = 100}, "the limit is 100 %");
  Bed bed{plain};
  bed.options.limits = {.data = 51, .metadata = 11, .provisioned = 300};
  must(bed.storage().create({.vmid = VmId{7}, .size = 1_MiB, .name = volume_name("vm-7-new")}));
  // What is imported will be written.
  bed.options.limits = {.data = 60};
  CreateSpec import{.vmid = VmId{7}, .size = 256_MiB, .name = volume_name("vm-7-new")};
  must(bed.storage().create(import));
  CHECK(contains(refusal_of(bed.storage().begin_import(import), Errc::no_space).message(),
                 "75 % (768M of 1G), the limit is 60 %"));
  import.size = 64_MiB;
  must(bed.storage().begin_import(import));
  bed.says(lvs_pool({{"lv_attr", "twi---tz--"}, {"data_percent", ""}, {"metadata_percent", ""}}));
  refused(bed.storage().create({.vmid = VmId{7}, .size = 1_MiB, .name = volume_name("vm-7-new")}), Errc::unavailable);
}

TEST_CASE("the pool's troubles are in its status") {
  const auto health = [](const std::map<std::string, std::string>& columns) {
    Bed bed{lvs_pool(columns)};
    const Status status = must(bed.storage().status());
    return status.health.empty() ? std::string{} : status.health.front();
  };
  CHECK(health({}).empty());
  CHECK(contains(health({{"lv_attr", "twi-aotzD-"}}), "out_of_data"));
  CHECK(contains(health({{"lv_attr", "twi-aotzM-"}}), "metadata_read_only"));
  CHECK(contains(health({{"lv_attr", "twi-aotzF-"}}), "failed"));
  CHECK(contains(health({{"lv_check_needed", "check needed"}}), "needs_check"));
  CHECK(health({{"lv_check_needed", "unknown"}}).empty());  // LVM could not ask the kernel
  Bed damaged{lvs_pool({{"lv_check_needed", "check needed"}})};
  const std::vector<Finding> findings = must(damaged.storage().check());
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].object == "vg/pool");
  CHECK(findings[0].problem == "needs_check");
  Bed bed{lvs_pool({{"seg_monitor", "not monitored"}, {"lv_when_full", "error"}}) +
          lvs_volume("vm-7-x", {{"lv_size", "2147483648"}})};
  CHECK(contains(must(bed.storage().status()).health.at(0), "2G of 1G are promised"));
  CHECK(must(bed.storage().backend().pool()).queues == false);
  CHECK(must(bed.storage().status()).queues == false);
  CHECK(must(bed.storage().status()).monitored == false);
  Bed dirty{lvs_pool({{"lv_attr", "twi-aot---"}, {"chunk_size", "262144"}})};
  CHECK(must(bed.storage().backend().pool()).zeroes);
  CHECK_FALSE(must(dirty.storage().backend().pool()).zeroes);
  REQUIRE(must(dirty.storage().check()).size() == 1);
  CHECK(contains(must(dirty.storage().check())[0].problem, "not zeroed"));
  const auto chunk = [](Bed& of, bool zeroed) { return detail::lvm_chunk(must(detail::lvm_view(of.tools())), zeroed); };
  CHECK(chunk(dirty, false) == 256_KiB);
  CHECK(chunk(dirty, true) == Bytes{});
  CHECK(chunk(bed, false) == Bytes{});
  CHECK(chunk(bed, true) == must(bed.storage().backend().pool()).chunk);
  Bed inactive{lvs_pool({{"lv_attr", "twi---tz--"}, {"seg_monitor", ""}, {"lv_when_full", ""}})};
  CHECK_FALSE(must(inactive.storage().status()).queues);
  CHECK_FALSE(must(inactive.storage().status()).monitored);
  CHECK(must(bed.storage().status()).provisioned == 2_GiB);
  CHECK(must(bed.storage().status()).metadata_total == 4_MiB);
}

TEST_CASE("a transaction id that is not LVM's is named with the one that LVM expects") {
  const auto words = [](std::string type, std::string status) {
    return detail::LvmKernelWords{{}, false, false, std::move(type), std::move(status)};
  };
  const auto told = "9 12/1024 0/16384 - rw discard_passdown queue_if_no_space - 1024";
  CHECK(detail::lvm_transaction_in(words("thin-pool", told)) == 9U);
  CHECK_FALSE(detail::lvm_transaction_in(words("thin-pool", "Fail")));
  CHECK_FALSE(detail::lvm_transaction_in(words("linear", "9")));
  Bed bed;
  ThinPool pool = must(bed.storage().backend().pool());
  const auto health = [&] { return detail::lvm_pool_status(pool).health; };
  CHECK(health().empty());
  pool.kernel_transaction = 7;
  CHECK(health().empty());
  pool.kernel_transaction = 9;
  REQUIRE(health().size() == 1);
  CHECK(contains(health()[0], "the pool has 9, LVM expects 7"));
  const std::vector<Finding> findings = detail::lvm_check_pool(pool);
  REQUIRE(findings.size() == 1);
  CHECK(contains(findings[0].problem, "the pool has 9, LVM expects 7"));
  CHECK(contains(findings[0].advice, "change nothing"));
}

TEST_CASE("tools that fail, hang or are not there") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-x")};
  auto storage = bed.storage();
  const auto snapshot = [&] { return storage.snapshot(volume, s1); };
  bed.refuses("lvcreate", "  Logical Volume \"snap_vm-7-x_s1\" already exists in volume group \"vg\"\n");
  CHECK(contains(refusal_of(snapshot(), Errc::already_exists).message(), "already exists in volume group"));
  bed.refuses("lvcreate", "  Free space in pool vg/pool is above threshold, new volumes are not allowed.\n");
  CHECK(contains(refusal_of(snapshot(), Errc::no_space).message(), "(data 512M of 1G, metadata "));
  bed.answer("lvcreate", fail(Errc::timed_out, "killed after 60 s"));
  refused(snapshot(), Errc::outcome_unknown);
  bed.answer("lvs", fail(Errc::timed_out, "killed after 10 s"));
  refused(snapshot(), Errc::timed_out);
  bed.answer("lvs", fail(Errc::unavailable, "the program '/sbin/lvs' is not there", native_errno(ENOENT)));
  CHECK(contains(refusal_of(storage.status(), Errc::unavailable).message(), "lvm2"));
  bed.refuses("lvs", "  Volume group \"vg\" not found\n  Cannot process volume group vg\n");
  refused(storage.list(), Errc::unavailable);
  refused(storage.status(), Errc::unavailable);
  bed.says("what is this\n");
  refused(storage.list(), Errc::corrupt);
  bed.says("");
  refused(storage.list(), Errc::not_found);  // the pool
  bed.says(lvs_pool({{"lv_attr", "-wi-a-----"}}));
  refused(storage.status(), Errc::not_found);
}

TEST_CASE("names that LVM does not allow are refused before it is asked") {
  Bed bed{lvs_pool() + lvs_volume("vm-7-x")};
  refused(FakeLvm::open(must(StorageId::parse("st")), {"../x", "pool", {}}, {}, bed.runner), Errc::invalid_argument);
  refused(FakeLvm::scan("-a", {}, bed.runner), Errc::invalid_argument);
  const VolumeName longest = volume_name("vm-7-" + std::string(123, 'x'));
  refused(bed.storage().create({.vmid = VmId{7}, .size = 1_MiB, .name = longest}), Errc::invalid_argument);
  CHECK(bed.runner.log().empty());
}

TEST_CASE("a scan tells the thin pools of a volume group") {
  FakeRunner runner;
  runner.play("/sbin/lvs", [](const Command& command) {
    CHECK(command.argv.back() == "vg");
    const std::string lines = lvs_pool({{"lv_name", "second"}}) + lvs_volume("vm-7-x") + lvs_pool();
    return CommandOutput{0, testing::lvs_answer(lines, command), {}};
  });
  const std::vector<ThinPool> pools = must(scan<FakeLvm>(std::string{"vg"}, OpenOptions{}, runner));
  REQUIRE(pools.size() == 2);
  CHECK(pools[0].name == "pool");
  CHECK(pools[0].provisioned == 8_MiB);
  CHECK(pools[1].provisioned == Bytes{});
}
