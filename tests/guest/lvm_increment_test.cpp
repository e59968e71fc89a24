// Streams of snapshots from a thin pool, to it, and to a storage of another type.

#include <catch2/catch.hpp>

#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/lvm_lab.hpp"
#include "support/streams.hpp"

using namespace stowage;
using testing::CollectedBytes;
using testing::GivenBytes;
using testing::guest;
using testing::LvmLab;
using testing::MemoryBackend;
using testing::must;
using testing::pattern;
using testing::refused;
using testing::s1;
using testing::s2;

namespace {

template <class S>
std::vector<std::byte> bytes_of(S& storage, const VolumeName& volume, Bytes size) {
  auto device = must(storage.open_volume(volume, Access::read_only));
  std::vector<std::byte> bytes(static_cast<std::size_t>(size.count));
  must(device.read_at(Bytes{}, bytes));
  return bytes;
}

template <class S>
std::vector<std::byte> stream(S& storage, const VolumeName& volume, const SnapshotName& target,
                              const SendOptions& options = {}) {
  CollectedBytes out;
  must(send_snapshot(storage, volume, target, out, options));
  return out.data;
}

template <class S>
Result<Received> receive(S& storage, const VolumeName& volume, const std::vector<std::byte>& from,
                         const ReceiveOptions& options = {}, std::size_t fails_at = ~std::size_t{0}) {
  GivenBytes in{.data = from, .fails_at = fails_at};
  return receive_snapshot(storage, volume, in, options);
}

template <class S>
void write(S& storage, const VolumeName& volume, Bytes at, std::uint64_t seed, std::size_t size) {
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(at, pattern(seed, size)));
  must(device.close());
}

}  // namespace

TEST_CASE("a chain of snapshots goes from a thin volume to another and to memory, and back") {
  LvmLab lab;
  auto thin = lab.storage();
  MemoryBackend memory;
  Storage<MemoryBackend> mem{must(StorageId::parse("mem")), memory};
  const VolumeName from = testing::make(thin, 16_MiB);
  const VolumeName to = testing::volume_name("vm-990000101-received");
  write(thin, from, 1_MiB, 1, 300 << 10);
  write(thin, from, 8_MiB, 2, 1 << 20);
  must(thin.snapshot(from, s1));
  const auto whole = stream(thin, from, s1);
  CHECK(whole.size() < 2 << 20);
  must(receive(thin, to, whole));
  must(receive(mem, to, whole));
  CHECK((bytes_of(thin, to, 16_MiB) == bytes_of(thin, from, 16_MiB)));
  CHECK((bytes_of(mem, to, 16_MiB) == bytes_of(thin, from, 16_MiB)));

  write(thin, from, 2_MiB, 3, 64 << 10);
  {
    auto device = must(thin.open_volume(from, Access::read_write));
    must(device.discard(8_MiB, 1_MiB));
    must(device.close());
  }
  must(thin.resize(from, 24_MiB));
  write(thin, from, 23_MiB, 4, 64 << 10);
  must(thin.snapshot(from, s2));
  const auto more = stream(thin, from, s2, {.since = s1});
  CHECK(more.size() < 1 << 20);

  // Interrupted, and gone on with; then written to, and rolled back.
  const ReceiveOptions often{.receipt_every = 64_KiB};
  refused(receive(thin, to, more, often, more.size() - 40), Errc::unavailable);
  CHECK(must(thin.info(to)).intent == "receive");
  const auto receipt = must(thin.backend().receipt(to));
  REQUIRE(receipt);
  CHECK(receipt->done > 2_MiB);
  must(receive(thin, to, stream(thin, from, s2, {.since = s1, .begin = receipt->done}), often));
  CHECK_FALSE(must(thin.info(to)).incomplete());
  CHECK((bytes_of(thin, to, 24_MiB) == bytes_of(thin, from, 24_MiB)));
  must(receive(mem, to, more));
  CHECK((bytes_of(mem, to, 24_MiB) == bytes_of(thin, from, 24_MiB)));

  write(mem, to, 5_MiB, 5, 4096);
  const SnapshotName s3 = testing::snapshot_name("s3");
  must(mem.snapshot(to, s3));
  const auto back = stream(mem, to, s3, {.since = s2});
  write(thin, from, 6_MiB, 6, 4096);
  refused(receive(thin, from, back), Errc::conflict);
  must(receive(thin, from, back, {.rollback = true}));
  CHECK((bytes_of(mem, to, 24_MiB) == bytes_of(thin, from, 24_MiB)));
  // The snapshots are what they were, though LVM has made some of them anew.
  must(receive(thin, to, stream(thin, from, s3, {.since = s2})));
  CHECK((bytes_of(thin, to, 24_MiB) == bytes_of(thin, from, 24_MiB)));
}

TEST_CASE("recovery undoes what a stream has brought to a thin volume in part") {
  LvmLab lab;
  auto thin = lab.storage();
  const VolumeName from = testing::make(thin, 8_MiB);
  const VolumeName to = testing::volume_name("vm-990000101-received");
  testing::fill(thin, from, 1, 1 << 20);
  must(thin.snapshot(from, s1));
  const auto whole = stream(thin, from, s1);
  refused(receive(thin, to, whole, {.receipt_every = 64_KiB}, whole.size() - 20), Errc::unavailable);
  CHECK(must(thin.info(to)).intent == "receive");
  CHECK(must(thin.recover()).done.size() == 1);
  refused(thin.info(to), Errc::not_found);
  must(receive(thin, to, whole));
  testing::fill(thin, from, 2, 1 << 20);
  must(thin.snapshot(from, s2));
  const auto more = stream(thin, from, s2, {.since = s1});
  refused(receive(thin, to, more, {.receipt_every = 64_KiB}, more.size() - 20), Errc::unavailable);
  CHECK(must(thin.recover()).done.size() == 1);
  CHECK_FALSE(must(thin.info(to)).incomplete());
  CHECK(testing::content(must(thin.open_volume(to, Access::read_only))) == 1);
  CHECK(must(thin.snapshots(to)).size() == 1);
  must(receive(thin, to, more));  // its base is still the stream's, though the rollback has made it anew
  CHECK(testing::content(must(thin.open_volume(to, Access::read_only))) == 2);
}
