// Streams of snapshots, from one storage in memory to another.

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <random>
#include <stowage/any_storage.hpp>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/streams.hpp"

using namespace stowage;
using testing::CollectedBytes;
using testing::GivenBytes;
using testing::MemoryBackend;
using testing::MemoryQueue;
using testing::must;
using testing::pattern;
using testing::refusal_of;
using testing::refused;
using testing::snapshot_name;

namespace {

using Data = std::vector<std::byte>;
const VolumeName disk = *VolumeName::parse("vm-100-disk-0");

struct Lab {
  explicit Lab(MemoryBackend::Config config = {}) : memory{std::move(config)} {}

  void make(Bytes size) { must(storage.create({.vmid = VmId{100}, .size = size, .name = disk})); }
  void write(Bytes at, const Data& data) {
    auto device = must(storage.open_volume(disk, Access::read_write));
    must(device.write_at(at, data));
    must(device.close());
  }
  void clear(Bytes at, Bytes length) {
    auto device = must(storage.open_volume(disk, Access::read_write));
    must(device.discard(at, length));
    must(device.close());
  }
  void snapshot(const std::string& name) { must(storage.snapshot(disk, snapshot_name(name))); }
  Data content(Bytes size) {
    auto device = must(storage.open_volume(disk, Access::read_only));
    Data data(static_cast<std::size_t>(device.size().count));
    must(device.read_at(Bytes{}, data));
    CHECK(testing::all_zero(std::span{data}.subspan(static_cast<std::size_t>(size.count))));
    data.resize(static_cast<std::size_t>(size.count));
    return data;
  }
  Data stream(const std::string& target, const std::string& since = {}, Bytes begin = Bytes{}) {
    CollectedBytes out;
    SendOptions options{.begin = begin, .queue_depth = 4};
    if (!since.empty()) options.since = snapshot_name(since);
    must(send_snapshot(storage, disk, snapshot_name(target), out, options));
    return out.data;
  }
  Result<Received> receive(const Data& stream, ReceiveOptions options = {}) {
    options.queue_depth = queue_depth;
    GivenBytes in{stream};
    return receive_snapshot(storage, disk, in, options);
  }
  bool has(const std::string& name) {
    const auto all = storage.snapshots(disk);
    return all && std::ranges::any_of(*all, [&](const SnapshotInfo& s) { return s.name.str() == name; });
  }
  bool incomplete() { return must(storage.info(disk)).incomplete(); }

  MemoryBackend memory;
  Storage<MemoryBackend> storage{*StorageId::parse("mem"), memory};
  std::size_t queue_depth = 4;
};

/// A volume of 1 MiB with two snapshots, and what lies between them.
struct Pair {
  Pair() {
    from.make(1_MiB);
    from.write(Bytes{}, pattern(1, 300'032));
    from.write(512_KiB, pattern(2, 4096));
    from.snapshot("s1");
    first = from.content(1_MiB);
    from.write(64_KiB, pattern(3, 200'704));
    from.clear(512_KiB, 64_KiB);
    from.snapshot("s2");
    second = from.content(1_MiB);
    must(to.receive(from.stream("s1")));
  }
  Lab from, to;
  Data first, second;
};

}  // namespace

TEST_CASE("increment: all of a snapshot, then what has changed since, and back again") {
  Pair pair;
  CHECK(pair.to.has("s1"));
  CHECK_FALSE(pair.to.incomplete());
  CHECK((pair.to.content(1_MiB) == pair.first));
  const Data stream = pair.from.stream("s2", "s1");
  CHECK(stream.size() < 400'000);
  const Received got = must(pair.to.receive(stream));
  CHECK(got.snapshot == snapshot_name("s2"));
  CHECK(got.size == 1_MiB);
  CHECK(got.zeros == 64_KiB);
  CHECK((pair.to.content(1_MiB) == pair.second));
  CHECK(refusal_of(pair.to.receive(stream), Errc::already_exists).detail().find("stream brings") != std::string::npos);
  pair.to.write(Bytes{}, pattern(9, 4096));
  pair.to.snapshot("s3");
  must(pair.from.receive(pair.to.stream("s3", "s2")));
  CHECK((pair.from.content(1_MiB) == pair.to.content(1_MiB)));
  Lab third;  // and on
  must(third.receive(pair.to.stream("s2")));
  must(third.receive(pair.from.stream("s3", "s2")));
  CHECK((third.content(1_MiB) == pair.from.content(1_MiB)));
}

TEST_CASE("increment: a chain of random changes arrives on a storage with other blocks") {
  std::mt19937 random{5};
  const auto some = [&](std::uint64_t most) { return random() % most; };
  Lab from;
  Lab to{{.block_size = 4_KiB, .granule = 1_MiB}};
  Bytes size{3'000'320};
  from.make(size);
  size = must(from.storage.info(disk)).size;
  from.snapshot("s0");
  must(to.receive(from.stream("s0")));
  for (int step = 1; step <= 25; ++step) {
    for (auto changes = some(6); changes > 0; --changes) {
      const std::uint64_t at = some(size.count / 512 - 400);
      const Bytes length{(1 + some(399)) * 512};
      if (some(3) == 0) {
        from.clear(Bytes{at * 512}, length);
      } else {
        from.write(Bytes{at * 512}, some(4) == 0 ? Data(length.count) : pattern(random(), length.count));
      }
    }
    if (some(3) == 0) size = must(from.storage.resize(disk, size + Bytes{some(600) * 512}));
    const std::string before = "s" + std::to_string(step - 1);
    const std::string now = "s" + std::to_string(step);
    from.snapshot(now);
    const Received got = must(to.receive(from.stream(now, before)));
    CHECK(got.size == size);
    REQUIRE((to.content(size) == from.content(size)));
  }
}

TEST_CASE("increment: what is not in the stream stays as it is, also where new blocks are not zeroed") {
  std::mt19937 random{7};
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    Lab from;
    Lab to{{.unzeroed_block = round % 2 == 0 ? 256_KiB : 2_MiB}};
    const Bytes size = 4_MiB + Bytes{random() % 9 * 4096};
    from.make(size);
    const auto write_some = [&] {
      for (int n = 0; n < 4; ++n) {
        const Bytes at{random() % (size.count / 4096) * 4096};
        const std::size_t most = std::min<std::size_t>((size - at).count, 200 << 10U);
        from.write(at, pattern(random(), std::max<std::size_t>(random() % most / 4096 * 4096, 4096)));
      }
      from.clear(Bytes{random() % 60 * 65536}, 128_KiB);
    };
    write_some();
    from.snapshot("s1");
    const Data first = from.content(size);
    const Data whole = from.stream("s1");
    // Some of them are broken off, and taken up again.
    GivenBytes broken{.data = whole, .fails_at = round % 3 == 0 ? whole.size() / 2 : ~std::size_t{0}};
    const auto begun = receive_snapshot(to.storage, disk, broken, {.queue_depth = 4, .receipt_every = 4_KiB});
    if (!begun) must(to.receive(whole));
    CHECK((to.content(size) == first));
    write_some();
    from.snapshot("s2");
    must(to.receive(from.stream("s2", "s1")));
    CHECK((to.content(size) == from.content(size)));
  }
}

TEST_CASE("increment: chunks of many runs wait for each other's turn, and not for ever") {
  Lab from;
  from.make(16_MiB);
  Data data = pattern(1, 16 << 20);
  for (std::size_t at = 0; at < data.size(); at += 128 << 10)
    std::fill_n(data.begin() + static_cast<long>(at), 64 << 10, std::byte{});
  from.write(Bytes{}, data);
  from.snapshot("s1");
  Lab to;
  const Received got = must(to.receive(from.stream("s1")));
  CHECK(got.data == 8_MiB);
  CHECK((to.content(16_MiB) == data));
}

TEST_CASE("increment: only the very base will do") {
  Pair pair;
  const Data stream = pair.from.stream("s2", "s1");
  SECTION("another snapshot of that name") {
    Lab other;
    other.make(1_MiB);
    other.write(Bytes{}, pattern(1, 300'032));
    other.snapshot("s1");
    refused(other.receive(stream), Errc::identity_changed);
    refused(other.receive(stream, {.rollback = true}), Errc::identity_changed);
    CHECK_FALSE(other.incomplete());
  }
  SECTION("no such snapshot, no such volume") {
    Lab other;
    refused(other.receive(stream), Errc::not_found);
    other.make(1_MiB);
    refused(other.receive(stream), Errc::not_found);
    CHECK_FALSE(other.incomplete());
  }
  SECTION("written to since") {
    pair.to.write(1_MiB - 512_B, pattern(4, 512));
    refused(pair.to.receive(stream), Errc::conflict);
    CHECK_FALSE(pair.to.incomplete());
    CHECK((pair.to.content(1_MiB) != pair.first));
    must(pair.to.receive(stream, {.rollback = true}));
    CHECK((pair.to.content(1_MiB) == pair.second));
  }
  SECTION("all of it onto a volume that is there") {
    refused(pair.to.receive(pair.from.stream("s2")), Errc::already_exists);
    CHECK((pair.to.content(1_MiB) == pair.first));
  }
  SECTION("in the middle of something else") {
    must(pair.to.memory.interrupt(disk, "rollback"));
    refused(pair.to.receive(stream), Errc::wrong_state);
    must(pair.to.storage.recover());
    CHECK((pair.to.content(1_MiB) == pair.first));
  }
}

TEST_CASE("increment: what cannot be sent") {
  Pair pair;
  CollectedBytes out;
  const auto send = [&](const std::string& target, const SendOptions& options) {
    return send_snapshot(pair.from.storage, disk, snapshot_name(target), out, options);
  };
  refused(send("s7", {}), Errc::not_found);
  refused(send("s2", {.since = snapshot_name("s7")}), Errc::not_found);
  refused(send("s2", {.begin = 2_MiB}), Errc::invalid_argument);
  must(pair.from.storage.resize(disk, 2_MiB));
  pair.from.snapshot("s3");
  must(pair.from.storage.rollback(disk, snapshot_name("s1")));
  pair.from.snapshot("s4");
  refused(send("s4", {.since = snapshot_name("s3")}), Errc::wrong_state);
  must(pair.from.storage.remove(disk, {.snapshots = true}));
  refused(send("s1", {}), Errc::not_found);
  CHECK(out.data.empty());
}

TEST_CASE("increment: whatever byte is wrong, nothing is announced") {
  Lab from;
  from.make(4_KiB);
  from.write(Bytes{}, pattern(1, 4096));
  from.snapshot("s1");
  const Data first = from.content(4_KiB);
  from.write(2_KiB, pattern(2, 512));
  from.snapshot("s2");
  const Data whole = from.stream("s1");
  const Data stream = from.stream("s2", "s1");
  Lab to;
  to.queue_depth = 1;  // 1 MiB instead of 4 to be had each time, which sanitizers make dear
  must(to.receive(whole));
  const auto undone = [&] {
    CHECK_FALSE(to.has("s2"));
    if (to.incomplete()) must(to.storage.recover());
    return to.content(4_KiB) == first;
  };
  for (std::size_t at = 0; at < stream.size(); ++at) {
    Data wrong = stream;
    wrong[at] ^= std::byte(1U << (at % 8));
    const auto got = to.receive(wrong);
    INFO("byte " << at);
    REQUIRE_FALSE(got);
    const bool told = got.error().code() == Errc::corrupt || (at < 12 && got.error().code() == Errc::not_supported);
    REQUIRE(told);
    REQUIRE(undone());
  }
  for (std::size_t length = 0; length < stream.size(); ++length) {
    INFO("length " << length);
    const auto got = to.receive({stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length)});
    REQUIRE(refusal_of(got, Errc::corrupt).code() == Errc::corrupt);
    REQUIRE(undone());
  }
  Data longer = stream;
  longer.push_back(std::byte{});
  refused(to.receive(longer), Errc::corrupt);
  CHECK(undone());
  Lab fresh;
  for (std::size_t length = 0; length < whole.size(); length += 61) {
    INFO("length " << length);
    refused(fresh.receive({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)}), Errc::corrupt);
    REQUIRE(must(fresh.storage.list()).empty());
  }
  must(to.receive(stream));
  CHECK((to.content(4_KiB) == from.content(4_KiB)));
}

TEST_CASE("increment: an interrupted stream goes on where its receipt says") {
  std::mt19937 random{11};
  for (int round = 0; round < 60; ++round) {
    Pair pair;
    const bool whole = round % 2 == 0;
    Lab& to = pair.to;
    if (whole) must(to.storage.remove(disk, {.snapshots = true}));
    const std::string since = whole ? "" : "s1";
    const Data stream = pair.from.stream("s2", since);
    GivenBytes in{.data = stream, .fails_at = 1 + random() % (stream.size() - 1)};
    const ReceiveOptions often{.queue_depth = 2, .receipt_every = 4_KiB};
    const auto broken = receive_snapshot(to.storage, disk, in, often);
    CHECK(refusal_of(broken, Errc::unavailable).object() == "mem:vm-100-disk-0");
    CHECK_FALSE(to.has("s2"));
    const auto receipt = to.memory.receipt(disk);
    if (!receipt || !*receipt) {
      CHECK((receipt ? !whole : whole));  // it was not begun, or is gone
      must(to.receive(stream, often));
    } else {
      CHECK(to.incomplete());
      const Bytes done = (*receipt)->done;
      refused(to.receive(pair.from.stream("s1")), Errc::wrong_state);  // another stream
      if (done < 1_MiB - 4_KiB) {
        refused(to.receive(pair.from.stream("s2", since, done + 4_KiB), often), Errc::conflict);
      }
      const bool from_there = random() % 2 == 0;
      const Received got = must(to.receive(from_there ? pair.from.stream("s2", since, done) : stream, often));
      CHECK((got.skipped.count == 0) == (from_there || done == Bytes{}));
    }
    CHECK_FALSE(to.incomplete());
    REQUIRE((to.content(1_MiB) == pair.second));
  }
}

TEST_CASE("increment: whichever call fails, the next try makes it good") {
  for (unsigned after = 0; after < 60; ++after) {
    INFO("after " << after);
    Pair pair;
    const bool whole = after % 2 == 0;
    if (whole) must(pair.to.storage.remove(disk, {.snapshots = true}));
    const Data stream = pair.from.stream("s2", whole ? "" : "s1");
    pair.to.memory.fail_next(Errc::timed_out, after);
    const auto got = pair.to.receive(stream, {.receipt_every = 64_KiB});
    pair.to.memory.fail_next(Errc::timed_out, 1'000'000);
    if (!got) {
      CHECK(got.error().code() == Errc::timed_out);
      const auto info = pair.to.storage.info(disk);
      if (info && info->incomplete()) CHECK(must(pair.to.storage.recover({.dry_run = true})).busy.empty());
      if (info && info->intent == "import") must(pair.to.storage.recover());
      if (info && !info->incomplete() && !pair.to.has("s2")) CHECK((pair.to.content(1_MiB) == pair.first));
      if (!pair.to.has("s2") || pair.to.incomplete()) must(pair.to.receive(stream));
    } else {
      CHECK(after > 8);
    }
    CHECK_FALSE(pair.to.incomplete());
    REQUIRE((pair.to.content(1_MiB) == pair.second));
  }
}

TEST_CASE("increment: zeros of any length are written in parts that each end before their deadline") {
  struct Seen {
    MemoryQueue queue;
    std::vector<IoRequest> requests{};
    Submitted submit(const IoRequest& request) {
      requests.push_back(request);
      return queue.submit(request);
    }
    Result<std::size_t> reap(std::span<IoCompletion> out) { return queue.reap(out); }
    [[nodiscard]] Readiness ready() const { return queue.ready(); }
    [[nodiscard]] std::size_t in_flight() const { return queue.in_flight(); }
    [[nodiscard]] std::size_t depth() const { return queue.depth(); }
    [[nodiscard]] Bytes block_size() const { return queue.block_size(); }
    [[nodiscard]] Bytes size() const { return queue.size(); }
  };
  Lab lab;
  lab.make(1_GiB);
  auto device = must(lab.storage.open_volume(disk, Access::read_write));
  Seen seen{must(device.queue(2))};
  {
    stowage::detail::WriteBehind writes{seen, 2, {}};
    must(writes.room());
    must(writes.zeros(4_KiB, 200_MiB + 4_KiB));
    must(writes.flush());
  }
  Bytes at = 4_KiB;
  for (const IoRequest& request : seen.requests) {
    if (request.op == IoOp::flush) continue;
    CHECK(request.op == IoOp::write_zeroes);
    CHECK(request.offset == at);
    CHECK(request.length <= 32_MiB);
    at += request.length;
  }
  CHECK(at == 200_MiB + 8_KiB);
}

TEST_CASE("increment: progress is told, and a stop leaves a receipt") {
  Pair pair;
  std::stop_source stop;
  const auto report = [](void* user, std::uint64_t done, std::uint64_t total) {
    CHECK(total == 1 << 20);
    if (done > 200'000) static_cast<std::stop_source*>(user)->request_stop();
  };
  const Data stream = pair.from.stream("s2", "s1");
  refused(pair.to.receive(stream, {.work = {stop.get_token(), {report, &stop}}}), Errc::cancelled);
  CHECK(pair.to.incomplete());
  CHECK_FALSE(pair.to.has("s2"));
  must(pair.to.storage.recover());
  CHECK((pair.to.content(1_MiB) == pair.first));
  CollectedBytes out;
  refused(send_snapshot(pair.from.storage, disk, snapshot_name("s2"), out, {.work = {stop.get_token(), {}}}),
          Errc::cancelled);
}

TEST_CASE("increment: as fast as was allowed, and no faster") {
  Pair pair;
  const auto begin = std::chrono::steady_clock::now();
  const ReceiveOptions slow{.rate_limit = 1_MiB};
  must(pair.to.receive(pair.from.stream("s2", "s1"), slow));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds{50});
}

TEST_CASE("increment: a full sink is an error of the sender") {
  Pair pair;
  for (const std::size_t room : {0U, 100U, 200U, 50'000U}) {
    CollectedBytes out{.room = room};
    const auto sent = send_snapshot(pair.from.storage, disk, snapshot_name("s2"), out);
    CHECK(refusal_of(sent, Errc::no_space).object() == "mem:vm-100-disk-0@s2");
  }
}

TEST_CASE("increment: a storage whose type is known at run time") {
  Pair pair;
  BasicAnyStorage<MemoryBackend> from{pair.from.storage};
  CollectedBytes out;
  must(send_snapshot(from, disk, snapshot_name("s2"), out, {.since = snapshot_name("s1")}));
  BasicAnyStorage<MemoryBackend> to{pair.to.storage};
  GivenBytes in{out.data};
  must(receive_snapshot(to, disk, in));
  CHECK((pair.to.content(1_MiB) == pair.second));
  auto device = must(to.open_volume(disk, Access::read_only));
  CHECK(must(device.changes_since(snapshot_name("s2"))).empty());
  CHECK(must(device.changes_since(snapshot_name("s1"))).size() == 2);
}

TEST_CASE("increment: templates receive nothing, and what is linked to one is sent and received") {
  Lab lab;
  lab.make(1_MiB);
  lab.write(Bytes{}, pattern(1, 4096));
  const VolumeName base = must(lab.storage.make_template(disk));
  const VolumeName linked = must(lab.storage.clone(base, {.vmid = VmId{101}}));
  must(lab.storage.snapshot(linked, snapshot_name("s1")));
  CollectedBytes out;
  must(send_snapshot(lab.storage, linked, snapshot_name("s1"), out));
  GivenBytes in{out.data};
  refused(receive_snapshot(lab.storage, base, in), Errc::wrong_state);
  Lab to;
  must(to.receive(out.data));
  CHECK((to.content(4_KiB) == pattern(1, 4096)));
}
