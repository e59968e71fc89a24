// Images as devices of the kernel, on a kernel that is made of files, with an `rbd` that is a script.

#include <catch2/catch.hpp>

#include <stowage/backends/detail/rbd_kernel.hpp>
#include <stowage/testing/fake_runner.hpp>
#include <stowage/testing/laws/bench.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

using namespace stowage;
using namespace std::chrono_literals;
using detail::KrbdDevice;
using detail::KrbdIdentity;
using testing::FakeRunner;
using testing::must;
using testing::refusal_of;
using testing::refused;

namespace {

namespace fs = std::filesystem;

const std::string ours = "11111111-2222-3333-4444-555555555555";
const std::string theirs = "99999999-2222-3333-4444-555555555555";
const KrbdIdentity image{ours, "rbd", "", "vm-100-disk-0", ""};

/// /sys, /dev and /proc in a folder of the test's own.
class FakeKernel {
 public:
  FakeKernel() {
    static std::atomic<int> number{0};
    root_ = "/tmp/stowage-krbd-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
    tree = {root_ + "/sys", root_ + "/dev", root_ + "/proc", [](const std::string& node) {
              std::string line;
              std::getline(std::ifstream{node} >> std::ws, line);
              return line == "file" ? std::string{} : line;
            }};
    for (const std::string& folder : {tree.dev, tree.proc, tree.sys + "/devices/rbd"}) fs::create_directories(folder);
    write(tree.sys + "/bus/rbd/add", "");
    options.timeout = 100ms;
  }
  FakeKernel(const FakeKernel&) = delete;
  FakeKernel& operator=(const FakeKernel&) = delete;
  ~FakeKernel() { fs::remove_all(root_); }

  static void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path{path}.parent_path());
    std::ofstream{path} << text;
  }
  static void link(const std::string& path, const std::string& to) {
    fs::create_directories(fs::path{path}.parent_path());
    fs::create_symlink(to, path);
  }

  std::string folder(int number) const { return tree.sys + "/devices/rbd/" + std::to_string(number); }
  std::string node(int number) const { return tree.dev + "/rbd" + std::to_string(number); }

  void map(int number, const KrbdIdentity& what, const std::string& id = "abc1") const {
    const auto attribute = [&](const char* name, const std::string& text) {
      write(folder(number) + "/" + name, text + "\n");
    };
    attribute("cluster_fsid", what.fsid);
    attribute("pool", what.pool);
    attribute("pool_ns", what.name_space);
    attribute("name", what.image);
    attribute("image_id", id);
    attribute("current_snap", what.snapshot.empty() ? "-" : what.snapshot);
    attribute("pool_id", what.pool == "rbd" ? "2" : "3");
    write(node(number), "252:" + std::to_string(number * 16) + "\n");
    write(tree.sys + "/block/rbd" + std::to_string(number) + "/dev", "252:" + std::to_string(number * 16) + "\n");
  }
  void unmap(int number) const {
    fs::remove_all(folder(number));
    fs::remove(node(number));
  }

  detail::KernelTree tree;
  OpenOptions options;

 private:
  std::string root_;
};

KrbdIdentity with(KrbdIdentity identity, std::string KrbdIdentity::*part, std::string text) {
  identity.*part = std::move(text);
  return identity;
}

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

const detail::RbdAccess managed{.conf = "/etc/pve/ceph.conf", .keyring = {}, .user = "admin", .monhost = {}};

Result<void> unmap_all(const FakeRunner& runner, const FakeKernel& kernel, const KrbdIdentity& what,
                       detail::KrbdScope scope = detail::KrbdScope::one) {
  return detail::krbd_unmap_all(runner, kernel.tree, detail::krbd_find(kernel.tree, what, scope), kernel.options);
}

std::vector<std::string> unmap_argv(const std::string& node) {
  return {"/usr/bin/rbd", "-c", "/dev/null", "--no-mon-config", "unmap", node};
}

}  // namespace

TEST_CASE("krbd: a mapping is found by its whole identity") {
  const FakeKernel kernel;
  CHECK(detail::krbd_find(kernel.tree, image).empty());
  kernel.map(0, with(image, &KrbdIdentity::fsid, theirs));  // the same names in another cluster
  kernel.map(1, with(image, &KrbdIdentity::pool, "rbd2"));
  kernel.map(2, with(image, &KrbdIdentity::name_space, "ns"));
  kernel.map(3, with(image, &KrbdIdentity::image, "vm-100-disk-01"));
  kernel.map(4, with(image, &KrbdIdentity::snapshot, "s1"));
  FakeKernel::write(kernel.tree.sys + "/devices/rbd/uevent", "");
  FakeKernel::write(kernel.tree.sys + "/devices/rbd/power/control", "auto\n");
  FakeKernel::write(kernel.folder(5) + "/pool", "rbd\n");  // being removed: half of it is gone
  CHECK(detail::krbd_find(kernel.tree, image).empty());

  kernel.map(11, image);
  kernel.map(9, image);
  const std::vector<KrbdDevice> found = detail::krbd_find(kernel.tree, image);
  REQUIRE(found.size() == 2);
  CHECK(found[0].name() == "rbd9");
  CHECK(found[1].name() == "rbd11");
  CHECK(found[0].image_id == "abc1");
  CHECK(detail::krbd_find(kernel.tree, with(image, &KrbdIdentity::fsid, theirs)).front().number == 0);
  CHECK(detail::krbd_find(kernel.tree, with(image, &KrbdIdentity::name_space, "ns")).front().number == 2);
  CHECK(detail::krbd_find(kernel.tree, with(image, &KrbdIdentity::snapshot, "s1")).front().number == 4);
  CHECK(detail::krbd_find({"/nowhere", "/nowhere", "/nowhere"}, image).empty());
}

TEST_CASE("krbd: a link of udev's counts only when it leads to the very device") {
  const FakeKernel kernel;
  kernel.map(0, with(image, &KrbdIdentity::fsid, theirs));
  kernel.map(1, image);
  const KrbdDevice device = detail::krbd_find(kernel.tree, image).front();
  const std::string old_link = kernel.tree.dev + "/rbd/rbd/vm-100-disk-0";
  const std::string link = kernel.tree.dev + "/rbd-pve/" + ours + "/rbd/vm-100-disk-0";
  CHECK(must(detail::krbd_device_path(kernel.tree, device, image)) == kernel.node(1));
  FakeKernel::link(old_link, kernel.node(0));  // the other cluster was first
  CHECK(must(detail::krbd_device_path(kernel.tree, device, image)) == kernel.node(1));
  fs::remove(old_link);
  FakeKernel::link(old_link, "../../rbd1");
  CHECK(must(detail::krbd_device_path(kernel.tree, device, image)) == old_link);
  FakeKernel::link(link, kernel.node(7));  // what is left of an older mapping
  CHECK(must(detail::krbd_device_path(kernel.tree, device, image)) == old_link);
  fs::remove(link);
  FakeKernel::link(link, "../../../rbd1");
  CHECK(must(detail::krbd_device_path(kernel.tree, device, image)) == link);
  CHECK(must(detail::krbd_device_path(kernel.tree, device, with(image, &KrbdIdentity::image, "vm-100-new"))) ==
        kernel.node(1));  // what another host has renamed; the link has a name that a new image may get
  for (const char* there : {"", "file\n", "252:32\n"}) {
    fs::remove(kernel.node(1));
    if (*there != 0) FakeKernel::write(kernel.node(1), there);
    const Error error = refusal_of(detail::krbd_device_path(kernel.tree, device, image), Errc::unavailable);
    CHECK((says(error, "252:16") && says(error, "'" + kernel.node(1) + "' is ")));
  }

  const KrbdIdentity snapshot{ours, "p", "ns", "vm-1-a", "s1"};
  kernel.map(3, snapshot);
  const std::string deep = kernel.tree.dev + "/rbd-pve/" + ours + "/p/ns/vm-1-a@s1";
  FakeKernel::link(deep, kernel.node(3));
  CHECK(must(detail::krbd_device_path(kernel.tree, detail::krbd_find(kernel.tree, snapshot).front(), snapshot)) ==
        deep);
}

TEST_CASE("krbd: an older image or snapshot of the same name is not taken for the one that is meant") {
  const FakeKernel kernel;
  kernel.map(0, image, "old1");
  const KrbdDevice device = detail::krbd_find(kernel.tree, image).front();
  CHECK(detail::krbd_is_target(device, {"old1"}));
  const Error error = refusal_of(detail::krbd_is_target(device, {"new2"}), Errc::identity_changed);
  CHECK((says(error, "old1") && says(error, "new2") && says(error, "rbd0")));

  const KrbdIdentity snapshot = with(image, &KrbdIdentity::snapshot, "s1");
  kernel.map(1, snapshot, "old1");
  FakeKernel::write(kernel.folder(1) + "/snap_id", "4\n");
  const KrbdDevice other = detail::krbd_find(kernel.tree, snapshot).front();
  CHECK(detail::krbd_is_target(other, {"old1", "4"}));
  CHECK(says(refusal_of(detail::krbd_is_target(other, {"old1", "5"}), Errc::identity_changed), "snapshot id 4"));
  refused(detail::krbd_is_target(other, {"new2", "4"}), Errc::identity_changed);
}

TEST_CASE("krbd: a mapping is found by ids, whatever its names were") {
  const FakeKernel kernel;
  const detail::KrbdTarget target{"abc1", {}, "2"};
  const auto numbers = [&](const KrbdIdentity& names, const detail::KrbdTarget& wanted) {
    std::vector<std::uint64_t> all;
    for (const KrbdDevice& device : detail::krbd_find_target(kernel.tree, names, wanted)) all.push_back(device.number);
    return all;
  };
  using Numbers = std::vector<std::uint64_t>;
  kernel.map(0, image, "other");
  kernel.map(1, with(image, &KrbdIdentity::image, "vm-100-before"));
  kernel.map(2, with(image, &KrbdIdentity::fsid, theirs));
  kernel.map(3, with(image, &KrbdIdentity::pool, "rbd2"));
  kernel.map(4, with(image, &KrbdIdentity::name_space, "ns"));
  kernel.map(5, with(image, &KrbdIdentity::snapshot, "s1"));
  FakeKernel::write(kernel.folder(5) + "/snap_id", "4\n");
  CHECK(numbers(image, target) == Numbers{1});
  CHECK(numbers(image, {"abc1", "4", "2"}) == Numbers{5});
  CHECK(numbers(image, {"abc1", "5", "2"}).empty());
  CHECK(numbers(with(image, &KrbdIdentity::pool, "renamed"), target) == Numbers{1});
  CHECK(numbers(image, {"abc1", {}, {}}) == Numbers{1});  // the pool by its name
  CHECK(numbers(image, {{}, {}, "2"}) == Numbers{0});     // format 1: all by name
}

TEST_CASE("krbd: of the features only those go that the kernel lacks, and those that need them") {
  constexpr std::uint64_t layering = RBD_FEATURE_LAYERING;
  constexpr std::uint64_t lock = RBD_FEATURE_EXCLUSIVE_LOCK;
  constexpr std::uint64_t maps = RBD_FEATURE_OBJECT_MAP | RBD_FEATURE_FAST_DIFF;
  constexpr std::uint64_t deep = RBD_FEATURE_DEEP_FLATTEN;
  constexpr std::uint64_t journal = RBD_FEATURE_JOURNALING;
  constexpr std::uint64_t usual = layering | lock | maps | deep;
  constexpr std::uint64_t linux_6_1 = 0x1bf;
  CHECK(detail::krbd_unfit_features(usual, linux_6_1) == 0);
  CHECK(detail::krbd_unfit_features(usual | journal, linux_6_1) == journal);
  CHECK(detail::krbd_unfit_features(layering, layering) == 0);
  CHECK(detail::krbd_unfit_features(usual, layering | lock | RBD_FEATURE_STRIPINGV2) == (maps | deep));
  CHECK(detail::krbd_unfit_features(usual | journal, layering | maps | journal) == (lock | maps | deep | journal));
  CHECK(detail::krbd_unfit_features(usual, usual & ~std::uint64_t{RBD_FEATURE_OBJECT_MAP}) == maps);
  CHECK(detail::krbd_unfit_features(usual, ~std::uint64_t{0}) == 0);
  CHECK((detail::krbd_unfit_features(layering | RBD_FEATURE_MIGRATING, linux_6_1) & ~detail::rbd_switchable_features) ==
        RBD_FEATURE_MIGRATING);
  CHECK(detail::rbd_feature_names(usual) == "layering, exclusive-lock, object-map, fast-diff, deep-flatten");
  CHECK(detail::rbd_feature_names(RBD_FEATURE_NON_PRIMARY | std::uint64_t{1} << 40U) == "non-primary, feature 40");

  const FakeKernel kernel;
  CHECK(detail::krbd_supported_features(kernel.tree) == ~std::uint64_t{0});  // Linux before 4.13 does not say
  FakeKernel::write(kernel.tree.sys + "/bus/rbd/supported_features", "0x1bf\n");
  CHECK(detail::krbd_supported_features(kernel.tree) == 0x1bf);
}

TEST_CASE("krbd: the commands") {
  OpenOptions options;
  options.timeout = 10s;
  CHECK(detail::krbd_map_command(managed, image, options).argv ==
        std::vector<std::string>{"/usr/bin/rbd", "-c", "/etc/pve/ceph.conf", "-n", "client.admin",
                                 "--client_mount_timeout", "10", "map", "--pool", "rbd", "--image", "vm-100-disk-0",
                                 "-o", "mount_timeout=10"});
  CHECK(detail::krbd_map_command(managed, image, options).timeout == 15s);
  const auto of_snapshot = detail::krbd_map_command(managed, with(image, &KrbdIdentity::snapshot, "s1"), options).argv;
  CHECK(std::vector<std::string>(of_snapshot.end() - 6, of_snapshot.end()) ==
        std::vector<std::string>{"--image", "vm-100-disk-0", "--snap", "s1", "-o", "mount_timeout=10"});

  detail::RbdAccess external;
  external.external = true;
  external.user = "joe";
  external.monhost = {*Portal::parse("10.0.0.1"), *Portal::parse("[fd00::2]:6789")};
  external.keyring = "/etc/pve/priv/ceph/far.keyring";
  const KrbdIdentity deep = with(image, &KrbdIdentity::name_space, "ns");
  CHECK(detail::krbd_map_command(external, deep, options).argv ==
        std::vector<std::string>{"/usr/bin/rbd",
                                 "-c",
                                 "/dev/null",
                                 "-n",
                                 "client.joe",
                                 "--keyring",
                                 "/etc/pve/priv/ceph/far.keyring",
                                 "-m",
                                 "10.0.0.1,[fd00::2]:6789",
                                 "--auth_client_required",
                                 "cephx",
                                 "--client_mount_timeout",
                                 "10",
                                 "map",
                                 "--pool",
                                 "rbd",
                                 "--namespace",
                                 "ns",
                                 "--image",
                                 "vm-100-disk-0",
                                 "-o",
                                 "mount_timeout=10"});
  external.keyring.clear();
  external.monhost = {*Portal::parse("10.0.0.1:3300"), *Portal::parse("10.0.0.2:3300")};
  CHECK(detail::krbd_map_command(external, image, options).argv.back() == "mount_timeout=10,ms_mode=prefer-crc");
  const auto argv = detail::krbd_map_command(external, image, options).argv;
  CHECK(std::find(argv.begin(), argv.end(), "none") != argv.end());
  CHECK(detail::krbd_unmap_command("/dev/rbd7", options).argv == unmap_argv("/dev/rbd7"));
}

TEST_CASE("krbd: what the tool says becomes one line of an error") {
  CHECK(detail::krbd_words("rbd: sysfs write failed\n\nrbd: map failed: (110) Connection timed out\n") ==
        "sysfs write failed; map failed: (110) Connection timed out");
  CHECK(detail::krbd_words("2026-11-22T16:15:27 7fa6 0 monclient(hunting): authenticate timed out\n\nrbd: no\n") ==
        "no");
  CHECK(detail::krbd_words("one\ntwo\n\n") == "two");
  CHECK(detail::krbd_words(std::string("\x1b[31mred\x07\r\n\0", 12)) == "[31mred");
  CHECK(detail::krbd_words("").empty());
  CHECK(detail::krbd_words(std::string(1'000'000, 'x')).size() == 500);
  for (const auto& [status, code] : std::vector<std::pair<int, Errc>>{{ENOENT, Errc::not_found},
                                                                      {EACCES, Errc::permission_denied},
                                                                      {EBUSY, Errc::in_use},
                                                                      {ETIMEDOUT, Errc::unavailable},
                                                                      {EIO, Errc::unavailable},
                                                                      {1, Errc::command_failed},
                                                                      {139, Errc::command_failed}}) {
    INFO(status);
    const Error error = detail::krbd_tool_error(CommandOutput{.exit_code = status, .err = "why\n"}, "mapping 'x'");
    CHECK(error.code() == code);
    CHECK(error.detail() == "mapping 'x': why");
    CHECK(error.native().value() == status);
  }
  CHECK(says(detail::krbd_tool_error(CommandOutput{.exit_code = 139}, "mapping"), "exit status 139"));
}

TEST_CASE("krbd: whether an image was mapped is seen in sysfs, whatever rbd says") {
  const FakeKernel kernel;
  FakeRunner runner;
  const auto argv = detail::krbd_map_command(managed, image, kernel.options).argv;
  const auto map = [&] { return detail::krbd_map(runner, kernel.tree, managed, image, kernel.options); };
  SECTION("mapped") {
    runner.always(argv, [&](const Command&) {
      kernel.map(3, image);
      return CommandOutput{.out = "/dev/rbd3\n"};
    });
    const auto device = map();
    REQUIRE(device);
    CHECK(device->number == 3);
  }
  SECTION("mapped at the last moment, by a program that was killed for it") {
    runner.always(argv, [&](const Command&) -> Result<CommandOutput> {
      kernel.map(3, image);
      return fail(Errc::timed_out, "rbd did not end");
    });
    CHECK(map());
  }
  SECTION("hung") {
    runner.expect(argv, fail(Errc::timed_out, "rbd did not end"));
    CHECK(says(refusal_of(map(), Errc::timed_out), "rbd/vm-100-disk-0"));
  }
  SECTION("not mapped") {
    runner.expect(argv, CommandOutput{.exit_code = ETIMEDOUT, .err = "rbd: sysfs write failed\n"});
    const Error error = refusal_of(map(), Errc::unavailable);
    CHECK((says(error, "sysfs write failed") && says(error, "rbd/vm-100-disk-0")));
  }
  SECTION("not mapped, though it says so") {
    runner.expect(argv, CommandOutput{.out = "/dev/rbd3\n"});
    refused(map(), Errc::backend_failed);
  }
  SECTION("mapped, but that of another cluster") {
    runner.always(argv, [&](const Command&) {
      kernel.map(3, with(image, &KrbdIdentity::fsid, theirs));
      return CommandOutput{.out = "/dev/rbd3\n"};
    });
    refused(map(), Errc::backend_failed);
  }
  SECTION("no such program") {
    runner.expect(argv, fail(Error{Errc::unavailable, "no rbd"}.advise("install the package ceph-common")));
    CHECK(says(refusal_of(map(), Errc::unavailable), "ceph-common"));
  }
}

TEST_CASE("krbd: the module is loaded when it is not there, and its lack is told by its name") {
  const FakeKernel kernel;
  FakeRunner runner;
  CHECK(detail::krbd_load(runner, kernel.tree, kernel.options));
  fs::remove_all(kernel.tree.sys + "/bus/rbd");
  const std::vector<std::string> argv{"/sbin/modprobe", "rbd"};
  runner.expect(argv,
                CommandOutput{.exit_code = 1, .err = "modprobe: FATAL: Module rbd not found in /lib/modules/6\n"});
  const Error error = refusal_of(detail::krbd_load(runner, kernel.tree, kernel.options), Errc::unavailable);
  CHECK((says(error, "kernel module rbd") && says(error, "not found in /lib/modules/6")));
  runner.expect(argv);
  refused(detail::krbd_load(runner, kernel.tree, kernel.options), Errc::unavailable);
  runner.always(argv, [&](const Command&) {
    FakeKernel::write(kernel.tree.sys + "/bus/rbd/add", "");
    return CommandOutput{};
  });
  CHECK(detail::krbd_load(runner, kernel.tree, kernel.options));
}

TEST_CASE("krbd: one at a time maps an image, and images do not wait for each other") {
  const FakeKernel kernel;
  {
    const auto held = detail::krbd_lock(kernel.tree, image, kernel.options);
    REQUIRE(held);
    CHECK(detail::krbd_lock(kernel.tree, with(image, &KrbdIdentity::fsid, theirs), kernel.options));
    CHECK(detail::krbd_lock(kernel.tree, with(image, &KrbdIdentity::image, "vm-100-disk-1"), kernel.options));
    refused(detail::krbd_lock(kernel.tree, with(image, &KrbdIdentity::snapshot, "s1"), kernel.options),
            Errc::timed_out);
    CHECK(
        says(refusal_of(detail::krbd_lock(kernel.tree, image, kernel.options), Errc::timed_out), "rbd/vm-100-disk-0"));
    std::stop_source stop;
    stop.request_stop();
    OpenOptions stopped = kernel.options;
    stopped.stop = stop.get_token();
    refused(detail::krbd_lock(kernel.tree, image, stopped), Errc::cancelled);
  }
  CHECK(detail::krbd_lock(kernel.tree, image, kernel.options));
  fs::remove(kernel.tree.sys + "/bus/rbd/add");
  refused(detail::krbd_lock(kernel.tree, image, kernel.options), Errc::unavailable);
}

TEST_CASE("krbd: a mapped image waits for its node") {
  const FakeKernel kernel;
  kernel.map(0, image);
  const KrbdDevice device = detail::krbd_find(kernel.tree, image).front();
  CHECK(detail::krbd_wait_for_node(kernel.tree, device, kernel.options));
  fs::remove(kernel.node(0));
  CHECK(says(refusal_of(detail::krbd_wait_for_node(kernel.tree, device, kernel.options), Errc::timed_out),
             kernel.node(0)));
  FakeKernel::write(kernel.node(0), "252:16\n");  // of a device that went, and will be replaced
  refused(detail::krbd_wait_for_node(kernel.tree, device, kernel.options), Errc::unavailable);
  FakeKernel::write(kernel.node(0), "file\n");
  OpenOptions patient = kernel.options;
  patient.timeout = 60s;
  const Error error = refusal_of(detail::krbd_wait_for_node(kernel.tree, device, patient), Errc::unavailable);
  CHECK(says(error, "'" + kernel.node(0) + "' is something else"));
  kernel.unmap(0);
  refused(detail::krbd_wait_for_node(kernel.tree, device, patient), Errc::conflict);
}

TEST_CASE("krbd: unmapping asks nobody when nothing is mapped, and takes every mapping") {
  const FakeKernel kernel;
  FakeRunner runner;
  const auto unmap = [&] { return unmap_all(runner, kernel, image); };
  const auto obey = [&](int number) {
    runner.always(unmap_argv(kernel.node(number)), [&kernel, number](const Command&) {
      kernel.unmap(number);
      return CommandOutput{};
    });
  };
  kernel.map(0, with(image, &KrbdIdentity::fsid, theirs));
  CHECK(unmap());
  CHECK(runner.log().empty());

  kernel.map(1, image);
  kernel.map(2, image);
  obey(1);
  obey(2);
  CHECK(unmap());
  CHECK(runner.log().size() == 2);
  CHECK(detail::krbd_find(kernel.tree, image).empty());
  CHECK(fs::exists(kernel.folder(0)));

  SECTION("gone meanwhile") {
    kernel.map(1, image);
    runner.always(unmap_argv(kernel.node(1)), [&](const Command&) {
      kernel.unmap(1);
      return CommandOutput{.exit_code = EINVAL, .err = "rbd: not mapped\n"};
    });
    CHECK(unmap());
  }
  SECTION("gone, and its number is another image's") {
    kernel.map(1, image);
    runner.always(unmap_argv(kernel.node(1)), [&](const Command&) {
      kernel.map(1, with(image, &KrbdIdentity::image, "vm-101-disk-0"));
      return CommandOutput{};
    });
    CHECK(unmap());
  }
  SECTION("still there, though it says otherwise") {
    kernel.map(1, image);
    runner.always(unmap_argv(kernel.node(1)));
    refused(unmap(), Errc::backend_failed);
  }
  SECTION("it hangs") {
    kernel.map(1, image);
    runner.always(unmap_argv(kernel.node(1)), fail(Errc::timed_out, "rbd did not end"));
    CHECK(says(refusal_of(unmap(), Errc::timed_out), "rbd unmap -o force " + kernel.node(1)));
  }
  SECTION("it fails") {
    kernel.map(1, image);
    runner.always(unmap_argv(kernel.node(1)), CommandOutput{.exit_code = 30, .err = "Read-only file system\n"});
    CHECK(says(refusal_of(unmap(), Errc::command_failed), "Read-only file system"));
  }
}

TEST_CASE("krbd: what has no node is unmapped by its names, if these are of one mapping") {
  const FakeKernel kernel;
  FakeRunner runner;
  const KrbdIdentity deep{ours, "p", "ns", "vm-1-a", "s1"};
  const auto argv = [](std::vector<std::string> names) {
    names.insert(names.begin(), {"/usr/bin/rbd", "-c", "/dev/null", "--no-mon-config", "unmap", "--pool"});
    return names;
  };
  kernel.map(1, image);
  kernel.map(2, deep);
  FakeKernel::write(kernel.node(1), "file\n");
  fs::remove(kernel.node(2));
  runner.always(argv({"rbd", "--image", "vm-100-disk-0"}), [&](const Command&) {
    fs::remove_all(kernel.folder(1));
    return CommandOutput{};
  });
  runner.always(argv({"p", "--namespace", "ns", "--image", "vm-1-a", "--snap", "s1"}), [&](const Command&) {
    fs::remove_all(kernel.folder(2));
    return CommandOutput{};
  });
  CHECK(unmap_all(runner, kernel, image));
  CHECK(unmap_all(runner, kernel, deep));
  CHECK(runner.log().size() == 2);
  // The program takes the first of these names, of whichever cluster.
  kernel.map(0, with(image, &KrbdIdentity::fsid, theirs));
  kernel.map(1, image);
  FakeKernel::write(kernel.node(1), "252:0\n");
  CHECK(says(refusal_of(unmap_all(runner, kernel, image), Errc::unavailable), "unmapping '" + kernel.node(1)));
  CHECK(runner.log().size() == 2);
}

TEST_CASE("krbd: an image is unmapped alone or with its snapshots, a snapshot alone") {
  const FakeKernel kernel;
  FakeRunner runner;
  const KrbdIdentity s1 = with(image, &KrbdIdentity::snapshot, "s1");
  const KrbdIdentity s2 = with(image, &KrbdIdentity::snapshot, "s2");
  kernel.map(0, with(s1, &KrbdIdentity::fsid, theirs));
  kernel.map(1, s1);
  kernel.map(2, image);
  kernel.map(3, s2);
  kernel.map(4, with(s1, &KrbdIdentity::image, "vm-100-disk-1"));
  for (int number = 0; number < 5; ++number) {
    runner.always(unmap_argv(kernel.node(number)), [&kernel, number](const Command&) {
      kernel.unmap(number);
      return CommandOutput{};
    });
  }
  const auto left = [&] {
    std::vector<int> numbers;
    for (int number = 0; number < 5; ++number) {
      if (fs::exists(kernel.folder(number))) numbers.push_back(number);
    }
    return numbers;
  };
  SECTION("alone") {
    CHECK(unmap_all(runner, kernel, s1));
    CHECK(left() == std::vector<int>{0, 2, 3, 4});
    CHECK(unmap_all(runner, kernel, image));
    CHECK(left() == std::vector<int>{0, 3, 4});
  }
  SECTION("with its snapshots") {
    CHECK(unmap_all(runner, kernel, image, detail::KrbdScope::with_snapshots));
    CHECK(left() == std::vector<int>{0, 4});
  }
}

TEST_CASE("krbd: who uses a device is named") {
  const FakeKernel kernel;
  FakeRunner runner;
  kernel.map(1, image);
  runner.always(unmap_argv(kernel.node(1)), CommandOutput{.exit_code = EBUSY, .err = "rbd: unmap failed\n"});
  const auto busy = [&] { return refusal_of(unmap_all(runner, kernel, image), Errc::in_use); };
  CHECK(says(busy(), "'" + kernel.node(1) + "' is in use by: somebody"));
  const std::string block = kernel.tree.sys + "/block/";
  FakeKernel::write(block + "rbd1/holders/dm-3/x", "");
  FakeKernel::write(block + "dm-3/dm/name", "vg-data\n");
  FakeKernel::write(block + "dm-3/dm/uuid", "LVM-abc\n");
  FakeKernel::write(block + "rbd1/rbd1p1/partition", "1\n");
  FakeKernel::write(block + "rbd1/rbd1p1/dev", "252:17\n");
  FakeKernel::write(kernel.tree.proc + "/self/mountinfo", "36 22 252:17 / /srv/a rw - ext4 /dev/rbd1p1 rw\n");
  FakeKernel::write(kernel.tree.proc + "/77/comm", "qemu-system-x86\n");
  FakeKernel::link(kernel.tree.proc + "/77/fd/5", kernel.node(1));
  const auto asked = detail::krbd_check_all_unused(kernel.tree, detail::krbd_find(kernel.tree, image));
  CHECK(says(refusal_of(asked, Errc::in_use), "'" + kernel.node(1) + "' is in use by: LVM vg-data on rbd1"));
  CHECK(says(busy(), "in use by: LVM vg-data on rbd1, rbd1p1 mounted on /srv/a, process 77 (qemu-system-x86)"));
}
