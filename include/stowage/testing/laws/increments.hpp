#pragma once
// Laws of storages whose snapshots can be sent and received: see `IncrementBackend`.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stowage/io/extents.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>
#include <vector>

namespace stowage::testing::laws {

template <class F>
void what_was_written_since_a_snapshot_is_known(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  const SnapshotName first = snapshot_name("s1");
  must(bench.storage().snapshot(volume, first));
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  CHECK(must(device.changes_since(first)).empty());
  refused(device.changes_since(snapshot_name("s9")), Errc::not_found);
  const Bytes block{std::max<std::uint64_t>(device.block_size().count, 512)};
  const Bytes at = bench.size - block;  // the last block
  must(device.write_at(at, pattern(2, block.count)));
  must(device.flush());
  const auto has = [&](const std::vector<Extent>& changes, Bytes place) {
    return std::any_of(changes.begin(), changes.end(), [&](const Extent& e) {
      return e.allocated && e.offset <= place && place < ::stowage::detail::end_of(e);
    });
  };
  CHECK(has(must(device.changes_since(first)), at));
  CHECK_FALSE(has(must(device.changes_since(first)), Bytes{}));
  must(device.close());
  const SnapshotName second = snapshot_name("s2");
  must(bench.storage().snapshot(volume, second));
  bench.fill(volume, 3);
  auto then = must(bench.storage().open_volume(volume, second));
  const std::vector<Extent> between = must(then.changes_since(first));
  CHECK(has(between, at));
  CHECK_FALSE(has(between, bench.place));
  Bytes known{};
  for (const Extent& extent : between) {
    CHECK(extent.offset >= known);
    known = ::stowage::detail::end_of(extent);
  }
  CHECK(known <= bench.size);
}

template <class F>
void a_receipt_says_how_far_a_stream_has_come(Bench<F>& bench) {
  auto& backend = bench.storage().backend();
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  const SnapshotName base = snapshot_name("s1");
  must(bench.storage().snapshot(volume, base));
  const std::string identity = must(backend.snapshot_identity(volume, base));
  CHECK(must(backend.snapshot_identity(volume, base)) == identity);
  CHECK_FALSE(must(backend.receipt(volume)));
  refused(backend.receipt(bench.missing()), Errc::not_found);
  refused(backend.snapshot_identity(volume, snapshot_name("s9")), Errc::not_found);

  auto device = must(backend.open_volume(volume, Access::read_write));
  for (const Bytes done : {Bytes{}, 1_MiB}) {
    must(backend.set_receipt(volume, device, {.target = "its-new.content", .base = base, .done = done}));
    const std::optional<Receipt> receipt = must(backend.receipt(volume));
    REQUIRE(receipt);
    CHECK(receipt->target == "its-new.content");
    CHECK(receipt->base == base);
    CHECK(receipt->done.count == done.count);
    CHECK(must(bench.storage().info(volume)).intent == "receive");
  }
  must(device.write_at(bench.place, Bench<F>::data(2)));
  must(device.close());
  CHECK(must(bench.storage().recover()).busy.size() == 1);
  must(bench.storage().abandon_import(volume));
  if constexpr (requires { backend.resume_receipt(volume); }) {
    refused(backend.open_volume(volume, Access::read_write), Errc::wrong_state);
    must(backend.resume_receipt(volume));
    CHECK(must(bench.storage().recover()).busy.size() == 1);
    must(must(backend.open_volume(volume, Access::read_write)).close());
    must(bench.storage().abandon_import(volume));
  }
  CHECK(must(bench.storage().recover()).done.size() == 1);
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  CHECK(bench.holds(volume, 1));
  CHECK(must(backend.snapshot_identity(volume, base)) == identity);  // also behind a rollback

  auto again = must(backend.open_volume(volume, Access::read_write));
  must(again.write_at(bench.place, Bench<F>::data(3)));
  must(backend.set_receipt(volume, again, {.target = "its-new.content", .base = base}));
  const SnapshotName target = snapshot_name("s2");
  for (int times = 0; times < 2; ++times) {
    must(backend.end_receipt(volume, again, target, "its-new.content"));
    CHECK(must(backend.snapshot_identity(volume, target)) == "its-new.content");
  }
  must(again.close());
  CHECK_FALSE(must(backend.receipt(volume)));
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  CHECK(bench.holds(volume, target, 3));
  must(bench.storage().remove_snapshot(volume, target));
  must(bench.storage().snapshot(volume, target));
  CHECK(must(backend.snapshot_identity(volume, target)) != "its-new.content");
}

}  // namespace stowage::testing::laws
