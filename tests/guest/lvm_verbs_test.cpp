// LvmThin and LVM's own tools on one thin pool: what one does the other sees.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "support/child.hpp"
#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

/// An administrator who lets LVM look into its own volumes, as long as this lives. udev does not activate what it finds
/// there: what is active is active through us.
class NosyLvm {
 public:
  NosyLvm() {
    sh("cp /etc/lvm/lvm.conf /run/lvm.conf && sed -i -e 's/^devices {/devices {\\n\\tscan_lvs=1/'"
       " -e 's/^global {/global {\\n\\tevent_activation=0/' /etc/lvm/lvm.conf");
  }
  NosyLvm(const NosyLvm&) = delete;
  NosyLvm& operator=(const NosyLvm&) = delete;
  ~NosyLvm() { ask("cp /run/lvm.conf /etc/lvm/lvm.conf"); }
};

/// The real tools, counted.
class CountingRunner {
 public:
  Result<CommandOutput> run(const Command& command) const {
    ++*count_;
    return real_.run(command);
  }
  int count() const { return *count_; }

 private:
  std::shared_ptr<int> count_ = std::make_shared<int>(0);
  PosixRunner real_;
};

constexpr RollbackOptions later{.when_open = WhenOpen::at_next_activation};

/// The real tools, but those that deactivate do nothing, and find nothing wrong with that.
struct LazyRunner {
  Result<CommandOutput> run(const Command& command) const {
    const auto& argv = command.argv;
    if (std::find(argv.begin(), argv.end(), "-an") != argv.end()) return CommandOutput{};
    return PosixRunner{}.run(command);
  }
};

}  // namespace

TEST_CASE("a volume is what lvs, lsblk and dmsetup say of it") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  CHECK(lab.lvs(volume.str(), "lv_size --units b --nosuffix") == "8388608");
  CHECK(lab.lvs(volume.str(), "pool_lv") == "pool");
  CHECK(lab.lvs(volume.str(), "lv_attr") == "Vwi-a-tz-k");
  CHECK(lab.lvs(volume.str(), "lv_uuid") == must(storage.info(volume)).identity);
  CHECK(must(storage.path(volume)) == lab.device(volume.str()));
  CHECK(sh("lsblk -nbdo SIZE " + must(storage.path(volume))).find("8388608") != std::string::npos);
  CHECK(sh("dmsetup info -c --noheadings -o attr " + must(storage.path(volume))).starts_with("L--w"));
  const IoSizes sizes = must(storage.open_volume(volume, Access::read_only)).io_sizes();
  CHECK(sh("blockdev --getiomin --getioopt " + must(storage.path(volume))) ==
        std::to_string(sizes.smallest.count) + "\n" + std::to_string(sizes.optimal.count) + "\n");
  CHECK(sizes.smallest >= 512_B);
  must(storage.snapshot(volume, s1));
  CHECK(lab.lvs("snap_" + volume.str() + "_s1", "lv_attr").starts_with("Vri---tz-k"));
  CHECK(must(storage.snapshots(volume)).at(0).ctime.has_value());
  const VolumeName base = must(storage.make_template(make(storage)));
  CHECK(lab.lvs(base.str(), "lv_attr").starts_with("Vri---tz-k"));
  const VolumeName clone = must(storage.clone(base, {.vmid = guest}));
  CHECK(must(storage.info(clone)).parent == Parent{{}, {}, base.str(), {}});
  const VolumeName other = must(storage.clone(volume, s1, {.vmid = guest}));
  CHECK(must(storage.info(other)).parent == Parent{{}, {}, volume.str(), "s1"});
  CHECK(must(storage.status()).provisioned == Bytes{5 * 8388608});
}

TEST_CASE("what pvesm has made is a volume and a snapshot here") {
  const LvmLab lab;
  auto storage = lab.storage();
  sh("lvcreate -qq -aly -V 8192k --name vm-100-disk-0 --thinpool " + lab.spec("pool"));
  const VolumeName volume = volume_name("vm-100-disk-0");
  fill(storage, volume, 1);
  sh("lvcreate -qq -n snap_vm-100-disk-0_before -pr -s " + lab.spec("vm-100-disk-0"));
  sh("lvcreate -qq -n snap_vm-100-disk-0_a-b -pr -s " + lab.spec("vm-100-disk-0"));
  fill(storage, volume, 2);
  REQUIRE(must(storage.snapshots(volume)).size() == 2);
  must(storage.rollback(volume, snapshot_name("before")));
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  CHECK(must(storage.snapshots(volume)).at(0).name.str() == "before");
  CHECK(content(must(storage.open_volume(volume, snapshot_name("a-b")))) == 1);
  must(storage.rollback(volume, snapshot_name("a-b")));
  must(storage.remove(volume, {.snapshots = true}));
  CHECK(lab.names() == "pool ");
}

TEST_CASE("a rollback keeps the volume's name, identity and tags, and every snapshot") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  const std::string uuid = lab.lvs(volume.str(), "lv_uuid");
  sh("lvchange -qq --addtag keep " + lab.spec(volume.str()));
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  must(storage.snapshot(volume, s2));
  fill(storage, volume, 3);
  must(storage.rollback(volume, s1));
  CHECK(lab.lvs(volume.str(), "lv_uuid") == uuid);
  const auto good = [&](std::uint64_t seed) {
    CHECK(content(must(storage.open_volume(volume, Access::read_only))) == seed);
    CHECK(content(must(storage.open_volume(volume, s1))) == 1);
    CHECK(content(must(storage.open_volume(volume, s2))) == 2);
    CHECK(must(storage.info(volume)).identity == uuid);
    CHECK_FALSE(must(storage.info(volume)).incomplete());
    CHECK(lab.lvs(volume.str(), "lv_tags").find("keep") != std::string::npos);
    CHECK(lab.lvs(volume.str(), "lv_attr").starts_with("Vwi-a-tz-k"));
    CHECK(lab.names() == "pool snap_" + volume.str() + "_s1 snap_" + volume.str() + "_s2 " + volume.str() + " ");
  };
  good(1);
  must(storage.rollback(volume, s2));  // of which LVM does not know any more what it was taken of
  good(2);
  must(storage.rollback(volume, s1));
  good(1);
  must(storage.deactivate(volume));
  must(storage.rollback(volume, s2));  // inactive
  good(2);
}

TEST_CASE("nobody activates a volume at boot, and pvesm works with it as with its own") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  sh("udevadm settle; vgchange -qq -an lab1; vgchange -qq -aay lab1; vgchange -qq -ay lab1");
  CHECK(lab.lvs(volume.str(), "lv_attr") == "Vwi---tz-k");
  const std::string lv = lab.spec(volume.str());
  const std::string snapshot = "snap_" + volume.str() + "_before";
  sh("lvchange -ay -K " + lv);
  CHECK(lab.lvs(volume.str(), "lv_attr") == "Vwi-a-tz-k");
  sh("lvcreate -n " + snapshot + " -pr -s " + lv + " && lvextend -L 12288k /dev/" + lv);
  fill(storage, volume, 2);
  sh("udevadm settle; lvremove -f " + lv + " && lvcreate -kn -n " + volume.str() + " -s " + lab.spec(snapshot) +
     " && lvchange --setautoactivation n " + lv);
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  const VolumeName base = must(storage.make_template(make(storage)));
  sh("lvcreate -n vm-200-disk-0 -prw -kn -s " + lab.spec(base.str()));
  must(storage.remove_snapshot(volume, snapshot_name("before")));
  CHECK(lab.names() == base.str() + " pool " + "vm-200-disk-0 " + volume.str() + " ");
}

TEST_CASE("what is new costs one process, where no tag has to be looked at") {
  const LvmLab lab;
  const StorageId id = must(StorageId::parse("counted"));
  const CountingRunner runner;
  Storage<BasicLvmThin<CountingRunner>> storage{
      id, must(BasicLvmThin<CountingRunner>::open(id, lab.config, lab.options, runner))};
  const auto costs = [&](auto verb) {
    const int before = runner.count();
    must(verb());
    return runner.count() - before;
  };
  const VolumeName volume = volume_name("vm-990000101-x");
  CHECK(costs([&] { return storage.create({.vmid = guest, .size = 8_MiB, .name = volume}); }) == 1);
  CHECK(costs([&] { return storage.snapshot(volume, s1); }) == 2);  // it is not unfinished
  CHECK(costs([&] { return storage.remove_snapshot(volume, s1); }) == 2);
  must(storage.deactivate(volume));
  CHECK(costs([&] { return storage.activate(volume); }) == 2);
  const VolumeName base = must(storage.make_template(volume));
  CHECK(costs([&] { return storage.clone(base, {.vmid = guest, .name = volume}); }) == 1);
  CHECK(must(storage.info(volume)).parent == Parent{{}, {}, base.str(), {}});
  CHECK(costs([&] { return storage.remove(volume); }) == 2);
}

TEST_CASE("a clone never comes to be in another pool") {
  const LvmLab lab;
  auto storage = lab.storage();
  sh("lvcreate -qq -y --type thin-pool -n other -L 64M lab1");
  sh("lvcreate -qq -y -V 4M -n base-990000101-x -pr -ky --thinpool lab1/other");
  refused(storage.clone(volume_name("base-990000101-x"), {.vmid = guest}), Errc::not_found);
  refused(storage.clone(volume_name("base-990000101-gone"), {.vmid = guest}), Errc::not_found);
  CHECK(lab.names() == "base-990000101-x other pool ");
}

TEST_CASE("an open volume is rolled back when somebody activates it next") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  const std::string uuid = lab.lvs(volume.str(), "lv_uuid");
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  auto user = must(storage.open_volume(volume, Access::read_only));
  must(storage.rollback(volume, s1, later));
  CHECK(must(storage.info(volume)).pending == "rollback");
  CHECK(must(storage.recover()).done.empty());
  refused(storage.rollback(volume, s1, later), Errc::wrong_state);
  refused(storage.remove(volume, {.snapshots = true}), Errc::in_use);
  refused(storage.resize(volume, 64_MiB), Errc::wrong_state);
  const std::uint64_t before = content(std::move(user));
  CHECK(before == 2);
  sh("lvchange -an " + lab.spec(volume.str()) + " && lvchange -ay -K " + lab.spec(volume.str()));
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  CHECK(must(storage.recover()).done.size() == 1);
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  CHECK(lab.lvs(volume.str(), "lv_uuid") == uuid);
  REQUIRE(must(storage.snapshots(volume)).size() == 1);
  CHECK(content(must(storage.open_volume(volume, s1))) == 1);
}

TEST_CASE("our own activation finishes a rollback that has waited for it") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  must(storage.snapshot(volume, s2));
  fill(storage, volume, 2);
  auto user = must(storage.open_volume(volume, Access::read_only));
  must(storage.rollback(volume, s1, later));
  must(user.close());
  must(storage.deactivate(volume));
  must(storage.activate(volume));
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  REQUIRE(must(storage.snapshots(volume)).size() == 2);
  auto again = must(storage.open_volume(volume, Access::read_only));
  refused(storage.rollback(volume, s2, later), Errc::in_use);  // LVM has lost what it is of
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  const std::uint64_t after = content(std::move(again));
  CHECK(after == 1);
}

TEST_CASE("a snapshot is activated and deactivated by itself, and goes with its volume") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 2);
  const std::string path = must(storage.path(volume, s1));
  const auto there = [](const std::string& device) { return ask("test -b " + device).status == 0; };
  CHECK_FALSE(there(path));
  for (int again = 0; again < 2; ++again) must(storage.activate(volume, s1));
  CHECK(there(path));
  {
    auto user = must(KernelDevice::open(path, Access::read_only, path));
    const std::string self = "process " + std::to_string(::getpid());
    CHECK(says(refusal_of(storage.deactivate(volume, s1), Errc::in_use), self));
    CHECK(says(refusal_of(storage.deactivate(volume), Errc::in_use), self));
    const std::uint64_t seen = content(std::move(user));
    CHECK(seen == 1);
  }
  for (int again = 0; again < 2; ++again) must(storage.deactivate(volume, s1));
  CHECK_FALSE(there(path));
  CHECK(there(must(storage.path(volume))));
  must(storage.activate(volume, s1));
  must(storage.deactivate(volume));
  CHECK_FALSE(there(path));
  refused(storage.activate(volume, s2), Errc::not_found);
}

TEST_CASE("a volume that LVM says it has deactivated, and has not, is told") {
  const LvmLab lab;
  const StorageId id = must(StorageId::parse("lazy"));
  Storage<BasicLvmThin<LazyRunner>> lazy{id, must(BasicLvmThin<LazyRunner>::open(id, lab.config, lab.options))};
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  CHECK(says(refusal_of(lazy.deactivate(volume), Errc::command_failed), lab.spec(volume.str()) + "' is still active"));
  must(storage.deactivate(volume));
  must(lazy.deactivate(volume));
  CHECK(says(refusal_of(lazy.deactivate(), Errc::command_failed), "lab1/pool' is still active"));
  must(storage.deactivate());
  must(lazy.deactivate());
}

TEST_CASE("who has a volume open is named") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 32_MiB);
  must(storage.snapshot(volume, s1));
  const std::string path = must(storage.path(volume));
  sh("mkfs.ext4 -q " + path + " && mkdir -p /run/lvm-mount && mount " + path + " /run/lvm-mount");
  const auto refuses = [&](const std::string& who) {
    const auto soon = [&](auto verb) {
      CHECK(elapsed([&] { CHECK(says(refusal_of(verb(), Errc::in_use), who)); }) < 20s);
    };
    soon([&] { return storage.remove(volume, {.snapshots = true}); });
    soon([&] { return storage.rollback(volume, s1); });
    soon([&] { return storage.deactivate(volume); });
    soon([&] { return storage.deactivate(); });
    soon([&] { return storage.rename(volume, {.vmid = VmId{300}, .name = {}}); });
  };
  refuses("mounted on /run/lvm-mount");
  CHECK(says(refusal_of(storage.open_volume(volume, Access::read_write), Errc::in_use), "mounted on /run/lvm-mount"));
  CHECK(must(storage.resize(volume, 64_MiB)) == 64_MiB);
  must(storage.snapshot(volume, s2));
  sh("umount /run/lvm-mount");
  sh("dmsetup create holder --table '0 8192 linear " + path + " 0'");
  refuses("/dev/mapper/holder");
  sh("dmsetup remove --retry holder");
  must(storage.remove(volume, {.snapshots = true}));
  CHECK(lab.names() == "pool ");
}

TEST_CASE("a guest's own volume group is neither seen nor activated") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 64_MiB);
  const std::string path = must(storage.path(volume));
  const NosyLvm nosy;
  sh("pvcreate -qq -y " + path + " && vgcreate -qq -y inner " + path + " && lvcreate -qq -y -an -l 1 -n root inner");
  CHECK(sh("vgs --noheadings -o vg_name 2>/dev/null").find("inner") != std::string::npos);
  const std::string settings = ::stowage::detail::lvm_settings(lab.vg());
  CHECK(sh("vgs --noheadings -o vg_name --config '" + settings + "' 2>/dev/null").find("inner") == std::string::npos);
  must(storage.deactivate(volume));
  must(storage.activate(volume));
  CHECK(ask("dmsetup info inner-root").status != 0);
  must(storage.remove(volume));
}

TEST_CASE("a removal gives its blocks back to the disk, in steps, and can be stopped") {
  LvmLab lab;
  auto storage = lab.storage();
  const auto used = [&] { return must(storage.status()).used.value(); };
  const VolumeName volume = make(storage, 64_MiB);
  fill(storage, volume, 1, 32 << 20);
  CHECK(used() >= 30_MiB);
  lab.options.discard_rate = 16_MiB;
  auto slow = lab.storage();
  struct Watch {
    std::stop_source stop;
    int reports = 0;
  } watch;
  const Progress progress{[](void* user, std::uint64_t, std::uint64_t) {
                            auto& w = *static_cast<Watch*>(user);
                            if (++w.reports == 2) w.stop.request_stop();
                          },
                          &watch};
  refused(slow.remove(volume, {}, {watch.stop.get_token(), progress}), Errc::cancelled);
  CHECK(watch.reports == 2);
  CHECK(must(storage.info(volume)).intent == "remove");
  CHECK(elapsed([&] { must(slow.remove(volume)); }) > 3s);  // 64 MiB at 16 MiB a second
  CHECK(lab.names() == "pool ");
  CHECK(used() < 1_MiB);
}

TEST_CASE("a device under the name of a volume that is another's is refused") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  const VolumeName other = make(storage);
  sh("ln -sf $(readlink -f " + lab.device(other.str()) + ") " + lab.device(volume.str()));
  const Error error = refusal_of(storage.open_volume(volume, Access::read_write), Errc::identity_changed);
  CHECK(says(error, lab.device(volume.str())));
  sh("udevadm trigger --settle --action=change $(readlink -f /dev/mapper/*disk--0)");
}

TEST_CASE("a scan tells the pools of a volume group, and one that is not there is told") {
  const LvmLab lab;
  const std::vector<ThinPool> pools = must(scan<LvmThin>(lab.vg()));
  REQUIRE(pools.size() == 1);
  CHECK(pools[0].name == "pool");
  CHECK(pools[0].size == 1_GiB);
  CHECK(pools[0].active);
  CHECK(pools[0].queues == true);
  CHECK(pools[0].zeroes);
  refused(scan<LvmThin>(std::string{"nowhere"}), Errc::unavailable);
}
