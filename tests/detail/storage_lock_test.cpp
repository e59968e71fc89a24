// Beside a running pvesm, verbs that change which volumes there are take its lock of the storage, for short.

#include <stowage/config/lock.hpp>

#include <catch2/catch.hpp>

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
#include <memory>
#include <set>
#include <stop_token>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace stowage;
using namespace std::chrono_literals;
using testing::MemoryBackend;
namespace fs = std::filesystem;

namespace {

const StorageId id = *StorageId::parse("st");
const SnapshotName snap = *SnapshotName::parse("s1");

/// A folder that plays /etc/pve and /var/lock.
class Cluster {
 public:
  Cluster() {
    std::string name = "/tmp/stowage-pve-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
    fs::create_directories(folder_ + "/priv/lock");
    std::ofstream{folder_ + "/storage.cfg"} << "rbd: st\n";
  }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  ~Cluster() { fs::remove_all(folder_); }

  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] std::string shared_lock() const { return folder_ + "/priv/lock/storage-st"; }
  [[nodiscard]] std::string host_lock() const { return folder_ + "/host/pve-storage-st"; }
  [[nodiscard]] StorageLocks locks(std::chrono::milliseconds wait = 10s) const {
    return {.cluster = folder_ + "/priv/lock", .host = folder_ + "/host", .wait = wait};
  }
  [[nodiscard]] OpenOptions options(std::chrono::milliseconds wait = 10s) const {
    OpenOptions options;
    options.locks = locks(wait);
    return options;
  }

 private:
  std::string folder_;
};

bool is_locked(const std::string& file) { return !Lock::take_file(file, 0ms); }

/// Notes for each verb that changes something whether the storage's lock was held.
template <bool Shared>
class Watched : public MemoryBackend {
 public:
  static constexpr Features features{StorageType::other, "watched", {Content::images},
                                     {Format::raw},      Shared,    MemoryBackend::features.can};
  struct Seen {
    std::function<bool()> held;
    std::vector<std::string> with, without;
  };

  explicit Watched(std::function<bool()> held) : seen_{std::make_shared<Seen>(Seen{std::move(held), {}, {}})} {}
  static Result<Watched> open(const StorageId&, const Config&, const OpenOptions&) {
    return Watched{[] { return false; }};
  }
  [[nodiscard]] const Seen& seen() const noexcept { return *seen_; }

  Result<void> create(const VolumeName& v, const CreateSpec& spec) {
    return noted("create", MemoryBackend::create(v, spec));
  }
  Result<void> remove(const VolumeName& v, const RemoveOptions& options, const Work& work) {
    note("remove, before");
    work.progress(0, 1);
    note("remove, long after");
    work.progress(1, 1);
    return MemoryBackend::remove(v, options, work);
  }
  Result<Bytes> resize(const VolumeName& v, Bytes size) { return noted("resize", MemoryBackend::resize(v, size)); }
  Result<void> rename(const VolumeName& v, const VolumeName& to) {
    return noted("rename", MemoryBackend::rename(v, to));
  }
  Result<void> snapshot(const VolumeName& v, const SnapshotName& s) {
    return noted("snapshot", MemoryBackend::snapshot(v, s));
  }
  Result<void> rollback(const VolumeName& v, const SnapshotName& s, const Work& work) {
    return noted("rollback", MemoryBackend::rollback(v, s, work));
  }
  Result<void> clone(const VolumeName& v, const VolumeName& to, const CloneSpec& spec) {
    return noted("clone", MemoryBackend::clone(v, to, spec));
  }
  Result<void> clone(const VolumeName& v, const SnapshotName& s, const VolumeName& to, const CloneSpec& spec) {
    return noted("clone of a snapshot", MemoryBackend::clone(v, s, to, spec));
  }
  Result<void> make_template(const VolumeName& v, const VolumeName& to) {
    return noted("template", MemoryBackend::make_template(v, to));
  }
  Result<void> flatten(const VolumeName& v, const Work& work) {
    return noted("flatten", MemoryBackend::flatten(v, work));
  }

 private:
  void note(const std::string& verb) { (seen_->held() ? seen_->with : seen_->without).push_back(verb); }
  template <class T>
  Result<T> noted(const std::string& verb, Result<T> result) {
    note(verb);
    return result;
  }
  std::shared_ptr<Seen> seen_;
};

using Nfs = Watched<true>;
using Disk = Watched<false>;

template <class B>
void every_verb(Storage<B>& storage) {
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_MiB});
  REQUIRE(disk);
  CHECK(storage.resize(*disk, 2_MiB));
  CHECK(storage.snapshot(*disk, snap));
  CHECK(storage.rollback(*disk, snap));
  const auto clone = storage.clone(*disk, snap, {.vmid = VmId{101}});
  REQUIRE(clone);
  CHECK(storage.flatten(*clone));
  const auto renamed = storage.rename(*clone, {.vmid = VmId{102}});
  REQUIRE(renamed);
  const auto base = storage.make_template(*renamed);
  REQUIRE(base);
  const auto linked = storage.clone(*base, {.vmid = VmId{103}});
  REQUIRE(linked);
  CHECK(storage.remove(*linked));
}

const std::vector<std::string> short_verbs{"create", "clone of a snapshot", "rename", "template",
                                           "clone",  "remove, before"};
const std::vector<std::string> other_verbs{"resize", "snapshot", "rollback", "flatten", "remove, long after"};

/// A process that holds a lock until it is let go or killed.
class Holder {
 public:
  explicit Holder(const std::function<bool()>& take) {
    int ends[2] = {-1, -1};  // NOLINT(modernize-avoid-c-arrays)
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const char said = take() ? 'y' : 'n';
      static_cast<void>(::write(ends[1], &said, 1) == 1);
      ::pause();
      std::_Exit(0);
    }
    ::close(ends[1]);
    char said = 0;
    REQUIRE(::read(ends[0], &said, 1) == 1);
    ::close(ends[0]);
    REQUIRE(said == 'y');
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() { kill(); }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  ::pid_t pid_ = -1;
};

template <class Verb>
void times_out(Verb verb, const std::string& lock) {
  const auto begin = std::chrono::steady_clock::now();
  const auto result = verb();
  const auto took = std::chrono::steady_clock::now() - begin;
  REQUIRE_FALSE(result);
  CHECK(result.error().code() == Errc::timed_out);
  CHECK(result.error().message().find(lock) != std::string::npos);
  CHECK(result.error().object().starts_with("st"));
  CHECK(result.error().hint().find("try again") != std::string::npos);
  CHECK(took >= 100ms);
  CHECK(took < 5s);
}

}  // namespace

TEST_CASE("the storage lock: held in the verbs that change which volumes there are, on shared storages the cluster's") {
  const Cluster cluster;
  const Nfs backend{[&] { return fs::is_directory(cluster.shared_lock()); }};
  Storage<Nfs> storage{id, backend, cluster.options()};
  every_verb(storage);
  CHECK(backend.seen().with == short_verbs);
  CHECK(backend.seen().without == other_verbs);
  CHECK_FALSE(fs::exists(cluster.shared_lock()));
  CHECK_FALSE(fs::exists(cluster.host_lock()));
}

TEST_CASE("the storage lock: of storages that this host has alone it is a file's") {
  const Cluster cluster;
  const Disk backend{[&] { return is_locked(cluster.host_lock()); }};
  Storage<Disk> storage{id, backend, cluster.options()};
  every_verb(storage);
  CHECK(backend.seen().with == short_verbs);
  CHECK(backend.seen().without == other_verbs);
  CHECK_FALSE(is_locked(cluster.host_lock()));
  CHECK(fs::is_empty(cluster.folder() + "/priv/lock"));
}

TEST_CASE("the storage lock: let go when the verb fails") {
  const Cluster cluster;
  Nfs backend{[&] { return fs::exists(cluster.shared_lock()); }};
  Storage<Nfs> storage{id, backend, cluster.options()};
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_MiB});
  REQUIRE(disk);
  const auto fails = [&](auto verb) {
    CHECK_FALSE(verb());
    CHECK_FALSE(fs::exists(cluster.shared_lock()));
  };
  for (const unsigned after : {0U, 1U}) {  // at the list of names, and at the verb itself
    backend.fail_next(Errc::unavailable, after);
    fails([&] { return storage.create({.vmid = VmId{100}, .size = 1_MiB}); });
  }
  backend.fail_next(Errc::timed_out);
  fails([&] { return storage.remove(*disk); });
  fails([&] { return storage.create({.vmid = VmId{100}, .size = 1_MiB, .name = *disk}); });
  fails([&] { return storage.rename(*disk, {.name = *disk}); });
  fails([&] { return storage.rename(*VolumeName::parse("vm-1-disk-0"), {.vmid = VmId{2}}); });
  fails([&] { return storage.make_template(*VolumeName::parse("vm-1-disk-0")); });
  fails([&] { return storage.clone(*disk, snap, {.vmid = VmId{1}}); });
  fails([&] { return storage.remove(*VolumeName::parse("vm-1-disk-0")); });
  REQUIRE(storage.snapshot(*disk, snap));
  fails([&] { return storage.remove(*disk); });
}

TEST_CASE("the storage lock: another process holds it, and the verb says so in time, and has changed nothing") {
  const Cluster cluster;
  MemoryBackend memory;
  const auto disk = Storage<MemoryBackend>{id, memory}.create({.vmid = VmId{100}, .size = 1_MiB});
  REQUIRE(disk);
  SECTION("of this host") {
    fs::create_directories(cluster.folder() + "/host");
    Holder other{[&] {
      static auto held = Lock::take_file(cluster.host_lock(), 1s);
      return held.has_value();
    }};
    Storage storage{id, memory, cluster.options(100ms)};
    times_out([&] { return storage.create({.vmid = VmId{1}, .size = 1_MiB}); }, cluster.host_lock());
    times_out([&] { return storage.remove(*disk); }, cluster.host_lock());
    times_out([&] { return storage.rename(*disk, {.vmid = VmId{1}}); }, cluster.host_lock());
    times_out([&] { return storage.make_template(*disk); }, cluster.host_lock());
    CHECK(storage.list()->size() == 1);
    CHECK(storage.snapshot(*disk, snap));  // which takes none
    // The kernel takes it back from the dead.
    other.kill();
    CHECK(storage.create({.vmid = VmId{1}, .size = 1_MiB}));
  }
  SECTION("of the cluster") {
    Nfs backend{[] { return true; }};
    Storage<Nfs> storage{id, backend, cluster.options(100ms)};
    Holder other{[&] { return fs::create_directory(cluster.shared_lock()); }};
    times_out([&] { return storage.create({.vmid = VmId{1}, .size = 1_MiB}); }, cluster.shared_lock());
    other.kill();  // only the cluster's file system can take it back, after two minutes
    times_out([&] { return storage.create({.vmid = VmId{1}, .size = 1_MiB}); }, cluster.shared_lock());
    CHECK(fs::exists(cluster.shared_lock()));
    CHECK(storage.list()->empty());
    fs::remove(cluster.shared_lock());
    CHECK(storage.create({.vmid = VmId{1}, .size = 1_MiB}));
  }
}

TEST_CASE("the storage lock: pvesm's folder of somebody else is no place for one, and nothing is changed") {
  const Cluster cluster;
  MemoryBackend memory;
  Storage storage{id, memory, cluster.options(100ms)};
  const std::string folder = cluster.folder() + "/host";
  fs::create_directory(folder);
  SECTION("another user's") { REQUIRE(::chown(folder.c_str(), 65534, 65534) == 0); }
  SECTION("all may write to it") { REQUIRE(::chmod(folder.c_str(), 0777) == 0); }
  const auto created = storage.create({.vmid = VmId{1}, .size = 1_MiB});
  REQUIRE_FALSE(created);
  CHECK(created.error().code() == Errc::permission_denied);
  CHECK(created.error().message().find("'" + folder + "'") != std::string::npos);
  CHECK(storage.list()->empty());
  CHECK(fs::is_empty(folder));
}

TEST_CASE("the storage lock: one of the cluster that expires meanwhile changes nothing, and is the next one's") {
  const Cluster cluster;
  const Nfs backend{[&] { return fs::exists(cluster.shared_lock()); }};
  const auto create = [&](ClusterLease lease) {
    OpenOptions options = cluster.options();
    options.locks->lease = lease;
    return Storage<Nfs>{id, backend, options}.create({.vmid = VmId{1}, .size = 1_MiB});
  };
  const auto late = create({.to_change = 0ms, .to_let_go = 0ms});
  REQUIRE_FALSE(late);
  CHECK(late.error().code() == Errc::timed_out);
  CHECK(late.error().hint() == "try again");
  CHECK(backend.seen().with.empty());
  CHECK(fs::exists(cluster.shared_lock()));  // it may be another's by now
  fs::remove(cluster.shared_lock());
  CHECK_FALSE(create({.to_change = 0ms}));
  CHECK_FALSE(fs::exists(cluster.shared_lock()));  // it is ours for certain
  CHECK(create({}));
}

TEST_CASE("the storage lock: who waits for it gets it as soon as it is free") {
  const Cluster cluster;
  Nfs backend{[&] { return fs::exists(cluster.shared_lock()); }};
  Storage<Nfs> storage{id, backend, cluster.options()};
  REQUIRE(fs::create_directory(cluster.shared_lock()));
  std::thread other{[&] {
    std::this_thread::sleep_for(100ms);
    fs::remove(cluster.shared_lock());
  }};
  CHECK(storage.create({.vmid = VmId{1}, .size = 1_MiB}));
  other.join();
}

TEST_CASE("the storage lock: two processes and their threads never hold it together") {
  const Cluster cluster;
  fs::create_directories(cluster.folder() + "/host");
  const std::string inside = cluster.folder() + "/inside";
  // What the lock is there for: nobody else is between the two steps.
  const auto turns = [&](bool shared) {
    int clashes = 0;
    for (int i = 0; i < 100; ++i) {
      const auto lock = detail::StorageLock::take(cluster.locks(), shared ? Nfs::features : Disk::features, id, {});
      if (!lock || ::mkdir(inside.c_str(), 0700) != 0) ++clashes;
      ::rmdir(inside.c_str());
    }
    return clashes;
  };
  for (const bool shared : {true, false}) {
    CAPTURE(shared);
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) std::_Exit(turns(shared) == 0 ? 0 : 1);
    int in_thread = 0;
    std::thread thread{[&] { in_thread = turns(shared); }};
    CHECK(turns(shared) == 0);
    thread.join();
    CHECK(in_thread == 0);
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
    CHECK((WIFEXITED(how) && WEXITSTATUS(how) == 0));
  }
}

TEST_CASE("the storage lock: whoever waits can be told to stop") {
  const Cluster cluster;
  REQUIRE(fs::create_directory(cluster.shared_lock()));
  const auto stops = [&](const OpenOptions& options, std::stop_source& stop, const Work& work) {
    Storage<Nfs> storage{id, Nfs{[] { return true; }}, options};
    std::thread person{[&] {
      std::this_thread::sleep_for(50ms);
      stop.request_stop();
    }};
    const auto begin = std::chrono::steady_clock::now();
    const auto removed = storage.remove(*VolumeName::parse("vm-1-disk-0"), {}, work);
    CHECK(removed.error().code() == Errc::cancelled);
    CHECK(std::chrono::steady_clock::now() - begin < 5s);
    person.join();
  };
  std::stop_source by_program;
  OpenOptions options = cluster.options(60s);
  options.stop = by_program.get_token();
  stops(options, by_program, {});
  std::stop_source by_locks;
  options = cluster.options(60s);
  options.locks->stop = by_locks.get_token();
  stops(options, by_locks, {});
  std::stop_source by_work;
  stops(cluster.options(60s), by_work, {by_work.get_token(), {}});
}

TEST_CASE("the storage lock: a folder that cannot be there is no reason to go on without") {
  OpenOptions options;
  options.locks = StorageLocks{.cluster = "/proc/none/lock", .host = "/proc/none", .wait = 100ms};
  Storage<Nfs> shared{id, Nfs{[] { return true; }}, options};
  Storage<Disk> alone{id, Disk{[] { return true; }}, options};
  CHECK(shared.create({.vmid = VmId{1}, .size = 1_MiB}).error().code() == Errc::unavailable);
  CHECK(alone.create({.vmid = VmId{1}, .size = 1_MiB}).error().code() == Errc::unavailable);
  CHECK(shared.list()->empty());
}

TEST_CASE("the storage lock: taken for a configuration in the cluster's folder, and for no other") {
  const Cluster cluster;
  const auto locks = storage_locks(cluster.folder() + "/storage.cfg", cluster.folder());
  CHECK(locks.cluster == cluster.folder() + "/priv/lock");
  CHECK(locks.host == "/var/lock/pve-manager");
  CHECK(storage_locks(cluster.folder() + "/storage.cfg", cluster.folder() + "/").cluster == locks.cluster);
  CHECK(locks.wait == 10s);
  CHECK(storage_locks(cluster.folder() + "/storage.cfg").cluster.empty());
  CHECK(storage_locks(cluster.folder() + "/gone.cfg", cluster.folder()).cluster.empty());
  CHECK(storage_locks("", cluster.folder()).host.empty());
  fs::create_directories(cluster.folder() + "/sub");
  std::ofstream{cluster.folder() + "/sub/storage.cfg"} << "";
  CHECK(storage_locks(cluster.folder() + "/sub/storage.cfg", cluster.folder()).cluster.empty());
  // By a link it is the same file.
  const std::string link = "/tmp/stowage-link-" + std::to_string(::getpid());
  fs::create_symlink(cluster.folder() + "/storage.cfg", link);
  CHECK(storage_locks(link, cluster.folder()).cluster == locks.cluster);
  fs::remove(link);
}
