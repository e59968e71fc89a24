// Locks of this host: in folders that nobody else can change, on files that others find.

#include <stowage/core/lock.hpp>

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "stowage/testing/laws/bench.hpp"
#include "support/folder.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::Folder;
using testing::must;
using testing::refusal_of;
using testing::refused;
namespace fs = std::filesystem;

namespace {

constexpr ::uid_t nobody = 65534;

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

std::string mode_of(const std::string& path) {
  struct ::stat about {};
  REQUIRE(::lstat(path.c_str(), &about) == 0);
  return std::to_string(about.st_uid) + " " + std::to_string(about.st_mode & 07777U);
}

using Take = Result<Lock> (*)(const std::string& folder);
Result<Lock> take_own(const std::string& folder) { return Lock::take_own(folder, "x", 0ms); }
Result<Lock> take_shared(const std::string& folder) { return Lock::take_shared_file(folder, "x", 0ms); }

}  // namespace

TEST_CASE("Lock: its folder is made for this user alone, and one that is there must be that") {
  const Folder place;
  const std::string folder = place.file("locks");
  { const Lock lock = must(take_own(folder)); }
  CHECK(mode_of(folder) == std::to_string(::geteuid()) + " " + std::to_string(0700));
  CHECK(mode_of(folder + "/x") == std::to_string(::geteuid()) + " " + std::to_string(0600));
  CHECK(take_own(folder + "/"));
  refused(Lock::take_own(place.file("none/locks"), "x", 0ms), Errc::unavailable);
  for (const char* name : {"", ".", "..", "a/b"}) {
    refused(Lock::take_own(folder, name, 0ms), Errc::invalid_argument);
  }
}

TEST_CASE("Lock: a folder that somebody else can change is named, with its owner, and left as it is") {
  const Folder place;
  const std::string folder = place.file("locks");
  REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  const Take take = GENERATE(take_own, take_shared);
  std::string why;
  SECTION("another user's") {
    REQUIRE(::chown(folder.c_str(), nobody, 0) == 0);
    why = "belongs to user 65534";
  }
  SECTION("the group may write to it") {
    REQUIRE(::chmod(folder.c_str(), 0770) == 0);
    why = "others than its owner, user 0, may use";
  }
  SECTION("all may write to it") {
    REQUIRE(::chmod(folder.c_str(), 01777) == 0);
    why = "others than its owner, user 0, may use";
  }
  SECTION("a link to a good one") {
    fs::rename(folder, place.file("good"));
    fs::create_symlink("good", folder);
    REQUIRE(fs::is_symlink(folder));
    why = "is no folder, and belongs to user 0";
  }
  SECTION("a file") {
    REQUIRE(fs::remove(folder));
    place.write("locks", "");
    why = "is no folder, and belongs to user 0";
  }
  const std::string before = mode_of(folder);
  const Error error = refusal_of(take(folder), Errc::permission_denied);
  CAPTURE(error.message());
  CHECK(says(error, "'" + folder + "', which " + why));
  CHECK_FALSE(error.hint().empty());
  CHECK(mode_of(folder) == before);
  CHECK_FALSE(fs::exists(folder + "/x"));
  CHECK_FALSE(fs::exists(place.file("good/x")));
}

TEST_CASE("Lock: what lies above its folder counts, too") {
  const Folder place;
  const std::string above = place.file("above");
  REQUIRE(::mkdir(above.c_str(), 0755) == 0);
  const Take take = GENERATE(take_own, take_shared);
  SECTION("good") { CHECK(take(above + "/locks")); }
  SECTION("as /tmp") {
    REQUIRE(::chmod(above.c_str(), 01777) == 0);
    CHECK(take(above + "/locks"));
  }
  SECTION("all may write to it") {
    REQUIRE(::chmod(above.c_str(), 0777) == 0);
    CHECK(says(refusal_of(take(above + "/locks"), Errc::permission_denied), "below '" + above + "'"));
  }
  SECTION("another user's") {
    REQUIRE(::chown(above.c_str(), nobody, 0) == 0);
    const Error error = refusal_of(take(above + "/locks"), Errc::permission_denied);
    CHECK(says(error, "below '" + above + "', which belongs to user 65534"));
  }
}

TEST_CASE("Lock: a folder that is shared with other software is root's, and all may read it") {
  const Folder place;
  const std::string folder = place.file("pve-manager");
  { const Lock lock = must(take_shared(folder)); }
  CHECK(mode_of(folder) == "0 " + std::to_string(0755));
  refused(take_own(folder), Errc::permission_denied);
  // In /run/lock, which all may write to, the file itself may be of somebody else.
  REQUIRE(::chown((folder + "/x").c_str(), nobody, 0) == 0);
  CHECK(says(refusal_of(take_shared(folder), Errc::permission_denied), "/x', which belongs to user 65534"));
}

TEST_CASE("Lock: a lock file is a file") {
  const Folder place;
  const std::string folder = place.file("locks");
  REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  const Take take = GENERATE(take_own, take_shared);
  SECTION("a link") {
    place.write("else", "");
    fs::create_symlink("../else", folder + "/x");
    CHECK(says(refusal_of(take(folder), Errc::permission_denied), "is a link"));
  }
  SECTION("a pipe") {
    REQUIRE(::mkfifo((folder + "/x").c_str(), 0600) == 0);
    CHECK(says(refusal_of(take(folder), Errc::permission_denied), "is no file"));
  }
}

TEST_CASE("Lock: a holder whose file was replaced knows it, and a waiter takes the new file") {
  const Folder place;
  const std::string folder = place.file("locks");
  REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  const bool own = GENERATE(true, false);
  const auto take = [&](std::chrono::milliseconds wait) {
    return own ? Lock::take_own(folder, "x", wait, {}, "part") : Lock::take_file(folder + "/x", wait);
  };
  std::optional<Lock> held{must(take(0ms))};
  CHECK(held->holds());
  refused(take(0ms), Errc::timed_out);
  std::optional<Lock> got;
  std::thread waiter{[&] {
    if (auto lock = take(10s)) got.emplace(*std::move(lock));
  }};
  std::this_thread::sleep_for(30ms);
  SECTION("the file") { REQUIRE(fs::remove(folder + "/x")); }
  SECTION("the folder") {
    fs::rename(folder, folder + ".old");
    REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  }
  CHECK_FALSE(held->holds());
  waiter.join();
  REQUIRE(got);
  CHECK(got->holds());
  held.reset();  // takes nothing from the new one
  CHECK(got->holds());
  refused(take(0ms), Errc::timed_out);
}

TEST_CASE("Lock: parts of a file do not wait for each other, and the whole waits for all") {
  const Folder place;
  const std::string folder = place.file("locks");
  const auto part = [&](const std::string& name) { return Lock::take_own(folder, "x", 0ms, {}, name); };
  std::optional<Lock> a{must(part("a"))};
  const Lock b = must(part("b"));
  CHECK(says(refusal_of(part("a"), Errc::timed_out), folder + "/x"));
  refused(take_own(folder), Errc::timed_out);
  const Lock moved{*std::move(a)};
  a.reset();  // NOLINT(bugprone-use-after-move): what was moved from must not let go of it
  refused(part("a"), Errc::timed_out);
  // The same byte for programs of all compilers.
  static_assert(detail::lock_place("vm-100-disk-0") == 1208435237230145675);
}

TEST_CASE("Lock: a part of a file of the kernel's") {
  const Folder place;
  place.write("add", "");
  const std::string file = place.file("add");
  const Lock lock = must(Lock::take_part(file, "a", 0ms));
  CHECK(lock.holds());
  refused(Lock::take_part(file, "a", 0ms), Errc::timed_out);
  CHECK(Lock::take_part(file, "b", 0ms));
  refused(Lock::take_part(place.file("none"), "a", 0ms), Errc::unavailable);
}

TEST_CASE("Lock: a lease goes on while the host is suspended") {
  const auto boot = [] {
    struct ::timespec time {};
    REQUIRE(::clock_gettime(CLOCK_BOOTTIME, &time) == 0);
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
  };
  const auto before = boot();
  const auto seen = detail::BootClock::now().time_since_epoch();
  CHECK(before <= seen);
  CHECK(seen <= boot());
}

TEST_CASE("Lock: programs of root lock in /run/stowage, others in a folder of their own") {
  if (::geteuid() == 0) {
    CHECK(default_lock_folder() == "/run/stowage");
    const auto asked_as_nobody = [](const char* runtime) {
      std::string answer(200, '\0');
      int ends[2] = {-1, -1};  // NOLINT(modernize-avoid-c-arrays)
      REQUIRE(::pipe(ends) == 0);
      if (::fork() == 0) {
        runtime == nullptr ? ::unsetenv("XDG_RUNTIME_DIR") : ::setenv("XDG_RUNTIME_DIR", runtime, 1);  // NOLINT
        static_cast<void>(::setresuid(1234, 1234, 1234));
        const std::string folder = default_lock_folder();
        ::_exit(::write(ends[1], folder.data(), folder.size()) > 0 ? 0 : 1);
      }
      const ::ssize_t length = ::read(ends[0], answer.data(), answer.size());
      REQUIRE(length > 0);
      ::close(ends[0]);
      ::close(ends[1]);
      return answer.substr(0, static_cast<std::size_t>(length));
    };
    CHECK(asked_as_nobody("/run/user/1234") == "/run/user/1234/stowage");
    CHECK(asked_as_nobody(nullptr) == "/tmp/stowage-1234");
    CHECK(asked_as_nobody("here") == "/tmp/stowage-1234");
  } else {
    CHECK(default_lock_folder() != "/run/stowage");
  }
}
