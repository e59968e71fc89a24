// The lock of a volume of LVM lies in a folder that nobody else can change.

#include <stowage/backends/detail/lvm_lock.hpp>

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>
#include <chrono>
#include <filesystem>
#include <stowage/storage_config.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>

#include "support/folder.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using detail::LvmLock;
using testing::Folder;
using testing::refusal_of;

namespace {

struct Place {
  Folder folder;
  OpenOptions options;

  Place() { options.lock_folder = folder.file("locks"); }
  [[nodiscard]] Result<LvmLock> take(const std::string& volume) const {
    return LvmLock::take(options, "vg", volume, 0ms);
  }
};

}  // namespace

TEST_CASE("a volume's lock is refused in a folder that somebody else can change") {
  const Place place;
  const std::string& locks = place.options.lock_folder;
  REQUIRE(::mkdir(locks.c_str(), 0700) == 0);
  SECTION("it is another user's") { REQUIRE(::chown(locks.c_str(), 65534, 0) == 0); }
  SECTION("others may write to it") { REQUIRE(::chmod(locks.c_str(), 0722) == 0); }
  SECTION("it is a link") {
    REQUIRE(::rename(locks.c_str(), place.folder.file("elsewhere").c_str()) == 0);
    std::filesystem::create_symlink("elsewhere", locks);
  }
  const Error error = refusal_of(place.take("vm-1-disk-0"), Errc::permission_denied);
  CHECK(error.message().find(locks) != std::string::npos);
  CHECK_FALSE(place.folder.has("locks/lvm-vg"));
}

TEST_CASE("a volume's lock is no lock once its file is another") {
  const Place place;
  const auto held = place.take("vm-1-disk-0");
  REQUIRE(held);
  CHECK(refusal_of(place.take("vm-1-disk-0"), Errc::in_use).detail() == "another verb is at work on 'vm-1-disk-0'");
  CHECK(place.take("vm-2-disk-0"));
  const std::string file = place.folder.file("locks/lvm-vg");
  std::filesystem::remove(file);
  CHECK_FALSE(held->holds());
  const auto next = place.take("vm-1-disk-0");
  REQUIRE(next);
  CHECK(next->holds());
}
