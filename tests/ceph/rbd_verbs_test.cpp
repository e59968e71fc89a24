// What is Rbd's own among the verbs: layouts, both clone formats, the trash, refusals that destroy nothing, parents
// elsewhere, broken images; and that the `rbd` command sees the same.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "support/rbd_lab.hpp"

using namespace stowage;
using nlohmann::json;
using namespace std::chrono_literals;
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

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

VolumeName with_data(Storage<Rbd>& storage, std::uint64_t seed, Bytes size = 8_MiB) {
  VolumeName volume = must(storage.create({.vmid = guest, .size = size}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(1_MiB, testing::pattern(seed, 65536)));
  must(device.close());
  return volume;
}

template <class Device>
bool holds(Device device, std::uint64_t seed) {
  std::vector<std::byte> bytes(65536);
  must(device.read_at(1_MiB, bytes));
  return bytes == testing::pattern(seed, 65536);
}

}  // namespace

TEST_CASE("a new image has our features, the layout that was asked for, and whole MiB") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName plain = must(storage.create({.vmid = guest, .size = Bytes{1}}));
  const json info = lab.rbd_json("info " + lab.spec(plain.str()));
  CHECK(info.at("size") == 1048576);
  CHECK(info.at("format") == 2);
  const std::set<std::string> features = info.at("features");
  CHECK(features == std::set<std::string>{"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"});

  CreateSpec spec{.vmid = guest, .size = Bytes{3'000'000}};
  spec.object_size = 1_MiB;
  spec.stripe_unit = 64_KiB;
  spec.stripe_count = 4;
  const json striped = lab.rbd_json("info " + lab.spec(must(storage.create(spec)).str()));
  CHECK(striped.at("size") == 3 << 20);
  CHECK(striped.at("object_size") == 1 << 20);
  CHECK(striped.at("stripe_unit") == 65536);
  CHECK(striped.at("stripe_count") == 4);

  const auto refuse = [&](std::optional<Bytes> object, std::optional<Bytes> unit, std::optional<std::uint64_t> count) {
    CreateSpec bad{.vmid = guest, .size = 1_MiB};
    bad.object_size = object;
    bad.stripe_unit = unit;
    bad.stripe_count = count;
    refused(storage.create(bad), Errc::invalid_argument);
  };
  refuse(3_MiB, {}, {});
  refuse(64_MiB, {}, {});
  refuse(2_KiB, {}, {});
  refuse({}, 64_KiB, {});
  refuse({}, {}, 4);
  refuse({}, 3_MiB, 4);
  refuse({}, 64_KiB, 0);
  CHECK(must(storage.list()).size() == 2);
}

TEST_CASE("sizes that no image can have are refused") {
  RbdLab lab;
  auto storage = lab.storage();
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    INFO(size);
    refused(storage.create({.vmid = guest, .size = Bytes{size}}), Errc::invalid_argument);
  }
  const VolumeName huge = must(storage.create({.vmid = guest, .size = 2_GiB}));
  CHECK(must(storage.info(huge)).size == 2_GiB);
  refused(storage.resize(huge, Bytes{std::uint64_t{1} << 63U}), Errc::invalid_argument);
}

TEST_CASE("a listing agrees with `rbd ls -l`, and info and snapshots with `rbd info` and `rbd snap ls`") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName base = must(storage.make_template(with_data(storage, 1)));
  std::vector<std::thread> makers;
  for (int at = 0; at < 8; ++at) {
    makers.emplace_back([&, at] {
      for (int n = 0; n < 30; ++n) {
        const VmId owner{200 + static_cast<std::uint64_t>(at)};
        static_cast<void>(n % 10 == 0
                              ? storage.clone(base, {.vmid = owner})
                              : storage.create({.vmid = owner, .size = Bytes{(1U + static_cast<unsigned>(n)) << 20U}}));
      }
    });
  }
  for (std::thread& maker : makers) maker.join();
  lab.rbd("create --size 1M " + lab.spec("csi-vol-0815"));
  lab.rbd("create --size 1M " + lab.spec("vm-disk"));
  const VolumeName snapped = with_data(storage, 2);
  must(storage.snapshot(snapped, s1));
  must(storage.snapshot(snapped, s2));

  std::map<std::string, json> theirs;
  for (const json& row : lab.rbd_json("ls -l " + lab.spec())) {
    if (!row.contains("snapshot")) theirs[row.at("image")] = row;
  }
  std::vector<VolumeInfo> ours;
  const auto took = testing::elapsed([&] { ours = must(storage.list()); });
  CHECK(took < 2s);
  REQUIRE(ours.size() == 242);
  CHECK(theirs.size() == ours.size() + 2);
  for (const VolumeInfo& info : ours) {
    const std::string image = info.base ? info.name.str().substr(info.base->str().size() + 1) : info.name.str();
    INFO(image);
    const json& row = theirs.at(image);
    CHECK(row.at("size") == info.size.count);
    CHECK(row.at("id") == info.identity);
    REQUIRE(row.contains("parent") == info.parent.has_value());
    if (info.parent) {
      CHECK(row.at("parent").at("pool") == info.parent->pool);
      CHECK(row.at("parent").at("pool_namespace") == info.parent->name_space);
      CHECK(row.at("parent").at("image") == info.parent->image);
      CHECK(row.at("parent").at("snapshot") == info.parent->snapshot);
      CHECK(info.base == base);
    }
    CHECK(info.intent.empty());
  }
  CHECK(must(storage.list({.vmid = VmId{203}, .content = {}})).size() == 30);

  const VolumeInfo info = must(storage.info(snapped));
  const json shown = lab.rbd_json("info " + lab.spec(snapped.str()));
  CHECK(shown.at("size") == info.size.count);
  CHECK(shown.at("id") == info.identity);
  CHECK(info.ctime.has_value());
  const std::vector<SnapshotInfo> snapshots = must(storage.snapshots(snapped));
  const json snaps = lab.rbd_json("snap ls " + lab.spec(snapped.str()));
  REQUIRE(snaps.size() == snapshots.size());
  for (std::size_t at = 0; at < snapshots.size(); ++at) {
    CHECK(snaps[at].at("name") == snapshots[at].name.str());
    CHECK(snaps[at].at("id") == snapshots[at].id);
    CHECK(snaps[at].at("size") == snapshots[at].size.count);
    CHECK((snaps[at].at("protected") == "true") == snapshots[at].is_protected);
  }
  CHECK(must(storage.snapshots(base)).front().is_protected);
}

TEST_CASE("what `rbd` made is ours to list and to use") {
  RbdLab lab;
  auto storage = lab.storage();
  lab.rbd("create --size 8M --image-feature layering " + lab.spec("vm-990000101-disk-0"));
  lab.rbd("create --size 1000B " + lab.spec("vm-990000101-odd"));
  const VolumeName volume = volume_name("vm-990000101-disk-0");
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(1_MiB, testing::pattern(3, 65536)));
    must(device.close());
  }
  CHECK(holds(must(storage.open_volume(volume, Access::read_only)), 3));
  CHECK(must(storage.info(volume_name("vm-990000101-odd"))).size == Bytes{1000});
  auto odd = must(storage.open_volume(volume_name("vm-990000101-odd"), Access::read_write));
  CHECK(odd.block_size() == Bytes{1});
  must(odd.write_at(Bytes{999}, testing::pattern(1, 1)));
  refused(odd.write_at(Bytes{999}, testing::pattern(1, 2)), Errc::invalid_argument);
  must(odd.close());
  refused(odd.flush(), Errc::invalid_argument);
  CHECK(must(storage.create({.vmid = guest, .size = 1_MiB})).str() == "vm-990000101-disk-1");
}

TEST_CASE("parents in other pools and namespaces are told, and are no template of ours") {
  RbdLab lab;
  auto storage = lab.storage();
  const std::string elsewhere = "other/base-9-disk-0";
  lab.rbd("create --size 8M " + elsewhere);
  lab.rbd("snap create --no-progress " + elsewhere + "@__base__");
  lab.rbd("snap protect " + elsewhere + "@__base__");
  lab.rbd("--rbd-default-clone-format 2 clone " + elsewhere + "@__base__ " + lab.spec("vm-9-disk-0"));
  lab.rbd("create --size 8M rbd/vm-8-disk-0");
  lab.rbd("snap create --no-progress rbd/vm-8-disk-0@s1");
  lab.rbd("snap protect rbd/vm-8-disk-0@s1");
  lab.rbd("--rbd-default-clone-format 2 clone rbd/vm-8-disk-0@s1 " + lab.spec("vm-8-disk-1"));
  {
    const std::vector<VolumeInfo> all = must(storage.list());
    REQUIRE(all.size() == 2);
    CHECK(all[0].name.str() == "vm-8-disk-1");
    CHECK(all[0].parent == Parent{"rbd", "", "vm-8-disk-0", "s1"});
    CHECK(all[1].name.str() == "vm-9-disk-0");
    CHECK(all[1].parent == Parent{"other", "", "base-9-disk-0", "__base__"});
    CHECK_FALSE(all[1].base);
    CHECK(must(storage.info(all[1].name)).parent == all[1].parent);
  }
  // And seen from the parent's side, the clone is named with its namespace.
  RbdLab parents{testing::Server::shared("ceph"), RbdLab::Where::whole_pool, "other"};
  auto there = parents.storage();
  const Error error = refusal_of(there.remove(volume_name("base-9-disk-0")), Errc::in_use);
  CHECK(says(error, lab.spec("vm-9-disk-0")));
  must(storage.remove(volume_name("vm-9-disk-0")));
  must(storage.remove(volume_name("vm-8-disk-1")));
  must(there.remove(volume_name("base-9-disk-0")));
  lab.rbd("snap unprotect rbd/vm-8-disk-0@s1");
  lab.rbd("snap purge --no-progress rbd/vm-8-disk-0");
  lab.rbd("rm --no-progress rbd/vm-8-disk-0");
}

TEST_CASE("broken images do not break a listing, are found, and can be removed") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName good = with_data(storage, 4);
  const VolumeName headless = must(storage.create({.vmid = guest, .size = 1_MiB}));
  const VolumeName nameless = must(storage.create({.vmid = guest, .size = 1_MiB}));
  lab.rados("rm rbd_header." + must(storage.info(headless)).identity);
  lab.rados("rm rbd_id." + nameless.str());

  std::set<std::string> names;
  for (const VolumeInfo& info : must(storage.list())) names.insert(info.name.str());
  CHECK(names.contains(good.str()));
  CHECK_FALSE(names.contains(headless.str()));
  refused(storage.info(headless), Errc::not_found);
  refused(storage.open_volume(headless, Access::read_only), Errc::not_found);

  std::set<std::string> found;
  for (const Finding& finding : must(storage.check())) found.insert(finding.object);
  CHECK(found == std::set<std::string>{headless.str(), nameless.str()});

  // Their numbers stay taken meanwhile.
  CHECK(must(storage.create({.vmid = guest, .size = 1_MiB})).str() == "vm-990000101-disk-3");
  must(storage.remove(headless));
  must(storage.remove(nameless));
  CHECK(must(storage.check()).empty());
  CHECK(must(storage.list()).size() == 2);
}

TEST_CASE("clones of format 1 protect their snapshot, of format 2, where all clients can, they need not", "[own]") {
  RbdLab lab{testing::Server::own_cluster("clones"), RbdLab::Where::whole_pool};
  auto storage = lab.storage();
  const VolumeName origin = with_data(storage, 5);
  must(storage.snapshot(origin, s1));
  const VolumeName v1 = must(storage.clone(origin, s1, {.vmid = guest}));
  CHECK(must(storage.snapshots(origin)).front().is_protected);
  CHECK(holds(must(storage.open_volume(v1, Access::read_only)), 5));

  lab.ceph("osd set-require-min-compat-client mimic");
  must(storage.snapshot(origin, s2));
  VolumeName v2 = v1;
  // The connection may still hold the old map.
  for (int round = 0; round < 20; ++round) {
    v2 = must(lab.storage().clone(origin, s2, {.vmid = guest}));
    if (!must(storage.snapshots(origin)).back().is_protected) break;
    must(storage.remove(v2));
    lab.rbd("snap unprotect " + lab.spec(origin.str()) + "@s2");
    std::this_thread::sleep_for(100ms);
  }
  CHECK_FALSE(must(storage.snapshots(origin)).back().is_protected);
  CHECK(holds(must(storage.open_volume(v2, Access::read_only)), 5));

  for (const auto& [snapshot, clone] : {std::pair{s1, v1}, std::pair{s2, v2}}) {
    INFO(snapshot.str());
    const Error error = refusal_of(storage.remove_snapshot(origin, snapshot), Errc::in_use);
    CHECK(says(error, clone.str()));
  }
  const Error error = refusal_of(storage.remove(origin, {.snapshots = true}), Errc::in_use);
  CHECK(says(error, v1.str()));
  CHECK(says(error, v2.str()));
  CHECK(must(storage.snapshots(origin)).size() == 2);
  CHECK(holds(must(storage.open_volume(origin, s1)), 5));

  must(storage.flatten(v1));
  must(storage.flatten(v2));
  CHECK_FALSE(must(storage.info(v1)).parent);
  CHECK(holds(must(storage.open_volume(v1, Access::read_only)), 5));
  must(storage.remove(origin, {.snapshots = true}));
  CHECK(holds(must(storage.open_volume(v2, Access::read_only)), 5));
}

TEST_CASE("an image goes to the trash and comes back from it") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = with_data(storage, 6);
  must(storage.snapshot(volume, s1));
  const std::string id = must(storage.info(volume)).identity;
  must(storage.remove(volume, {.trash = true}));
  CHECK(must(storage.list()).empty());
  refused(storage.info(volume), Errc::not_found);
  lab.rbd("trash restore " + lab.spec(id));
  CHECK(holds(must(storage.open_volume(volume, s1)), 6));
}

TEST_CASE("what stands in the way of a removal is named, and nothing is destroyed") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = with_data(storage, 7);
  must(storage.snapshot(volume, s1));
  CHECK(says(refusal_of(storage.remove(volume), Errc::in_use), "s1"));
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    CHECK(says(refusal_of(storage.remove(volume, {.snapshots = true}), Errc::in_use), "this program"));
    CHECK(says(refusal_of(storage.remove(volume, {.trash = true}), Errc::in_use), "this program"));
    refused(storage.rename(volume, {.vmid = VmId{300}, .name = {}}), Errc::in_use);
    refused(storage.rollback(volume, s1), Errc::in_use);
    must(device.close());
  }
  const VolumeName clone = must(storage.clone(volume, s1, {.vmid = guest}));
  CHECK(says(refusal_of(storage.remove(volume, {.snapshots = true}), Errc::in_use), lab.spec(clone.str())));
  must(storage.remove(clone, {.trash = true}));
  CHECK(says(refusal_of(storage.remove(volume, {.snapshots = true}), Errc::in_use), "in the trash"));
  CHECK(must(storage.snapshots(volume)).size() == 1);
  CHECK(must(storage.info(volume)).intent.empty());
  CHECK(holds(must(storage.open_volume(volume, s1)), 7));
  CHECK(holds(must(storage.open_volume(volume, Access::read_only)), 7));
}

TEST_CASE("a template is refused with snapshots, and with a name that is taken") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = with_data(storage, 8);
  must(storage.snapshot(volume, s1));
  CHECK(says(refusal_of(storage.make_template(volume), Errc::wrong_state), "s1"));
  must(storage.remove_snapshot(volume, s1));
  lab.rbd("create --size 1M " + lab.spec("base" + volume.str().substr(2)));
  refused(storage.make_template(volume), Errc::already_exists);
  CHECK(must(storage.info(volume)).intent.empty());
  lab.rbd("rm --no-progress " + lab.spec("base" + volume.str().substr(2)));
  const VolumeName base = must(storage.make_template(volume));
  CHECK(must(storage.info(base)).intent.empty());
  const json snaps = lab.rbd_json("snap ls " + lab.spec(base.str()));
  REQUIRE(snaps.size() == 1);
  CHECK(snaps[0].at("name") == "__base__");
  CHECK(snaps[0].at("protected") == "true");
  must(storage.remove(base));
}

TEST_CASE("storages of one cluster share a connection") {
  RbdLab lab;
  const auto first = lab.storage();
  std::vector<Storage<Rbd>> more;
  const auto took = testing::elapsed([&] {
    for (int n = 0; n < 20; ++n) more.push_back(lab.storage("s" + std::to_string(n)));
  });
  CHECK(took < 1s);
  CHECK(std::stoi(testing::shell("ls /proc/" + std::to_string(::getpid()) + "/task | wc -l")) < 60);
}

TEST_CASE("eight callers at once do all verbs") {
  RbdLab lab;
  auto storage = lab.storage();
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (unsigned at = 0; at < 8; ++at) {
    callers.emplace_back([&, at] {
      const auto good = [&](const auto& result) {
        if (!result) ++failures;
        return result.has_value();
      };
      const VmId owner{400 + at};
      for (int round = 0; round < 3; ++round) {
        const auto volume = storage.create({.vmid = owner, .size = 4_MiB});
        if (!good(volume)) return;
        good(storage.snapshot(*volume, s1));
        good(storage.resize(*volume, 8_MiB));
        good(storage.rollback(*volume, s1));
        good(storage.list());
        good(storage.remove(*volume, {.snapshots = true}));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(failures == 0);
  CHECK(must(storage.list()).empty());
}

// Bare calls of librbd 16.2.15 die in half of the runs of such a program: see RbdImage.
TEST_CASE("images can be closed as soon as they are open") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 4_MiB}));
  must(storage.snapshot(volume, s1));
  const auto pool = must(detail::rbd_open_pool(must(StorageId::parse("looks")), lab.config, lab.options));
  std::atomic<int> looks{0};
  std::vector<std::thread> callers;
  for (int at = 0; at < 32; ++at) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) looks += detail::rbd_look(*pool, volume.str(), "s1") ? 1 : 0;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(looks == 3200);
}

TEST_CASE("long work reports and can be stopped") {
  RbdLab lab;
  auto storage = lab.storage();
  CreateSpec spec{.vmid = guest, .size = 64_MiB};
  spec.object_size = 64_KiB;
  const VolumeName volume = must(storage.create(spec));
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(Bytes{0}, testing::pattern(1, 32U << 20U)));
    must(device.close());
  }
  must(storage.snapshot(volume, s1));
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(Bytes{0}, testing::pattern(2, 32U << 20U)));
    must(device.close());
  }
  struct Watch {
    std::stop_source stop;
    int reports = 0;
    int stop_at = 0;
  } watch;
  const auto report = [](void* user, std::uint64_t done, std::uint64_t total) {
    auto& w = *static_cast<Watch*>(user);
    if (done > total) return;
    if (++w.reports == w.stop_at) w.stop.request_stop();
  };
  watch.stop_at = 2;
  const Work stopped{watch.stop.get_token(), {report, &watch}};
  refused(storage.rollback(volume, s1, stopped), Errc::cancelled);
  CHECK(must(storage.info(volume)).intent == "rollback");
  CHECK(must(storage.list()).front().incomplete());

  refused(storage.rollback(volume, s1, stopped), Errc::cancelled);  // stopped before it began
  Watch whole;
  must(storage.rollback(volume, s1, {whole.stop.get_token(), {report, &whole}}));
  CHECK(whole.reports > 0);
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> bytes(32U << 20U);
  must(device.read_at(Bytes{0}, bytes));
  CHECK(bytes == testing::pattern(1, bytes.size()));

  std::stop_source program;
  lab.options.stop = program.get_token();
  auto stopping = lab.storage();
  program.request_stop();
  refused(stopping.snapshot(volume, s2), Errc::cancelled);
}
