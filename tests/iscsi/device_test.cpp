// Bytes on real LUNs, and that other clients of the target see the same.

#include <sys/stat.h>
#include <algorithm>
#include <thread>

#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const VolumeName lun1 = *VolumeName::parse("lun1");
const VolumeName lun2 = *VolumeName::parse("lun2");

std::uint64_t allocated(const std::string& file) {
  struct ::stat about {};
  REQUIRE(::stat(file.c_str(), &about) == 0);
  return static_cast<std::uint64_t>(about.st_blocks) * 512;
}

}  // namespace

TEST_CASE("QEMU reads what we write, and we read what QEMU writes") {
  const Server server = Server::shared("iscsi");
  San storage = san(server);
  const std::string url = must(storage.path(lun2));
  auto device = must(storage.open_volume(lun2, Access::read_write));
  const std::vector<std::byte> ours(1 << 20, std::byte{0x5a});
  must(device.write_at(3_MiB, ours));
  must(device.flush());
  static_cast<void>(output_of("qemu-io -f raw -c 'read -P 0x5a 3M 1M' '" + url + "' | grep -v 'verification failed'"));

  static_cast<void>(output_of("qemu-io -f raw -c 'write -P 0xa5 3M 64k' -c flush '" + url + "'"));
  const auto seen = read_back(device, 3_MiB, ours.size());
  CHECK(std::all_of(seen.begin(), seen.begin() + 65536, [](std::byte b) { return b == std::byte{0xa5}; }));
  CHECK(std::equal(seen.begin() + 65536, seen.end(), ours.begin() + 65536));
  must(device.close());

  const std::string json = must(storage.blockdev(lun2)).to_json();
  static_cast<void>(output_of("qemu-io -r 'json:{\"driver\":\"raw\",\"file\":" + json +
                              "}' -c 'read -P 0xa5 3M 64k' -c 'read -P 0x5a 3136k 64k'"));
}

TEST_CASE("QEMU opens a LUN by an IPv6 portal, with brackets or without") {
  const Server server = Server::shared("iscsi");
  const std::string portals = server["PORTALS"];
  const std::string port = portals.substr(portals.rfind(':') + 1);
  REQUIRE(portals.ends_with(" [::1]:" + port));
  for (const std::string& portal : {"[::1]:" + port, "::1." + port}) {
    CAPTURE(portal);
    San storage = san(portal, server["IQN1"]);
    CHECK(must(storage.list()).size() == 4);
    const std::string json = must(storage.blockdev(lun2)).to_json();
    for (const std::string& name : {must(storage.path(lun2)), "json:{\"driver\":\"raw\",\"file\":" + json + "}"}) {
      CHECK(output_of("qemu-img info -U '" + name + "'").find("(134217728 bytes)") != std::string::npos);
    }
  }
}

TEST_CASE("requests of all sizes, at all places") {
  const Server server = Server::shared("iscsi");
  auto device = must(san(server).open_volume(lun1, Access::read_write));
  // around the pieces that a request is split into: 256 KiB, 8 at a time
  for (const std::size_t length :
       {512UL, 4096UL, 262144UL - 512, 262144UL, 262144UL + 512, 8 * 262144UL, 9 * 262144UL + 1024, 20UL << 20U}) {
    for (const Bytes at : {Bytes{}, 512_B, 1_MiB + 512_B}) {
      CAPTURE(length, at.count);
      const auto data = pattern(length + at.count, length);
      must(device.write_at(at, data));
      REQUIRE((read_back(device, at, length) == data));
    }
  }
  must(device.read_at(Bytes{}, {}));
  must(device.write_at(device.size(), {}));
}

TEST_CASE("discard gives space of a thin LUN back, and it reads as zeros", "[own]") {
  const Server server = Server::own_target("thin", "--luns 1 --thin");
  auto device = must(san(server).open_volume(lun1, Access::read_write));
  const std::string image = server.folder() + "/t1-lun1.img";
  const auto data = pattern(1, 16 << 20);
  must(device.write_at(Bytes{}, data));
  must(device.flush());
  CHECK(allocated(image) >= data.size());
  must(device.discard(4_MiB, 8_MiB));
  CHECK(allocated(image) <= data.size() - (8U << 20U));
  CHECK(all_zero(read_back(device, 4_MiB, 8 << 20)));
  CHECK(std::ranges::equal(read_back(device, Bytes{}, 4 << 20), std::span{data}.first(4 << 20)));
  CHECK(std::ranges::equal(read_back(device, 12_MiB, 4 << 20), std::span{data}.last(4 << 20)));

  must(device.write_zeroes(512_B, Bytes{(1 << 20) - 1024}));
  CHECK(all_zero(read_back(device, 512_B, (1 << 20) - 1024)));
  CHECK(std::ranges::equal(read_back(device, Bytes{}, 512), std::span{data}.first(512)));
  CHECK(std::ranges::equal(read_back(device, 1_MiB - 512_B, 512), std::span{data}.subspan((1 << 20) - 512, 512)));
  must(device.discard(Bytes{}, device.size()));
  CHECK(allocated(image) == 0);
}

TEST_CASE("a LUN that is not thin is zeroed by WRITE SAME, and a discard does nothing") {
  const Server server = Server::shared("iscsi-4k");
  auto device = must(san(server).open_volume(lun2, Access::read_write));
  const auto data = pattern(2, 24 << 20);
  must(device.write_at(1_MiB, data));
  must(device.discard(1_MiB, 1_MiB));
  CHECK(std::ranges::equal(read_back(device, 1_MiB, 1 << 20), std::span{data}.first(1 << 20)));
  must(device.write_zeroes(1_MiB + 4_KiB, 20_MiB));
  CHECK(std::ranges::equal(read_back(device, 1_MiB, 4096), std::span{data}.first(4096)));
  CHECK(all_zero(read_back(device, 1_MiB + 4_KiB, 20 << 20)));
  CHECK(std::ranges::equal(read_back(device, 21_MiB + 4_KiB, 4096), std::span{data}.subspan((20 << 20) + 4096, 4096)));
  refused(device.write_at(512_B, std::span{data}.first(4096)), Errc::invalid_argument);
}

TEST_CASE("a write-protected LUN is read, and not opened for writing") {
  const Server server = Server::shared("iscsi");
  San storage = san(server);
  refused(storage.open_volume(volume_name("lun4"), Access::read_write), Errc::permission_denied);
  auto device = must(storage.open_volume(volume_name("lun4"), Access::read_only));
  CHECK(all_zero(read_back(device, Bytes{}, 4096)));
  must(device.flush());
  must(device.close());
}

TEST_CASE("a LUN that is removed under an open device is not found", "[own]") {
  const Server server = Server::own_target("gone", "--luns 2");
  auto device = must(san(server).open_volume(lun1, Access::read_write));
  remove_lun(server, 1, 1);
  std::vector<std::byte> buffer(4096);
  refused_within(patience, Errc::not_found, [&] { return device.read_at(Bytes{}, buffer); });
  refused_within(patience, Errc::not_found, [&] { return device.write_at(Bytes{}, buffer); });
}

TEST_CASE("another LUN in the place of an open one is not read, and above all not written", "[own]") {
  const Server server = Server::own_target("swap", "--luns 1");
  San storage = san(server);
  auto device = must(storage.open_volume(lun1, Access::read_write));
  const std::string before = device.identity();
  const auto data = pattern(3, 4096);
  must(device.write_at(Bytes{}, data));
  std::vector<std::byte> buffer(4096);

  SECTION("while the session stands") {
    remove_lun(server, 1, 1);
    add_lun(server, 1, 1, "64M", "c1");
    std::this_thread::sleep_for(1s);  // tgt says nothing, and it is asked once a second
  }
  SECTION("of another size, while the target was away") {
    server.command("kill");
    static_cast<void>(output_of("truncate -s 65M " + server.folder() + "/t1-lun1.img"));
    server.command("up");
  }
  SECTION("of another identity, while the target was away") {
    server.command("kill");
    server.command("up");
    remove_lun(server, 1, 1);
    add_lun(server, 1, 1, "64M", "c1");
  }
  const Error error = refusal_within(patience, Errc::identity_changed, [&] { return device.write_at(Bytes{}, data); });
  CHECK(error.detail().find(before) != std::string::npos);
  refused_within(patience, Errc::identity_changed, [&] { return device.read_at(Bytes{}, buffer); });
  must(storage.info(lun1));
}
