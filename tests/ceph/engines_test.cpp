// Copies between the engines: from the cluster to LUNs of a target and back. QEMU, which reads both, compares.

#include <catch2/catch.hpp>

#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <string>

#include "support/rbd_lab.hpp"
#include "support/stowctl.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::must;
using testing::pattern;
using testing::RbdLab;
using testing::Server;
using testing::Stowctl;
using testing::volume_name;

namespace {

void same(const std::string& one, const std::string& other) {
  static_cast<void>(testing::shell("qemu-img compare -f raw -F raw '" + one + "' '" + other + "'"));
}
std::string image_of(const RbdLab& lab, const VolumeName& volume) {
  return "rbd:" + lab.spec(volume.str()) + ":conf=" + lab.server()["CONF"];
}

Storage<IscsiDirect> san(const Server& server) {
  const IscsiDirectConfig config{must(Portal::parse(server["PORTAL"])), must(Iqn::parse(server["IQN1"]))};
  return must(
      Storage<IscsiDirect>::open(must(StorageId::parse("san")), config, {.timeout = 10s, .priv = "/nonexistent"}));
}

}  // namespace

TEST_CASE("an image is copied to a LUN, and the LUN to another image") {
  const Server server = Server::target_beside_ceph("engines", "--luns 1 --thin --size 24");
  RbdLab lab;
  auto ceph = lab.storage();
  auto target = san(server);
  const VolumeName lun = volume_name("lun1");
  const VolumeName image = must(ceph.create({.vmid = testing::guest, .size = 24_MiB}));
  auto source = must(ceph.open_volume(image, Access::read_write));
  must(source.write_at(3_MiB + 512_B, pattern(1, 2 << 20)));
  must(source.write_at(24_MiB - 512_B, pattern(2, 512)));
  must(source.flush());
  {
    auto device = must(target.open_volume(lun, Access::read_write));
    must(device.write_at(0_B, pattern(3, 24 << 20)));  // to be replaced, by zeros too
    SECTION("as devices") { CHECK(must(copy(source, device, {.verify = true})).size == 24_MiB); }
    SECTION("by queues, over two sessions") {
      auto from = must(source.queue(8));
      auto to = must(device.queue(8, 2));
      const CopyOptions options{.queue_depth = 8, .chunk = 256_KiB, .verify = true};
      CHECK(must(copy_queues(from, to, must(source.extents()), options)).size == 24_MiB);
    }
    must(device.close());
  }
  same(image_of(lab, image), must(target.path(lun)));

  auto device = must(target.open_volume(lun, Access::read_only));
  const VolumeName back = must(full_clone(device, ceph, {.vmid = testing::guest}, {.verify = true}));
  CHECK_FALSE(must(ceph.info(back)).incomplete());
  same(must(target.path(lun)), image_of(lab, back));
  same(image_of(lab, image), image_of(lab, back));
  Bytes allocated{};
  for (const Extent& extent : must(must(ceph.open_volume(back, Access::read_only)).extents())) {
    if (extent.allocated) allocated += extent.length;
  }
  CHECK(allocated <= 12_MiB);  // the holes of the image came through the LUN
}

TEST_CASE("stowctl: a full clone of a LUN on Ceph, and the copy of an image onto a LUN") {
  constexpr const char* guest = "7300";
  const Server cluster = Server::shared("ceph");
  const Server server = Server::target_beside_ceph("stowctl", "--luns 2 --size 8");
  const Stowctl stowctl{"rbd: ceph\n\tmonhost " + cluster["MONHOST"] + "\n\tpool rbd\n\n" +
                        "iscsidirect: san\n\tportal " + server["PORTAL"] + "\n\ttarget " + server["IQN1"] + "\n"};
  std::filesystem::copy_file(cluster["KEYRING"], stowctl.file("priv/ceph/ceph.keyring"));
  const auto sweep = [&] {
    for (const auto& volume : stowctl.ask({"list", "ceph", "--vmid", guest})) stowctl({"free", volume["volid"]});
  };
  const auto path = [&](const std::string& volid) { return stowctl.ask({"path", volid})["path"].get<std::string>(); };
  sweep();
  std::string data(8 << 20, '\0');
  for (std::size_t at = 1 << 20; at < 3 << 20; ++at) data[at] = static_cast<char>(at * 13 % 251);
  data.back() = 'x';
  stowctl.write("image", data);
  stowctl.ask({"--yes", "copy", stowctl.file("image"), "san:lun1", "--verify"});

  const std::string made = stowctl.ask({"clone", "san:lun1", guest, "--full", "--storage", "ceph"})["volid"];
  CHECK(made == "ceph:vm-7300-disk-0");
  CHECK(stowctl.ask({"info", made})["state"] == "current");
  same(path("san:lun1"), path(made));
  same(stowctl.file("image"), path(made));

  CHECK(stowctl.ask({"--yes", "copy", made, "san:lun2", "--verify"})["bytes"] == 8 << 20);
  same(path(made), path("san:lun2"));
  stowctl.ask({"copy", made, stowctl.file("back"), "--verify"});
  same(stowctl.file("back"), path(made));
  const auto sent = stowctl({"export", made, "raw", "-"});
  CHECK((sent.out == data));
  const std::string again =
      stowctl.ask({"import", "ceph:vm-7300-again", "raw", "-", "--size", "8M"}, sent.out)["volid"];
  same(path(made), path(again));
  CHECK(stowctl.refused(5, {"clone", made, guest, "--full", "--storage", "san"})["code"] == "not_supported");
  sweep();
}
