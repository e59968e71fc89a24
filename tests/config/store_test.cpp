// storage.cfg on the disk: whole at every moment, and no change of anybody lost.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <stowage/config/store.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/folder.hpp"

using namespace stowage;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

StorageId storage_id(const std::string& text) { return *StorageId::parse(text); }

/// A folder that goes with the test, with a configuration in it.
class Place : public testing::Folder {
 public:
  explicit Place(const std::string& text) { write("storage.cfg", text); }

  std::string config() const { return file("storage.cfg"); }
  std::string read(const std::string& name = "storage.cfg") const { return Folder::read(name); }
  ConfigStore store(std::chrono::milliseconds wait = 10s) const {
    return ConfigStore{{.config = config(), .priv = file("priv"), .wait = wait, .cluster = file("no-cluster")}};
  }
  /// One whose configuration is on the cluster's file system.
  ConfigStore cluster(std::chrono::milliseconds wait = 10s) const {
    return ConfigStore{{.config = config(), .priv = file("priv"), .wait = wait, .cluster = path()}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator{path()}) all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  }
};

SetStorage pool(const std::string& id, const std::string& value) { return {storage_id(id), {{"pool", value}}}; }

std::string pool_of(const std::string& config, const std::string& id) {
  const auto file = read_storage_config(config);
  const ConfigStorage* storage = file ? file->find(storage_id(id)) : nullptr;
  const std::string* value = storage != nullptr ? storage->setting("pool") : nullptr;
  return value != nullptr ? *value : "";
}

/// Runs it in a process of its own, which ends with what it returns.
::pid_t in_child(const std::function<int()>& work) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) std::_Exit(work());
  return child;
}
int exit_status(::pid_t child) {
  int how = 0;
  REQUIRE(::waitpid(child, &how, 0) == child);
  return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

struct ::stat about(const std::string& path) {
  struct ::stat now {};
  REQUIRE(::stat(path.c_str(), &now) == 0);
  return now;
}

}  // namespace

TEST_CASE("ConfigStore: a change is written, mode and owner stay, and nothing is left beside it") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  REQUIRE(::chmod(place.config().c_str(), 0604) == 0);
  if (::geteuid() == 0) REQUIRE(::chown(place.config().c_str(), 12, 34) == 0);
  const struct ::stat before = about(place.config());
  const ::mode_t umask = ::umask(0077);
  const auto change = place.store().commit(pool("ceph", "p1"));
  ::umask(umask);
  REQUIRE(change);
  CHECK(place.read() == "rbd: ceph\n\tpool p1\n");
  const struct ::stat after = about(place.config());
  CHECK(after.st_mode == before.st_mode);
  CHECK(after.st_uid == before.st_uid);
  CHECK(after.st_gid == before.st_gid);
  CHECK(after.st_ino != before.st_ino);
  CHECK(place.names() == std::vector<std::string>{"storage.cfg", "storage.cfg.lock"});

  // What changes nothing writes nothing.
  REQUIRE(place.store().commit(pool("ceph", "p1")));
  CHECK(about(place.config()).st_ino == after.st_ino);
}

TEST_CASE("ConfigStore: a preview changes nothing, and takes no lock") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  const auto change = place.store().preview(pool("ceph", "p1"));
  REQUIRE(change);
  CHECK(change->diff == "@@ -2 +2 @@ rbd: ceph\n-\tpool p0\n+\tpool p1\n");
  CHECK(place.read() == "rbd: ceph\n\tpool p0\n");
  CHECK(place.names() == std::vector<std::string>{"storage.cfg"});
}

TEST_CASE("ConfigStore: a file that is not there is made, one behind a link is changed, a dangling link is not") {
  const Place place{""};
  fs::remove(place.config());
  REQUIRE(place.store().commit(AddStorage{"rbd", storage_id("ceph")}));
  CHECK(place.read() == "rbd: ceph\n\n");
  CHECK((about(place.config()).st_mode & 07777U) == 0640);

  fs::rename(place.config(), place.file("real.cfg"));
  fs::create_symlink("real.cfg", place.config());
  REQUIRE(place.store().commit(pool("ceph", "p1")));
  CHECK(fs::is_symlink(place.config()));
  CHECK(place.read("real.cfg") == "rbd: ceph\n\tpool p1\n\n");

  fs::remove(place.file("real.cfg"));
  CHECK(place.store().commit(AddStorage{"rbd", storage_id("ceph")}).error().code() == Errc::not_found);
  CHECK(fs::is_symlink(place.config()));

  const ConfigStore nowhere{{.config = place.file("none/storage.cfg"), .priv = place.file("priv")}};
  CHECK_FALSE(nowhere.commit(AddStorage{"rbd", storage_id("ceph")}));
}

TEST_CASE("ConfigStore: what was left by a writer that was killed goes, and nothing else") {
  const Place place{"rbd: ceph\n"};
  place.write("storage.cfg.stowage.1", "half");
  place.write("storage.cfg.stowage.99999999", "half");
  place.write("storage.cfg.stowage.mine", "kept");
  place.write("storage.cfg.bak", "kept");
  REQUIRE(place.store().commit(pool("ceph", "p1")));
  CHECK(place.names() ==
        std::vector<std::string>{"storage.cfg", "storage.cfg.bak", "storage.cfg.lock", "storage.cfg.stowage.mine"});
}

TEST_CASE("ConfigStore: who does not get the lock says so in time, and has changed nothing") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  {
    const auto held = Lock::take_file(place.config() + ".lock", 1s);
    REQUIRE(held);
    const auto start = std::chrono::steady_clock::now();
    CHECK(place.store(150ms).commit(pool("ceph", "p1")).error().code() == Errc::timed_out);
    const auto took = std::chrono::steady_clock::now() - start;
    CHECK(took >= 150ms);
    CHECK(took < 5s);
  }
  CHECK(place.read() == "rbd: ceph\n\tpool p0\n");
  CHECK(place.store(150ms).commit(pool("ceph", "p1")));
}

TEST_CASE("ConfigStore: on the cluster's file system the lock is the one of pvesm") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  const std::string lock = place.file("priv/lock/file-storage_cfg");
  fs::create_directories(lock);
  CHECK(place.cluster(150ms).commit(pool("ceph", "p1")).error().code() == Errc::timed_out);
  CHECK(place.read() == "rbd: ceph\n\tpool p0\n");
  CHECK(about(lock).st_mtime == 0);  // the cluster was asked to let go of it, should it have expired
  fs::remove(lock);
  CHECK(place.cluster(150ms).commit(pool("ceph", "p1")));
  CHECK_FALSE(fs::exists(lock));
  CHECK_FALSE(fs::exists(place.config() + ".lock"));
  CHECK(fs::exists(place.file("priv/lock")));

  // Whoever waits gets it as soon as it is free.
  fs::create_directories(lock);
  std::thread other{[&] {
    std::this_thread::sleep_for(100ms);
    fs::remove(lock);
  }};
  CHECK(place.cluster().commit(pool("ceph", "p2")));
  other.join();
}

TEST_CASE("ConfigStore: a lock of the cluster that expires meanwhile changes nothing, and is the next one's") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  const std::string lock = place.file("priv/lock/file-storage_cfg");
  fs::create_directories(place.file("priv/lock"));
  const auto with = [&](ClusterLease lease) {
    return ConfigStore{{.config = place.config(), .priv = place.file("priv"), .cluster = place.path(), .lease = lease}};
  };
  const auto late = with({.to_change = 0ms, .to_let_go = 0ms}).commit(pool("ceph", "p1"));
  REQUIRE_FALSE(late);
  CHECK(late.error().code() == Errc::timed_out);
  CHECK(late.error().object() == place.config());
  CHECK(place.read() == "rbd: ceph\n\tpool p0\n");
  CHECK(fs::exists(lock));  // it may be another's by now
  fs::remove(lock);
  CHECK_FALSE(with({.to_change = 0ms}).commit(pool("ceph", "p1")));
  CHECK_FALSE(fs::exists(lock));  // it is ours for certain
  CHECK(with({}).commit(pool("ceph", "p1")));
}

TEST_CASE("ConfigStore: a change of somebody who knows no lock is not overwritten") {
  const Place place{"rbd: ceph\n\tpool p0\n"};
  const auto seen = read_storage_config(place.config());
  SetStorage mine = pool("ceph", "p1");
  mine.digest = seen->digest();
  place.write("storage.cfg", "rbd: ceph\n\tpool p0\n\tkrbd\n");
  CHECK(place.store().commit(mine).error().code() == Errc::conflict);
  CHECK(place.read() == "rbd: ceph\n\tpool p0\n\tkrbd\n");
}

TEST_CASE("ConfigStore: eight processes with 200 changes each lose none") {
  constexpr int writers = 8;
  constexpr int changes = 200;
  std::string text = "# shared\n\nrbd: all\n\tpool p0\n\n";
  for (int w = 0; w < writers; ++w) text += "rbd: own" + std::to_string(w) + "\n\tpool p0\n\n";
  const Place place{text};
  std::vector<::pid_t> children;
  for (int w = 0; w < writers; ++w) {
    children.push_back(in_child([&, w] {
      const ConfigStore store = place.store(60s);
      const std::string id = "own" + std::to_string(w);
      for (int i = 1; i <= changes; ++i) {
        // Had another one's write gone back over mine, it would show here.
        if (pool_of(place.config(), id) != "p" + std::to_string(i - 1)) return 1;
        if (!store.commit(pool(id, "p" + std::to_string(i)))) return 2;
      }
      // A counter that all share: who was overtaken looks again.
      for (int i = 0; i < 10;) {
        const auto file = read_storage_config(place.config());
        const int count = std::stoi(file->find(storage_id("all"))->setting("pool")->substr(1));
        SetStorage next = pool("all", "p" + std::to_string(count + 1));
        next.digest = file->digest();
        const auto done = store.commit(next);
        if (!done && done.error().code() != Errc::conflict) return 3;
        if (done) ++i;
      }
      return 0;
    }));
  }
  for (const ::pid_t child : children) CHECK(exit_status(child) == 0);
  for (int w = 0; w < writers; ++w) {
    CHECK(pool_of(place.config(), "own" + std::to_string(w)) == "p" + std::to_string(changes));
  }
  CHECK(pool_of(place.config(), "all") == "p" + std::to_string(writers * 10));
  CHECK(place.names() == std::vector<std::string>{"storage.cfg", "storage.cfg.lock"});
}

TEST_CASE("ConfigStore: killed at any system call, it leaves the old content or the new one") {
  // A whole keyring, conf and configuration at once: the most that one change writes.
  const std::string old_text = "rbd: ceph\n\tpool p0\n\n";
  const std::string key = "[client.admin]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n";
  const AddStorage wanted{"rbd", storage_id("far"), {{"monhost", "10.0.0.1"}}};
  int killed = 0;
  bool saw_old = false;
  bool saw_new = false;
  for (int limit = 1;; ++limit) {
    const Place place{old_text};
    const ::pid_t child = in_child([&] {
      const ConfigStore store = place.store();
      const SecretChange secret{.text = Secret{key}};
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) return 9;
      ::raise(SIGSTOP);
      return store.commit(wanted, secret) ? 0 : 1;
    });
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
    REQUIRE(WIFSTOPPED(how));
    REQUIRE(::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL) == 0);
    // It stops on its way into a system call and on its way out; it is killed at the stop number `limit`.
    for (int stop = 0; stop < limit && WIFSTOPPED(how); ++stop) {
      REQUIRE(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
      REQUIRE(::waitpid(child, &how, 0) == child);
    }
    const bool ended = WIFEXITED(how);
    if (!ended) {
      REQUIRE(::kill(child, SIGKILL) == 0);
      REQUIRE(::waitpid(child, &how, 0) == child);
      ++killed;
    }
    CAPTURE(limit);
    const std::string text = place.read();
    const bool is_new = text == old_text + "rbd: far\n\tmonhost 10.0.0.1\n\n";
    CHECK((is_new || text == old_text));
    if (is_new) {  // then its key is there, whole
      CHECK(place.read("priv/ceph/far.keyring") == key);
      CHECK(place.read("priv/ceph/far.conf").ends_with("far.keyring\n\n"));
    }
    const std::string there = place.read("priv/ceph/far.keyring");
    CHECK((there.empty() || there == key));
    (is_new ? saw_new : saw_old) = true;
    if (ended) {
      CHECK(WEXITSTATUS(how) == 0);
      CHECK(is_new);
      break;
    }
    // and the next one comes through, over what was left
    if (!is_new) CHECK(place.store(1s).commit(wanted, {.text = Secret{key}}));
    for (const std::string& name : place.names()) CHECK(name.find(".stowage.") == std::string::npos);
  }
  CHECK(saw_old);
  CHECK(saw_new);
  CHECK(killed > 40);
}

TEST_CASE("ConfigStore: a full disk leaves the old file, and says so") {
  const std::string text = "rbd: ceph\n\tpool p0\n\n";
  // As root on a file system without room, else behind the limit of a file's size.
  const ::pid_t child = in_child([&] {
    const std::string folder = "/tmp/stowage-full-" + std::to_string(::getpid());
    if (::mkdir(folder.c_str(), 0700) != 0) return 10;
    const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         ::mount("full", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
    const std::string config = folder + "/storage.cfg";
    std::ofstream{config} << text;
    if (mounted) {
      std::ofstream{folder + "/filler"} << std::string(52 * 1024, 'x');
    } else {
      ::signal(SIGXFSZ, SIG_IGN);
      const ::rlimit limit{4096, 4096};
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 11;
    }
    const ConfigStore store{{.config = config, .priv = folder + "/priv"}};
    const auto change = store.commit(pool("ceph", std::string(12'000, 'q')));
    const auto after = detail::read_file(config, 1 << 20);
    int status = 0;
    if (change || change.error().code() != Errc::no_space) status = 1;
    if (!after || !*after || (*after)->text != text) status = 2;
    for (const auto& entry : fs::directory_iterator{folder}) {
      if (entry.path().string().find(".stowage.") != std::string::npos) status = 3;
    }
    if (!store.commit(pool("ceph", "p1")) && status == 0) status = 4;  // there is room for this one
    if (mounted) ::umount2(folder.c_str(), MNT_DETACH);
    fs::remove_all(folder);
    return status;
  });
  CHECK(exit_status(child) == 0);
}
