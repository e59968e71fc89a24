// QEMU reads what we wrote and we read what QEMU wrote, by our path and by our blockdev, managed and from outside.

#include <catch2/catch.hpp>

#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

#include <string>
#include <vector>

#include "support/rbd_lab.hpp"

using namespace stowage;
using testing::guest;
using testing::must;
using testing::RbdLab;
using testing::snapshot_name;

namespace {

std::string quoted(const std::string& text) { return "'" + text + "'"; }

std::vector<std::byte> filled(int value, std::size_t size = 65536) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

std::vector<std::byte> read(RbdDevice device, Bytes at) {
  std::vector<std::byte> bytes(65536);
  must(device.read_at(at, bytes));
  return bytes;
}

/// An image as QEMU's programs take it: `-f raw` and the file string, or the object of `-blockdev`.
std::string by_path(const std::string& path) { return "-f raw " + quoted(path); }
std::string by_node(const Blockdev& node) { return quoted(R"(json:{"driver":"raw","file":)" + node.to_json() + "}"); }

/// `qemu-io` on the file string, and on the JSON object that `-blockdev` takes.
void both_ways(const RbdLab& lab) {
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    must(device.write_at(Bytes{0}, filled(0x11)));
    must(device.close());
  }
  const SnapshotName s1 = snapshot_name("s1");
  must(storage.snapshot(volume, s1));
  const std::string path = by_path(must(storage.path(volume)));
  const std::string node = by_node(must(storage.blockdev(volume)));
  INFO(path << "\n" << node);
  for (const std::string& file : {path, node}) {
    testing::shell("qemu-io -r -c 'read -P 0x11 0 64k' " + file + " 2>&1");
    const auto info = nlohmann::json::parse(testing::shell("qemu-img info --output json " + file));
    CHECK(info.at("virtual-size") == 8 << 20);
  }
  testing::shell("qemu-io -c 'write -P 0x22 1M 64k' " + path + " 2>&1");
  testing::shell("qemu-io -c 'write -P 0x33 2M 64k' " + node + " 2>&1");
  CHECK(read(must(storage.open_volume(volume, Access::read_only)), 1_MiB) == filled(0x22));
  CHECK(read(must(storage.open_volume(volume, Access::read_only)), 2_MiB) == filled(0x33));

  const std::string old_path = by_path(must(storage.path(volume, s1)));
  const std::string old_node = by_node(must(storage.blockdev(volume, s1)));
  for (const std::string& file : {old_path, old_node}) {
    INFO(file);
    testing::shell("qemu-io -r -c 'read -P 0x11 0 64k' -c 'read -P 0 1M 64k' " + file + " 2>&1");
  }
}

}  // namespace

TEST_CASE("QEMU opens our images by path and blockdev: this host's own cluster") {
  RbdLab lab;
  SECTION("without a keyring of the storage") { both_ways(lab); }
  SECTION("with one") {
    lab.priv.copy(lab.server().folder() + "/keyring", "st.keyring");
    both_ways(lab);
  }
}

TEST_CASE("QEMU opens our images by path and blockdev: a cluster named by its monitors") {
  RbdLab lab;
  lab.config.monhost = {must(Portal::parse(lab.server()["MONHOST"]))};
  lab.priv.copy(lab.server().folder() + "/keyring", "st.keyring");
  // As the configuration's hook writes it: QEMU's blockdev has no word for the keyring.
  lab.priv.write("st.conf", "[global]\n\tkeyring = " + lab.priv.file("st.keyring") + "\n\n");
  both_ways(lab);
}

TEST_CASE("QEMU opens our images by path and blockdev: a cluster without authentication", "[own]") {
  RbdLab lab{testing::Server::own_cluster("noauth", "--auth none"), RbdLab::Where::whole_pool};
  lab.config.monhost = {must(Portal::parse(lab.server()["MONHOST"]))};
  both_ways(lab);
}

TEST_CASE("a volume that QEMU has open is not opened for writing") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 8_MiB}));
  const std::string command = "qemu-io -f raw -c 'write 0 64k' -c 'sleep 4000' " + quoted(must(storage.path(volume)));
  std::thread qemu{[&] { testing::shell(command + " >/dev/null 2>&1"); }};
  bool refused = false;
  for (int round = 0; round < 30 && !refused; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
    if (lab.rbd("status " + lab.spec(volume.str())).find("watcher=") == std::string::npos) continue;
    const auto opened = storage.open_volume(volume, Access::read_write);
    refused = !opened && opened.error().code() == Errc::in_use;
  }
  CHECK(refused);
  must(storage.snapshot(volume, snapshot_name("s1")));  // QEMU takes it for us
  qemu.join();
  must(storage.open_volume(volume, Access::read_write));
}
