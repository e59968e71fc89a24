// Clusters that are not as they should be: each fault has its own error, within a bounded time.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "support/queue_model.hpp"
#include "support/rbd_lab.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::elapsed;
using testing::guest;
using testing::must;
using testing::RbdLab;
using testing::refusal_of;
using testing::refused;
using testing::Server;
using testing::snapshot_name;
using testing::volume_name;

namespace {

bool says(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

Portal portal(const std::string& text) { return must(Portal::parse(text)); }

/// A cluster that is reached from outside, with the key of `keyring`.
void from_outside(RbdLab& lab, const std::string& keyring) {
  lab.config.monhost = {portal(lab.server()["MONHOST"])};
  if (!keyring.empty()) lab.priv.copy(lab.server().folder() + "/" + keyring, "st.keyring");
}

}  // namespace

TEST_CASE("a key that the cluster refuses, no key, and a file that is none are told apart") {
  RbdLab lab;
  lab.options.timeout = 2s;
  from_outside(lab, "keyring");
  must(lab.open());

  lab.priv.write("st.keyring", "[client.admin]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleSBhdCBhbGw==\n");
  CHECK(elapsed([&] { refused(lab.open(), Errc::permission_denied); }) < 6s);
  const std::string wrong = testing::shell("ceph-authtool --gen-print-key");
  lab.priv.write("st.keyring", "[client.admin]\n\tkey = " + wrong);
  CHECK(elapsed([&] {
          const Error error = refusal_of(lab.open(), Errc::permission_denied);
          CHECK(says(error, "client.admin"));
          CHECK_FALSE(says(error, wrong.substr(0, 20)));
        }) < 6s);
  lab.priv.write("st.keyring", "not a keyring\n");
  refused(lab.open(), Errc::parse_failed);
  std::filesystem::remove(lab.priv.file("st.keyring"));
  CHECK(elapsed([&] { refused(lab.open(), Errc::permission_denied); }) < 6s);  // auth none, the cluster wants cephx

  lab.priv.copy(lab.server().folder() + "/keyring", "st.keyring");
  lab.config.username = "nobody";
  CHECK(elapsed([&] { refused(lab.open(), Errc::permission_denied); }) < 6s);
  lab.config.username = "admin";
  must(lab.open());
}

TEST_CASE("a user of this host's own cluster without a key is refused at once") {
  RbdLab lab;
  lab.config.username = "nobody";
  CHECK(elapsed([&] { refused(lab.open(), Errc::permission_denied); }) < 3s);
  lab.priv.write("st.keyring", "[client.nobody]\n\tkey = " + testing::shell("ceph-authtool --gen-print-key"));
  CHECK(elapsed([&] { refused(lab.open(), Errc::permission_denied); }) < 3s);
}

TEST_CASE("no such pool, data pool, namespace or conf") {
  RbdLab lab;
  const RbdConfig good = lab.config;
  lab.config.pool = "nopool";
  CHECK(says(refusal_of(lab.open(), Errc::not_found), "nopool"));
  lab.config = good;
  lab.config.data_pool = "nodata";
  CHECK(says(refusal_of(lab.open(), Errc::not_found), "nodata"));
  lab.config = good;
  lab.config.name_space = "nospace";
  CHECK(says(refusal_of(lab.open(), Errc::not_found), "nospace"));
  lab.config = good;
  lab.options.ceph_conf = "/nowhere/ceph.conf";
  CHECK(says(refusal_of(lab.open(), Errc::not_found), "/nowhere/ceph.conf"));
}

TEST_CASE("a user of one namespace is refused elsewhere, and may do everything there") {
  RbdLab lab;
  from_outside(lab, "tester.keyring");
  lab.config.username = "tester";
  const Error error = refusal_of(lab.open(), Errc::permission_denied);  // the namespace of this test is not his
  CHECK(says(error, "client.tester"));
  CHECK_FALSE(error.hint().empty());

  const std::string own = lab.config.name_space;
  lab.config.name_space = "ns";
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 4_MiB}));
  CHECK(must(storage.status()).active);
  must(storage.snapshot(volume, snapshot_name("s1")));
  must(storage.remove(volume, {.snapshots = true}));
  lab.config.name_space = own;
}

TEST_CASE("names taken, volumes and snapshots that are not there") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 1_MiB}));
  const SnapshotName s1 = snapshot_name("s1");
  refused(storage.create({.vmid = guest, .size = 1_MiB, .name = volume}), Errc::already_exists);
  must(storage.snapshot(volume, s1));
  refused(storage.snapshot(volume, s1), Errc::already_exists);
  refused(storage.clone(volume, s1, {.vmid = guest, .name = volume}), Errc::already_exists);
  refused(storage.clone(volume, snapshot_name("s9"), {.vmid = guest}), Errc::not_found);
  refused(storage.rollback(volume, snapshot_name("s9")), Errc::not_found);
  CHECK_FALSE(must(storage.info(volume)).incomplete());
  refused(storage.remove_snapshot(volume, snapshot_name("s9")), Errc::not_found);
  refused(storage.open_volume(volume, snapshot_name("s9")), Errc::not_found);
  const VolumeName missing = volume_name("vm-990000101-disk-77");
  refused(storage.info(missing), Errc::not_found);
  refused(storage.activate(missing), Errc::not_found);
  refused(storage.remove(missing), Errc::not_found);
  refused(storage.resize(missing, 1_GiB), Errc::not_found);
  refused(storage.flatten(missing), Errc::not_found);
  refused(storage.rename(missing, {.vmid = VmId{200}, .name = {}}), Errc::not_found);
  refused(storage.make_template(missing), Errc::not_found);
  for (const char* bad : {"vm-disk", "disk", "vm-100-a/b", "base-1-x/base-2-y/vm-3-z", "vm-100-a@s", "../vm-100-a"}) {
    refused(storage.info(volume_name(bad)), Errc::parse_failed);
  }
}

TEST_CASE("krbd hands out kernel devices, and says what this host lacks to map them") {
  RbdLab lab;
  lab.config.krbd = true;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 1_MiB}));
  const std::string path = "/dev/rbd-pve/" + lab.server()["FSID"] + "/" + lab.spec(volume.str());
  CHECK(must(storage.path(volume)) == path);
  CHECK(must(storage.path(volume, snapshot_name("s1"))) == path + "@s1");
  CHECK(storage.snapshot_method() == SnapshotMethod::storage);
  refused(storage.activate(volume_name("vm-990000101-disk-77")), Errc::not_found);
  const auto activated = storage.activate(volume);  // tests/guest/krbd_test.cpp has a kernel that can
  if (!activated) CHECK(activated.error().code() == Errc::unavailable);
  if (!activated) CHECK(says(activated.error(), "kernel module rbd"));
  must(storage.deactivate(volume));
  must(storage.remove(volume));
}

TEST_CASE("monitors that do not answer cost the deadline and no more") {
  RbdLab lab;
  lab.options.timeout = 2s;
  lab.config.monhost = {portal("127.0.0.1:9")};
  CHECK(elapsed([&] {
          const Error error = refusal_of(lab.open(), Errc::unavailable);
          CHECK(says(error, "127.0.0.1:9"));
        }) < 3s);
}

TEST_CASE("a cluster loses monitors and OSDs, and gets them back", "[own]") {
  RbdLab lab{Server::own_cluster("faults", "--set 'mon osd down out interval = 600'"), RbdLab::Where::whole_pool};
  lab.options.timeout = 3s;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  must(storage.snapshot(volume, snapshot_name("s1")));
  auto device = must(storage.open_volume(volume, Access::read_write));
  const std::vector<std::byte> data = testing::pattern(1, 65536);
  must(device.write_at(Bytes{0}, data));

  // Without a manager there are no numbers, and zero is none.
  const Status status = must(storage.status());
  CHECK(status.active);
  CHECK_FALSE(status.total);
  CHECK_FALSE(status.used);
  REQUIRE(status.health.size() == 1);
  CHECK(status.health.front().find("ceph-mgr") != std::string::npos);

  SECTION("monitors down") {
    lab.server().command("kill", "mon.a");
    CHECK(elapsed([&] { refused(storage.status(), Errc::timed_out); }) < 7s);
    must(device.write_at(Bytes{65536}, data));  // the OSDs are there
    CHECK(must(storage.list()).size() == 1);
    lab.options.timeout = 2s;  // not the shared connection
    CHECK(elapsed([&] { refused(lab.open(), Errc::unavailable); }) < 5s);
    lab.server().command("up");
    lab.options.timeout = 10s;
    must(lab.open());
    must(device.close());
  }

  SECTION("OSD down, then up") {
    lab.server().command("kill", "osd.0");
    std::vector<std::byte> buffer(65536);
    CHECK(elapsed([&] { refused(device.read_at(Bytes{0}, buffer), Errc::timed_out); }) < 6s);
    CHECK(elapsed([&] { refused(device.write_at(Bytes{0}, data), Errc::outcome_unknown); }) < 8s);
    CHECK(elapsed([&] { refused(storage.list(), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.info(volume), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.activate(), Errc::unavailable); }) < 8s);
    CHECK(elapsed([&] {
            refused(storage.create({.vmid = guest, .size = 1_MiB, .name = volume_name("vm-990000101-x")}),
                    Errc::outcome_unknown);
          }) < 8s);
    // These look before they change anything, and see nothing.
    const SnapshotName s1 = snapshot_name("s1");
    CHECK(elapsed([&] { refused(storage.snapshot(volume, snapshot_name("s2")), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.remove_snapshot(volume, s1), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.rollback(volume, s1), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.resize(volume, 16_MiB), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.flatten(volume), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.make_template(volume), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.remove(volume, {.snapshots = true}), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.open_volume(volume, Access::read_write), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(storage.open_volume(volume, Access::read_only), Errc::timed_out); }) < 8s);
    CHECK(elapsed([&] { refused(device.close(), Errc::outcome_unknown); }) < 8s);
    lab.server().command("up");
    bool back = false;
    for (int round = 0; round < 40 && !back; ++round) {
      back = storage.activate().has_value();
      if (!back) std::this_thread::sleep_for(250ms);
    }
    REQUIRE(back);
    auto again = must(storage.open_volume(volume, Access::read_only));
    must(again.read_at(Bytes{0}, buffer));
    CHECK(buffer == data);
    // What gave up has not gone on behind our back.
    CHECK_FALSE(must(storage.info(volume)).incomplete());
    CHECK(must(storage.info(volume)).size == 8_MiB);
    CHECK(must(storage.snapshots(volume)).size() == 1);
  }
}

TEST_CASE("a cluster says that it is nearly full, then that it is full, and what makes room is done all the same",
          "[own]") {
  RbdLab lab{Server::own_cluster("full", "--mgr --set 'mon osd full ratio = 0.9'"), RbdLab::Where::whole_pool};
  lab.options.timeout = 3s;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  const VolumeName other = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(other, Access::read_write));
  must(storage.remove(must(storage.create({.vmid = guest, .size = 8_MiB}))));  // there is a trash now
  lab.config.name_space = "ns";                                                // where there is none
  auto tidy = lab.storage();
  const VolumeName first = must(tidy.create({.vmid = guest, .size = 8_MiB}));
  lab.config.name_space.clear();
  lab.server().command("wait");
  CHECK(must(storage.status()).available.has_value());
  CHECK(must(storage.status()).health.empty());
  const auto comes_to_say = [&](const std::string& expected) {
    for (int round = 0; round < 60; ++round) {
      for (const std::string& text : must(storage.status()).health) {
        if (text.find(expected) != std::string::npos) return text.ends_with(expected);
      }
      std::this_thread::sleep_for(500ms);
    }
    return false;
  };
  lab.ceph("osd set-nearfull-ratio 0.001");
  CHECK(comes_to_say("is nearly full"));
  must(storage.snapshot(volume, snapshot_name("s1")));
  lab.ceph("osd set-backfillfull-ratio 0.002");
  CHECK(comes_to_say("is nearly full: the cluster cannot repair itself"));
  lab.ceph("osd set-full-ratio 0.003");
  CHECK(comes_to_say("is full: writes block"));

  CHECK(elapsed([&] {
          refused(storage.create({.vmid = guest, .size = 8_MiB, .name = volume_name("vm-990000101-x")}),
                  Errc::no_space);
        }) < 5s);
  CHECK(elapsed([&] {
          const Error error = refusal_of(device.write_at(Bytes{}, testing::pattern(1, 65536)), Errc::no_space);
          CHECK(says(error, "the cluster is full"));
          auto queue = must(device.queue(1));
          const testing::PageBuffer memory{4096};
          const ::iovec buffer = memory.iov();
          CHECK(testing::perform(queue, testing::write_request(4_MiB, {&buffer, 1})) == -ENOSPC);
        }) < 5s);
  CHECK(must(storage.list()).size() == 2);
  CHECK(elapsed([&] { must(storage.remove_snapshot(volume, snapshot_name("s1"))); }) < 5s);
  CHECK(elapsed([&] { must(storage.remove(volume)); }) < 5s);
  CHECK(elapsed([&] { refused(tidy.remove(first), Errc::no_space); }) < 5s);
  CHECK(must(tidy.list()).size() == 1);
  CHECK(elapsed([&] { must(device.close()); }) < 5s);
  CHECK(must(storage.list()).size() == 1);
  lab.ceph("osd set-full-ratio 0.95");
  lab.ceph("osd set-backfillfull-ratio 0.94");
  lab.ceph("osd set-nearfull-ratio 0.93");
  Result<VolumeName> created = fail(Errc::no_space, "not tried yet");
  for (int round = 0; round < 60 && !created; ++round) {
    created = storage.create({.vmid = guest, .size = 8_MiB});
    if (!created) std::this_thread::sleep_for(500ms);
  }
  must(std::move(created));
  must(tidy.remove(first));
}

TEST_CASE("numbers of the pool that the data goes to, and its quota") {
  RbdLab lab;
  lab.config.data_pool = "data";
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(Bytes{0}, testing::pattern(1, 8U << 20U)));
  must(device.close());
  Status status;
  for (int round = 0; round < 60; ++round) {  // the mgr counts every second
    status = must(storage.status());
    if (status.used && *status.used >= 8_MiB) break;
    std::this_thread::sleep_for(500ms);
  }
  REQUIRE((status.used && status.available && status.total));
  CHECK(*status.used >= 8_MiB);
  CHECK(*status.total == *status.used + *status.available);
  CHECK(status.health.empty());
  lab.ceph("osd pool set-quota data max_bytes 9000000");
  std::string health;
  for (int round = 0; round < 20 && health.empty(); ++round) {
    for (const std::string& text : must(storage.status()).health) health += text;
    if (health.empty()) std::this_thread::sleep_for(250ms);
  }
  CHECK(health.find("quota") != std::string::npos);
  lab.ceph("osd pool set-quota data max_bytes 0");
}
