// Images of the suite's Ceph cluster as devices of the guest's kernel. Every `rbd` costs seconds here, so each test
// does much with few.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/storage.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/guest_lab.hpp"
#include "support/rbd_lab.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::elapsed;
using testing::must;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;
using testing::volume_name;

namespace {

/// A storage with `krbd 1` in the namespace that the cluster has from its start, and volumes of one guest: other tests
/// may run beside this one, in another machine on the same cluster.
struct KrbdLab {
  explicit KrbdLab(VmId owner) : guest{owner} {
    config.name_space = "ns";
    config.krbd = true;
    options.priv = priv.path();
    options.ceph_conf = server["CONF"];
  }
  KrbdLab(const KrbdLab&) = delete;
  KrbdLab& operator=(const KrbdLab&) = delete;
  ~KrbdLab() {
    auto left = storage();
    for (const VolumeInfo& volume : must(left.list({.vmid = guest, .content = {}}))) {
      must(left.remove(volume.name, {.snapshots = true}));
    }
  }

  Storage<Rbd> storage() const { return must(Storage<Rbd>::open(must(StorageId::parse("st")), config, options)); }
  std::string spec(const VolumeName& volume) const { return "rbd/ns/" + volume.str(); }
  std::string rbd(const std::string& arguments) const {
    return testing::shell("rbd -c " + server["CONF"] + " " + arguments + " 2>/dev/null");
  }
  std::string path_when_unmapped(const VolumeName& volume) const {
    return "/dev/rbd-pve/" + server["FSID"] + "/" + spec(volume);
  }
  /// The number of devices that the kernel has for an image, or for a snapshot of it.
  std::size_t mapped(const VolumeName& volume, const std::string& snapshot = {}) const {
    return detail::krbd_find({}, {server["FSID"], "rbd", "ns", volume.str(), snapshot}).size();
  }
  /// The image as librbd has it, past the storage.
  template <class Verb>
  void past_us(const VolumeName& volume, Verb verb) const {
    const auto pool = must(detail::rbd_open_pool(must(StorageId::parse("st")), config, options));
    const auto image = must(detail::rbd_edit(*pool, volume.str()));
    verb(image.get());
  }

  VmId guest;
  testing::Server server = testing::Server::shared("ceph");
  testing::PrivFolder priv;
  RbdConfig config;
  OpenOptions options;
};

KernelDevice open_kernel_device(const std::string& path, Access access) {
  return must(KernelDevice::open(path, access, path));
}

/// No packet reaches the cluster, as when a cable is pulled, until this goes. `inside sweep` takes it away as well.
class CutCluster {
 public:
  CutCluster() {
    testing::sh(
        "nft add table inet portals; nft 'add chain inet portals ceph { type filter hook output priority 0; }';"
        "nft add rule inet portals ceph ip daddr 10.0.2.100 drop");
  }
  CutCluster(const CutCluster&) = delete;
  CutCluster& operator=(const CutCluster&) = delete;
  ~CutCluster() { static_cast<void>(testing::ask("nft delete chain inet portals ceph")); }
};

std::vector<std::byte> read(const std::string& path, Bytes at) {
  std::vector<std::byte> bytes(65536);
  must(open_kernel_device(path, Access::read_only).read_at(at, bytes));
  return bytes;
}

const SnapshotName s1 = snapshot_name("s1");

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

}  // namespace

TEST_CASE("krbd: what goes through the kernel is in the image, and the other way round") {
  const KrbdLab lab{VmId{990'000'101}};
  auto storage = lab.storage();
  refused(storage.activate(volume_name("vm-990000101-missing")), Errc::not_found);
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  CHECK(must(storage.path(volume)) == lab.path_when_unmapped(volume));
  CHECK(elapsed([&] { must(storage.deactivate(volume)); }) < 500ms);  // no program runs

  std::vector<Result<void>> results(4);
  {
    std::vector<std::jthread> threads;
    for (Result<void>& result : results) threads.emplace_back([&] { result = storage.activate(volume); });
  }
  for (const Result<void>& result : results) must(result);
  CHECK(lab.mapped(volume) == 1);
  const std::string path = must(storage.path(volume));
  CHECK(path == "/dev/rbd/" + lab.spec(volume));  // Debian's rule of udev, not Proxmox VE's
  const auto node = nlohmann::json::parse(must(storage.blockdev(volume)).to_json());
  CHECK(node.at("driver") == "host_device");
  CHECK(node.at("filename") == path);

  const auto shown = nlohmann::json::parse(lab.rbd("showmapped --format json"));
  REQUIRE(shown.size() == 1);
  CHECK(shown[0].at("pool") == "rbd");
  CHECK(shown[0].at("namespace") == "ns");
  CHECK(shown[0].at("name") == volume.str());
  CHECK(shown[0].at("snap") == "-");
  CHECK(testing::sh("realpath " + path) == shown[0].at("device").get<std::string>() + "\n");
  const auto features = nlohmann::json::parse(lab.rbd("info --format json " + lab.spec(volume))).at("features");
  CHECK(features.size() == 5);  // the kernel has them all

  const std::vector<std::byte> data = testing::pattern(1, 65536);
  std::vector<std::byte> buffer(data.size());
  {
    auto device = open_kernel_device(path, Access::read_write);
    CHECK(device.size() == 8_MiB);
    must(device.write_at(4_MiB, data));
    must(device.close());
  }
  must(storage.activate(volume));
  must(storage.deactivate(volume));
  CHECK(lab.mapped(volume) == 0);
  CHECK(must(storage.path(volume)) == lab.path_when_unmapped(volume));
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.read_at(4_MiB, buffer));
    CHECK(buffer == data);
    must(device.write_at(1_MiB, data));
    must(device.close());
  }
  must(storage.activate(volume));
  auto device = open_kernel_device(must(storage.path(volume)), Access::read_only);
  buffer.assign(buffer.size(), std::byte{0});
  must(device.read_at(1_MiB, buffer));
  CHECK(buffer == data);
  must(device.close());
  must(storage.remove(volume));  // mapped, but nobody uses it
  CHECK(lab.mapped(volume) == 0);
}

TEST_CASE("krbd: a device in use stays, and its users are named, here for a user of one namespace from outside") {
  KrbdLab lab{VmId{990'000'102}};
  lab.config.monhost = {must(Portal::parse(lab.server["MONHOST_V1"]))};
  lab.config.username = "tester";
  lab.priv.copy(lab.server.folder() + "/tester.keyring", "st.keyring");
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  must(storage.activate(volume));
  const std::string path = must(storage.path(volume));
  testing::sh("mkfs.ext4 -q " + path + " && mkdir -p /run/krbd && mount " + path + " /run/krbd");
  CHECK(says(refusal_of(storage.deactivate(volume), Errc::in_use), "mounted on /run/krbd"));
  testing::sh("umount /run/krbd");

  auto device = open_kernel_device(path, Access::read_only);
  CHECK(says(refusal_of(storage.remove(volume), Errc::in_use), "process " + std::to_string(::getpid())));
  CHECK(says(refusal_of(storage.open_volume(volume, Access::read_write), Errc::in_use), "deactivate it first"));
  CHECK(lab.mapped(volume) == 1);
  must(device.close());
  must(storage.deactivate(volume));
  CHECK(lab.mapped(volume) == 0);
}

TEST_CASE(
    "krbd: features are fitted to the kernel, and another image of the same name is not taken for the mapped one") {
  const KrbdLab lab{VmId{990'000'103}};
  auto storage = lab.storage();
  const VolumeName volume = volume_name("vm-990000103-journaled");
  lab.rbd("create --size 8M --image-feature layering,exclusive-lock,journaling " + lab.spec(volume));
  must(storage.activate(volume));
  const auto features = nlohmann::json::parse(lab.rbd("info --format json " + lab.spec(volume))).at("features");
  CHECK(features == nlohmann::json::array({"layering", "exclusive-lock"}));

  const auto pool = must(detail::rbd_open_pool(must(StorageId::parse("st")), lab.config, lab.options));
  REQUIRE(::rbd_rename(pool->io.get(), volume.str().c_str(), "vm-990000103-old") == 0);
  must(storage.create({.vmid = lab.guest, .size = 4_MiB, .name = volume}));
  refused(storage.activate(volume), Errc::identity_changed);
  must(storage.deactivate(volume_name("vm-990000103-old")));
  must(storage.activate(volume));
  CHECK(open_kernel_device(must(storage.path(volume)), Access::read_only).size() == 4_MiB);
  // One that nobody has any more, as it is in the trash, goes by its name.
  REQUIRE(::rbd_trash_move(pool->io.get(), volume.str().c_str(), 0) == 0);
  must(storage.create({.vmid = lab.guest, .size = 8_MiB, .name = volume}));
  refused(storage.activate(volume), Errc::identity_changed);
  must(storage.deactivate(volume));
  must(storage.activate(volume));
  CHECK(open_kernel_device(must(storage.path(volume)), Access::read_only).size() == 8_MiB);
  std::string id = lab.rbd("trash ls --pool rbd --namespace ns | awk '/" + volume.str() + "/{print $1}'");
  lab.rbd("trash rm --force --pool rbd --namespace ns --image-id " + id.substr(0, id.find('\n')));
}

TEST_CASE("krbd: with the cluster gone, who uses a device is told and an unused device goes, both in time") {
  KrbdLab lab{VmId{990'000'104}};
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  must(storage.activate(volume));
  auto device = open_kernel_device(must(storage.path(volume)), Access::read_write);
  must(device.write_at(0_MiB, testing::pattern(1, 65536)));  // now the kernel owns the lock of the image
  must(device.flush());
  lab.options.timeout = 4s;
  auto hasty = lab.storage();
  must(hasty.info(volume));  // it knows the cluster
  {
    const CutCluster cut;
    CHECK(elapsed([&] { CHECK(says(refusal_of(hasty.deactivate(volume), Errc::in_use), "(this program)")); }) < 5s);
    must(device.close());
    // The kernel takes the device away before it tells the cluster, which does not answer: rbd is ended at its
    // deadline.
    const auto took = elapsed([&] { must(hasty.deactivate(volume)); });
    CHECK(took >= 4s);
    CHECK(took < 8s);  // the runner may need two more seconds for a program that waits in the kernel
    CHECK(lab.mapped(volume) == 0);
    CHECK(elapsed([&] { must(hasty.deactivate(volume)); }) < 1s);
  }
  // The cluster takes the kernel for one that died, and gives it up 30 s later.
  Result<void> removed = storage.remove(volume);
  for (int n = 0; n < 60 && !removed; ++n) {
    CHECK(removed.error().code() == Errc::in_use);
    std::this_thread::sleep_for(1s);
    removed = storage.remove(volume);
  }
  must(std::move(removed));
}

TEST_CASE("krbd: a device in use grows and is taken snapshots of, and is neither rolled back nor renamed") {
  const KrbdLab lab{VmId{990'000'105}};
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  must(storage.activate(volume));
  const std::string path = must(storage.path(volume));
  const std::string self = "process " + std::to_string(::getpid());
  auto device = open_kernel_device(path, Access::read_write);
  must(device.write_at(1_MiB, testing::pattern(1, 65536)));
  must(device.flush());

  CHECK(must(storage.resize(volume, 16_MiB)) == 16_MiB);
  Bytes size{};
  for (int n = 0; n < 100 && size != 16_MiB; ++n) {  // the cluster tells the kernel
    std::this_thread::sleep_for(100ms);
    size = must(device.refresh_size());
  }
  CHECK(size == 16_MiB);
  must(device.write_at(12_MiB, testing::pattern(3, 65536)));
  must(device.flush());
  CHECK(storage.snapshot_method() == SnapshotMethod::storage);
  must(storage.snapshot(volume, s1));
  must(device.write_at(1_MiB, testing::pattern(2, 65536)));
  must(device.flush());

  CHECK(says(refusal_of(storage.rollback(volume, s1), Errc::in_use), self));
  const VolumeName renamed = volume_name("vm-990000105-renamed");
  CHECK(says(refusal_of(storage.rename(volume, {.vmid = {}, .name = renamed}), Errc::in_use), self));
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  CHECK(lab.mapped(volume) == 1);
  must(device.close());
  CHECK(read(path, 1_MiB) == testing::pattern(2, 65536));

  must(storage.rollback(volume, s1));  // mapped, but nobody uses it
  CHECK(lab.mapped(volume) == 0);
  must(storage.activate(volume));
  CHECK(read(path, 1_MiB) == testing::pattern(1, 65536));
  CHECK(read(path, 12_MiB) == testing::pattern(3, 65536));
  must(storage.rename(volume, {.vmid = {}, .name = renamed}));
  CHECK(lab.mapped(volume) == 0);
  must(storage.activate(renamed));
  CHECK(must(storage.path(renamed)) == "/dev/rbd/" + lab.spec(renamed));
  CHECK(read(must(storage.path(renamed)), 1_MiB) == testing::pattern(1, 65536));
  must(storage.remove(renamed, {.snapshots = true}));
}

TEST_CASE("krbd: a snapshot is mapped by itself, to be read, and goes with its image") {
  const KrbdLab lab{VmId{990'000'106}};
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  const auto fill = [&](std::uint64_t seed) {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(1_MiB, testing::pattern(seed, 65536)));
    must(device.close());
  };
  fill(1);
  must(storage.snapshot(volume, s1));
  fill(2);
  refused(storage.activate(volume, snapshot_name("s9")), Errc::not_found);
  for (int again = 0; again < 2; ++again) must(storage.activate(volume, s1));
  CHECK(lab.mapped(volume, "s1") == 1);
  CHECK(lab.mapped(volume) == 0);
  const std::string path = must(storage.path(volume, s1));
  CHECK(path == "/dev/rbd/" + lab.spec(volume) + "@s1");
  CHECK(nlohmann::json::parse(must(storage.blockdev(volume, s1)).to_json()).at("filename") == path);
  CHECK(read(path, 1_MiB) == testing::pattern(1, 65536));
  CHECK(testing::sh("blockdev --getro " + path) == "1\n");
  {
    auto user = open_kernel_device(path, Access::read_only);
    const std::string self = "process " + std::to_string(::getpid());
    CHECK(says(refusal_of(storage.deactivate(volume, s1), Errc::in_use), self));
    CHECK(says(refusal_of(storage.deactivate(volume), Errc::in_use), self));
    CHECK(says(refusal_of(storage.remove_snapshot(volume, s1), Errc::in_use), self));
    CHECK(says(refusal_of(storage.remove(volume, {.snapshots = true}), Errc::in_use), self));
    must(storage.rollback(volume, s1));  // which it does not disturb
    CHECK(lab.mapped(volume, "s1") == 1);
    must(user.close());
  }
  must(storage.activate(volume));
  must(storage.deactivate(volume, s1));
  CHECK(lab.mapped(volume, "s1") == 0);
  CHECK(lab.mapped(volume) == 1);
  must(storage.activate(volume, s1));
  must(storage.deactivate(volume));
  CHECK(lab.mapped(volume, "s1") + lab.mapped(volume) == 0);

  must(storage.activate(volume, s1));
  lab.past_us(volume, [](::rbd_image_t image) {
    REQUIRE(::rbd_snap_remove(image, "s1") == 0);  // nobody knows that it is mapped here
    REQUIRE(::rbd_snap_create(image, "s1") == 0);
  });
  CHECK(says(refusal_of(storage.activate(volume, s1), Errc::identity_changed), "snapshot id"));
  must(storage.remove_snapshot(volume, s1));  // mapped, but nobody uses it
  CHECK(lab.mapped(volume, "s1") == 0);
}

TEST_CASE("krbd: asked for, the kernel's device is there without krbd, and nothing else changes") {
  KrbdLab lab{VmId{990'000'107}};
  lab.config.krbd = false;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  const UseOptions container{.kernel = true};
  refused(storage.activate(volume_name("vm-990000107-missing"), container), Errc::not_found);
  must(storage.activate(volume));
  CHECK(lab.mapped(volume) == 0);
  CHECK(must(storage.path(volume, container)) == lab.path_when_unmapped(volume));
  for (int again = 0; again < 2; ++again) must(storage.activate(volume, container));
  CHECK(lab.mapped(volume) == 1);
  const std::string path = must(storage.path(volume, container));
  CHECK(path == "/dev/rbd/" + lab.spec(volume));
  CHECK(nlohmann::json::parse(must(storage.blockdev(volume, container)).to_json()).at("filename") == path);
  CHECK(must(storage.path(volume)).starts_with("rbd:"));  // QEMU goes on through librbd
  CHECK(nlohmann::json::parse(must(storage.blockdev(volume)).to_json()).at("driver") == "rbd");

  testing::sh("mkfs.ext4 -q " + path + " && mkdir -p /run/krbd && mount " + path + " /run/krbd");
  CHECK(says(refusal_of(storage.deactivate(volume), Errc::in_use), "mounted on /run/krbd"));
  must(storage.snapshot(volume, s1));
  must(storage.activate(volume, s1));
  CHECK(lab.mapped(volume, "s1") == 0);
  must(storage.activate(volume, s1, container));
  CHECK(lab.mapped(volume, "s1") == 1);
  CHECK(must(storage.path(volume, s1, container)) == path + "@s1");
  testing::sh("umount /run/krbd");
  must(storage.deactivate(volume));
  CHECK(lab.mapped(volume, "s1") + lab.mapped(volume) == 0);
  must(storage.remove(volume, {.snapshots = true}));
}

TEST_CASE("krbd: a file in the place of a node is not taken for the device, and does not keep the image mapped") {
  KrbdLab lab{VmId{990'000'108}};
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  const std::string clear = "for n in 0 1 2 3; do [ ! -f /dev/rbd$n ] || rm /dev/rbd$n; done";
  testing::sh("for n in 0 1 2 3; do [ -e /dev/rbd$n ] || echo file >/dev/rbd$n; done");
  const auto active = storage.activate(volume);
  testing::sh(clear);
  CHECK(says(refusal_of(active, Errc::unavailable), "/dev/rbd"));
  CHECK(lab.mapped(volume) == 0);

  must(storage.activate(volume));
  const std::string node = testing::sh("realpath " + must(storage.path(volume)));
  testing::sh("rm " + node.substr(0, node.size() - 1) + "; echo file >" + node);
  CHECK(says(refusal_of(storage.path(volume), Errc::unavailable), node.substr(0, node.size() - 1)));
  refused(storage.blockdev(volume), Errc::unavailable);
  refused(storage.activate(volume), Errc::unavailable);
  CHECK(lab.mapped(volume) == 1);
  must(storage.deactivate(volume));
  CHECK(lab.mapped(volume) == 0);
  testing::sh(clear);
  must(storage.activate(volume));
  CHECK(open_kernel_device(must(storage.path(volume)), Access::read_only).size() == 8_MiB);
  must(storage.remove(volume));
}

TEST_CASE("krbd: an image that another host has renamed is found by its id, and a new one of its name is not it") {
  const KrbdLab lab{VmId{990'000'109}};
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = lab.guest, .size = 8_MiB}));
  const VolumeName renamed = volume_name("vm-990000109-renamed");
  must(storage.activate(volume));
  const std::string node = testing::sh("realpath " + must(storage.path(volume)) + " | tr -d '\\n'");
  const auto devices = [] { return detail::names_in("/sys/bus/rbd/devices").size(); };
  const std::size_t before = devices();
  const auto pool = must(detail::rbd_open_pool(must(StorageId::parse("st")), lab.config, lab.options));
  REQUIRE(::rbd_rename(pool->io.get(), volume.str().c_str(), renamed.str().c_str()) == 0);

  CHECK(must(storage.path(renamed)) == node);  // udev's link has a name that another image may get
  must(storage.activate(renamed));             // not a second time
  CHECK(devices() == before);
  must(storage.create({.vmid = lab.guest, .size = 4_MiB, .name = volume}));
  const auto is_refused = [&](const Error& error) { CHECK((says(error, node) && says(error, renamed.str()))); };
  is_refused(refusal_of(storage.path(volume), Errc::identity_changed));
  is_refused(refusal_of(storage.blockdev(volume), Errc::identity_changed));
  is_refused(refusal_of(storage.activate(volume), Errc::identity_changed));
  must(storage.deactivate(volume));  // which is not mapped
  CHECK(devices() == before);
  CHECK(must(storage.path(renamed)) == node);
  {
    auto device = open_kernel_device(node, Access::read_write);
    must(device.write_at(0_MiB, testing::pattern(1, 65536)));  // now the kernel owns the lock of the image
    must(device.flush());
    CHECK(says(refusal_of(storage.remove(renamed), Errc::in_use), node));
    CHECK(says(refusal_of(storage.open_volume(renamed, Access::read_write), Errc::in_use), "mapped here as " + node));
    must(device.close());
  }
  must(storage.remove(volume));
  must(storage.deactivate(renamed));
  CHECK(devices() == before - 1);
  must(storage.remove(renamed));
}
