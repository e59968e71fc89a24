// Full clones, streams and extent maps through the command line, on the real cluster; QEMU compares.

#include <catch2/catch.hpp>

#include <random>
#include <string>

#include "support/lab.hpp"
#include "support/stowctl.hpp"

using stowage::testing::json;
using stowage::testing::Run;
using stowage::testing::Server;
using stowage::testing::Stowctl;

namespace {

constexpr const char* guest = "7200";
constexpr std::uint64_t object = 4 << 20;

/// Three storages: `ceph` is the pool `rbd`, `second` the pool `other`; `split` is `ceph` with the data in `data`.
struct Ceph {
  Server server = Server::shared("ceph");
  Stowctl stowctl{"rbd: ceph\n\tmonhost " + server["MONHOST"] + "\n\tpool rbd\n\n" + "rbd: second\n\tmonhost " +
                  server["MONHOST"] + "\n\tpool other\n\n" + "rbd: split\n\tmonhost " + server["MONHOST"] +
                  "\n\tpool rbd\n\tdata-pool data\n"};

  Ceph() {
    for (const char* id : {"ceph", "second", "split"}) {
      const std::string key = stowctl.file(std::string{"priv/ceph/"} + id + ".keyring");
      std::filesystem::copy_file(server["KEYRING"], key);
    }
    sweep();
  }
  Ceph(const Ceph&) = delete;
  Ceph& operator=(const Ceph&) = delete;
  ~Ceph() { sweep(); }

  void sweep() const {
    for (const char* id : {"ceph", "second"}) {
      const Run listed = stowctl({"--json", "list", id, "--vmid", guest});
      if (listed.status != 0) continue;
      // clones before templates
      const json volumes = listed.document();
      for (auto volume = volumes.rbegin(); volume != volumes.rend(); ++volume) {
        stowctl({"free", (*volume)["volid"], "--snapshots"});
      }
    }
  }
  /// A raw stream, by way of stdin: 24 MiB, with data in the second object and at the very end.
  [[nodiscard]] std::string import() const {
    return stowctl.ask({"import", "ceph:vm-7200-disk-0", "raw", "-", "--size", "24M"}, image)["volid"];
  }
  [[nodiscard]] std::string exported(const std::string& volid) const {
    const Run run = stowctl({"export", volid, "raw", "-"});
    REQUIRE(run.status == 0);
    return run.out;
  }
  [[nodiscard]] bool same_for_qemu(const std::string& one, const std::string& other) const {
    const auto path = [&](const std::string& volid) {
      return "'" + stowctl.ask({"path", volid})["path"].get<std::string>() + "'";
    };
    const std::string command = "qemu-img compare -f raw -F raw " + path(one) + " " + path(other) + " >/dev/null 2>&1";
    return std::system(command.c_str()) == 0;  // NOLINT(concurrency-mt-unsafe)
  }

  static std::string made() {
    std::mt19937 random{7};
    std::string data(6 * object, '\0');
    for (std::size_t at = object; at < 2 * object; ++at) data[at] = static_cast<char>(random() & 0xFFU);
    data.back() = 'x';
    return data;
  }
  std::string image = made();
};

}  // namespace

TEST_CASE("stowctl on Ceph: an import writes no zeros, and extents tells where the data are") {
  const Ceph lab;
  const std::string volid = lab.import();
  const json expected{{{"offset", 0}, {"length", object}, {"allocated", false}},
                      {{"offset", object}, {"length", object}, {"allocated", true}},
                      {{"offset", 2 * object}, {"length", 3 * object}, {"allocated", false}},
                      {{"offset", 5 * object}, {"length", object}, {"allocated", true}}};
  CHECK(lab.stowctl.ask({"extents", volid}) == expected);
  CHECK(lab.stowctl({"extents", volid}).out.find(" 4194304 12582912") == std::string::npos);
  CHECK(lab.stowctl({"extents", volid}).out.find("8388608 12582912 no\n") != std::string::npos);
  CHECK((lab.exported(volid) == lab.image));
  lab.stowctl.ask({"snapshot", volid, "s1"});
  lab.stowctl.ask({"resize", volid, "32M"});
  CHECK(lab.stowctl.ask({"extents", volid, "--snapshot", "s1"}) == expected);
  CHECK(lab.stowctl.ask({"extents", volid}).back()["length"] == 2 * object);
  CHECK(lab.stowctl.refused(3, {"extents", "ceph:vm-7200-none"})["code"] == "not_found");
}

TEST_CASE("stowctl on Ceph: a full clone is an independent copy, also on another storage") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.import();
  stowctl.ask({"snapshot", volid, "s1"});
  CHECK(stowctl({"import", "ceph:vm-7200-other", "raw", "-", "--size", "24M"}, std::string(6 * object, 'y')).status ==
        0);

  const std::string beside = stowctl.ask({"clone", volid, guest, "--full"})["volid"];
  CHECK(beside == "ceph:vm-7200-disk-1");
  const std::string away = stowctl.ask(
      {"clone", volid, guest, "--snapshot", "s1", "--full", "--storage", "second", "--name", "vm-7200-copy"})["volid"];
  CHECK(away == "second:vm-7200-copy");
  CHECK(lab.same_for_qemu(volid, beside));
  CHECK(lab.same_for_qemu(volid, away));
  CHECK_FALSE(lab.same_for_qemu("ceph:vm-7200-other", away));
  CHECK(stowctl.ask({"extents", away}) == stowctl.ask({"extents", volid}));
  CHECK_FALSE(stowctl.ask({"info", beside}).contains("parent"));
  CHECK(stowctl.ask({"info", away})["state"] == "current");

  const json before = stowctl.ask({"list", "second", "--vmid", guest});
  CHECK(stowctl.refused(4, {"clone", volid, guest, "--full", "--storage", "second", "--name",
                            "vm-7200-copy"})["code"] == "already_exists");
  CHECK(stowctl.refused(2, {"clone", volid, guest, "--storage", "second"})["code"] == "invalid_argument");
  CHECK(stowctl.refused(3, {"clone", volid, guest, "--full", "--storage", "none"})["code"] == "not_found");
  CHECK(stowctl.refused(3, {"clone", volid, guest, "--full", "--snapshot", "none"})["code"] == "not_found");
  CHECK(stowctl.ask({"--dry-run", "clone", volid, guest, "--full", "--storage", "second"})["dry_run"] == true);
  CHECK(stowctl.ask({"list", "second", "--vmid", guest}) == before);
}

TEST_CASE("stowctl on Ceph: a linked clone is exported by its name, with what it has of its template") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string base = stowctl.ask({"template", lab.import()})["volid"];
  const std::string clone = stowctl.ask({"clone", base, guest})["volid"];
  REQUIRE(clone == "ceph:base-7200-disk-0/vm-7200-disk-1");
  CHECK((lab.exported(clone) == lab.image));
  // One block of its own.
  const std::string path = stowctl.ask({"path", clone})["path"];
  const std::string write = "qemu-io -f raw -c 'write -P 65 12M 64k' '" + path + "' >/dev/null 2>&1";
  REQUIRE(std::system(write.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  std::string expected = lab.image;
  expected.replace(3 * object, 65536, std::string(65536, 'A'));
  CHECK((lab.exported(clone) == expected));
  CHECK((lab.exported(base) == lab.image));
  const Run sized = stowctl({"export", clone, "raw+size", "-"});
  CHECK(sized.out.substr(0, 8) == std::string{"\x00\x00\x80\x01\x00\x00\x00\x00", 8});  // 24 MiB
  const std::string copy = stowctl.ask({"import", "second:vm-7200-disk-0", "raw+size", "-"}, sized.out)["volid"];
  CHECK(lab.same_for_qemu(clone, copy));
  stowctl({"free", clone});
}

TEST_CASE("stowctl on Ceph: imports and full clones into a storage with a data pool") {
  const Ceph lab;
  const Stowctl& stowctl = lab.stowctl;
  const std::string volid = lab.import();
  const std::string imported =
      stowctl.ask({"import", "split:vm-7200-split", "raw", "-", "--size", "24M"}, lab.image)["volid"];
  const std::string cloned = stowctl.ask({"clone", volid, guest, "--full", "--storage", "split"})["volid"];
  for (const std::string& made : {imported, cloned}) {
    CAPTURE(made);
    REQUIRE(made.starts_with("split:"));
    CHECK(lab.same_for_qemu(volid, made));
    CHECK(stowctl.ask({"extents", made}) == stowctl.ask({"extents", volid}));
    const std::string command = "timeout 30 rbd -c '" + lab.server["CONF"] + "' info --format json rbd/" +
                                made.substr(6) + R"( 2>/dev/null | grep -q '"data_pool":"data"')";
    CHECK(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  }
}
