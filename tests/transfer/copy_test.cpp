#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <stop_token>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/copy.hpp>
#include <string>
#include <vector>

using namespace stowage;
using namespace stowage::testing;

namespace {

/// A queue of somebody else, seen and disturbed on the way.
struct Watched {
  std::size_t submitted = 0;
  std::size_t most_in_flight = 0;
  std::uint64_t bytes_in_flight = 0;  // of buffers
  std::uint64_t most_bytes_in_flight = 0;
  std::map<IoOp, std::uint64_t> bytes{};  // asked for, by kind
  std::optional<std::size_t> fail_at{};   // the how many-th request
  int error = EIO;
  Bytes stripe{};                                // so much lies on one disk
  std::vector<Bytes> offsets{};                  // of all requests, in their order
  std::function<void(std::size_t)> on_submit{};  // with its number
};

class WatchedQueue {
 public:
  WatchedQueue(MemoryQueue queue, Watched& watched) : queue_{std::move(queue)}, watched_{&watched} {}

  Submitted submit(const IoRequest& request) {
    if (failing_ && queue_.in_flight() + 1 == queue_.depth()) return Submitted::queue_full;
    if (watched_->fail_at == watched_->submitted) {
      ++watched_->submitted;
      failing_ = request.token;
      return Submitted::yes;
    }
    const Submitted submitted = queue_.submit(request);
    if (submitted != Submitted::yes) return submitted;
    const std::size_t number = watched_->submitted++;
    std::uint64_t length = 0;
    for (const ::iovec& buffer : request.buffers) length += buffer.iov_len;
    watched_->bytes[request.op] += length + request.length.count;
    sizes_[request.token] = length;
    watched_->offsets.push_back(request.offset);
    watched_->bytes_in_flight += length;
    watched_->most_bytes_in_flight = std::max(watched_->most_bytes_in_flight, watched_->bytes_in_flight);
    watched_->most_in_flight = std::max(watched_->most_in_flight, queue_.in_flight());
    if (watched_->on_submit) watched_->on_submit(number);
    return submitted;
  }
  Result<std::size_t> reap(std::span<IoCompletion> out) {
    if (failing_ && !out.empty()) {
      out[0] = {*std::exchange(failing_, std::nullopt), -watched_->error};
      return 1;
    }
    // One at a time, so that much is in flight at once.
    auto count = queue_.reap(out.first(std::min<std::size_t>(out.size(), 1)));
    for (std::size_t i = 0; i < *count; ++i) watched_->bytes_in_flight -= sizes_[out[i].token];
    return count;
  }
  Readiness ready() const {
    Readiness ready = queue_.ready();
    if (failing_) ready.tick = {};
    return ready;
  }
  std::size_t in_flight() const { return queue_.in_flight() + (failing_ ? 1 : 0); }
  std::size_t depth() const { return queue_.depth(); }
  Bytes block_size() const { return queue_.block_size(); }
  Bytes size() const { return queue_.size(); }
  Bytes stripe() const { return watched_->stripe; }

 private:
  MemoryQueue queue_;
  Watched* watched_;
  std::optional<std::uint64_t> failing_;
  std::map<std::uint64_t, std::uint64_t> sizes_;
};
static_assert(IoQueue<WatchedQueue>);

struct Volume {
  MemoryBackend memory;
  Storage<MemoryBackend> storage;
  VolumeName name;
  Watched watched{};

  explicit Volume(Bytes size, Bytes block = 512_B)
      : memory{MemoryBackend::Config{.block_size = block, .granule = block}},
        storage{*StorageId::parse("mem"), memory},
        name{must(storage.create({.vmid = VmId{100}, .size = size}))} {}

  MemoryDevice open(Access access = Access::read_write) { return must(storage.open_volume(name, access)); }
  WatchedQueue queue(std::size_t depth, Access access = Access::read_write) {
    auto device = open(access);
    return WatchedQueue{must(device.queue(depth)), watched};
  }
  void write(Bytes at, std::span<const std::byte> data) {
    auto device = open();
    must(device.write_at(at, data));
  }
  std::vector<std::byte> content() {
    auto device = open(Access::read_only);
    std::vector<std::byte> all(device.size().count);
    must(device.read_at(Bytes{}, all));
    return all;
  }
  Bytes used() { return *must(storage.status()).used; }
};

/// Data here and there; some of the granules between hold zeros that were written.
void scatter_data(Volume& volume, std::uint32_t seed) {
  std::mt19937 random{seed};
  auto device = volume.open();
  const std::uint64_t block = device.block_size().count;
  const std::uint64_t blocks = device.size().count / block;
  for (std::uint64_t n = random() % 12; n > 0; --n) {
    const std::uint64_t at = random() % blocks;
    const std::uint64_t length = std::min<std::uint64_t>(1 + random() % (random() % 4 == 0 ? 2000 : 40), blocks - at);
    const std::vector<std::byte> zeros(length * block);
    must(device.write_at(Bytes{at * block}, random() % 5 == 0 ? zeros : pattern(random(), length * block)));
  }
}

/// The extents of some content, on blocks of `granule`.
std::vector<Extent> extents_of(const std::vector<std::byte>& content, std::size_t granule) {
  std::vector<Extent> extents;
  for (std::size_t at = 0; at < content.size(); at += granule) {
    const std::size_t length = std::min(granule, content.size() - at);
    const bool allocated = !all_zero(std::span{content}.subspan(at, length));
    if (!extents.empty() && extents.back().allocated == allocated) {
      extents.back().length += Bytes{length};
    } else {
      extents.push_back({Bytes{at}, Bytes{length}, allocated});
    }
  }
  return extents;
}

}  // namespace

TEST_CASE("copy: the destination has the bytes of the source, whatever the options", "[transfer]") {
  std::mt19937 random{7};
  for (std::uint32_t round = 0; round < 60; ++round) {
    const Bytes block = round % 3 == 0 ? 4_KiB : 512_B;
    Volume source{Bytes{(1 + random() % 1200) * 4096}, block};
    Volume destination{source.open().size() + Bytes{random() % 3 * 65536}, round % 4 < 2 ? 4_KiB : 512_B};
    if (random() % 2 == 0) (round % 3 == 0 ? source : destination).watched.stripe = Bytes{1 + random() % 500'000};
    scatter_data(source, round);
    const CopyOptions options{.queue_depth = 1 + random() % 9,
                              .chunk = Bytes{512 + random() % 300'000},
                              .sparse = random() % 3 != 0,
                              .fresh = random() % 2 == 0,
                              .verify = random() % 2 == 0};
    if (!options.fresh) destination.write(Bytes{}, pattern(round, destination.content().size()));
    const auto before = destination.content();
    const auto content = source.content();
    std::vector<Extent> extents;
    if (random() % 2 == 0) extents = extents_of(content, block.count * (1 + random() % 90));
    CAPTURE(round, block.count, content.size(), options.queue_depth, options.chunk.count, options.sparse, options.fresh,
            extents.size());

    auto from = source.queue(options.queue_depth, Access::read_only);
    auto to = destination.queue(options.queue_depth);
    const Copied copied = must(copy_queues(from, to, extents, options));
    CHECK(copied.size.count == content.size());
    CHECK(copied.written + copied.skipped >= copied.size);
    CHECK((from.in_flight() == 0 && to.in_flight() == 0));
    const auto after = destination.content();
    CHECK(std::equal(content.begin(), content.end(), after.begin()));
    CHECK(std::equal(before.begin() + static_cast<std::ptrdiff_t>(content.size()), before.end(),
                     after.begin() + static_cast<std::ptrdiff_t>(content.size())));
    CHECK(source.watched.bytes[IoOp::read] <= content.size());
    if (options.fresh) CHECK(destination.watched.bytes[IoOp::write_zeroes] == 0);
  }
}

namespace {

/// A device that says of its data what the test wants.
class MappedMemory : public MemoryDevice {
 public:
  MappedMemory(MemoryDevice device, Result<std::vector<Extent>> map)
      : MemoryDevice{std::move(device)}, map_{std::move(map)} {}
  Result<std::vector<Extent>> extents() const { return map_; }

 private:
  Result<std::vector<Extent>> map_;
};

}  // namespace

TEST_CASE("copy: a device that cannot tell where its data are is read as a whole", "[transfer]") {
  Volume source{3_MiB};
  Volume destination{3_MiB};
  source.write(1_MiB, pattern(1, 1 << 20));
  auto to = destination.open();
  const auto from = [&](Result<std::vector<Extent>> map) {
    return MappedMemory{source.open(Access::read_only), std::move(map)};
  };
  SECTION("one that tells is read there only") {
    auto told = from(std::vector<Extent>{{Bytes{}, 2_MiB, false}, {2_MiB, 1_MiB, true}});
    must(copy(told, to, {.fresh = true}));
    CHECK(all_zero(destination.content()));
  }
  for (const Errc code : {Errc::in_use, Errc::unavailable, Errc::corrupt, Errc::command_failed}) {
    SECTION(std::string{"one that answers "} + std::string{name(code)}) {
      auto silent = from(fail(code, "nobody knows"));
      must(copy(silent, to, {.fresh = true}));
      CHECK((source.content() == destination.content()));
    }
  }
  SECTION("one that was asked to stop") {
    auto stopped = from(fail(Errc::cancelled, "stopped"));
    refused(copy(stopped, to, {.fresh = true}), Errc::cancelled);
    CHECK(all_zero(destination.content()));
  }
}

TEST_CASE("copy: what a source has grown by since its extents were asked is data", "[transfer]") {
  // of a plan, with extents that end in the middle of a chunk, at its end, and in a hole
  for (const std::uint64_t known : {4096U, 61'440U, 65'536U, 131'072U}) {
    for (const bool ends_in_hole : {false, true}) {
      std::vector<Extent> extents{{Bytes{}, 4_KiB, true}};
      if (known > 4096) extents.push_back({4_KiB, Bytes{known - 4096}, !ends_in_hole});
      ::stowage::detail::CopyPlan plan{{1 << 20U, 65'536, 512, 1 << 25U}, extents};
      std::uint64_t data_from = known;
      while (const auto piece = plan.next()) {
        CHECK((piece->at < known || !piece->hole()));
        if (piece->at + piece->length <= known) continue;
        CHECK(piece->data_begin <= std::max(piece->at, data_from));
        CHECK(piece->data_end == piece->at + piece->length);
        data_from = piece->at + piece->length;
      }
      CHECK(data_from == 1 << 20U);
    }
  }
}

TEST_CASE("copy: devices are copied as queues are", "[transfer]") {
  Volume source{3_MiB};
  Volume destination{3_MiB};
  scatter_data(source, 5);
  auto from = source.open(Access::read_only);
  auto to = destination.open();
  const Copied copied = must(copy(from, to, {.verify = true}));
  CHECK(copied.size == 3_MiB);
  CHECK((source.content() == destination.content()));
}

TEST_CASE("copy: the last block of a destination with larger blocks ends in zeros", "[transfer]") {
  Volume source{Bytes{5 * 512}};
  Volume destination{8_KiB, 4_KiB};
  source.write(Bytes{}, pattern(1, 5 * 512));
  const auto before = pattern(2, 8192);
  destination.write(Bytes{}, before);
  auto from = source.queue(4, Access::read_only);
  auto to = destination.queue(4);
  must(copy_queues(from, to, {}, {.verify = true}));
  const auto after = destination.content();
  CHECK(std::ranges::equal(source.content(), std::span{after}.first(5 * 512)));
  CHECK(all_zero(std::span{after}.subspan(5 * 512, 4096 - 5 * 512)));
  CHECK(std::ranges::equal(std::span{before}.subspan(4096), std::span{after}.subspan(4096)));
}

TEST_CASE("copy: holes are not read, and zeros take no space", "[transfer]") {
  Volume source{64_MiB};
  Volume destination{64_MiB};
  source.write(10_MiB + 3_KiB, pattern(1, 5000 / 512 * 512));
  source.write(50_MiB, std::vector<std::byte>(1 << 20));  // zeros that somebody wrote
  SECTION("with a map, only data are read") {
    auto from = source.queue(4, Access::read_only);
    auto to = destination.queue(4);
    const Copied copied = must(copy_queues(from, to, extents_of(source.content(), 4096), {.fresh = true}));
    CHECK(source.watched.bytes[IoOp::read] <= 12288);
    CHECK(copied.written <= 128_KiB);
    CHECK(destination.watched.bytes[IoOp::write_zeroes] == 0);
  }
  SECTION("without one, all of it is, and little is written") {
    auto from = source.queue(4, Access::read_only);
    auto to = destination.queue(4);
    const Copied copied = must(copy_queues(from, to, {}, {.fresh = true}));
    CHECK(source.watched.bytes[IoOp::read] == 64 << 20);
    CHECK(copied.written <= 128_KiB);
    CHECK(copied.written + copied.skipped == 64_MiB);
  }
  SECTION("on a destination that holds something, holes are written as zeros, in few requests") {
    destination.write(Bytes{}, pattern(2, 64 << 20));
    auto from = source.queue(4, Access::read_only);
    auto to = destination.queue(4);
    must(copy_queues(from, to, extents_of(source.content(), 4096), {.verify = true}));
    CHECK(destination.watched.bytes[IoOp::write] <= 128 << 10);
    CHECK(destination.watched.submitted < 70 + 64);
  }
  CHECK((source.content() == destination.content()));
  CHECK(destination.used() <= 192_KiB);
}

TEST_CASE("copy: both sides are busy at once, and never with more than the buffers hold", "[transfer]") {
  Volume source{32_MiB};
  Volume destination{32_MiB};
  source.write(Bytes{}, pattern(1, 32 << 20));
  for (const std::size_t depth : {std::size_t{1}, std::size_t{4}, std::size_t{16}}) {
    source.watched = {};
    destination.watched = {};
    std::uint64_t most = 0;
    bool both = false;
    const auto look = [&](std::size_t) {
      const std::uint64_t now = source.watched.bytes_in_flight + destination.watched.bytes_in_flight;
      most = std::max(most, now);
      both = both || (source.watched.bytes_in_flight > 0 && destination.watched.bytes_in_flight > 0);
    };
    source.watched.on_submit = look;
    destination.watched.on_submit = look;
    auto from = source.queue(depth, Access::read_only);
    auto to = destination.queue(depth);
    must(copy_queues(from, to, {}, {.queue_depth = depth, .chunk = 256_KiB}));
    CAPTURE(depth);
    CHECK(most <= depth * 256 * 1024);
    CHECK(source.watched.most_in_flight == depth);
    CHECK(both == (depth > 1));
  }
}

TEST_CASE("copy: a queue that is shallower than the buffers is filled again and again", "[transfer]") {
  Volume source{4_MiB};
  Volume destination{4_MiB};
  scatter_data(source, 3);
  destination.write(Bytes{}, pattern(1, 4 << 20));
  auto from = source.queue(2, Access::read_only);
  auto to = destination.queue(1);
  must(copy_queues(from, to, {}, {.queue_depth = 8, .chunk = 256_KiB, .verify = true}));
  CHECK((source.content() == destination.content()));
}

TEST_CASE("copy: any request may fail, on either side, and the error says where", "[transfer]") {
  Volume source{2_MiB};
  source.write(Bytes{}, pattern(1, 1 << 20));
  const auto try_with = [&](std::optional<std::size_t> source_fails, std::optional<std::size_t> destination_fails,
                            int error, bool verify) {
    Volume destination{2_MiB};
    destination.write(Bytes{}, pattern(2, 2 << 20));
    source.watched = {.fail_at = source_fails, .error = error};
    destination.watched = {.fail_at = destination_fails, .error = error};
    auto from = source.queue(4, Access::read_only);
    auto to = destination.queue(4);
    auto copied = copy_queues(from, to, {}, {.queue_depth = 4, .chunk = 128_KiB, .verify = verify});
    CHECK((from.in_flight() == 0 && to.in_flight() == 0));
    if (copied) CHECK((source.content() == destination.content()));
    return copied;
  };
  for (std::size_t n = 0; n < 16; ++n) {
    CAPTURE(n);
    const Error read = refusal_of(try_with(n, {}, ENOLINK, false), Errc::unavailable);
    CHECK(read.detail().find("reading the source at " + std::to_string(n * 131072) + ":") == 0);
    CHECK(read.native().value() == ENOLINK);
    refused(try_with(n, {}, ETIMEDOUT, true), Errc::timed_out);
    const Error write = refusal_of(try_with({}, n, ENOSPC, false), Errc::no_space);
    CHECK(write.detail().find("writing to the destination at ") == 0);
    refused(try_with({}, n, EINPROGRESS, true), Errc::outcome_unknown);
    refused(try_with({}, n, ESTALE, false), Errc::identity_changed);
  }
  const Error flush = refusal_of(try_with({}, 16, EIO, false), Errc::backend_failed);
  CHECK(flush.detail().find("flushing the destination") == 0);
  for (std::size_t n = 17; n < 17 + 16; ++n) {
    CAPTURE(n);
    const Error back = refusal_of(try_with({}, n, EIO, true), Errc::backend_failed);
    CHECK(back.detail().find("reading back the destination at ") == 0);
  }
  must(try_with({}, 33, EIO, true));  // no such request
}

TEST_CASE("copy: it stops soon when it is told to, at whatever moment", "[transfer]") {
  Volume source{4_MiB};
  scatter_data(source, 11);
  for (std::size_t at = 0; at < 40; at += 3) {
    CAPTURE(at);
    Volume destination{4_MiB};
    std::stop_source stop;
    std::size_t after = 0;
    source.watched = {};
    destination.watched = {};
    for (Watched* watched : {&source.watched, &destination.watched}) {
      watched->on_submit = [&](std::size_t) {
        const std::size_t all = source.watched.submitted + destination.watched.submitted;
        if (stop.stop_requested()) ++after;
        if (all == at + 1) stop.request_stop();
      };
    }
    auto from = source.queue(4, Access::read_only);
    auto to = destination.queue(4);
    const auto copied =
        copy_queues(from, to, {}, {.queue_depth = 4, .chunk = 256_KiB, .verify = true, .stop = stop.get_token()});
    refused(copied, Errc::cancelled);
    CHECK(after <= 8);
    CHECK((from.in_flight() == 0 && to.in_flight() == 0));
  }
}

TEST_CASE("copy: what was not written as it should is found by verify", "[transfer]") {
  Volume source{4_MiB};
  scatter_data(source, 21);
  source.write(2_MiB, pattern(9, 4096));
  for (const Bytes spoilt : {Bytes{}, 2_MiB + 1_KiB, 4_MiB - 512_B}) {
    CAPTURE(spoilt.count);
    Volume destination{4_MiB};
    auto spoiler = must(destination.memory.open_volume(destination.name, Access::read_only));
    bool done = false;
    source.watched = {};
    auto from = source.queue(4, Access::read_only);
    auto to_device = destination.open();
    auto to = WatchedQueue{must(to_device.queue(4)), destination.watched};
    const CopyProgress progress{[](void* user, const CopyState& state) {
                                  if (state.done == state.total) (*static_cast<std::function<void()>*>(user))();
                                },
                                nullptr};
    std::function<void()> spoil = [&] {
      std::vector<std::byte> block(512);
      must(to_device.read_at(spoilt, block));
      block[7] ^= std::byte{1};
      must(to_device.write_at(spoilt, block));
      done = true;
    };
    CopyOptions options{.verify = true, .progress = progress};
    options.progress.user = &spoil;
    const Error error = refusal_of(copy_queues(from, to, {}, options), Errc::corrupt);
    CHECK(done);
    CHECK_FALSE(error.hint().empty());
  }
}

TEST_CASE("copy: progress goes up to all of it", "[transfer]") {
  Volume source{16_MiB};
  Volume destination{16_MiB};
  source.write(1_MiB, pattern(1, 3 << 20));
  std::vector<CopyState> seen;
  const CopyProgress progress{
      [](void* user, const CopyState& state) { static_cast<std::vector<CopyState>*>(user)->push_back(state); }, &seen};
  auto from = source.open(Access::read_only);
  auto to = destination.open();
  const Copied copied = must(copy(from, to, {.fresh = true, .progress = progress}));
  REQUIRE(seen.size() == 16);
  CHECK(std::is_sorted(seen.begin(), seen.end(), [](const auto& a, const auto& b) { return a.done < b.done; }));
  CHECK(seen.back().done == 16_MiB);
  CHECK(seen.back().total == 16_MiB);
  CHECK(seen.back().skipped == copied.skipped);
  CHECK(copied.skipped == 13_MiB);
  CHECK(copied.written == 3_MiB);
}

TEST_CASE("copy: only the extents, and what lies between them stays", "[transfer]") {
  Volume source{4_MiB};
  Volume destination{4_MiB};
  const auto data = pattern(1, 4 << 20);
  auto expected = pattern(2, 4 << 20);
  source.write(Bytes{}, data);
  destination.write(Bytes{}, expected);
  const std::vector<Extent> extents{{512_B, 1_MiB, true}, {1_MiB + 512_B, 512_B, false}, {3_MiB, 4_KiB, true}};
  std::copy_n(data.begin() + 512, 1 << 20, expected.begin() + 512);
  std::fill_n(expected.begin() + (1 << 20) + 512, 512, std::byte{});
  std::copy_n(data.begin() + (3 << 20), 4096, expected.begin() + (3 << 20));
  Bytes total{};
  const auto report = [](void* user, const CopyState& state) { *static_cast<Bytes*>(user) = state.total; };
  auto from = source.queue(4, Access::read_only);
  auto to = destination.queue(4);
  const Copied copied =
      must(copy_queues(from, to, extents, {.chunk = 64_KiB, .only_extents = true, .progress = {report, &total}}));
  CHECK((destination.content() == expected));
  CHECK(copied.written == 1_MiB + 4_KiB);
  CHECK(copied.skipped == 512_B);
  CHECK(total == 1_MiB + 4_KiB + 512_B);
  CHECK(source.watched.bytes[IoOp::read] == (1 << 20) + 4096);
  CHECK(must(copy_queues(from, to, {}, {.only_extents = true})).written == Bytes{});
  refused(copy_queues(from, to, extents, {.only_extents = true, .verify = true}), Errc::invalid_argument);
}

TEST_CASE("copy: what cannot be is refused before anything is written", "[transfer]") {
  Volume source{2_MiB};
  Volume small{1_MiB};
  Volume large{2_MiB};
  auto from = source.open(Access::read_only);
  auto to_small = small.open();
  auto to_large = large.open();
  refused(copy(from, to_small), Errc::invalid_argument);
  refused(copy(from, to_large, {.queue_depth = 0}), Errc::invalid_argument);
  refused(copy(from, to_large, {.queue_depth = 5000}), Errc::invalid_argument);
  refused(copy(from, to_large, {.chunk = 511_B}), Errc::invalid_argument);
  refused(copy(from, to_large, {.chunk = 1_GiB}), Errc::invalid_argument);
  CHECK(large.used() == 0_B);
  source.write(Bytes{}, pattern(1, 4096));
  auto read_only = large.queue(4, Access::read_only);
  auto queue = source.queue(4, Access::read_only);
  refused(copy_queues(queue, read_only), Errc::invalid_argument);
}

TEST_CASE("rate limit: so many bytes a second, whatever the sizes", "[transfer]") {
  using namespace std::chrono_literals;
  const RateLimit::Clock::time_point start{1000s};
  for (const std::uint64_t piece : {4096U, 65536U, 1U << 20U}) {
    RateLimit limit{10_MiB};
    auto now = start;
    std::uint64_t begun = 0;
    while (now < start + 60s) {
      if (limit.allows(now)) {
        limit.begin(now, piece);
        begun += piece;
      } else {
        now = std::max(limit.next(), now + 1ms);
      }
    }
    CAPTURE(piece);
    CHECK(begun <= std::uint64_t{602} << 20U);  // a tenth of a second ahead, and the last piece
    CHECK(begun >= std::uint64_t{598} << 20U);
  }
  RateLimit limit{1_MiB};
  limit.begin(start, 1 << 20);
  CHECK_FALSE(limit.allows(start + 800ms));
  CHECK(limit.allows(start + 1s));
  limit.begin(start + 1h, 1 << 20);  // an hour of rest is not made up for
  CHECK_FALSE(limit.allows(start + 1h + 800ms));
  RateLimit none;
  none.begin(start, 1U << 30U);
  CHECK(none.allows(start));
}

TEST_CASE("copy: it takes as long as its rate says", "[transfer]") {
  Volume source{2_MiB};
  Volume destination{2_MiB};
  source.write(Bytes{}, pattern(1, 2 << 20));
  auto from = source.open(Access::read_only);
  auto to = destination.open();
  const Copied copied = must(copy(from, to, {.chunk = 64_KiB, .rate_limit = 4_MiB}));
  CHECK(copied.elapsed.count() >= 300);  // half a second, but for the tenth ahead and the last piece
  CHECK((source.content() == destination.content()));
}

TEST_CASE("copy: the plan covers every byte once, and reads every extent", "[transfer]") {
  std::mt19937 random{3};
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t block = round % 2 == 0 ? 512 : 4096;
    const std::uint64_t chunk = block * (1 + random() % 64);
    const std::uint64_t total = block * (random() % 3000);
    const std::uint64_t most_hole = chunk * (1 + random() % 8);
    std::vector<Extent> extents;
    for (std::uint64_t at = 0; at < total;) {
      const std::uint64_t length = std::min<std::uint64_t>(1 + random() % (chunk * (random() % 9 + 1)), total - at);
      extents.push_back({Bytes{at}, Bytes{length}, random() % 2 == 0});
      at += length;
    }
    stowage::detail::CopyPlan plan{{total, chunk, block, most_hole}, extents};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> reads;
    std::uint64_t at = 0;
    bool good = true;
    while (const auto piece = plan.next()) {
      good = good && piece->at == at && piece->length > 0 && (at % chunk == 0);
      good = good && piece->length <= (piece->hole() ? most_hole : chunk);
      good = good && piece->data_begin >= at && piece->data_end <= at + piece->length;
      good = good && piece->data_begin % block == 0 && piece->data_end % block == 0;
      if (!piece->hole()) reads.emplace_back(piece->data_begin, piece->data_end);
      at += piece->length;
    }
    CAPTURE(round, total, chunk, block);
    CHECK((good && at == total));
    const auto is_read = [&](std::uint64_t byte) {
      return std::any_of(reads.begin(), reads.end(), [&](auto r) { return r.first <= byte && byte < r.second; });
    };
    for (const Extent& extent : extents) {
      if (!extent.allocated) continue;
      good = good && is_read(extent.offset.count) && is_read(extent.offset.count + extent.length.count - 1);
    }
    CHECK(good);
  }
}

TEST_CASE("copy: neighbours in the order lie in different stripes, and none is lost", "[transfer]") {
  using stowage::detail::CopyOrder;
  using stowage::detail::CopyPlan;
  const auto order_of = [](std::uint64_t total, std::uint64_t stripe, std::size_t window) {
    CopyOrder order{CopyPlan{{total, 4096, 512, 8192}, {}}, stripe, window};
    CHECK(order.total() == total);
    std::vector<std::uint64_t> chunks;
    while (const auto piece = order.next()) chunks.push_back(piece->at / 4096);
    return chunks;
  };
  using Chunks = std::vector<std::uint64_t>;
  CHECK(order_of(5 * 4096, 0, 4) == Chunks{0, 1, 2, 3, 4});
  CHECK(order_of(5 * 4096, 4096, 4) == Chunks{0, 1, 2, 3, 4});
  CHECK(order_of(12 * 4096, 16384, 8) == Chunks{0, 4, 1, 5, 2, 6, 3, 7, 8, 9, 10, 11});
  CHECK(order_of(0, 16384, 8).empty());
  CHECK(order_of(10 * 4096 + 512, 12288, 64) == Chunks{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8});
}

TEST_CASE("copy: a striped volume has all its stripes at work", "[transfer]") {
  Volume source{8_MiB};
  Volume destination{8_MiB};
  destination.watched.stripe = 512_KiB;
  source.write(Bytes{}, pattern(4, 8 << 20));
  auto from = source.queue(8, Access::read_only);
  auto to = destination.queue(8);
  must(copy_queues(from, to, {}, {.queue_depth = 8, .chunk = 64_KiB}));
  CHECK((source.content() == destination.content()));
  std::set<std::uint64_t> at_once;
  for (std::size_t n = 0; n < 8; ++n) at_once.insert(source.watched.offsets.at(n).count / (512 << 10));
  CHECK(at_once.size() == 8);
  CHECK(source.watched.offsets.size() == 128);
}

TEST_CASE("copy: a checksum sees every byte", "[transfer]") {
  for (const std::size_t size : {1UL, 31UL, 32UL, 33UL, 4096UL}) {
    auto data = pattern(size, size);
    const std::uint64_t sum = stowage::detail::copy_checksum(data);
    bool seen = true;
    for (std::byte& b : data) {
      b ^= std::byte{0x10};
      seen = seen && stowage::detail::copy_checksum(data) != sum;
      b ^= std::byte{0x10};
    }
    CAPTURE(size);
    CHECK(seen);
    CHECK(stowage::detail::copy_checksum(data) == sum);
  }
  std::vector<std::byte> swapped = pattern(5, 128);
  const std::uint64_t sum = stowage::detail::copy_checksum(swapped);
  std::swap_ranges(swapped.begin(), swapped.begin() + 32, swapped.begin() + 32);
  CHECK(stowage::detail::copy_checksum(swapped) != sum);
}
