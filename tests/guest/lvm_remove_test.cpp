// Removal on the real LVM: what it asks first, who may come in between, and how many processes it costs.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

#include <fcntl.h>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

/// The real tools; what was run, and somebody who does something before or after one of them, once.
class WatchedRunner {
 public:
  Result<CommandOutput> run(const Command& command) const {
    const std::string tool = command.argv[0].substr(6);
    watch_->tools += tool + " ";
    const bool now = tool == watch_->tool && watch_->then;
    if (now && watch_->before) std::exchange(watch_->then, nullptr)();
    auto output = real_.run(command);
    if (now && !watch_->before) std::exchange(watch_->then, nullptr)();
    return output;
  }
  std::string since_last() const { return std::exchange(watch_->tools, {}); }
  void before(const std::string& tool, std::function<void()> then) const {
    *watch_ = {{}, tool, std::move(then), true};
  }
  void after(const std::string& tool, std::function<void()> then) const {
    *watch_ = {{}, tool, std::move(then), false};
  }

 private:
  struct Watch {
    std::string tools;
    std::string tool;
    std::function<void()> then;
    bool before = false;
  };
  std::shared_ptr<Watch> watch_ = std::make_shared<Watch>();
  PosixRunner real_;
};

struct Watched {
  LvmLab lab;
  WatchedRunner runner;
  Storage<BasicLvmThin<WatchedRunner>> storage{
      must(StorageId::parse("watched")),
      must(BasicLvmThin<WatchedRunner>::open(must(StorageId::parse("watched")), lab.config, lab.options, runner))};

  /// The tools that a removal runs; udev, which looks into what was just made, has come to its end.
  std::string remove(const VolumeName& volume, const RemoveOptions& options = {}) {
    sh("udevadm settle");
    runner.since_last();
    must(storage.remove(volume, options));
    return runner.since_last();
  }

  /// As before a removal that was refused: the name, the content, the tags.
  void is_untouched(const VolumeName& volume, std::uint64_t seed) {
    CHECK(content(must(storage.open_volume(volume, Access::read_only))) == seed);
    CHECK_FALSE(must(storage.info(volume)).incomplete());
    CHECK(lab.lvs(volume.str(), "lv_tags").find("stowage.intent") == std::string::npos);
    const Recovery recovery = must(storage.recover());
    CHECK(recovery.empty());
    CHECK(must(storage.check()).empty());
  }
};

/// Opens the volume as QEMU does, without a claim, or as a mount does, with one.
Fd opened(const std::string& path, int flags) { return Fd{::open(path.c_str(), O_RDWR | O_CLOEXEC | flags)}; }

}  // namespace

TEST_CASE("an empty volume is removed in two processes, one with blocks in three, and with snapshots in four") {
  Watched w;
  CHECK(w.remove(make(w.storage)) == "lvs lvremove ");
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  CHECK(w.remove(volume) == "lvs lvrename lvremove ");
  const VolumeName story = make(w.storage);
  fill(w.storage, story, 1);
  must(w.storage.snapshot(story, s1));
  must(w.storage.snapshot(story, s2));
  CHECK(w.remove(story, {.snapshots = true}) == "lvs lvrename lvremove lvremove ");
  const VolumeName origin = make(w.storage);
  fill(w.storage, origin, 1);
  const VolumeName base = must(w.storage.make_template(origin));
  CHECK(content(must(w.storage.open_volume(base, Access::read_only))) == 1);
  CHECK(w.remove(base) == "lvs lvremove ");  // it is active, and cannot be written
  CHECK(w.lab.names() == "pool ");
  CHECK(must(w.storage.status()).used == Bytes{});
}

TEST_CASE("snapshots stand in the way of a removal, also those that LVM has lost the origin of") {
  Watched w;
  const VolumeName volume = make(w.storage);
  must(w.storage.snapshot(volume, s1));
  must(w.storage.snapshot(volume, s2));
  CHECK(says(refusal_of(w.storage.remove(volume), Errc::in_use), "s1, s2"));
  must(w.storage.rollback(volume, s1));  // by which LVM forgets what s2 was taken of
  must(w.storage.remove_snapshot(volume, s1));
  CHECK(w.lab.lvs(volume.str(), "lv_descendants").empty());
  CHECK(says(refusal_of(w.storage.remove(volume), Errc::in_use), "s2"));
  must(w.storage.remove_snapshot(volume, s2));
  must(w.storage.remove(volume));
  CHECK(w.lab.names() == "pool ");
}

TEST_CASE("what pvesm has made is removed like our own, and a template without its clones") {
  Watched w;
  sh("lvcreate -qq -aly -V 8192k --name vm-100-disk-0 --thinpool " + w.lab.spec("pool"));
  CHECK(w.remove(volume_name("vm-100-disk-0")) == "lvs lvremove ");
  const VolumeName base = must(w.storage.make_template(make(w.storage)));
  const VolumeName clone = must(w.storage.clone(base, {.vmid = guest}));
  must(w.storage.remove(base));
  CHECK(w.remove(clone) == "lvs lvremove ");
  CHECK(w.lab.names() == "pool ");
}

TEST_CASE("a guest that starts while its volume is being removed keeps its disk") {
  Watched w;
  const VolumeName volume = make(w.storage);
  must(w.storage.snapshot(volume, s1));
  fill(w.storage, volume, 1);
  const std::string path = must(w.storage.path(volume));
  for (const int claim : {0, O_EXCL}) {
    for (const bool late : {false, true}) {
      INFO((claim != 0 ? "claimed, " : "not claimed, ") << (late ? "before the name goes" : "at the first command"));
      Fd opener;
      const auto open = [&] { opener = opened(path, claim); };
      if (late) {
        w.runner.before("lvrename", open);
      } else {
        w.runner.after("lvs", open);
      }
      const Error error = refusal_of(w.storage.remove(volume, {.snapshots = true}), Errc::in_use);
      CHECK(opener);
      CHECK(says(error, late ? "" : "this program"));
      opener.reset();
      w.is_untouched(volume, 1);
      CHECK(must(w.storage.snapshots(volume)).size() == 1);
    }
  }
  must(w.storage.remove(volume, {.snapshots = true}));
  CHECK(w.lab.names() == "pool ");
}

TEST_CASE("a guest that opens its volume as soon as a command of the removal runs keeps its disk") {
  Watched w;
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  // any of LVM's tools: it opens without a claim, and stays
  sh("(until grep -qE '^lv(s|change|remove|rename)$' /proc/[0-9]*/comm 2>/dev/null; do :; done; exec sleep 1000 <>" +
     must(w.storage.path(volume)) + ") >/dev/null 2>&1 & echo $! >/run/guest");
  refused(w.storage.remove(volume), Errc::in_use);
  sh("kill $(cat /run/guest)");
  w.is_untouched(volume, 1);
}

TEST_CASE("a snapshot that is opened while its volume is being removed keeps both") {
  Watched w;
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  must(w.storage.snapshot(volume, s1));
  must(w.storage.activate(volume, s1));
  Fd reader;
  w.runner.before("lvrename",
                  [&] { reader = Fd{::open(must(w.storage.path(volume, s1)).c_str(), O_RDONLY | O_CLOEXEC)}; });
  refused(w.storage.remove(volume, {.snapshots = true}), Errc::in_use);
  REQUIRE(reader);
  reader.reset();
  CHECK(must(w.storage.snapshots(volume)).size() == 1);
  w.is_untouched(volume, 1);
}

TEST_CASE("a removal that LVM would refuse half way is refused before it begins") {
  Watched w;
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  must(w.storage.snapshot(volume, s1));
  SECTION("the pool and LVM count its transactions differently") {
    const std::string expected = std::to_string(must(w.storage.backend().pool()).transaction.value());
    REQUIRE(tell_device("lab1-pool-tpool", "set_transaction_id " + expected + " 77") == 0);
    CHECK(says(refusal_of(w.storage.remove(volume, {.snapshots = true}), Errc::corrupt), "the pool has 77"));
    REQUIRE(tell_device("lab1-pool-tpool", "set_transaction_id 77 " + expected) == 0);
  }
  SECTION("lvm.conf does not let the volume be activated") {
    must(w.storage.deactivate(volume));
    sh("cp /etc/lvm/lvm.conf /run/lvm.conf && sed -i 's/^activation {/activation {\\n\\tvolume_list=[\"other\"]/' "
       "/etc/lvm/lvm.conf");
    const auto removed = w.storage.remove(volume, {.snapshots = true});
    sh("cp /run/lvm.conf /etc/lvm/lvm.conf");
    CHECK(says(refusal_of(removed, Errc::unavailable), "volume_list"));
  }
  w.is_untouched(volume, 1);
  CHECK(must(w.storage.snapshots(volume)).size() == 1);
  must(w.storage.remove(volume, {.snapshots = true}));
  CHECK(w.lab.names() == "pool ");
}

TEST_CASE("a removal that died after the name was taken is finished, or undone while somebody has the volume open") {
  Watched w;
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  must(w.storage.snapshot(volume, s1));
  const auto die_after_its_name = [&](const std::string& place) {
    sh("udevadm settle; lvrename lab1 " + volume.str() + " remove-0123456789abcdef-" + place + "-1-" + volume.str());
  };
  const std::string here = ::stowage::detail::lvm_place_of(this_process());
  {
    const Fd before = opened(must(w.storage.path(volume)), 0);
    REQUIRE(before);
    die_after_its_name(here);
    CHECK(must(w.storage.info(volume)).intent == "remove");
    refused(w.storage.snapshot(volume, s2), Errc::wrong_state);
    refused(w.storage.open_volume(volume, Access::read_only), Errc::wrong_state);
    refused(w.storage.remove(volume, {.snapshots = true}), Errc::in_use);
  }
  w.is_untouched(volume, 1);
  {
    const Fd before = opened(must(w.storage.path(volume)), 0);
    die_after_its_name(here);
    CHECK(must(w.storage.recover()).done.size() == 1);
  }
  w.is_untouched(volume, 1);
  die_after_its_name("12345678");  // of another machine: nobody here can tell whether it is at it
  CHECK(must(w.storage.recover()).done.empty());
  CHECK(must(w.storage.info(volume)).intent == "remove");
  sh("lvrename lab1 remove-0123456789abcdef-12345678-1-" + volume.str() + " " + volume.str());
  die_after_its_name(here);
  CHECK(must(w.storage.recover()).done.size() == 1);
  CHECK(w.lab.names() == "pool ");
}
