// Removal on the real LVM: what LVM itself is told to look at, and how many processes that costs.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

#include <memory>
#include <string>
#include <vector>

#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

/// The real tools, and what was run.
class WatchedRunner {
 public:
  Result<CommandOutput> run(const Command& command) const {
    tools_->push_back(command.argv[0].substr(6));
    return real_.run(command);
  }
  std::string since_last() const {
    std::string tools;
    for (const std::string& tool : *tools_) tools += tool + " ";
    tools_->clear();
    return tools;
  }

 private:
  std::shared_ptr<std::vector<std::string>> tools_ = std::make_shared<std::vector<std::string>>();
  PosixRunner real_;
};

struct Watched {
  LvmLab lab;
  WatchedRunner runner;
  Storage<BasicLvmThin<WatchedRunner>> storage{
      must(StorageId::parse("watched")),
      must(BasicLvmThin<WatchedRunner>::open(must(StorageId::parse("watched")), lab.config, lab.options, runner))};

  /// The tools that a removal runs; udev, which looks into what was just made, has gone.
  std::string remove(const VolumeName& volume) {
    sh("udevadm settle");
    runner.since_last();
    must(storage.remove(volume));
    return runner.since_last();
  }
};

}  // namespace

TEST_CASE("an empty volume is removed in one process, one with blocks is marked first and discarded") {
  Watched w;
  CHECK(w.remove(make(w.storage)) == "lvremove ");
  const VolumeName volume = make(w.storage);
  fill(w.storage, volume, 1);
  CHECK(w.remove(volume) == "lvchange lvremove ");
  const VolumeName origin = make(w.storage);
  fill(w.storage, origin, 1);
  const VolumeName base = must(w.storage.make_template(origin));
  CHECK(content(must(w.storage.open_volume(base, Access::read_only))) == 1);
  CHECK(w.remove(base) == "lvremove ");  // it is active, and cannot be written
  CHECK(w.lab.names() == "pool ");
  CHECK(must(w.storage.status()).used == Bytes{});
}

TEST_CASE("LVM does not remove a volume that something was taken of, and then it is told why") {
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

TEST_CASE("what pvesm has made is asked about before it is removed") {
  Watched w;
  sh("lvcreate -qq -aly -V 8192k --name vm-100-disk-0 --thinpool " + w.lab.spec("pool"));
  CHECK(w.remove(volume_name("vm-100-disk-0")) == "lvremove lvs lvremove ");
  const VolumeName base = must(w.storage.make_template(make(w.storage)));
  const VolumeName clone = must(w.storage.clone(base, {.vmid = guest}));
  must(w.storage.remove(base));  // its clones do not need it
  CHECK(w.remove(clone) == "lvremove ");
  CHECK(w.lab.names() == "pool ");
}
