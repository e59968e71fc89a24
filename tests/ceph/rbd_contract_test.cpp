// What makes a record on an image safe: it is bound to its image and its run, nobody acts on it beside a living run,
// and a verb that is refused leaves none.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>
#include <stowage/transfer/new_volume.hpp>

#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/child.hpp"
#include "support/rbd_lab.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::Child;
using testing::guest;
using testing::must;
using testing::RbdLab;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;
using testing::volume_name;

namespace {

const SnapshotName s1 = snapshot_name("s1");
const SnapshotName s2 = snapshot_name("s2");
constexpr std::size_t filled = 1U << 20U;

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

/// A volume with content 1 in snapshot s1, and content 2 since.
VolumeName changed_volume(Storage<Rbd>& storage, const std::string& name) {
  VolumeName volume = volume_name("vm-990000101-" + name);
  must(storage.create({.vmid = guest, .size = 4_MiB, .name = volume}));
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  return volume;
}

std::string place(const RbdLab& lab, const std::string& more = {}) {
  return lab.options.ceph_conf + " " + lab.config.pool + " " + lab.config.name_space + " " + more;
}

struct Told {
  RbdConfig config;
  OpenOptions options;
  std::string name;
  int round = 0;

  Told() {
    std::istringstream words{Child::told()};
    words >> options.ceph_conf >> config.pool >> config.name_space >> name >> round;
  }
  Storage<Rbd> storage() const { return must(Storage<Rbd>::open(must(StorageId::parse("child")), config, options)); }
};

/// Fills a new volume; returns whether the import reported success.
bool import_one(Storage<Rbd>& storage, const VolumeName& volume, std::uint64_t seed) {
  const auto made = make_filled_volume(storage, {.vmid = guest, .size = 4_MiB, .name = volume}, [&](auto& device) {
    return device.write_at(Bytes{0}, testing::pattern(seed, filled));
  });
  if (!made) UNSCOPED_INFO(made.error().message());
  return made.has_value();
}

/// A second client that recovers again and again, and this program's own, too, while `work` goes on.
template <class Work>
void beside_recover(const RbdLab& lab, Storage<Rbd>& storage, Work work) {
  Child other{"child recovers again and again", place(lab)};
  REQUIRE(other.is_ready());
  const std::jthread own{[&](const std::stop_token& over) {
    while (!over.stop_requested()) static_cast<void>(storage.recover());
  }};
  work();
}

}  // namespace

TEST_CASE("child recovers again and again", "[.child]") {
  auto storage = Told{}.storage();
  for (bool first = true;; first = false) {
    must(storage.recover());
    if (first) Child::ready();
  }
}

TEST_CASE("child imports and clones", "[.child]") {
  const Told told;
  auto storage = told.storage();
  Child::ready();
  for (int n = 0;; ++n) {
    const std::string name = "vm-990000101-r" + std::to_string(told.round) + "-" + std::to_string(n);
    import_one(storage, volume_name(name + "-import"), 3);
    static_cast<void>(storage.clone(volume_name(told.name), s1, {.vmid = guest, .name = volume_name(name + "-clone")}));
  }
}

TEST_CASE("clones and copies of an unfinished image are whole, and recover leaves them alone") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = changed_volume(storage, "origin");
  lab.rbd("snap protect " + lab.spec(volume.str()) + "@s1");
  lab.leave_unfinished(volume, {.verb = "rollback", .phase = IntentPhase::commit, .arguments = {"s1"}});
  refused(storage.clone(volume, s1, {.vmid = guest}), Errc::wrong_state);
  const std::string to = lab.spec("vm-990000101-");
  lab.rbd("clone " + lab.spec(volume.str()) + "@s1 " + to + "clone");
  lab.rbd("cp --no-progress " + lab.spec(volume.str()) + " " + to + "cp");
  lab.rbd("deep cp --no-progress " + lab.spec(volume.str()) + " " + to + "deep");
  for (const char* name : {"clone", "cp", "deep"}) {
    const VolumeName copied = volume_name(std::string{"vm-990000101-"} + name);
    CHECK_FALSE(lab.record(copied).empty());  // which Ceph has copied
    CHECK_FALSE(must(storage.info(copied)).incomplete());
    fill(storage, copied, 3);
    if (copied.str() != "vm-990000101-deep") must(storage.snapshot(copied, s1));
    fill(storage, copied, 4);
  }
  must(storage.recover());
  CHECK(holds(storage, volume, 1));
  for (const char* name : {"clone", "cp", "deep"}) {
    const VolumeName copied = volume_name(std::string{"vm-990000101-"} + name);
    CHECK(holds(storage, copied, 4));
    CHECK(lab.record(copied).empty());
  }
  CHECK(must(storage.recover()).empty());
}

TEST_CASE("a removal that is refused has destroyed nothing, and leaves no record") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = changed_volume(storage, "wanted");
  const std::string spec = lab.spec(volume.str());
  const std::string group = lab.spec("group");
  std::string words;
  SECTION("an image in a group") {
    lab.rbd("group create " + group);
    lab.rbd("group image add " + group + " " + spec);
    words = "group 'group'";
  }
  SECTION("an image with a snapshot of a group") {
    lab.rbd("group create " + group);
    lab.rbd("group image add " + group + " " + spec);
    lab.rbd("group snap create " + group + "@g1");
    lab.rbd("group image remove " + group + " " + spec);
    words = "snapshot of a group";
  }
  SECTION("an image that migrates") {
    lab.rbd("migration prepare " + spec + " other/moved");
    lab.rbd("snap ls other/moved");
    refused(storage.remove(volume, {.snapshots = true}), Errc::not_found);
    RbdLab other{testing::Server::shared("ceph"), RbdLab::Where::whole_pool, "other"};
    lab.rbd("migration abort --no-progress other/moved");
    CHECK(must(storage.snapshots(volume)).size() == 1);
    CHECK(lab.record(volume).empty());
    return;
  }
  SECTION("a snapshot whose name cannot be typed") {
    const auto pool = must(detail::rbd_open_pool(must(StorageId::parse("st")), lab.config, lab.options));
    {
      auto image = must(detail::rbd_edit(*pool, volume.str()));
      REQUIRE(::rbd_snap_create(image.get(), "a\nb") == 0);
      must(storage.remove_snapshot(volume, s1));
    }
    refused(storage.remove(volume), Errc::in_use);
    refused(storage.make_template(volume), Errc::wrong_state);
    CHECK(lab.record(volume).empty());
    must(storage.remove(volume, {.snapshots = true}));
    CHECK(lab.rbd("trash list --all " + lab.spec()).empty());
    return;
  }
  const Error error = refusal_of(storage.remove(volume, {.snapshots = true}), Errc::in_use);
  CHECK(error.message().find(words) != std::string::npos);
  CHECK_FALSE(error.hint().empty());
  refused(storage.remove(volume, {.trash = true}), Errc::in_use);
  CHECK(must(storage.snapshots(volume)).size() == 1);
  CHECK(lab.record(volume).empty());
  CHECK(must(storage.recover()).empty());
  CHECK(holds(storage, volume, 2));
  static_cast<void>(lab.rbd("group remove " + group));
}

TEST_CASE("a clone whose parent is missing says so, is found by check, and can be removed") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName origin = changed_volume(storage, "origin");
  const VolumeName clone = must(storage.clone(origin, s1, {.vmid = guest, .name = volume_name("vm-990000101-clone")}));
  const std::string header = "rbd_header." + must(storage.info(origin)).identity;
  lab.rados("cp " + header + " kept");
  lab.rados("rm " + header);
  const auto is_told = [&](const auto& result) {
    CHECK(refusal_of(result, Errc::corrupt).message().find("is missing") != std::string::npos);
  };
  is_told(storage.open_volume(clone, Access::read_only));
  is_told(storage.flatten(clone));
  is_told(storage.snapshots(clone));
  CHECK(must(storage.info(clone)).parent);
  std::string found;
  for (const Finding& finding : must(storage.check())) found += finding.object + " ";
  CHECK(found.find(clone.str()) != std::string::npos);
  must(storage.remove(clone));
  CHECK(must(storage.list()).empty());
}

TEST_CASE("flatten is refused as long as a snapshot would need the parent still") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName origin = changed_volume(storage, "origin");
  lab.rbd("snap protect " + lab.spec(origin.str()) + "@s1");
  const VolumeName clone = volume_name("vm-990000101-clone");
  lab.rbd("clone --image-feature layering,exclusive-lock " + lab.spec(origin.str()) + "@s1 " + lab.spec(clone.str()));
  must(storage.snapshot(clone, s2));
  CHECK(refusal_of(storage.flatten(clone), Errc::in_use).message().find("s2") != std::string::npos);
  must(storage.remove_snapshot(clone, s2));
  must(storage.flatten(clone));
  must(storage.remove_snapshot(origin, s1));
}

TEST_CASE("what is unfinished takes no other verb, and a refusal changes nothing") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = changed_volume(storage, "busy");
  lab.leave_unfinished(volume, {.verb = "rollback", .phase = IntentPhase::commit, .arguments = {"s1"}});
  const std::string before = lab.record(volume);
  refused(storage.resize(volume, 8_MiB), Errc::wrong_state);
  refused(storage.snapshot(volume, s2), Errc::wrong_state);
  refused(storage.remove_snapshot(volume, s1), Errc::wrong_state);
  refused(storage.rename(volume, {.vmid = VmId{300}, .name = {}}), Errc::wrong_state);
  refused(storage.clone(volume, s1, {.vmid = guest}), Errc::wrong_state);
  refused(storage.make_template(volume), Errc::wrong_state);
  refused(storage.flatten(volume), Errc::wrong_state);
  refused(storage.activate(volume), Errc::wrong_state);
  refused(storage.open_volume(volume, Access::read_write), Errc::wrong_state);
  refused(storage.open_volume(volume, Access::read_only), Errc::wrong_state);
  refused(storage.remove(volume), Errc::in_use);  // its snapshot
  CHECK(must(storage.info(volume)).intent == "rollback");
  CHECK(must(storage.snapshots(volume)).size() == 1);
  must(storage.open_volume(volume, s1));
  CHECK(lab.record(volume) == before);
  must(storage.rollback(volume, s1));
  CHECK(holds(storage, volume, 1));
  CHECK(lab.record(volume).empty());
}

TEST_CASE("what another version has begun is unfinished, and only a person decides what becomes of it") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = changed_volume(storage, "old");
  const std::string text = GENERATE("rollback s1", "import", "2/0123456789abcdef/rollback/soon/x/");
  lab.leave_record(volume, text);
  CHECK(must(storage.info(volume)).incomplete());
  refused(storage.resize(volume, 8_MiB), Errc::wrong_state);
  const Recovery found = must(storage.recover());
  CHECK(found.done.empty());
  REQUIRE(found.left.size() == 1);
  CHECK(found.left.front().reason.find("--adopt") != std::string::npos);
  CHECK(lab.record(volume) == text);
  if (text == "rollback s1") {
    SECTION("adopted") { CHECK(must(storage.recover(volume, {.then = RecoverOptions::Then::adopt})).done.size() == 1); }
    SECTION("repeated") { CHECK(storage.rollback(volume, s1)); }
    CHECK(holds(storage, volume, 1));
  } else {
    must(storage.remove(volume, {.snapshots = true}));
    CHECK(must(storage.list()).empty());
  }
}

TEST_CASE("nothing that was imported, cloned or removed is lost or refused beside two that recover") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName origin = changed_volume(storage, "origin");
  beside_recover(lab, storage, [&] {
    for (int n = 0; n < 10; ++n) {
      const std::string name = "vm-990000101-n" + std::to_string(n);
      const VolumeName imported = volume_name(name + "-i");
      REQUIRE(import_one(storage, imported, 5));
      REQUIRE(holds(storage, imported, 5));
      const VolumeName cloned = must(storage.clone(origin, s1, {.vmid = guest, .name = volume_name(name + "-c")}));
      REQUIRE(holds(storage, cloned, 1));
      fill(storage, origin, 6);
      must(storage.rollback(origin, s1));
      REQUIRE(holds(storage, origin, 1));
      must(storage.snapshot(imported, s2));
      must(storage.remove(imported, {.snapshots = true}));
      must(storage.make_template(cloned));
    }
  });
  CHECK(must(storage.recover()).empty());
  CHECK(must(storage.check()).empty());
  CHECK(must(storage.list()).size() == 11);
  CHECK(lab.rbd("trash list --all " + lab.spec()).empty());
}

TEST_CASE("an import or clone that is killed is no volume that looks whole") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName origin = changed_volume(storage, "origin");
  std::mt19937 random{std::random_device{}()};
  for (int round = 0; round < 12; ++round) {
    Child child{"child imports and clones", place(lab, origin.str() + " " + std::to_string(round))};
    REQUIRE(child.is_ready());
    std::this_thread::sleep_for(std::chrono::milliseconds{std::uniform_int_distribution{0, 150}(random)});
    child.kill();
    const Recovery recovered = must(storage.recover());
    CHECK(recovered.busy.empty());
    CHECK(recovered.left.empty());
    must(storage.recover());  // its last messages may have come after the first
    for (const Finding& finding : must(storage.check())) FAIL_CHECK(finding.object << ": " << finding.problem);
    for (const VolumeInfo& info : must(storage.list())) {
      if (info.name == origin) continue;
      CAPTURE(info.name.str());
      const bool is_clone = info.name.str().ends_with("-clone");
      CHECK(info.parent.has_value() == is_clone);
      CHECK(holds(storage, info.name, is_clone ? 1 : 3));
    }
    CHECK(lab.rados("ls").find("stowage.new") == std::string::npos);
  }
}
