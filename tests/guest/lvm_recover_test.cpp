// Programs that die in the middle of a verb: every step can be the last, and recover finishes or undoes.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/intent/record.hpp>
#include <stowage/process/posix_runner.hpp>
#include <stowage/storage.hpp>

#include <unistd.h>
#include <csignal>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/child.hpp"
#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

/// The real tools, for as many changes as there are steps; after that, the program is as good as dead.
class DyingRunner {
 public:
  explicit DyingRunner(int steps) : left_{std::make_shared<int>(steps)} {}
  DyingRunner() : DyingRunner{0} {}

  Result<CommandOutput> run(const Command& command) const {
    if (command.argv[0] == "/sbin/lvs") return real_.run(command);
    if (*left_ <= 0) {
      --*left_;
      return fail(Errc::timed_out, "the program died before it could run this");
    }
    --*left_;
    return real_.run(command);
  }
  bool died() const { return *left_ < 0; }

 private:
  std::shared_ptr<int> left_;
  PosixRunner real_;
};

using DyingLvm = BasicLvmThin<DyingRunner>;

const VolumeName volume = volume_name("vm-990000101-disk-0");

/// Content 3, with snapshots of 1 and 2.
void tell_story(Storage<LvmThin>& storage) {
  must(storage.create({.vmid = guest, .size = 4_MiB, .name = volume}));
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  must(storage.snapshot(volume, s2));
  fill(storage, volume, 3);
}

/// Runs `verb` with ever more steps until it comes to its end. `after(finished)` looks at what each death has left, and
/// puts in order what the next one needs. Says how many steps there were.
template <class Verb, class After>
int die_everywhere(const LvmLab& lab, Verb verb, After after) {
  for (int steps = 0;; ++steps) {
    INFO("death behind step " << steps);
    REQUIRE(steps < 20);
    const DyingRunner runner{steps};
    const StorageId id = must(StorageId::parse("dying"));
    Storage<DyingLvm> dying{id, must(DyingLvm::open(id, lab.config, lab.options, runner))};
    const bool finished = verb(dying);
    CHECK(finished != runner.died());
    after(finished);
    if (finished) return steps;
  }
}

void nothing_is_left_to_do(Storage<LvmThin>& storage) {
  static_cast<void>(must(storage.recover()));
  CHECK(must(storage.recover()).done.empty());
  for (const Finding& finding : must(storage.check())) FAIL_CHECK(finding.object << ": " << finding.problem);
}

/// The snapshots of the story are there, and hold what they were taken of.
void snapshots_are_whole(Storage<LvmThin>& storage, const VolumeName& of = volume) {
  REQUIRE(must(storage.snapshots(of)).size() == 2);
  CHECK(content(must(storage.open_volume(of, s1))) == 1);
  CHECK(content(must(storage.open_volume(of, s2))) == 2);
}

}  // namespace

TEST_CASE("every step of a rollback by merging can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  const std::string uuid = must(storage.info(volume)).identity;
  const int steps = die_everywhere(
      lab, [](Storage<DyingLvm>& dying) { return dying.rollback(volume, s1).has_value(); },
      [&](bool finished) {
        CHECK_FALSE((must(storage.info(volume)).incomplete() && finished));
        nothing_is_left_to_do(storage);
        const std::uint64_t now = content(must(storage.open_volume(volume, Access::read_only)));
        CHECK((now == 1 || (now == 3 && !finished)));
        CHECK(must(storage.info(volume)).identity == uuid);
        CHECK(lab.lvs(volume.str(), "lv_uuid") == uuid);
        snapshots_are_whole(storage);
        fill(storage, volume, 3);
      });
  CHECK(steps == 3);
}

TEST_CASE("every step of a rollback by exchange can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  const std::string uuid = must(storage.info(volume)).identity;
  must(storage.rollback(volume, s1));  // behind which LVM has forgotten what s2 was taken of
  fill(storage, volume, 4);
  const int steps = die_everywhere(
      lab, [](Storage<DyingLvm>& dying) { return dying.rollback(volume, s2).has_value(); },
      [&](bool finished) {
        REQUIRE(must(storage.list()).size() == 1);  // never missing for us
        CHECK(must(storage.info(volume)).identity == uuid);
        nothing_is_left_to_do(storage);
        const std::uint64_t now = content(must(storage.open_volume(volume, Access::read_only)));
        CHECK((now == 2 || (now == 4 && !finished)));
        CHECK(must(storage.info(volume)).identity == uuid);
        snapshots_are_whole(storage);
        CHECK(lab.names() == "pool snap_" + volume.str() + "_s1 snap_" + volume.str() + "_s2 " + volume.str() + " ");
        fill(storage, volume, 4);
      });
  CHECK(steps == 4);
}

TEST_CASE("every step of a rollback that waits for an activation can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  const int steps = die_everywhere(
      lab,
      [&](Storage<DyingLvm>& dying) {
        auto user = must(storage.open_volume(volume, Access::read_only));
        const bool done = dying.rollback(volume, s1, {.when_open = WhenOpen::at_next_activation}).has_value();
        const std::uint64_t seen = content(std::move(user));
        CHECK(seen == 3);
        return done;
      },
      [&](bool finished) {
        CHECK((must(storage.info(volume)).pending == "rollback" || !finished));
        const Recovery recovery = must(storage.recover());
        CHECK((recovery.busy.empty() && recovery.left.empty()));
        if (finished) {  // it waits, which is nothing to recover from
          CHECK(recovery.done.empty());
          CHECK(must(storage.info(volume)).pending == "rollback");
          must(storage.deactivate(volume));
          must(storage.activate(volume));
        }
        nothing_is_left_to_do(storage);
        CHECK(content(must(storage.open_volume(volume, Access::read_only))) == (finished ? 1 : 3));
        snapshots_are_whole(storage);
      });
  CHECK(steps == 2);
}

TEST_CASE("every step of a renaming can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  VolumeName from = volume;
  VolumeName to = volume_name("vm-990000102-other");
  const int steps = die_everywhere(
      lab,
      [&](Storage<DyingLvm>& dying) {
        const VmId owner{to == volume ? std::uint64_t{990'000'101} : std::uint64_t{990'000'102}};
        return dying.rename(from, {.vmid = owner, .name = to}).has_value();
      },
      [&](bool finished) {
        REQUIRE(must(storage.list()).size() == 1);
        CHECK(must(storage.snapshots(must(storage.list())[0].name)).size() == 2);  // also half way
        nothing_is_left_to_do(storage);
        const VolumeName now = must(storage.list())[0].name;
        CHECK((now == to || (now == from && !finished)));
        CHECK(content(must(storage.open_volume(now, Access::read_only))) == 3);
        snapshots_are_whole(storage, now);
        if (now == to) std::swap(from, to);
      });
  CHECK(steps == 6);
}

TEST_CASE("every step of a template can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  int number = 0;
  const auto name = [&] { return volume_name("vm-990000101-t" + std::to_string(number)); };
  const int steps = die_everywhere(
      lab,
      [&](Storage<DyingLvm>& dying) {
        must(storage.create({.vmid = guest, .size = 4_MiB, .name = name()}));
        return dying.make_template(name()).has_value();
      },
      [&](bool) {
        nothing_is_left_to_do(storage);
        ++number;
      });
  CHECK(steps == 3);
  // A death before the mark leaves a volume, one behind it a template.
  CHECK(lab.names() == "base-990000101-t2 base-990000101-t3 pool vm-990000101-t0 vm-990000101-t1 ");
  CHECK(lab.lvs("base-990000101-t2", "lv_attr").starts_with("Vri---tz-k"));
}

TEST_CASE("every step of a removal can be the last before a crash") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  const int steps = die_everywhere(
      lab, [](Storage<DyingLvm>& dying) { return dying.remove(volume, {.snapshots = true}).has_value(); },
      [&](bool finished) {
        const bool begun = !finished && must(storage.info(volume)).incomplete();
        nothing_is_left_to_do(storage);
        if (begun || finished) CHECK(lab.names() == "pool ");
        if (begun) tell_story(storage);
      });
  CHECK(steps == 3);  // its name, snapshots, volume
}

TEST_CASE("child fills an import", "[.child]") {
  LvmThinConfig config;
  config.vgname = Child::told();
  config.thinpool = "pool";
  auto storage = must(Storage<LvmThin>::open(must(StorageId::parse("child")), config));
  must(storage.begin_import({.vmid = guest, .size = 4_MiB, .name = volume}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(Bytes{0}, pattern(1, 65536)));
  Child::ready();
  ::pause();
}

TEST_CASE("an import is left alone while somebody fills it, and removed when he is dead") {
  const LvmLab lab;
  auto storage = lab.storage();
  Child child{"child fills an import", lab.vg()};
  REQUIRE(child.is_ready());
  CHECK(must(storage.info(volume)).intent == "import");
  CHECK(lab.names().find(volume.str()) == std::string::npos);  // nobody else takes it for whole
  const Recovery beside = must(storage.recover());
  CHECK((beside.done.empty() && beside.left.empty()));
  REQUIRE(beside.busy.size() == 1);
  CHECK(beside.busy[0].holder.find("process ") != std::string::npos);
  for (const Access access : {Access::read_write, Access::read_only}) {
    CHECK(says(refusal_of(storage.open_volume(volume, access), Errc::in_use), "process "));
  }
  CHECK(says(refusal_of(storage.remove(volume), Errc::in_use), "process "));
  refused(storage.begin_import({.vmid = guest, .size = 4_MiB, .name = volume}), Errc::already_exists);
  child.kill();
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(lab.names() == "pool ");
}

TEST_CASE("every step of an import can be the last before a crash, and only a whole one has its name") {
  const LvmLab lab;
  auto storage = lab.storage();
  bool finished = false;
  for (int steps = 0; !finished; ++steps) {
    INFO("death behind step " << steps);
    REQUIRE(steps < 5);
    {
      const StorageId id = must(StorageId::parse("dying"));
      Storage<DyingLvm> dying{id, must(DyingLvm::open(id, lab.config, lab.options, DyingRunner{steps}))};
      if (dying.begin_import({.vmid = guest, .size = 4_MiB, .name = volume})) {
        auto device = must(dying.open_volume(volume, Access::read_write));
        must(device.write_at(Bytes{0}, pattern(1, 65536)));
        must(device.flush());
        finished = dying.end_import(volume).has_value();
      }
    }
    const bool named = lab.names().find(volume.str()) != std::string::npos;
    CHECK(named == finished);
    nothing_is_left_to_do(storage);
    CHECK(lab.names() == (finished ? "pool " + volume.str() + " " : "pool "));
  }
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
}

TEST_CASE("a record that stands on another volume, as a copied group has it, is void") {
  const LvmLab lab;
  auto storage = lab.storage();
  tell_story(storage);
  const VolumeName clone = must(storage.clone(volume, s1, {.vmid = guest}));
  // LVM copies no tags; somebody does
  const std::string record =
      must(intent_text({.verb = "rollback", .nonce = "0123456789abcdef", .bound = "elsewhere", .arguments = {"s1"}}));
  sh("lvchange -qq --addtag user --addtag 'stowage.intent=" + record + "' " + lab.spec(volume.str()));
  must(storage.snapshot(volume, snapshot_name("s3")));
  CHECK(lab.lvs("snap_" + volume.str() + "_s3", "lv_tags").find("user") == std::string::npos);
  const VolumeName copy = must(storage.clone(volume, snapshot_name("s3"), {.vmid = guest}));
  CHECK(lab.lvs(copy.str(), "lv_tags").find("user") == std::string::npos);
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  CHECK(must(storage.check()).size() == 1);
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(must(storage.check()).empty());
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 3);
  must(storage.rollback(volume, s1));
  CHECK(must(storage.recover()).empty());
  CHECK(content(must(storage.open_volume(clone, Access::read_only))) == 1);
}

TEST_CASE("child recovers again and again", "[.child]") {
  LvmThinConfig config;
  config.vgname = Child::told();
  config.thinpool = "pool";
  auto storage = must(Storage<LvmThin>::open(must(StorageId::parse("child")), config));
  Child::ready();
  for (;;) {
    const auto recovery = storage.recover();
    if (!recovery || !recovery->left.empty()) ::_exit(1);
  }
}

namespace {

/// Imports, and what else is given, beside somebody who recovers all the time: all that was acknowledged is there.
void imports_beside_recover(int rounds, bool all_verbs) {
  const LvmLab lab;
  auto storage = lab.storage();
  Child child{"child recovers again and again", lab.vg()};
  REQUIRE(child.is_ready());
  for (int round = 0; round < rounds; ++round) {
    INFO("round " << round);
    const VolumeName made = must(storage.begin_import({.vmid = guest, .size = 4_MiB}));
    auto device = must(storage.open_volume(made, Access::read_write));
    must(device.write_at(Bytes{0}, pattern(1, 65536)));
    must(device.flush());
    must(storage.end_import(made));
    must(device.close());
    if (!all_verbs) continue;
    must(storage.snapshot(made, s1));
    fill(storage, made, 2);
    must(storage.rollback(made, s1));
    const VolumeName clone = must(storage.clone(made, s1, {.vmid = guest}));
    const VolumeName base = must(storage.make_template(clone));
    must(storage.remove(base));
  }
  const std::vector<VolumeInfo> volumes = must(storage.list());
  CHECK(volumes.size() == static_cast<std::size_t>(rounds));
  for (const VolumeInfo& info : volumes) {
    CHECK_FALSE(info.incomplete());
    CHECK(content(must(storage.open_volume(info.name, Access::read_only))) == 1);
  }
}

}  // namespace

TEST_CASE("imports that succeeded beside somebody who recovers again and again are all there") {
  imports_beside_recover(10, false);
}

// 12 s a round here, and a test in the guest has 240.
TEST_CASE("all verbs beside somebody who recovers again and again", "[long]") { imports_beside_recover(10, true); }
