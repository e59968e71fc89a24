// Programs that die: in the middle of a verb, so that `recover` finishes it, and while they hold a lock.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/storage.hpp>
#include <stowage/transfer/new_volume.hpp>

#include <fcntl.h>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/child.hpp"
#include "support/rbd_lab.hpp"
#include "support/streams.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::Child;
using testing::elapsed;
using testing::guest;
using testing::must;
using testing::RbdLab;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;
using testing::volume_name;

namespace {

const SnapshotName s1 = snapshot_name("s1");
constexpr std::size_t filled = 32U << 20U;

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

/// What the child is told: where, and which volume.
std::string place(const RbdLab& lab, const VolumeName& volume) {
  return lab.options.ceph_conf + " " + lab.config.pool + " " +
         (lab.config.name_space.empty() ? "-" : lab.config.name_space) + " " + volume.str();
}

struct Told {
  RbdConfig config;
  OpenOptions options;
  std::string volume;
  std::string file;  // if it needs one

  Told() {
    std::istringstream words{Child::told()};
    words >> options.ceph_conf >> config.pool >> config.name_space >> volume >> file;
    if (config.name_space == "-") config.name_space.clear();
  }
  Storage<Rbd> storage() const { return must(Storage<Rbd>::open(must(StorageId::parse("child")), config, options)); }
};

void ready_at_progress(void*, std::uint64_t, std::uint64_t) {
  static int reports = 0;
  if (++reports == 2) Child::ready();
}

/// 64 MiB in small objects, so that work on it takes a while.
VolumeName slow_volume(Storage<Rbd>& storage) {
  CreateSpec spec{.vmid = guest, .size = 64_MiB};
  spec.object_size = 64_KiB;
  return must(storage.create(spec));
}

void fill(Storage<Rbd>& storage, const VolumeName& volume, std::uint64_t seed) {
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(Bytes{0}, testing::pattern(seed, filled)));
  must(device.close());
}

bool holds(Storage<Rbd>& storage, const VolumeName& volume, std::uint64_t seed) {
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> bytes(filled);
  must(device.read_at(Bytes{0}, bytes));
  return bytes == testing::pattern(seed, filled);
}

/// Takes away what a dead client still holds, instead of waiting 30 s for Ceph to do it.
void bury(const RbdLab& lab, const std::string& id, std::string address = {}) {
  const auto watchers = [&] { return lab.rados("listwatchers rbd_header." + id); };
  if (address.empty()) {  // watcher=127.0.0.1:0/4711 client.5 cookie=6
    const std::string line = watchers();
    if (line.empty()) return;
    const std::size_t from = line.find('=') + 1;
    address = line.substr(from, line.find(' ', from) - from);
  }
  lab.ceph("osd blocklist add " + address);
  for (int round = 0; round < 100; ++round) {
    if (watchers().find(address) == std::string::npos) return;
    std::this_thread::sleep_for(100ms);
  }
  FAIL("the watcher does not go");
}

}  // namespace

TEST_CASE("child rolls back", "[.child]") {
  const Told told;
  auto storage = told.storage();
  static_cast<void>(storage.rollback(volume_name(told.volume), s1, {{}, {ready_at_progress, nullptr}}));
  ::pause();
}

TEST_CASE("child removes", "[.child]") {
  const Told told;
  auto storage = told.storage();
  static_cast<void>(storage.remove(volume_name(told.volume), {.snapshots = true}, {{}, {ready_at_progress, nullptr}}));
  ::pause();
}

TEST_CASE("child writes", "[.child]") {
  const Told told;
  auto storage = told.storage();
  auto device = must(storage.open_volume(volume_name(told.volume), Access::read_write));
  must(device.write_at(Bytes{0}, testing::pattern(1, 65536)));
  Child::ready();
  ::pause();
}

TEST_CASE("child fills an import", "[.child]") {
  const Told told;
  auto storage = told.storage();
  must(storage.begin_import({.vmid = guest, .size = 4_MiB, .name = volume_name(told.volume)}));
  auto device = must(storage.open_volume(volume_name(told.volume), Access::read_write));
  must(device.write_at(Bytes{0}, testing::pattern(1, 65536)));
  Child::ready();
  ::pause();
}

/// Stays in the middle of its work: the second piece of a copy.
void stay_at_progress(void*, const CopyState&) {
  static int reports = 0;
  if (++reports < 2) return;
  Child::ready();
  ::pause();
}

TEST_CASE("child makes a full clone", "[.child]") {
  const Told told;
  auto storage = told.storage();
  auto source = must(storage.open_volume(volume_name(told.volume), Access::read_only));
  static_cast<void>(full_clone(source, storage, {.vmid = guest, .name = volume_name("vm-990000101-full")},
                               {.progress = {stay_at_progress, nullptr}}));
}

TEST_CASE("child receives a stream", "[.child]") {
  const Told told;
  auto storage = told.storage();
  const Fd file{::open(told.file.c_str(), O_RDONLY | O_CLOEXEC)};
  FdSource source{file.get()};
  const auto report = [](void*, std::uint64_t done, std::uint64_t) {
    static bool said = false;
    if (done > 12U << 20U && !std::exchange(said, true)) Child::ready();
  };
  static_cast<void>(receive_snapshot(
      storage, volume_name(told.volume), source,
      {.receipt_every = 4_MiB, .rate_limit = 16_MiB, .work = {.stop = {}, .progress = {report, nullptr}}}));
  ::pause();
}

TEST_CASE("a stream whose receiver was killed goes on, or recover undoes it") {
  RbdLab lab;
  auto storage = lab.storage();
  const SnapshotName s2 = snapshot_name("s2");
  const VolumeName source = must(storage.create({.vmid = guest, .size = 64_MiB}));
  const VolumeName volume = volume_name("vm-990000101-received");
  fill(storage, source, 6);
  must(storage.snapshot(source, s1));
  testing::CollectedBytes whole;
  must(send_snapshot(storage, source, s1, whole));
  testing::GivenBytes in{whole.data};
  must(receive_snapshot(storage, volume, in));
  fill(storage, source, 7);
  must(storage.snapshot(source, s2));
  const std::string name = lab.priv.path() + "/stream";
  const Fd file{::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  FdSink sink{file.get()};
  must(send_snapshot(storage, source, s2, sink, {.since = s1}));

  {
    Child child{"child receives a stream", place(lab, volume) + " " + name};
    REQUIRE(child.is_ready());
    child.kill();
  }
  CHECK(must(storage.info(volume)).intent == "receive");
  CHECK(must(storage.snapshots(volume)).size() == 1);
  const auto receipt = must(storage.backend().receipt(volume));
  REQUIRE(receipt);
  CHECK(receipt->done >= 4_MiB);
  CHECK(receipt->done <= 12_MiB);
  bury(lab, must(storage.info(volume)).identity);
  SECTION("it goes on") {
    REQUIRE(::lseek(file.get(), 0, SEEK_SET) == 0);
    FdSource again{file.get()};
    const Received got = must(receive_snapshot(storage, volume, again));
    CHECK(got.skipped == receipt->done);
    CHECK(got.data + got.skipped == Bytes{filled});
    CHECK(holds(storage, volume, 7));
    CHECK(must(storage.snapshots(volume)).size() == 2);
  }
  SECTION("it is undone") {
    CHECK(must(storage.recover()).done.size() == 1);
    CHECK(holds(storage, volume, 6));
    CHECK(must(storage.snapshots(volume)).size() == 1);
  }
  CHECK_FALSE(must(storage.info(volume)).incomplete());
}

TEST_CASE("a rollback that was killed is seen, and finished by recover") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  {
    Child child{"child rolls back", place(lab, volume)};
    REQUIRE(child.is_ready());
    child.kill();
  }
  CHECK(must(storage.info(volume)).intent == "rollback");
  CHECK(must(storage.list()).front().incomplete());
  const std::vector<Finding> findings = must(storage.check());
  REQUIRE(findings.size() == 1);
  CHECK(findings.front().object == volume.str());

  // Its process has ended on this host: it is dead, and its client is fenced, whose watch would be there for 30 s.
  SECTION("by recover") {
    CHECK(elapsed([&] {
            const std::vector<Recovered> recovered = must(storage.recover()).done;
            REQUIRE(recovered.size() == 1);
            CHECK(recovered.front().object == volume.str());
          }) < 20s);
  }
  SECTION("by a rollback") {
    bury(lab, must(storage.info(volume)).identity);
    must(storage.rollback(volume, s1));
  }
  CHECK(holds(storage, volume, 1));
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  CHECK(must(storage.recover()).empty());
  CHECK(must(storage.check()).empty());
}

TEST_CASE("a removal that was killed is seen, and finished by recover") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  {
    Child child{"child removes", place(lab, volume)};
    REQUIRE(child.is_ready());
    child.kill();
  }
  // Its name was taken first: nobody can open it any more.
  CHECK(must(storage.list()).empty());
  refused(storage.info(volume), Errc::not_found);
  CHECK(must(storage.check()).size() == 1);
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(must(storage.list()).empty());
  CHECK(must(storage.check()).empty());
  CHECK(lab.rados("ls").find("rbd_header") == std::string::npos);
}

TEST_CASE("every step of a template, a removal and an import can be the last before a crash") {
  RbdLab lab;
  auto storage = lab.storage();
  const auto make = [&](const std::string& name) {
    VolumeName volume = volume_name("vm-990000101-" + name);
    must(storage.create({.vmid = guest, .size = 1_MiB, .name = volume}));
    return volume;
  };
  const auto template_of = [&](const std::string& name, int steps) {
    const VolumeName volume = make(name);
    const std::string base = "base-990000101-" + name;
    lab.leave_unfinished(volume, {.verb = "template", .arguments = {base}});
    if (steps > 0) lab.rbd("snap create --no-progress " + lab.spec(volume.str()) + "@__base__");
    if (steps > 1) lab.rbd("snap protect " + lab.spec(volume.str()) + "@__base__");
    if (steps > 2) lab.rbd("rename " + lab.spec(volume.str()) + " " + lab.spec(base));
  };
  for (int steps = 0; steps < 4; ++steps) template_of("t" + std::to_string(steps), steps);
  lab.leave_unfinished(make("stays"), {.verb = "remove", .arguments = {"vm-990000101-stays"}});
  const VolumeName leaving = make("gone");
  lab.leave_unfinished(leaving, {.verb = "remove", .arguments = {leaving.str()}});
  lab.rbd("trash move " + lab.spec(leaving.str()));
  lab.leave_unfinished(make("half"), {.verb = "import", .arguments = {"vm-990000101-half"}});
  const VolumeName whole = make("whole");

  CHECK(must(storage.check()).size() == 7);
  CHECK(must(storage.recover()).done.size() == 7);
  CHECK(must(storage.recover()).empty());
  std::string names;
  for (const VolumeInfo& info : must(storage.list())) {
    CHECK_FALSE(info.incomplete());
    names +=
        info.name.str().substr(0, info.name.str().find('-')) + info.name.str().substr(info.name.str().rfind('-')) + " ";
  }
  CHECK(names == "base-t3 vm-stays vm-t0 vm-t1 vm-t2 vm-whole ");
  must(storage.clone(volume_name("base-990000101-t3"), {.vmid = guest}));
  for (const char* name : {"t0", "t1", "t2"}) {
    CHECK(must(storage.snapshots(volume_name(std::string{"vm-990000101-"} + name))).empty());
    must(storage.make_template(volume_name(std::string{"vm-990000101-"} + name)));
  }
  CHECK(lab.rbd("trash list --all " + lab.spec()).empty());

  lab.leave_unfinished(whole, {.verb = "rollback", .phase = IntentPhase::commit, .arguments = {"missing"}});
  CHECK(must(storage.recover()).left.size() == 1);  // it is not silent about a snapshot that is not there
  must(storage.recover(whole, {.then = RecoverOptions::Then::keep}));
  lab.leave_unfinished(whole, {.verb = "dance"});
  const std::vector<RecoveryLeft> left = must(storage.recover()).left;
  REQUIRE(left.size() == 1);
  CHECK(left.front().object == whole.str());
  CHECK(left.front().code == Errc::not_supported);
}

TEST_CASE("a removal that died behind the header of its image leaves nothing in the trash") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 1_MiB}));
  const std::string id = must(storage.info(volume)).identity;
  lab.rbd("trash move " + lab.spec(volume.str()));
  lab.rados("rm rbd_header." + id);
  CHECK(must(storage.check()).size() == 1);
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(lab.rbd("trash list --all " + lab.spec()).empty());
  CHECK(must(storage.check()).empty());
}

TEST_CASE("a removal that died before it destroyed anything gives the name back when somebody has the image open") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  lab.leave_unfinished(volume, {.verb = "remove", .arguments = {volume.str()}});
  OpenOptions own = lab.options;
  own.timeout += 1s;  // a client of its own, which holds no lock: as QEMU does
  const auto guests = must(detail::rbd_open_pool(must(StorageId::parse("st")), lab.config, own));
  auto opened = must(detail::rbd_edit(*guests, volume.str()));
  lab.rbd("trash move " + lab.spec(volume.str()));
  const Recovery found = must(storage.recover());
  REQUIRE(found.done.size() == 1);
  CHECK(found.done.front().action.find("its name back") != std::string::npos);
  CHECK(must(storage.snapshots(volume)).size() == 1);
  CHECK(lab.record(volume).empty());
  CHECK(must(storage.recover()).empty());
  refused(storage.remove(volume, {.snapshots = true}), Errc::in_use);
  opened.close();
  must(storage.remove(volume, {.snapshots = true}));
}

TEST_CASE("an import is incomplete until it ends, and is left alone while it runs") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = volume_name("vm-990000101-import");
  Child child{"child fills an import", place(lab, volume)};
  REQUIRE(child.is_ready());
  CHECK(must(storage.info(volume)).intent == "import");
  const Recovery meanwhile = must(storage.recover());
  CHECK(meanwhile.done.empty());
  REQUIRE(meanwhile.busy.size() == 1);
  CHECK(meanwhile.busy.front().holder.find("process ") == 0);
  refused(storage.remove(volume), Errc::in_use);
  child.kill();
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(must(storage.list()).empty());
}

TEST_CASE("a full clone that was killed is no volume that looks whole, and recover removes it") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  fill(storage, volume, 1);
  const VolumeName clone = volume_name("vm-990000101-full");
  {
    Child child{"child makes a full clone", place(lab, volume)};
    REQUIRE(child.is_ready());
    child.kill();
  }
  CHECK(must(storage.info(clone)).incomplete());
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK(must(storage.list()).size() == 1);
  CHECK(holds(storage, volume, 1));
}

TEST_CASE("a writer elsewhere is named, what a running guest allows goes through it") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  must(storage.snapshot(volume, s1));
  Child child{"child writes", place(lab, volume)};
  REQUIRE(child.is_ready());
  const auto watchers = lab.rbd_json("status " + lab.spec(volume.str())).at("watchers");
  REQUIRE(watchers.size() == 1);
  const std::string address = watchers[0].at("address");

  const auto refuses = [&](const auto& result) { CHECK(says(refusal_of(result, Errc::in_use), address)); };
  refuses(storage.open_volume(volume, Access::read_write));
  refuses(storage.remove(volume, {.snapshots = true}));
  refuses(storage.remove(volume, {.trash = true}));
  refuses(storage.rename(volume, {.vmid = VmId{300}, .name = {}}));
  refuses(storage.rollback(volume, s1));
  CHECK(must(storage.snapshots(volume)).size() == 1);

  must(storage.snapshot(volume, snapshot_name("s2")));
  CHECK(must(storage.resize(volume, 128_MiB)) == 128_MiB);
  must(storage.remove_snapshot(volume, s1));
  const VolumeName clone = must(storage.clone(volume, snapshot_name("s2"), {.vmid = guest}));
  must(storage.flatten(clone));
  must(storage.open_volume(volume, Access::read_only));
  child.kill();
  bury(lab, must(storage.info(volume)).identity);
}

TEST_CASE("a lock whose holder is dead costs no more than the deadline") {
  RbdLab lab;
  lab.options.timeout = 3s;
  auto storage = lab.storage();
  const VolumeName volume = slow_volume(storage);
  must(storage.snapshot(volume, s1));
  Child child{"child writes", place(lab, volume)};
  REQUIRE(child.is_ready());
  const std::string address = lab.rbd_json("status " + lab.spec(volume.str())).at("watchers")[0].at("address");
  child.stop();  // as good as dead, and it does not come back by itself

  CHECK(elapsed([&] { refused(storage.open_volume(volume, Access::read_write), Errc::in_use); }) < 4s);
  CHECK(elapsed([&] { refused(storage.remove(volume, {.snapshots = true}), Errc::in_use); }) < 4s);
  CHECK(elapsed([&] {
          const Error error = refusal_of(storage.snapshot(volume, snapshot_name("s2")), Errc::outcome_unknown);
          CHECK(says(error, address));
        }) < 5s);
  CHECK(elapsed([&] { refused(storage.resize(volume, 128_MiB), Errc::outcome_unknown); }) < 5s);
  CHECK(elapsed([&] { must(storage.list()); }) < 2s);
  CHECK(elapsed([&] { must(storage.snapshots(volume)); }) < 2s);

  child.kill();
  bury(lab, must(storage.info(volume)).identity, address);
  // What was left behind goes on now, and then closes its handles: the volume is free again.
  bool free = false;
  for (int round = 0; round < 60 && !free; ++round) {
    const auto opened = storage.open_volume(volume, Access::read_write);
    free = opened.has_value();
    if (!opened) UNSCOPED_INFO(opened.error().message());
    if (!free) std::this_thread::sleep_for(500ms);
  }
  CHECK(free);
}
