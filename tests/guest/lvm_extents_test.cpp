// Where a thin volume has data, and what has become of it since a snapshot: as the pool's metadata say, which are let
// go again whatever happens.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/process/posix_runner.hpp>
#include <stowage/storage.hpp>
#include <stowage/transfer/copy.hpp>

#include <sys/sysmacros.h>
#include <unistd.h>
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/child.hpp"
#include "support/lvm_lab.hpp"

using namespace stowage;
using namespace stowage::testing;
using namespace std::chrono_literals;

namespace {

constexpr Bytes chunk = 64_KiB;
constexpr const char* pool_with_chunks = "-L 1G --chunksize 64k";

Bytes chunks(std::uint64_t count) { return Bytes{count * chunk.count}; }

/// So many chunks of data, or of what reads as zeros.
Extent data(std::uint64_t begin, std::uint64_t count) { return {chunks(begin), chunks(count), true}; }
Extent zeros(std::uint64_t begin, std::uint64_t count) { return {chunks(begin), chunks(count), false}; }

using Extents = std::vector<Extent>;

template <class Device>
void write(Device& device, std::uint64_t begin, std::uint64_t count, std::uint64_t seed = 1) {
  must(device.write_at(chunks(begin), pattern(seed + begin, chunks(count).count)));
}

/// What the kernel says of the pool's metadata snapshot: "-", or a number.
std::string held(const LvmLab& lab) {
  std::string root = sh("dmsetup status " + lab.vg() + "-pool-tpool | cut -d' ' -f7");
  root.pop_back();
  return root;
}

void pool_is_at_rest(const LvmLab& lab) {
  CHECK(held(lab) == "-");
  CHECK(lab.lvs("pool", "lv_tags").empty());
}

/// The real tools, and before each of them something that the test wants to happen.
class MeddledRunner {
 public:
  using Meddler = std::function<Result<void>(const Command&)>;

  MeddledRunner() = default;
  explicit MeddledRunner(Meddler meddle) : meddle_{std::move(meddle)} {}

  Result<CommandOutput> run(const Command& command) const {
    if (meddle_) {
      if (auto lives = meddle_(command); !lives) return fail(std::move(lives.error()));
    }
    return PosixRunner{}.run(command);
  }

 private:
  Meddler meddle_;
};

using MeddledLvm = BasicLvmThin<MeddledRunner>;

Storage<MeddledLvm> meddled(const LvmLab& lab, MeddledRunner::Meddler meddle) {
  const StorageId id = must(StorageId::parse("meddled"));
  return Storage<MeddledLvm>{id, must(MeddledLvm::open(id, lab.config, lab.options, MeddledRunner{std::move(meddle)}))};
}

/// How many bytes were read of a device since it was made.
Bytes read_of(const KernelDevice& device) {
  const std::string number = std::to_string(major(device.number())) + ":" + std::to_string(minor(device.number()));
  return Bytes{std::stoull(sh("awk '{print $3 * 512}' /sys/dev/block/" + number + "/stat"))};
}

template <class Device>
std::vector<std::byte> bytes_of(Device& device) {
  std::vector<std::byte> bytes(device.size().count);
  must(device.read_at(Bytes{}, bytes));
  return bytes;
}

/// Null: nothing is told of that place.
const Extent* extent_at(const Extents& extents, Bytes at) {
  const auto found = std::ranges::find_if(
      extents, [&](const Extent& one) { return one.offset <= at && at < one.offset + one.length; });
  return found == extents.end() ? nullptr : &*found;
}

/// A copy of the volume into a file; says what it read.
template <class Device>
Bytes copied(Device& device, const std::string& file) {
  sh("rm -f " + file + " && truncate -s " + std::to_string(device.size().count) + " " + file);
  auto to = must(UringQueue::open(file, Access::read_write, 16));
  const Bytes before = read_of(device);
  auto from = must(device.queue(16));
  const auto extents = detail::known_extents(device);
  must(copy_queues(from, to, must(extents), {.fresh = true}));
  return read_of(device) - before;
}

}  // namespace

TEST_CASE("the map of a thin volume is its pool's, and a copy reads no more than that") {
  const LvmLab lab{pool_with_chunks};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 64_MiB);
  const std::string file = "/tmp/copy-of-a-thin-volume";
  auto device = must(storage.open_volume(volume, Access::read_write));
  CHECK((must(device.extents()) == Extents{zeros(0, 1024)}));
  CHECK(copied(device, file) < 1_MiB);
  write(device, 5, 3);
  write(device, 100, 1);
  must(device.write_at(chunks(1024) - 4_KiB, pattern(9, 4096)));  // a chunk is mapped as a whole
  const Extents first{zeros(0, 5), data(5, 3), zeros(8, 92), data(100, 1), zeros(101, 922), data(1023, 1)};
  CHECK((must(device.extents()) == first));
  sh("yes | dd of=" + lab.device(volume.str()) + " bs=64k count=1 seek=50 iflag=fullblock conv=notrunc status=none");
  must(device.discard(chunks(6), chunk));
  const Extents all{zeros(0, 5), data(5, 1),    zeros(6, 1),  data(7, 1),      zeros(8, 42),
                    data(50, 1), zeros(51, 49), data(100, 1), zeros(101, 922), data(1023, 1)};
  CHECK((must(device.extents()) == all));  // what another had only in the page cache, too
  CHECK(copied(device, file) < 2_MiB);
  sh("cmp " + file + " " + lab.device(volume.str()));
  must(device.close());
  refused(device.extents(), Errc::invalid_argument);
  pool_is_at_rest(lab);
  // The same, as the tools say when nothing is in use.
  must(storage.deactivate());
  sh("lvchange -qq -y -ay " + lab.spec("pool_tmeta"));
  const std::string metadata = lab.device("pool_tmeta");
  CHECK(sh("thin_dump " + metadata + " | grep -o 'mapped_blocks=\"[0-9]*\"'") == "mapped_blocks=\"5\"\n");
  CHECK(sh("thin_dump " + metadata + " | grep -o 'origin_[a-z]*=\"[0-9]*\"' | tr -dc '0-9\\n' | tr '\\n' ' '") ==
        "5 7 50 100 1023 ");
  sh("thin_check " + metadata + " && lvchange -qq -an " + lab.spec("pool_tmeta"));
}

TEST_CASE("what may differ from a snapshot, exactly, there and back again") {
  const LvmLab lab{pool_with_chunks};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 64_MiB);
  {
    auto device = must(storage.open_volume(volume, Access::read_write));
    write(device, 5, 6);
    write(device, 100, 4);
    must(device.flush());
    must(storage.snapshot(volume, s1));
    CHECK(must(device.changes_since(s1)).empty());
    write(device, 6, 2, 2);
    must(device.write_at(chunks(9) + 4_KiB, pattern(2, 4096)));
    must(device.discard(chunks(101), chunks(2)));
    write(device, 103, 1, 2);
    write(device, 1000, 24);
    const Extents changes{data(6, 2), data(9, 1), zeros(101, 2), data(103, 1), data(1000, 24)};
    CHECK((must(device.changes_since(s1)) == changes));
    must(device.flush());
    must(storage.snapshot(volume, s2));
    CHECK(must(device.changes_since(s2)).empty());
    auto later = must(storage.open_volume(volume, s2));
    CHECK((must(later.changes_since(s1)) == changes));
    CHECK((must(later.extents()) == must(device.extents())));
    must(storage.resize(volume, 72_MiB));
    write(device, 1024, 1);
    CHECK((must(device.changes_since(s2)) == Extents{data(1024, 1)}));
    CHECK(must(device.extents()).back() == zeros(1025, 127));
    refused(device.changes_since(snapshot_name("s3")), Errc::not_found);
  }
  pool_is_at_rest(lab);
  must(storage.rollback(volume, s1));
  auto device = must(storage.open_volume(volume, Access::read_only));
  CHECK(must(device.changes_since(s1)).empty());
  const Extents back{data(6, 2), data(9, 1), data(101, 3), zeros(1000, 24)};
  CHECK((must(device.changes_since(s2)) == back));
}

TEST_CASE("whatever was written and discarded, no change is missed, and no hole holds data") {
  const LvmLab lab{pool_with_chunks};
  auto storage = lab.storage();
  const VolumeName volume = make(storage);  // of 128 chunks
  auto device = must(storage.open_volume(volume, Access::read_write));
  std::mt19937 random{20};
  for (const char* name : {"r1", "r2", "r3"}) {
    INFO("since " << name);
    const SnapshotName before = snapshot_name(name);
    must(device.flush());
    must(storage.snapshot(volume, before));
    for (int n = 0; n < 12; ++n) {
      const std::uint64_t at = random() % 120;
      switch (random() % 3) {
        case 0: write(device, at, 1 + random() % 8, random()); break;
        case 1: must(device.write_at(chunks(at) + 8_KiB, pattern(random(), 4096))); break;
        default: must(device.discard(chunks(at), chunks(1 + random() % 8)));
      }
    }
    auto snapshot = must(storage.open_volume(volume, before));
    const auto then = bytes_of(snapshot);
    const auto now = bytes_of(device);
    const Extents changes = must(device.changes_since(before));
    const Extents map = must(device.extents());
    const std::vector<std::byte> nothing(chunk.count);
    std::string wrong;
    for (std::uint64_t n = 0; n < 128; ++n) {
      const std::byte* here = &now[chunks(n).count];
      const bool zero = std::memcmp(here, nothing.data(), nothing.size()) == 0;
      const bool same = std::memcmp(here, &then[chunks(n).count], chunk.count) == 0;
      const Extent* change = extent_at(changes, chunks(n));
      const Extent* place = extent_at(map, chunks(n));
      if (change == nullptr && !same) wrong += " missed " + std::to_string(n);
      if (change != nullptr && !change->allocated && !zero) wrong += " not zero " + std::to_string(n);
      if (place == nullptr || (!place->allocated && !zero)) wrong += " no hole " + std::to_string(n);
    }
    CHECK(wrong.empty());
    CHECK_FALSE(changes.empty());
  }
}

TEST_CASE("child reads the metadata", "[.child]") {
  LvmThinConfig config;
  config.vgname = Child::told();
  config.thinpool = "pool";
  const StorageId id = must(StorageId::parse("child"));
  const MeddledRunner hanging{[](const Command& command) -> Result<void> {
    if (command.argv[0] == "/usr/sbin/thin_dump") {
      Child::ready();
      ::pause();
    }
    return {};
  }};
  Storage<MeddledLvm> storage{id, must(MeddledLvm::open(id, config, {}, hanging))};
  auto device = must(storage.open_volume(volume_name("vm-990000101-disk-0"), Access::read_only));
  static_cast<void>(device.extents());
}

TEST_CASE("who dies while the metadata are held still is cleaned up after") {
  const LvmLab lab{pool_with_chunks};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 64_MiB);
  auto device = must(storage.open_volume(volume, Access::read_write));
  write(device, 5, 1);
  const Extents mapped{zeros(0, 5), data(5, 1), zeros(6, 1018)};
  {
    Child child{"child reads the metadata", lab.vg()};
    REQUIRE(child.is_ready());
    CHECK(held(lab) != "-");
    CHECK(must(storage.recover()).done.empty());  // it lives
    REQUIRE(must(storage.check()).size() == 1);
    auto waiting = std::async(std::launch::async, [&] { return device.extents(); });
    CHECK(waiting.wait_for(1s) == std::future_status::timeout);
    write(device, 6, 1);
    child.kill();
    CHECK((must(waiting.get()) == Extents{zeros(0, 5), data(5, 2), zeros(7, 1017)}));  // of now, not of then
    pool_is_at_rest(lab);
  }
  must(device.discard(chunks(6), chunk));
  {
    Child child{"child reads the metadata", lab.vg()};
    REQUIRE(child.is_ready());
  }
  CHECK(held(lab) != "-");
  CHECK(must(storage.recover()).done.size() == 1);
  pool_is_at_rest(lab);
  CHECK(must(storage.check()).empty());
  CHECK((must(device.extents()) == mapped));
  // Each step can be the last.
  for (int steps = 0;; ++steps) {
    INFO("death behind step " << steps);
    REQUIRE(steps < 10);
    auto left = std::make_shared<int>(steps);
    auto dying = meddled(lab, [left](const Command& command) -> Result<void> {
      if (command.argv[0] == "/sbin/lvs" || --*left >= 0) return {};
      return fail(Errc::timed_out, "the program died before it could run this");
    });
    auto other = must(dying.open_volume(volume, Access::read_only));
    const bool finished = other.extents().has_value();
    CHECK(finished == (*left >= 0));
    if (steps % 2 == 0) static_cast<void>(must(storage.recover()));
    CHECK((must(device.extents()) == mapped));
    pool_is_at_rest(lab);
    if (!finished) continue;
    CHECK(steps == 5);  // mark, take, read, release, unmark
    break;
  }
}

TEST_CASE("a metadata snapshot of another program is neither read nor released, and a copy does without") {
  const LvmLab lab{pool_with_chunks};
  auto storage = lab.storage();
  const VolumeName volume = make(storage, 16_MiB);
  auto device = must(storage.open_volume(volume, Access::read_write));
  write(device, 5, 1);
  const std::string tell = "dmsetup message " + lab.vg() + "-pool-tpool 0 ";
  sh(tell + "reserve_metadata_snap");
  const std::string theirs = held(lab);
  write(device, 20, 1);
  CHECK(says(refusal_of(device.extents(), Errc::in_use), "another program"));
  CHECK(must(storage.recover()).done.empty());
  REQUIRE(must(storage.check()).size() == 1);
  CHECK(must(storage.check())[0].advice.find("release_metadata_snap") != std::string::npos);
  CHECK(copied(device, "/tmp/copy-of-a-thin-volume") >= 16_MiB);
  sh("cmp /tmp/copy-of-a-thin-volume " + lab.device(volume.str()));
  CHECK(held(lab) == theirs);
  CHECK(lab.lvs("pool", "lv_tags").empty());
  sh(tell + "release_metadata_snap");

  // One that takes ours away, and then its own.
  auto robbed = meddled(lab, [&](const Command& command) -> Result<void> {
    if (command.argv[0] == "/usr/sbin/thin_dump") {
      sh(tell + "release_metadata_snap");
      write(device, 40, 1);
      sh(tell + "reserve_metadata_snap");
    }
    return {};
  });
  refused(must(robbed.open_volume(volume, Access::read_only)).extents(), Errc::conflict);
  CHECK(held(lab) != "-");
  CHECK(lab.lvs("pool", "lv_tags").empty());
  sh(tell + "release_metadata_snap");

  // Two of ours take turns.
  const VolumeName second = make(storage, 16_MiB);
  auto other = must(storage.open_volume(second, Access::read_write));
  write(other, 7, 1);
  auto one = std::async(std::launch::async, [&] { return device.extents(); });
  CHECK((must(other.extents()) == Extents{zeros(0, 7), data(7, 1), zeros(8, 248)}));
  CHECK(must(one.get()).size() == 7);

  // What is not in the volume's own map may be in its external origin.
  sh("lvcreate -qq -y -an -Zn -Wn -pr -n outside -L 8M " + lab.vg());
  sh("lvcreate -qq -y -s --thinpool " + lab.spec("pool") + " -n vm-990000101-disk-9 " + lab.spec("outside"));
  auto outside = must(storage.open_volume(volume_name("vm-990000101-disk-9"), Access::read_only));
  CHECK((must(outside.extents()) == Extents{data(0, 128)}));
  pool_is_at_rest(lab);
  CHECK(must(storage.check()).empty());
}
