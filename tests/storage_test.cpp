// The facade: what it checks before it asks, how it finds names, and what it says of errors.

#include <stowage/storage.hpp>

#include <catch2/catch.hpp>
#include <map>
#include <stop_token>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/lun_backend.hpp"
#include "support/vectors.hpp"

using namespace stowage;
using testing::LunBackend;
using testing::MemoryBackend;

namespace {

const StorageId id = *StorageId::parse("st");
constexpr VmId guest{100};

VolumeName volume(const char* text) { return *VolumeName::parse(text); }
SnapshotName snapshot(const char* text) { return *SnapshotName::parse(text); }

/// Somebody else takes the names that this policy is about to take.
class RacyBackend : public MemoryBackend {
 public:
  static constexpr const Features& features = MemoryBackend::features;
  using MemoryBackend::MemoryBackend;
  static Result<RacyBackend> open(const StorageId&, const Config& config, const OpenOptions&) {
    return RacyBackend{config};
  }
  Result<void> create(const VolumeName& name, const CreateSpec& spec) {
    if (races-- > 0) static_cast<void>(MemoryBackend::create(name, spec));
    return MemoryBackend::create(name, spec);
  }
  int races = 0;
};

class QemuSnapshots : public MemoryBackend {
 public:
  using MemoryBackend::MemoryBackend;
  static Result<QemuSnapshots> open(const StorageId&, const Config& config, const OpenOptions&) {
    return QemuSnapshots{config};
  }
  SnapshotMethod snapshot_method() const noexcept { return SnapshotMethod::qemu; }
};

struct Setup {
  MemoryBackend memory;
  Storage<MemoryBackend> storage{id, memory};
  VolumeName make() { return storage.create({.vmid = guest, .size = 1_MiB}).value(); }
};

}  // namespace

TEST_CASE("a storage is opened by its configuration") {
  const auto storage =
      Storage<MemoryBackend>::open(id, {.common = {.content = {Content::images}, .nodes = {}, .bwlimit = {}}});
  REQUIRE(storage);
  CHECK(storage->id() == id);
  CHECK(storage->config().common.content == FlagSet<Content>{Content::images});
  CHECK(storage->features().name == "memory");
}

TEST_CASE("copies of a MemoryBackend are one storage") {
  Setup a;
  Storage<MemoryBackend> b{*StorageId::parse("other"), a.memory};
  const VolumeName made = a.make();
  CHECK(b.info(made)->size == 1_MiB);
  CHECK(b.create({.vmid = guest, .size = 1_MiB})->str() == "vm-100-disk-1");
}

TEST_CASE("every error names the storage, and the volume if there is one") {
  Setup s;
  const VolumeName made = s.make();
  s.memory.set_offline(true);
  CHECK(s.storage.status().error().object() == "st");
  CHECK(s.storage.list().error().object() == "st");
  CHECK(s.storage.activate().error().object() == "st");
  CHECK(s.storage.check().error().object() == "st");
  CHECK(s.storage.recover().error().object() == "st");
  CHECK(s.storage.create({.vmid = guest, .size = 1_MiB}).error().object() == "st");
  CHECK(s.storage.info(made).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.activate(made).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.remove(made).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.resize(made, 2_MiB).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.resize(made, 0_B).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.rename(made, {.vmid = VmId{101}, .name = {}}).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.snapshot(made, snapshot("s1")).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.snapshot(made, snapshot("1")).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.open_volume(made, Access::read_only).error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.begin_import({.vmid = guest, .size = 1_MiB}).error().object() == "st");
  CHECK(s.storage.info(volume("x")).error().object() == "st:x");
  CHECK(s.storage.create({.vmid = guest, .size = 0_B}).error().object() == "st");
  CHECK(s.storage.info(made).error().code() == Errc::unavailable);
}

TEST_CASE("a failure to take a name is about that name, a failure of the source about the source") {
  Setup s;
  const VolumeName made = s.make();
  s.memory.fail_next(Errc::no_space, 1);  // names() goes well
  CHECK(s.storage.create({.vmid = guest, .size = 1_MiB}).error().object() == "st:vm-100-disk-1");
  const VolumeName gone = volume("vm-100-disk-7");
  CHECK(s.storage.rename(gone, {.vmid = VmId{101}, .name = {}}).error().object() == "st:vm-100-disk-7");
  CHECK(s.storage.clone(volume("base-100-disk-7"), {.vmid = guest}).error().object() == "st:base-100-disk-7");
  CHECK(s.storage.clone(gone, snapshot("s1"), {.vmid = guest}).error().object() == "st:vm-100-disk-7");
  s.make();
  CHECK(s.storage.rename(made, {.vmid = {}, .name = volume("vm-100-disk-1")}).error().object() == "st:vm-100-disk-1");
}

TEST_CASE("what the state forbids is wrong_state, and the hint says which state it acts on") {
  Setup s;
  const VolumeName made = s.make();
  const Error clone = s.storage.clone(made, {.vmid = guest}).error();
  CHECK(clone.code() == Errc::wrong_state);
  CHECK(clone.message() ==
        "st:vm-100-disk-0: clone does not act on a current volume of type memory (it acts on: base, snapshot)");
  const VolumeName base = s.storage.make_template(made).value();
  CHECK(s.storage.open_volume(base, Access::read_write).error().message() ==
        "st:base-100-disk-0: write does not act on a base volume of type memory (it acts on: current)");
  // The cell of `snapshot` of rbd and memory has the snapshots of a volume too; a new one is always of current.
  CHECK(s.storage.snapshot(base, snapshot("s1")).error().message() ==
        "st:base-100-disk-0: snapshot does not act on a base volume of type memory (it acts on: current)");
}

TEST_CASE("content that the type or the storage does not have") {
  Storage<MemoryBackend> images{id,
                                MemoryBackend{{.common = {.content = {Content::images}, .nodes = {}, .bwlimit = {}}}}};
  const CreateSpec container{.vmid = guest, .size = 1_MiB, .content = Content::rootdir};
  CHECK(images.create(container).error().code() == Errc::wrong_state);
  CHECK(images.create(container).error().hint() == "add it to 'content' of the storage");
  CHECK(images.begin_import(container).error().code() == Errc::wrong_state);
  CHECK(images.create({.vmid = guest, .size = 1_MiB, .content = Content::none}).error().code() == Errc::not_supported);
  const auto made = images.create({.vmid = guest, .size = 1_MiB});
  REQUIRE(made);
  const auto base = images.make_template(*made);
  const CloneSpec to_container{.vmid = guest, .name = {}, .content = Content::rootdir};
  CHECK(images.clone(*base, to_container).error().code() == Errc::wrong_state);
  CHECK(images.clone(*base, to_container).error().object() == "st:base-100-disk-0");
}

TEST_CASE("content none: LUNs are listed, and nobody writes to them") {
  Storage<LunBackend> luns{id, LunBackend{{.common = {.content = {Content::none}, .nodes = {}, .bwlimit = {}}}}};
  CHECK(luns.list()->size() == 2);
  CHECK(luns.open_volume(volume("lun1"), Access::read_only));
  CHECK(luns.open_volume(volume("lun1"), Access::read_write).error().code() == Errc::wrong_state);
}

TEST_CASE("a list is sorted and filtered") {
  Setup s;
  for (const char* text : {"vm-100-disk-10", "vm-100-disk-2", "vm-100-a"}) {
    REQUIRE(s.storage.create({.vmid = guest, .size = 1_MiB, .name = volume(text)}));
  }
  REQUIRE(s.storage.create({.vmid = VmId{200}, .size = 1_MiB, .content = Content::rootdir}));
  const auto names = [&](const ListFilter& filter) {
    std::string all;
    const auto found = s.storage.list(filter);
    for (const VolumeInfo& info : found.value()) all += info.name.str() + " ";
    return all;
  };
  CHECK(names({}) == "vm-100-a vm-100-disk-10 vm-100-disk-2 vm-200-disk-0 ");
  CHECK(names({.vmid = VmId{200}, .content = {}}) == "vm-200-disk-0 ");
  CHECK(names({.vmid = {}, .content = Content::images}) == "vm-100-a vm-100-disk-10 vm-100-disk-2 ");
  CHECK(names({.vmid = guest, .content = Content::rootdir}).empty());
}

TEST_CASE("content is known where the storage takes only one kind") {
  LunBackend::Config config;
  CHECK(Storage<LunBackend>{id, LunBackend{config}}.info(volume("lun1"))->content == Content::images);
  config.common.content = {Content::images, Content::rootdir};
  CHECK_FALSE(Storage<LunBackend>{id, LunBackend{config}}.info(volume("lun1"))->content);
}

TEST_CASE("who loses the race for a name takes the next number") {
  RacyBackend racy;
  racy.races = 3;
  Storage<RacyBackend> storage{id, racy};
  CHECK(storage.create({.vmid = guest, .size = 1_MiB})->str() == "vm-100-disk-3");
}

TEST_CASE("who loses the race for a name of his own is told") {
  RacyBackend racy;
  racy.races = 1;
  Storage<RacyBackend> storage{id, racy};
  const CreateSpec spec{.vmid = guest, .size = 1_MiB, .name = volume("vm-100-disk-0")};
  CHECK(storage.create(spec).error().code() == Errc::already_exists);
}

TEST_CASE("when all 1024 numbers are taken it is no_space, and not an endless race") {
  Setup s;
  for (int i = 0; i < 1024; ++i) s.memory.add_foreign("vm-100-disk-" + std::to_string(i), 1_MiB);
  CHECK(s.storage.create({.vmid = guest, .size = 1_MiB}).error().code() == Errc::no_space);
}

TEST_CASE("a name that the policy cannot give back does not stop a listing") {
  Setup s;
  for (const char* name : {"csi-vol-1", "vm-100", "vm-100-a\nb", "", "base-1-a/vm-2-b"})
    s.memory.add_foreign(name, 1_MiB);
  s.make();
  CHECK(s.storage.list()->size() == 2);  // "base-1-a/vm-2-b" parses
}

TEST_CASE("an import that cannot begin leaves nothing behind") {
  Setup s;
  s.memory.fail_next(Errc::timed_out, 1);  // names() goes well
  const auto failed = s.storage.begin_import({.vmid = guest, .size = 1_MiB});
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code() == Errc::timed_out);
  CHECK(failed.error().object() == "st:vm-100-disk-0");
  CHECK(s.storage.list()->empty());
}

TEST_CASE("unfinished verbs are listed as incomplete and recovered") {
  Setup s;
  const VolumeName made = s.make();
  REQUIRE(s.memory.interrupt(made, "rollback"));
  CHECK(s.storage.info(made)->incomplete());
  CHECK(s.storage.info(made)->intent == "rollback");
  CHECK(s.storage.check()->size() == 1);
  CHECK(s.storage.recover()->done.size() == 1);
  CHECK_FALSE(s.storage.info(made)->incomplete());
  CHECK(s.storage.recover()->empty());
}

TEST_CASE("an import that somebody is still writing is not recovered from under him") {
  Setup s;
  const VolumeName made = s.storage.begin_import({.vmid = guest, .size = 1_MiB}).value();
  auto device = s.storage.open_volume(made, Access::read_write);
  REQUIRE(device);
  const Recovery beside = s.storage.recover().value();
  CHECK((beside.done.empty() && beside.left.empty()));
  REQUIRE(beside.busy.size() == 1);
  CHECK(beside.busy[0].object == "vm-100-disk-0");
  CHECK(beside.busy[0].verb == "import");
  CHECK_FALSE(beside.busy[0].holder.empty());
  REQUIRE(device->close());
  CHECK(s.storage.recover()->busy.size() == 1);
  REQUIRE(s.storage.abandon_import(made));
  CHECK(s.storage.recover()->done.size() == 1);
}

TEST_CASE("one planned failure, then all is well") {
  Setup s;
  s.memory.fail_next(Errc::timed_out);
  CHECK(s.storage.status().error().code() == Errc::timed_out);
  CHECK(s.storage.status());
  const VolumeName made = s.make();
  auto device = s.storage.open_volume(made, Access::read_write);
  std::vector<std::byte> buffer(512);
  s.memory.fail_next(Errc::backend_failed);
  CHECK(device->read_at(0_B, buffer).error().code() == Errc::backend_failed);
  CHECK(device->read_at(0_B, buffer));
}

TEST_CASE("a closed device says so") {
  Setup s;
  auto device = s.storage.open_volume(s.make(), Access::read_write);
  REQUIRE(device->close());
  std::vector<std::byte> buffer(512);
  CHECK(device->read_at(0_B, buffer).error().code() == Errc::wrong_state);
  CHECK(device->flush().error().code() == Errc::wrong_state);
  CHECK(s.storage.remove(volume("vm-100-disk-0")));
}

TEST_CASE("two may not write at once") {
  Setup s;
  const VolumeName made = s.make();
  auto first = s.storage.open_volume(made, Access::read_write);
  REQUIRE(first);
  CHECK(s.storage.open_volume(made, Access::read_write).error().code() == Errc::in_use);
  auto moved = std::move(*first);
  CHECK(s.storage.open_volume(made, Access::read_write).error().code() == Errc::in_use);
  REQUIRE(moved.close());
  CHECK(s.storage.open_volume(made, Access::read_write));
}

TEST_CASE("a full storage says no_space, and space comes back") {
  Storage<MemoryBackend> storage{id, MemoryBackend{{.common = {}, .capacity = 1_MiB}}};
  const VolumeName made = storage.create({.vmid = guest, .size = 4_MiB}).value();  // thin: more than there is
  auto device = storage.open_volume(made, Access::read_write);
  std::vector<std::byte> data(1 << 20, std::byte{1});
  REQUIRE(device->write_at(0_B, data));
  CHECK(storage.status()->available == 0_B);
  CHECK(storage.status()->provisioned == 4_MiB);
  CHECK(device->write_at(1_MiB, data).error().code() == Errc::no_space);
  CHECK(device->write_at(0_B, data));  // what is there can be written over
  REQUIRE(storage.snapshot(made, snapshot("s1")));
  CHECK(device->write_at(0_B, data).error().code() == Errc::no_space);  // but not what a snapshot keeps
  REQUIRE(storage.remove_snapshot(made, snapshot("s1")));
  REQUIRE(device->discard(0_B, 1_MiB));
  CHECK(storage.status()->used == 0_B);
}

TEST_CASE("long verbs report progress") {
  Setup s;
  const VolumeName made = s.make();
  REQUIRE(s.storage.snapshot(made, snapshot("s1")));
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
  const Progress progress{[](void* user, std::uint64_t done, std::uint64_t total) {
                            static_cast<decltype(seen)*>(user)->emplace_back(done, total);
                          },
                          &seen};
  REQUIRE(s.storage.rollback(made, snapshot("s1"), {.stop = {}, .progress = progress}));
  REQUIRE_FALSE(seen.empty());
  CHECK(seen.back() == std::pair<std::uint64_t, std::uint64_t>{1 << 20, 1 << 20});
}

TEST_CASE("a storage with a trash of its own decides what becomes of it") {
  Setup s;
  const VolumeName made = s.make();
  CHECK(s.storage.remove(made, {.snapshots = false, .trash = true}).error().code() == Errc::not_supported);
  CHECK(s.storage.info(made));
}

TEST_CASE("the storage takes the snapshot of a running guest unless the policy says that QEMU does") {
  CHECK(Setup{}.storage.snapshot_method() == SnapshotMethod::storage);
  CHECK(Storage<LunBackend>{id, LunBackend{}}.snapshot_method() == SnapshotMethod::storage);
  CHECK(Storage<QemuSnapshots>{id, QemuSnapshots{}}.snapshot_method() == SnapshotMethod::qemu);
}

TEST_CASE("the policy itself can be reached") {
  Setup s;
  s.make();
  CHECK(s.storage.backend().names()->size() == 1);
}
