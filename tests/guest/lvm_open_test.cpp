// Who else has a thin volume open, and whether what stands at its path is that volume: asked of the kernel.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

/// A regular file where the link to a volume's device was, until this is destroyed.
class FileInPlace {
 public:
  explicit FileInPlace(std::string path) : path_{std::move(path)} {
    sh("udevadm settle; rm -f " + path_ + "; mkdir -p $(dirname " + path_ + "); echo a file > " + path_);
  }
  FileInPlace(const FileInPlace&) = delete;
  FileInPlace& operator=(const FileInPlace&) = delete;
  ~FileInPlace() {
    ask("rm -f " + path_ + "; rmdir --ignore-fail-on-non-empty $(dirname " + path_ +
        "); udevadm trigger --settle --action=change --subsystem-match=block");
  }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("a volume that a process has open without a claim is not opened for writing") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  fill(storage, volume, 1);
  for (const int how : {O_RDWR, O_RDONLY}) {
    const Fd opener{::open(must(storage.path(volume)).c_str(), how | O_CLOEXEC)};  // as QEMU does
    REQUIRE(opener);
    const auto refuses = [&](const std::string& who) {
      CHECK(elapsed([&] {
              CHECK(says(refusal_of(storage.open_volume(volume, Access::read_write), Errc::in_use), who));
            }) < 10s);
    };
    refuses("process " + std::to_string(::getpid()) + " (this program)");
    CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  }
  // another process
  sh("sleep 1000 <>" + must(storage.path(volume)) + " >/dev/null 2>&1 & echo $! > /run/holder");
  const Error error = refusal_of(storage.open_volume(volume, Access::read_write), Errc::in_use);
  CHECK(says(error, "(sleep)"));
  CHECK_FALSE(says(error, "this program"));
  sh("kill $(cat /run/holder)");
  fill(storage, volume, 2);
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 2);
}

TEST_CASE("a process that has a volume open for less than 3 seconds is waited for") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  sh("cp /bin/sleep /run/udev-probe; /run/udev-probe 1.5 <" + must(storage.path(volume)) + " >/dev/null 2>&1 &");
  fill(storage, volume, 1);
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
}

TEST_CASE("a regular file at the path of a volume is not taken for the volume") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  must(storage.snapshot(volume, s1));
  fill(storage, volume, 1);
  {
    const FileInPlace file{lab.device(volume.str())};
    const auto refuses = [&](const auto& result) {
      const Error error = refusal_of(result, Errc::identity_changed);
      CHECK(says(error, lab.device(volume.str())));
    };
    refuses(storage.path(volume));
    refuses(storage.blockdev(volume));
    refuses(storage.activate(volume));
    refuses(storage.open_volume(volume, Access::read_only));
    refuses(storage.open_volume(volume, Access::read_write));
    const std::vector<Finding> findings = must(storage.check());
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].problem.find(lab.device(volume.str())) != std::string::npos);
    CHECK(sh("cat " + lab.device(volume.str())) == "a file\n");
    CHECK(must(storage.path(volume, s1)) == lab.device("snap_" + volume.str() + "_s1"));
  }
  CHECK(content(must(storage.open_volume(volume, Access::read_only))) == 1);
  must(storage.deactivate(volume));
  const FileInPlace file{lab.device(volume.str())};
  refused(storage.activate(volume), Errc::identity_changed);
  refused(storage.open_volume(volume, Access::read_write), Errc::identity_changed);
  CHECK(sh("cat " + lab.device(volume.str())) == "a file\n");
}

TEST_CASE("the device of another volume at the path of a volume is not taken for it") {
  const LvmLab lab;
  auto storage = lab.storage();
  const VolumeName volume = make(storage);
  const VolumeName other = make(storage);
  sh("udevadm settle; ln -sf $(readlink -f " + lab.device(other.str()) + ") " + lab.device(volume.str()));
  refused(storage.path(volume), Errc::identity_changed);
  refused(storage.activate(volume), Errc::identity_changed);
  CHECK(must(storage.check()).size() == 1);
  sh("udevadm trigger --settle --action=change $(readlink -f /dev/mapper/*disk--0)");
  CHECK(must(storage.path(volume)) == lab.device(volume.str()));
  CHECK(must(storage.check()).empty());
}
