// Copies between files and real LUNs, and what other people's tools say of them.

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <stowage/io/kernel_extents.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/transfer/copy.hpp>
#include <thread>

#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const VolumeName lun1 = *VolumeName::parse("lun1");
const VolumeName lun2 = *VolumeName::parse("lun2");

/// A file of 64 MiB with data in a quarter of it.
std::string sparse_file(const std::string& folder, std::uint64_t seed) {
  std::string path = folder + "/image.raw";
  const Fd file{::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  REQUIRE(file);
  REQUIRE(::ftruncate(file.get(), 64 << 20) == 0);
  for (std::uint64_t n = 0; n < 16; ++n) {
    const auto data = pattern(seed + n, 1 << 20);
    const auto at = static_cast<::off_t>(((n * 7 + seed) % 32) * (2 << 20) + n * 4096);
    REQUIRE(::pwrite(file.get(), data.data(), data.size(), at) == static_cast<::ssize_t>(data.size()));
  }
  return path;
}

std::vector<Extent> extents_of(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  return must(file_extents(file.get()));
}

void same(const std::string& a, const std::string& b) {
  static_cast<void>(output_of("qemu-img compare -f raw -F raw '" + a + "' '" + b + "'"));
}

}  // namespace

TEST_CASE("a file is copied to a LUN and back, and QEMU finds them the same", "[own]") {
  const Server server = Server::own_target("copy", "--luns 2 --thin");
  San storage = san(server);
  const std::string file = sparse_file(server.folder(), 3);
  const std::string image = server.folder() + "/t1-lun1.img";
  {
    auto device = must(storage.open_volume(lun1, Access::read_write));
    auto to = must(device.queue(16));
    auto from = must(UringQueue::open(file, Access::read_only, 16));
    SECTION("a fresh LUN gets only the data") {
      const Copied copied = must(copy_queues(from, to, extents_of(file), {.fresh = true, .verify = true}));
      CHECK(copied.size == 64_MiB);
      CHECK(copied.written <= 18_MiB);
      CHECK(copied.skipped >= 46_MiB);
      struct ::stat about {};
      REQUIRE(::stat(image.c_str(), &about) == 0);
      CHECK(about.st_blocks * 512 <= 18 << 20);
    }
    SECTION("one that holds something gets zeros too") {
      must(device.write_at(Bytes{}, pattern(99, 64 << 20)));
      must(copy_queues(from, to, extents_of(file), {.verify = true}));
      struct ::stat about {};
      REQUIRE(::stat(image.c_str(), &about) == 0);
      CHECK(about.st_blocks * 512 <= 18 << 20);  // given back by WRITE SAME with UNMAP
    }
  }
  same(file, must(storage.path(lun1)));

  const std::string back = server.folder() + "/back.raw";
  static_cast<void>(output_of("truncate -s 64M " + back));
  auto device = must(storage.open_volume(lun1, Access::read_only));
  auto from = must(device.queue(16, 2));
  auto to = must(UringQueue::open(back, Access::read_write, 16));
  const Copied copied = must(copy_queues(from, to, must(device.extents()), {.fresh = true, .verify = true}));
  CHECK(copied.written <= 18_MiB);
  same(file, back);
}

TEST_CASE("a thin LUN tells where it has data, and one that cannot is data as a whole") {
  const Server server = Server::own_target("extents", "--luns 2 --thin --size 64");
  auto device = must(san(server).open_volume(lun1, Access::read_write));
  CHECK((must(device.extents()) == std::vector<Extent>{{Bytes{}, 64_MiB, false}}));
  for (std::uint64_t n = 0; n < 300; ++n) must(device.write_at(Bytes{n * 3 << 16U}, pattern(n, 65536)));
  const auto extents = must(device.extents());  // more than one answer holds
  REQUIRE(extents.size() == 600);
  bool good = true;
  for (std::uint64_t n = 0; n < 300; ++n) {
    good = good && extents[2 * n] == Extent{Bytes{n * 3 << 16U}, 64_KiB, true};
    good = good && !extents[2 * n + 1].allocated;
  }
  CHECK(good);
  must(device.discard(Bytes{}, 32_MiB));
  CHECK(must(device.extents()).size() == 601 - 2 * 171);
  server.command("kill");
  server.command("up");
  CHECK(must(device.extents()).size() == 601 - 2 * 171);  // over a new session

  auto thick = must(san(Server::shared("iscsi-4k")).open_volume(lun1, Access::read_only));
  CHECK((must(thick.extents()) == std::vector<Extent>{{Bytes{}, 64_MiB, true}}));
}

TEST_CASE("a LUN is copied to a larger one of another sector size") {
  const Server server = Server::own_target("copy-4k", "--luns 1 --block 4096");
  const Server other = Server::shared("iscsi");
  auto source = must(san(other).open_volume(lun1, Access::read_write));
  must(source.write_at(5_MiB + 512_B, pattern(5, 3 << 20)));
  must(source.flush());
  auto destination = must(san(server).open_volume(lun1, Access::read_write));
  must(copy(source, destination, {.verify = true}));
  same(must(san(other).path(lun1)), must(san(server).path(lun1)));
  auto smaller = must(san(other).open_volume(lun2, Access::read_only));
  refused(copy(smaller, destination), Errc::invalid_argument);  // 128 MiB onto 64
}

TEST_CASE("a copy outlives the death of its target, and says so when it does not come back", "[own]") {
  const Server server = Server::own_target("copy-killed", "--luns 1");
  const std::string file = sparse_file(server.folder(), 17);
  SECTION("it comes back") {
    San storage = san(server, {.timeout = 20s});
    auto device = must(storage.open_volume(lun1, Access::read_write));
    auto to = must(device.queue(8, 2));
    auto from = must(UringQueue::open(file, Access::read_only, 8));
    std::thread accident;
    struct Moment {
      const Server& server;
      std::thread& accident;
    } moment{server, accident};
    // in the middle, whatever the speed
    const CopyProgress progress{[](void* user, const CopyState& state) {
                                  auto& now = *static_cast<Moment*>(user);
                                  if (state.done < 20_MiB || now.accident.joinable()) return;
                                  now.accident = std::thread{[folder = now.server.folder()] {
                                    const std::string target = STOWAGE_TEST_LAB "/target ";
                                    static_cast<void>(std::system((target + "kill " + folder).c_str()));
                                    static_cast<void>(std::system((target + "up " + folder + " >/dev/null").c_str()));
                                  }};
                                },
                                &moment};
    const auto copied =
        copy_queues(from, to, {}, {.queue_depth = 8, .verify = true, .rate_limit = 100_MiB, .progress = progress});
    REQUIRE(accident.joinable());
    accident.join();
    must(copied);
    CHECK(to.trouble() != nullptr);
    same(file, must(storage.path(lun1)));
  }
  SECTION("it does not") {
    auto device = must(san(server, {.timeout = 700ms}).open_volume(lun1, Access::read_write));
    auto to = must(device.queue(8));
    auto from = must(UringQueue::open(file, Access::read_only, 8));
    server.command("kill");
    // The first writes were sent, for all that is known here.
    const Error error = refusal_within(5s, Errc::outcome_unknown, [&] { return copy_queues(from, to); });
    CHECK(error.detail().find("writing to the destination at ") == 0);
    CHECK(error.detail().find(server["PORTAL"]) != std::string::npos);
  }
}
