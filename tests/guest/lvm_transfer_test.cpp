// Data on their way into a thin pool and out of it: byte for byte what they were, whatever its blocks held before.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <stowage/transfer/stream.hpp>

#include <fcntl.h>
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "support/lvm_lab.hpp"
#include "support/pipes.hpp"
#include "support/streams.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

using Data = std::vector<std::byte>;

/// Data and zeros in turn, 64 KiB of each.
Data striped(std::size_t size) {
  Data data = pattern(size, size);
  for (std::size_t at = 64 << 10U; at < size; at += 128 << 10U) {
    std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(at), std::min<std::size_t>(64 << 10U, size - at),
                std::byte{});
  }
  return data;
}

template <class Device>
Data bytes_of(Device device) {
  Data data(static_cast<std::size_t>(device.size().count));
  must(device.read_at(Bytes{}, data));
  return data;
}

/// The volume has these bytes, and behind them zeros.
template <class S>
bool holds(S& storage, const VolumeName& volume, const Data& data) {
  const Data all = bytes_of(must(storage.open_volume(volume, Access::read_only)));
  return all.size() >= data.size() && std::equal(data.begin(), data.end(), all.begin()) &&
         all_zero(std::span{all}.subspan(data.size()));
}

Data with_size(const Data& data) {
  const auto header = ::stowage::detail::little_endian(data.size());
  Data all(header.size() + data.size());
  std::copy(data.begin(), data.end(), std::copy(header.begin(), header.end(), all.begin()));
  return all;
}

/// A file with these bytes, which goes with it.
class File {
 public:
  explicit File(const Data& data = {}) {
    FdSink sink{fd().get()};
    must(sink.write(data));
    REQUIRE(::lseek(fd_.get(), 0, SEEK_SET) == 0);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { std::filesystem::remove(path); }

  const Fd& fd() const { return fd_; }
  Data content() const {
    Data data(std::filesystem::file_size(path));
    REQUIRE(::pread(fd_.get(), data.data(), data.size(), 0) == static_cast<::ssize_t>(data.size()));
    return data;
  }

  std::string path = "/run/lvm-transfer";

 private:
  Fd fd_{::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
};

/// Every block of its pool, of 256 KiB, has been a removed volume's: 0xAA.
struct UsedPool {
  UsedPool() {
    auto storage = lab.storage();
    const VolumeName volume = make(storage, 32_MiB);
    auto device = must(storage.open_volume(volume, Access::read_write));
    const Data data(1 << 20U, std::byte{0xAA});
    for (Bytes at{}; at < device.size(); at += 1_MiB) must(device.write_at(at, data));
    must(device.close());
    must(storage.remove(volume));
  }
  LvmLab lab{"-L 32M --poolmetadatasize 4M --chunksize 256k --zero n --discards ignore"};
};

}  // namespace

TEST_CASE("a pool that does not zero new blocks: what is copied, imported or received has its zeros") {
  const UsedPool used;
  auto thin = used.lab.storage();
  MemoryBackend memory;
  Storage<MemoryBackend> mem{must(StorageId::parse("mem")), memory};
  CHECK(must(thin.check()).at(0).problem.find("not zeroed") != std::string::npos);
  {
    const VolumeName volume = make(thin);
    auto device = must(thin.open_volume(volume, Access::read_write));
    CHECK(device.unzeroed_block() == 256_KiB);
    must(device.write_at(Bytes{}, pattern(1, 4096)));
    Data beside(4096);
    must(device.read_at(64_KiB, beside));
    CHECK((beside == Data(4096, std::byte{0xAA})));  // this is what is to be kept out
    must(device.close());
    must(thin.remove(volume));
  }
  const Data data = striped((2 << 20U) + (100 << 10U) + 512);
  {
    const File file{with_size(data)};
    FdSource source{file.fd().get()};
    const VolumeName imported = must(import_volume(thin, volume_name("vm-990000101-import"), source)).volume;
    CHECK(holds(thin, imported, data));
    auto from = must(thin.open_volume(imported, Access::read_only));
    const VolumeName clone = must(full_clone(from, thin, {.vmid = guest}));
    CHECK(holds(thin, clone, data));
    must(thin.remove(clone));
    must(from.close());
    must(thin.remove(imported));
  }
  const VolumeName disk = volume_name("vm-990000101-disk-0");
  const auto write = [&](Bytes at, std::size_t size) {
    auto device = must(mem.open_volume(disk, Access::read_write));
    must(device.write_at(at, pattern(at.count, size)));
  };
  const auto receive = [&](const SendOptions& options, const SnapshotName& target) {
    must(mem.snapshot(disk, target));
    CollectedBytes out;
    must(send_snapshot(mem, disk, target, out, options));
    GivenBytes in{out.data};
    must(receive_snapshot(thin, disk, in));
    CHECK(holds(thin, disk, bytes_of(must(mem.open_volume(disk, Access::read_only)))));
  };
  must(mem.create({.vmid = guest, .size = 8_MiB, .name = disk}));
  for (Bytes at{}; at < 2_MiB; at += 128_KiB) write(at, 64 << 10U);
  write(3_MiB + 68_KiB, 4096);
  receive({}, s1);
  write(1_MiB + 64_KiB, 4096);  // in a block with data
  write(4_MiB + 12_KiB, 4096);  // in one without
  write(5_MiB - 4_KiB, 8192);   // in two without
  receive({.since = s1}, s2);
}

TEST_CASE("streams into a thin pool and out of it, full clones, and copies onto what has old data") {
  const LvmLab lab;
  auto thin = lab.storage();
  const Data data = striped(4 << 20U);
  VolumeName volume = volume_name("vm-990000101-raw");
  {
    const File file{data};
    FdSource source{file.fd().get()};
    must(import_volume(thin, volume, source, {.format = StreamFormat::raw}));
    CHECK(holds(thin, volume, data));
    if (ask("command -v qemu-img").status == 0) {
      sh("qemu-img compare -s -f raw -F raw " + file.path + " " + must(thin.path(volume)));
    }
  }
  const auto through_pipe = [&](const VolumeName& name, const Data& stream, const ImportOptions& options) {
    PipeEnds ends = pipe_ends(false);
    std::jthread writer{[&stream, into = std::move(ends.into)] {
      FdSink sink{into.get()};
      static_cast<void>(sink.write(stream));
      // and the end of the pipe goes with this
    }};
    FdSource source{ends.out.get()};
    must(import_volume(thin, name, source, options));
    CHECK(holds(thin, name, data));
    must(thin.remove(name));
  };
  through_pipe(volume_name("vm-990000101-pipe"), data, {.format = StreamFormat::raw, .size = Bytes{data.size()}});
  through_pipe(volume_name("vm-990000101-pipe"), with_size(data), {.format = StreamFormat::raw_size});
  {
    const File file;
    FdSink sink{file.fd().get()};
    CHECK(must(export_volume(thin, volume, sink, {.format = StreamFormat::raw_size})) == Bytes{data.size()});
    CHECK((file.content() == with_size(data)));
  }
  auto from = must(thin.open_volume(volume, Access::read_only));
  CHECK(holds(thin, must(full_clone(from, thin, {.vmid = guest})), data));
  const VolumeName old = make(thin);
  fill(thin, old, 3, 8 << 20U);
  {
    auto onto = must(thin.open_volume(old, Access::read_write));
    auto source = must(from.queue(8));
    auto destination = must(onto.queue(8));
    const std::vector<Extent> extents = must(from.extents());
    CHECK(std::count_if(extents.begin(), extents.end(), [](const Extent& one) { return !one.allocated; }) > 10);
    must(copy_queues(source, destination, extents, {.queue_depth = 8}));
    Data behind = bytes_of(std::move(onto));
    Data wanted = pattern(3, behind.size());
    std::copy(data.begin(), data.end(), wanted.begin());
    CHECK((behind == wanted));
  }
}
