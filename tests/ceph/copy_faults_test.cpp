// Copies, imports and streams on a cluster that hangs, dies, comes back, is full, and that are stopped at any moment.
// What comes of it is right, or not there.

#include <catch2/catch.hpp>

#include <stowage/coro.hpp>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <stowage/transfer/stream.hpp>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <future>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "support/queue_model.hpp"
#include "support/rbd_lab.hpp"
#include "support/streams.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::CollectedBytes;
using testing::elapsed;
using testing::GivenBytes;
using testing::guest;
using testing::must;
using testing::PageBuffer;
using testing::pattern;
using testing::perform;
using testing::RbdLab;
using testing::refusal_of;
using testing::refused;
using testing::Server;
using testing::snapshot_name;
using testing::volume_name;

namespace {

using Data = std::vector<std::byte>;

Data content(Storage<Rbd>& storage, const VolumeName& volume) {
  auto device = must(storage.open_volume(volume, Access::read_only));
  Data data(static_cast<std::size_t>(device.size().count));
  must(device.read_at(0_B, data));
  return data;
}

/// A volume with data at its begin, and in places behind.
VolumeName filled(Storage<Rbd>& storage, Bytes size, Bytes full, std::uint64_t seed) {
  VolumeName volume = must(storage.create({.vmid = guest, .size = size}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(0_B, pattern(seed, static_cast<std::size_t>(full.count))));
  must(device.write_at(size - 64_KiB, pattern(seed + 1, 64 << 10)));
  must(device.close());
  return volume;
}

/// A raw+size stream of `data`.
Data stream_of(const Data& data) {
  Data all(8 + data.size());
  const auto size = stowage::detail::little_endian(data.size());
  std::copy(data.begin(), data.end(), std::copy(size.begin(), size.end(), all.begin()));
  return all;
}

/// Has something happen, once, when work has come to `at`.
struct Moment {
  std::uint64_t at = 0;
  std::function<void()> what{};
  std::optional<std::future<void>> happening{};

  void pass(std::uint64_t done) {
    if (done >= at && !happening) happening = std::async(std::launch::async, what);
  }
  CopyProgress of_copy() {
    return {[](void* user, const CopyState& state) { static_cast<Moment*>(user)->pass(state.done.count); }, this};
  }
  Progress of_work() {
    return {[](void* user, std::uint64_t done, std::uint64_t) { static_cast<Moment*>(user)->pass(done); }, this};
  }
  void finish() {
    REQUIRE(happening.has_value());
    happening->get();
    happening.reset();
  }
};

IoLoop<RbdQueue>::Task write_once(IoLoop<RbdQueue>& loop, Bytes at, const PageBuffer& memory,
                                  std::optional<Result<void>>& end) {
  const ::iovec buffer = memory.iov();
  const IoRequest write = testing::write_request(at, {&buffer, 1});
  end = co_await loop.io(write);
}

/// Of the shared pool `data`: it goes with the test, however that ends.
class Quota {
 public:
  explicit Quota(const RbdLab& lab) : lab_{lab} { lab_.ceph("osd pool set-quota data max_bytes 1000000"); }
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;
  ~Quota() {
    const std::string lift = "timeout 60 ceph -c " + lab_.server()["CONF"] + " osd pool set-quota data max_bytes 0";
    static_cast<void>(std::system((lift + " 2>/dev/null").c_str()));  // NOLINT(concurrency-mt-unsafe)
  }

 private:
  const RbdLab& lab_;
};

bool listed(Storage<Rbd>& storage, const VolumeName& volume) {
  for (const VolumeInfo& v : must(storage.list())) {
    if (v.name == volume) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a copy and a stream outlive an OSD that hangs or is started again, and end at their deadline without it",
          "[own]") {
  RbdLab lab{Server::own_cluster("copies", "--set 'mon osd down out interval = 600'"), RbdLab::Where::whole_pool};
  lab.options.timeout = 30s;
  auto storage = lab.storage();
  const VolumeName source = filled(storage, 40_MiB, 32_MiB, 5);
  const Data expected = content(storage, source);
  Moment moment{8 << 20};
  moment.what = [&] {
    lab.server().command("kill", "osd.0 STOP");
    std::this_thread::sleep_for(1s);
    lab.server().command("kill", "osd.0 CONT");
  };
  {
    auto from = must(storage.open_volume(source, Access::read_only));
    const auto made =
        full_clone(from, storage, {.vmid = guest},
                   {.chunk = 512_KiB, .verify = true, .rate_limit = 40_MiB, .progress = moment.of_copy()});
    moment.finish();
    CHECK((content(storage, must(made)) == expected));
  }

  // A stream from before to after, while the OSD dies and comes back.
  must(storage.snapshot(source, snapshot_name("s1")));
  CollectedBytes out;
  must(send_snapshot(storage, source, snapshot_name("s1"), out));
  moment.what = [&] {
    lab.server().command("kill", "osd.0");
    lab.server().command("up");
  };
  const VolumeName received = volume_name("vm-990000101-received");
  {
    GivenBytes in{out.data, 1 << 18};
    const auto got =
        receive_snapshot(storage, received, in, {.rate_limit = 40_MiB, .work = {.progress = moment.of_work()}});
    moment.finish();
    must(got);
    CHECK((content(storage, received) == expected));
  }

  // It stays away: an error in time, which says that writes may have been done; and then the same again is right.
  lab.options.timeout = 2s;
  auto hasty = lab.storage("hasty");
  moment.what = [&] { lab.server().command("kill", "osd.0"); };
  const VolumeName other = must(hasty.create({.vmid = guest, .size = 40_MiB}));
  auto from = must(hasty.open_volume(source, snapshot_name("s1")));
  auto to = must(hasty.open_volume(other, Access::read_write));
  {
    const auto took = elapsed([&] {
      const auto copied =
          copy(from, to, {.chunk = 512_KiB, .fresh = true, .rate_limit = 40_MiB, .progress = moment.of_copy()});
      moment.finish();
      REQUIRE_FALSE(copied);
      CAPTURE(copied.error().message());
      const Errc code = copied.error().code();
      CHECK((code == Errc::outcome_unknown || code == Errc::timed_out));  // a write, or a read
      CHECK((code == Errc::timed_out) == (copied.error().detail().find("reading") == 0));
    });
    CHECK(took < 10s);
    auto queue = must(to.queue(1));
    const PageBuffer memory{4096};
    std::optional<Result<void>> end;
    IoLoop<RbdQueue> loop{queue};
    write_once(loop, 0_B, memory, end);
    CHECK(elapsed([&] { must(loop.run(20s)); }) < 6s);
    refused(end.value(), Errc::outcome_unknown);
  }
  lab.server().command("up");
  bool back = false;
  for (int round = 0; round < 40 && !back; ++round) {
    back = storage.activate().has_value();
    if (!back) std::this_thread::sleep_for(250ms);
  }
  REQUIRE(back);
  must(copy(from, to, {.verify = true}));
  CHECK((content(storage, other) == expected));
  static_cast<void>(to.close());  // what the OSD missed may keep it longer than the deadline; then a thread goes on
  bool closed = false;
  for (int round = 0; round < 160 && !closed; ++round) {
    closed = storage.remove(other).has_value();
    if (!closed) std::this_thread::sleep_for(250ms);
  }
  CHECK(closed);
}

TEST_CASE("a pool whose quota is used up refuses writes, copies and imports at once, and nothing is left of them") {
  RbdLab lab;
  lab.config.data_pool = "data";
  lab.options.timeout = 10s;
  auto storage = lab.storage();
  const VolumeName source = filled(storage, 24_MiB, 8_MiB, 3);
  const Data expected = content(storage, source);
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 1_GiB}));
  auto device = must(storage.open_volume(volume, Access::read_write));
  std::optional<Quota> quota{lab};
  std::int64_t result = 0;
  {
    auto queue = must(device.queue(4));
    const PageBuffer memory{65536, std::byte{7}};
    const ::iovec buffer = memory.iov();
    // The mgr counts, the monitor looks at that every few seconds: a new object each time, until they have seen it.
    for (std::uint64_t n = 0; n < 120 && result >= 0; ++n) {
      const auto took = elapsed([&] {
        result = perform(queue, testing::write_request(Bytes{n * (4 << 20)}, {&buffer, 1}));
      });
      CHECK(took < 5s);
      if (result >= 0) std::this_thread::sleep_for(250ms);
    }
    CHECK(result == -EDQUOT);
    std::optional<Result<void>> end;
    {
      IoLoop<RbdQueue> loop{queue};
      write_once(loop, 600_MiB, memory, end);
      must(loop.run(20s));
    }
    refused(end.value(), Errc::no_space);
  }
  refused(device.write_at(700_MiB, pattern(1, 4096)), Errc::no_space);

  auto from = must(storage.open_volume(source, Access::read_only));
  const VolumeName clone = volume_name("vm-990000101-clone");
  const VolumeName import = volume_name("vm-990000101-import");
  const Data stream = stream_of(expected);
  const auto copied = [&] { return full_clone(from, storage, {.vmid = guest, .name = clone}); };
  const auto imported = [&] {
    GivenBytes in{stream, 1 << 18};
    return import_volume(storage, import, in);
  };
  CHECK(elapsed([&] { refused(copied(), Errc::no_space); }) < 8s);
  CHECK(elapsed([&] { refused(imported(), Errc::no_space); }) < 8s);
  CHECK_FALSE(listed(storage, clone));
  CHECK_FALSE(listed(storage, import));

  must(device.close());
  must(storage.remove(volume));  // which makes room
  quota.reset();
  bool made = false;
  for (int round = 0; round < 60 && !made; ++round) {
    made = copied().has_value();
    if (!made) std::this_thread::sleep_for(250ms);
  }
  REQUIRE(made);
  must(imported());
  CHECK((content(storage, clone) == expected));
  CHECK((content(storage, import) == expected));
}

namespace {

/// A stop at a random moment of some work: at a call for its progress, or after some time, whichever was drawn.
class RandomStop {
 public:
  RandomStop(std::mt19937& random, unsigned most_calls, std::chrono::microseconds most_time)
      : calls_{random() % 2 == 0 ? static_cast<unsigned>(1 + random() % most_calls) : ~0U} {
    const auto after = std::chrono::microseconds{static_cast<int>(random() % static_cast<unsigned>(most_time.count()))};
    if (calls_ == ~0U) {
      timer_ = std::jthread{[stop = stop_, after]() mutable {
        std::this_thread::sleep_for(after);
        stop.request_stop();
      }};
    }
  }
  std::stop_token token() const { return stop_.get_token(); }
  Work work() {
    return {.stop = token(),
            .progress = {[](void* user, auto, auto) { static_cast<RandomStop*>(user)->call(); }, this}};
  }

 private:
  void call() {
    if (--calls_ == 0) stop_.request_stop();
  }

  unsigned calls_;
  std::stop_source stop_;
  std::jthread timer_;
};

}  // namespace

TEST_CASE("clones and imports that are stopped at any moment are whole or not there, and can be made again") {
  RbdLab lab;
  auto storage = lab.storage();
  const VolumeName source = filled(storage, 16_MiB, 6_MiB, 9);
  const Data expected = content(storage, source);
  const Data stream = stream_of(expected);
  const VolumeName target = volume_name("vm-990000101-target");
  auto from = must(storage.open_volume(source, Access::read_only));
  const auto clone = [&](const Work& work) -> Result<VolumeName> {
    return full_clone(
        from, storage, {.vmid = guest, .name = target},
        {.queue_depth = 4, .chunk = 128_KiB, .progress = copy_progress(work.progress), .stop = work.stop});
  };
  const auto import = [&](const Work& work) -> Result<VolumeName> {
    GivenBytes in{stream, 1 << 17};
    return import_volume(storage, target, in, {.queue_depth = 4, .chunk = 128_KiB, .work = work})
        .map([](const Imported& made) { return made.volume; });
  };
  const std::uint32_t seed = std::random_device{}();
  std::mt19937 random{seed};
  unsigned stopped = 0;
  for (unsigned round = 0; round < 20; ++round) {
    CAPTURE(seed, round);
    RandomStop stop{random, 130, 400ms};
    const auto made = round % 2 == 0 ? clone(stop.work()) : import(stop.work());
    if (made) {
      CHECK((content(storage, target) == expected));
      must(storage.remove(target));
      continue;
    }
    ++stopped;
    refused(made, Errc::cancelled);
    CHECK_FALSE(listed(storage, target));
    must(round % 2 == 0 ? clone({}) : import({}));
    CHECK_FALSE(must(storage.info(target)).incomplete());
    CHECK((content(storage, target) == expected));
    must(storage.remove(target));
  }
  CAPTURE(seed);
  CHECK(stopped > 0);
  CHECK(must(storage.list()).size() == 1);
}

TEST_CASE("streams of what has changed that are stopped at any moment, on either side, can be had again") {
  RbdLab lab;
  RbdLab other{Server::shared("ceph"), RbdLab::Where::name_space, "other"};
  auto from = lab.storage("from");
  auto to = other.storage("to");
  const SnapshotName s0 = snapshot_name("s0");
  const SnapshotName s1 = snapshot_name("s1");
  const VolumeName volume = filled(from, 16_MiB, 4_MiB, 9);
  const auto send = [&](const SnapshotName& snapshot, const SendOptions& options) -> Result<Data> {
    CollectedBytes out;
    auto sent = send_snapshot(from, volume, snapshot, out, options);
    if (!sent) return fail(std::move(sent.error()));
    return out.data;
  };
  const auto receive = [&](const Data& data, const ReceiveOptions& options) {
    GivenBytes in{data, 1 << 16};
    return receive_snapshot(to, volume, in, options);
  };
  must(from.snapshot(volume, s0));
  must(receive(must(send(s0, {})), {}));
  const Data before = content(to, volume);
  {
    auto device = must(from.open_volume(volume, Access::read_write));
    for (std::uint64_t n = 0; n < 12; ++n) {
      must(device.write_at(Bytes{n * 1'300 * 1024}, pattern(100 + n, 400 << 10)));
    }
    must(device.discard(2_MiB, 1_MiB));
    must(device.close());
  }
  must(from.snapshot(volume, s1));
  const Data expected = content(from, volume);
  const Data whole = must(send(s1, {.since = s0}));
  const std::uint32_t seed = std::random_device{}();
  std::mt19937 random{seed};
  unsigned stopped = 0;
  for (unsigned round = 0; round < 12; ++round) {
    CAPTURE(seed, round);
    {
      RandomStop stop{random, 16, 100ms};
      const auto sent = send(s1, {.since = s0, .work = stop.work()});
      if (sent) CHECK((*sent == whole));
      if (!sent) refused(sent, Errc::cancelled);
    }
    RandomStop stop{random, 16, 150ms};
    const auto got = receive(whole, {.rollback = true, .receipt_every = 1_MiB, .work = stop.work()});
    if (!got) {
      ++stopped;
      refused(got, Errc::cancelled);
      const bool looks_good = !must(to.info(volume)).incomplete();
      if (looks_good) CHECK((content(to, volume) == before));  // it had not begun
      CHECK(must(to.snapshots(volume)).size() == 1);
      must(receive(whole, {.rollback = true}));
    }
    CHECK_FALSE(must(to.info(volume)).incomplete());
    CHECK((content(to, volume) == expected));
    must(to.remove_snapshot(volume, s1));
    must(to.rollback(volume, s0));
    CHECK((content(to, volume) == before));
  }
  CAPTURE(seed);
  CHECK(stopped > 0);
}
