#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <stowage/any_storage.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/stream.hpp>
#include <string>
#include <thread>

#include "support/pipes.hpp"

using namespace stowage;
using stowage::testing::MemoryBackend;
using stowage::testing::pipe_ends;

namespace {

using Data = std::vector<std::byte>;

struct Collected {
  Data data{};
  std::size_t room = std::size_t{1} << 30;
  Result<void> write(std::span<const std::byte> more) {
    if (data.size() + more.size() > room) return fail(Errc::no_space, "the sink is full");
    data.insert(data.end(), more.begin(), more.end());
    return {};
  }
};

/// Gives its data in pieces of `piece` bytes: a pipe does not care for our block size.
struct Given {
  Data data;
  std::size_t piece = 777;
  bool knows_size = true;
  std::size_t at = 0;
  Result<std::size_t> read(std::span<std::byte> buffer) {
    const std::size_t n = std::min({buffer.size(), piece, data.size() - at});
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n, buffer.begin());
    at += n;
    return n;
  }
  std::optional<Bytes> size() const { return knows_size ? std::optional{Bytes{data.size() - at}} : std::nullopt; }
};

Data noise(std::size_t size) {
  std::mt19937 random{static_cast<unsigned>(size)};
  Data data(size);
  for (std::byte& b : data) b = static_cast<std::byte>(random() & 0xFFU);
  return data;
}

Data with_size(std::uint64_t size, const Data& data) {
  const auto header = detail::little_endian(size);
  Data all(header.size() + data.size());  // not `insert`: g++ 12 sees it go out of bounds
  std::copy(data.begin(), data.end(), std::copy(header.begin(), header.end(), all.begin()));
  return all;
}

VolumeName volume_name(const std::string& text) { return *VolumeName::parse(text); }

struct Lab {
  MemoryBackend memory{};
  Storage<MemoryBackend> storage{*StorageId::parse("mem"), memory};

  Data content(const VolumeName& volume) {
    Collected out;
    REQUIRE(export_volume(storage, volume, out, {.format = StreamFormat::raw}));
    return out.data;
  }
  std::size_t volumes() { return storage.list()->size(); }
};

/// A volume whose requests are counted.
struct CountedDevice {
  testing::MemoryDevice device;
  std::size_t most = 0;

  struct Queue {
    testing::MemoryQueue queue;
    std::size_t* most;
    Submitted submit(const IoRequest& request) {
      const Submitted submitted = queue.submit(request);
      *most = std::max(*most, queue.in_flight());
      return submitted;
    }
    Result<std::size_t> reap(std::span<IoCompletion> out) { return queue.reap(out.first(1)); }
    Readiness ready() const { return queue.ready(); }
    std::size_t in_flight() const { return queue.in_flight(); }
    std::size_t depth() const { return queue.depth(); }
    Bytes block_size() const { return queue.block_size(); }
    Bytes size() const { return queue.size(); }
  };
  Result<Queue> queue(std::size_t depth) {
    return device.queue(depth).map([&](testing::MemoryQueue&& queue) { return Queue{std::move(queue), &most}; });
  }
  Bytes size() const { return device.size(); }
};

}  // namespace

TEST_CASE("stream: the volume is read ahead of the stream, in as many buffers as were allowed", "[transfer]") {
  Lab lab;
  Given in{noise(1 << 20)};
  REQUIRE(import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw}));
  auto device = lab.storage.open_volume(volume_name("vm-1-disk-0"), Access::read_only);
  REQUIRE(device);
  CountedDevice counted{*std::move(device)};
  Collected out;
  REQUIRE(detail::export_bytes(counted, out, {.queue_depth = 8, .chunk = 16_KiB}));
  CHECK((out.data == in.data));
  CHECK(counted.most == 8);
  CHECK_FALSE(export_volume(lab.storage, volume_name("vm-1-disk-0"), out, {.queue_depth = 0}));
  CHECK_FALSE(import_volume(lab.storage, volume_name("vm-1-disk-1"), in, {.queue_depth = ~std::size_t{0}}));
  CHECK(lab.volumes() == 1);
}

TEST_CASE("stream: as fast as was allowed, and no faster", "[transfer]") {
  Lab lab;
  Given in{noise(1 << 20), 1 << 16};
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(import_volume(lab.storage, volume_name("vm-1-disk-0"), in,
                        {.format = StreamFormat::raw, .chunk = 64_KiB, .rate_limit = 4_MiB}));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds{120});  // a tenth of a second is free
}

TEST_CASE("stream: what was imported is exported again, in both formats and with every buffer", "[transfer]") {
  const Data data = noise(300'000);  // 292.97 KiB: not whole blocks
  for (const StreamFormat format : {StreamFormat::raw, StreamFormat::raw_size}) {
    for (const Bytes chunk : {512_B, 4_KiB, Bytes{100'000}, 4_MiB}) {
      Lab lab;
      Given in{format == StreamFormat::raw ? data : with_size(data.size(), data)};
      const auto made =
          import_volume(lab.storage, volume_name("vm-100-disk-7"), in, {.format = format, .chunk = chunk});
      REQUIRE(made);
      CHECK(made->volume == volume_name("vm-100-disk-7"));
      CHECK(made->size == Bytes{data.size()});
      const auto info = lab.storage.info(made->volume);
      REQUIRE(info);
      CHECK_FALSE(info->incomplete());
      Data expected = data;
      expected.resize(static_cast<std::size_t>(info->size.count));  // the rest reads as zeros
      Collected out;
      const auto sent = export_volume(lab.storage, made->volume, out, {.format = format, .chunk = chunk});
      REQUIRE(sent);
      CHECK(*sent == info->size);
      CHECK((out.data == (format == StreamFormat::raw ? expected : with_size(info->size.count, expected))));
    }
  }
}

TEST_CASE("stream: zeros take no space", "[transfer]") {
  Lab lab;
  Data data(8 << 20);
  data[3'000'000] = std::byte{7};
  Given in{data, 1 << 16};
  REQUIRE(import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw}));
  CHECK(lab.storage.status()->used->count <= 65536);
  CHECK((lab.content(volume_name("vm-1-disk-0")) == data));
}

TEST_CASE("stream: an import has its zeros, also where new blocks are not zeroed", "[transfer]") {
  Lab lab{MemoryBackend{MemoryBackend::Config{.unzeroed_block = 256_KiB}}};
  Data data = noise((2 << 20) + 1536);
  for (std::size_t at = 0; at + 131072 <= data.size(); at += 131072) {
    std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(at), 65536, std::byte{});
  }
  Given in{with_size(data.size(), data)};
  const Imported made = *import_volume(lab.storage, volume_name("vm-100-disk-0"), in);
  Data content = lab.content(made.volume);
  CHECK(std::all_of(content.begin() + static_cast<std::ptrdiff_t>(data.size()), content.end(),
                    [](std::byte byte) { return byte == std::byte{}; }));
  content.resize(data.size());
  CHECK((content == data));
}

TEST_CASE("stream: a snapshot is exported with its own bytes", "[transfer]") {
  Lab lab;
  Given in{noise(65536)};
  const auto made = import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw});
  REQUIRE(made);
  REQUIRE(lab.storage.snapshot(made->volume, *SnapshotName::parse("s1")));
  {
    auto device = lab.storage.open_volume(made->volume, Access::read_write);
    REQUIRE(device);
    REQUIRE(device->write_at(Bytes{0}, Data(4096)));
    REQUIRE(device->close());
  }
  Collected out;
  REQUIRE(export_volume(lab.storage, made->volume, *SnapshotName::parse("s1"), out, {.format = StreamFormat::raw}));
  CHECK((out.data == in.data));
  CHECK((lab.content(made->volume) != in.data));
  const auto missing = export_volume(lab.storage, made->volume, *SnapshotName::parse("s2"), out);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code() == Errc::not_found);
}

TEST_CASE("stream: templates and linked names", "[transfer]") {
  Lab lab;
  Given in{noise(4096)};
  const auto base = import_volume(lab.storage, volume_name("base-1-disk-0"), in, {.format = StreamFormat::raw});
  REQUIRE(base);
  CHECK(base->volume == volume_name("base-1-disk-0"));
  CHECK((lab.content(base->volume) == in.data));
  Given again{noise(4096)};
  const auto taken = import_volume(lab.storage, volume_name("base-1-disk-0"), again, {.format = StreamFormat::raw});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().code() == Errc::already_exists);
  CHECK(again.at == 0);  // found out before the first byte
  const auto full =
      import_volume(lab.storage, volume_name("base-1-disk-0/vm-2-disk-0"), again, {.format = StreamFormat::raw});
  REQUIRE(full);
  CHECK(full->volume == volume_name("vm-2-disk-0"));
}

TEST_CASE("stream: a taken name is refused, or another is found when that is allowed", "[transfer]") {
  Lab lab;
  for (const bool allowed : {false, false, true}) {
    Given in{noise(4096)};
    const auto made = import_volume(lab.storage, volume_name("vm-1-disk-0"), in,
                                    {.format = StreamFormat::raw, .allow_rename = allowed});
    if (lab.volumes() == 1 && !allowed) continue;
    REQUIRE(made);
    CHECK(made->volume == volume_name("vm-1-disk-1"));
  }
  CHECK(lab.volumes() == 2);
}

TEST_CASE("stream: whatever goes wrong with an import, no volume remains", "[transfer]") {
  struct Case {
    const char* what;
    Data stream;
    StreamFormat format;
    Errc code;
  };
  const Data data = noise(10'000);
  const std::vector<Case> cases{
      {"nothing at all", {}, StreamFormat::raw_size, Errc::corrupt},
      {"half a header", Data(7), StreamFormat::raw_size, Errc::corrupt},
      {"a size and no data", with_size(10'000, {}), StreamFormat::raw_size, Errc::corrupt},
      {"one byte too few", with_size(10'001, data), StreamFormat::raw_size, Errc::corrupt},
      {"one byte too many", with_size(9'999, data), StreamFormat::raw_size, Errc::corrupt},
      {"size 0", with_size(0, {}), StreamFormat::raw_size, Errc::invalid_argument},
      {"size 2^63", with_size(std::uint64_t{1} << 63, data), StreamFormat::raw_size, Errc::invalid_argument},
      {"size 2^64-1", with_size(~std::uint64_t{0}, data), StreamFormat::raw_size, Errc::invalid_argument},
      {"an empty file", {}, StreamFormat::raw, Errc::invalid_argument},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Lab lab;
    Given in{c.stream};
    const auto made = import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = c.format, .chunk = 4_KiB});
    REQUIRE_FALSE(made);
    CHECK(made.error().code() == c.code);
    CHECK(made.error().object().starts_with("mem"));
    CHECK(lab.volumes() == 0);
  }
}

TEST_CASE("stream: whichever call of the storage fails, no volume remains that looks whole", "[transfer]") {
  for (unsigned after = 0; after < 40; ++after) {
    Lab lab;
    Given in{noise(65536)};
    lab.memory.fail_next(Errc::timed_out, after);
    const auto made =
        import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw, .chunk = 8_KiB});
    lab.memory.fail_next(Errc::timed_out, 1'000'000);
    if (made) {
      CHECK(after > 5);
      CHECK((lab.content(made->volume) == in.data));
      continue;
    }
    CAPTURE(after);
    CHECK(made.error().code() == Errc::timed_out);
    const auto left = lab.storage.list();
    REQUIRE(left);
    for (const VolumeInfo& info : *left) CHECK(info.incomplete());
  }
}

TEST_CASE("stream: the size of a pipe must be told, and is then kept to", "[transfer]") {
  Lab lab;
  Given in{noise(8192), 100, false};
  const auto unknown = import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw});
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code() == Errc::invalid_argument);
  CHECK(import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw, .size = 8_KiB}));
}

TEST_CASE("stream: progress is told, and a stop leaves nothing", "[transfer]") {
  Lab lab;
  Given in{noise(1 << 20), 1 << 16};
  std::stop_source stop;
  struct Seen {
    std::stop_source& stop;
    std::uint64_t last = 0;
  } seen{stop};
  Work work{stop.get_token(),
            {[](void* user, std::uint64_t done, std::uint64_t total) {
               auto& s = *static_cast<Seen*>(user);
               CHECK(total == 1 << 20);
               CHECK(done > s.last);
               s.last = done;
               if (done >= total / 2) s.stop.request_stop();
             },
             &seen}};
  const auto made = import_volume(lab.storage, volume_name("vm-1-disk-0"), in,
                                  {.format = StreamFormat::raw, .chunk = 64_KiB, .work = work});
  REQUIRE_FALSE(made);
  CHECK(made.error().code() == Errc::cancelled);
  CHECK(seen.last == 1 << 19);
  CHECK(lab.volumes() == 0);
}

TEST_CASE("stream: a full sink is an error of the export", "[transfer]") {
  Lab lab;
  Given in{noise(65536)};
  REQUIRE(import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw}));
  Collected out{.room = 20'000};
  const auto sent = export_volume(lab.storage, volume_name("vm-1-disk-0"), out, {.chunk = 4_KiB});
  REQUIRE_FALSE(sent);
  CHECK(sent.error().code() == Errc::no_space);
  CHECK(sent.error().object() == "mem:vm-1-disk-0");
}

TEST_CASE("stream: files know their size, pipes do not", "[transfer]") {
  char path[] = "/tmp/stowage-stream-XXXXXX";
  const Fd file{::mkstemp(path)};
  REQUIRE(file);
  REQUIRE(::unlink(path) == 0);
  FdSink sink{file.get()};
  REQUIRE(sink.write(noise(10'000)));
  FdSource source{file.get()};
  CHECK(source.size() == Bytes{0});
  REQUIRE(::lseek(file.get(), 1'000, SEEK_SET) == 1'000);
  CHECK(source.size() == Bytes{9'000});
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const Fd out{ends[0]};
  const Fd in{ends[1]};
  CHECK(FdSource{out.get()}.size() == std::nullopt);
}

TEST_CASE("stream: through a pipe, larger than the pipe", "[transfer]") {
  Lab lab;
  Given in{noise(3'000'000), 1 << 20};
  REQUIRE(import_volume(lab.storage, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw}));
  auto [out, into] = pipe_ends(GENERATE(false, true));
  Lab other;
  std::thread reader{[&, from = out.get()] {
    FdSource source{from};
    CHECK(import_volume(other.storage, volume_name("vm-1-disk-0"), source));
  }};
  FdSink sink{into.get()};
  CHECK(export_volume(lab.storage, volume_name("vm-1-disk-0"), sink));
  into.reset();
  reader.join();
  CHECK((other.content(volume_name("vm-1-disk-0")) == lab.content(volume_name("vm-1-disk-0"))));
}

TEST_CASE("stream: a reader that goes away is an error, not the end of the program", "[transfer]") {
  auto [out, into] = pipe_ends(GENERATE(false, true));
  out.reset();
  FdSink sink{into.get()};
  const auto sent = sink.write(noise(100'000));
  REQUIRE_FALSE(sent);
  CHECK(sent.error().native().value() == EPIPE);
  ::sigset_t pending{};
  ::sigpending(&pending);
  CHECK(::sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("stream: a silent pipe, full or empty, can be stopped", "[transfer]") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const Fd out{ends[0]};
  const Fd into{ends[1]};
  for (const bool writing : {false, true}) {
    std::jthread stopper;
    std::stop_source stop;
    stopper = std::jthread{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{150});
      stop.request_stop();
    }};
    const auto start = std::chrono::steady_clock::now();
    Data buffer(1 << 20);
    const Errc code = writing ? FdSink{into.get(), stop.get_token()}.write(buffer).error().code()
                              : FdSource{out.get(), stop.get_token()}.read(buffer).error().code();
    CHECK(code == Errc::cancelled);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{2});
  }
}

TEST_CASE("stream: whoever writes to a pipe can be stopped, whatever its reader has left in it", "[transfer]") {
  std::mt19937 random{11};
  for (int round = 0; round < 100; ++round) {
    const auto ends = pipe_ends(round % 2 == 1);
    const Fd& out = ends.out;
    const Fd& into = ends.into;
    const Data sent = noise(20'000 + random() % 200'000);
    std::stop_source stop;
    std::jthread writer{[&] {
      FdSink sink{into.get(), stop.get_token()};
      std::span<const std::byte> rest{sent};
      while (!rest.empty()) {  // in pieces of any size
        const auto piece = rest.first(std::min<std::size_t>(rest.size(), 1 + rest.size() / 3));
        if (!sink.write(piece)) return;
        rest = rest.subspan(piece.size());
      }
    }};
    Data got(random() % 20'000);
    std::size_t have = 0;
    while (have < got.size()) {
      const ::ssize_t n = ::read(out.get(), got.data() + have, std::min<std::size_t>(got.size() - have, 1 + have / 7));
      REQUIRE(n > 0);
      have += static_cast<std::size_t>(n);
    }
    CHECK(std::equal(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(have), sent.begin()));
    stop.request_stop();  // a writer that blocks would not see it
    writer.join();
  }
}

TEST_CASE("stream: works on a storage whose type is chosen at run time", "[transfer]") {
  BasicAnyStorage<MemoryBackend> any{Storage<MemoryBackend>{*StorageId::parse("mem"), MemoryBackend{}}};
  Given in{noise(5000)};
  REQUIRE(import_volume(any, volume_name("vm-1-disk-0"), in, {.format = StreamFormat::raw}));
  Collected out;
  REQUIRE(export_volume(any, volume_name("vm-1-disk-0"), out, {.format = StreamFormat::raw}));
  CHECK(std::equal(in.data.begin(), in.data.end(), out.data.begin()));
}

TEST_CASE("stream: raw+size is eight bytes, the least significant first, and then the data, byte by byte") {
  const auto bytes = [](const std::string& text) {
    Data data(text.size());
    std::transform(text.begin(), text.end(), data.begin(), [](char c) { return static_cast<std::byte>(c); });
    return data;
  };
  Lab lab;
  SECTION("out") {
    const VolumeName volume = *lab.storage.create({.vmid = VmId{100}, .size = Bytes{0x031000}});
    {
      auto device = lab.storage.open_volume(volume, Access::read_write).value();
      REQUIRE(device.write_at(0_B, bytes("first" + std::string(507, '.'))));
      REQUIRE(device.close());
    }
    Collected out;
    REQUIRE(export_volume(lab.storage, volume, out));
    CHECK(out.data.size() == 8 + 0x031000);
    const Data begin{out.data.begin(), out.data.begin() + 14};
    CHECK((begin == bytes(std::string{"\x00\x10\x03\x00\x00\x00\x00\x00"
                                      "first.",
                                      14})));
    CHECK(out.data.back() == std::byte{0});
  }
  SECTION("in") {
    std::string text{"\x03\x02\x00\x00\x00\x00\x00\x00", 8};  // 515
    text += "first" + std::string(505, '.') + "last!";
    Given in{bytes(text)};
    const Imported got = import_volume(lab.storage, volume_name("vm-100-disk-0"), in).value();
    CHECK(got.size == 515_B);
    const Data content = lab.content(got.volume);
    const Data whole = bytes(text);
    CHECK(std::equal(content.begin(), content.begin() + 515, whole.begin() + 8));
    CHECK(std::all_of(content.begin() + 515, content.end(), [](std::byte b) { return b == std::byte{0}; }));
  }
  SECTION("the bytes above the fourth count too") {
    Given in{bytes(std::string{"\x01\x00\x00\x00\x01\x00\x00\x00x", 9})};  // 4 GiB and one byte, of which one comes
    const auto made = import_volume(lab.storage, volume_name("vm-100-disk-0"), in);
    REQUIRE_FALSE(made);
    CHECK(made.error().code() == Errc::corrupt);
  }
}
