#pragma once
// Laws of the bytes of a volume.

#include <sys/uio.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stowage/io/device.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <vector>

namespace stowage::testing::laws {

template <class F>
void an_open_volume_has_the_size_of_its_row(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  auto device = must(bench.storage().open_volume(volume, Access::read_only));
  CHECK(device.size().count == must(bench.storage().info(volume)).size.count);
  REQUIRE(device.block_size().count > 0);
  CHECK(device.size().count % device.block_size().count == 0);
}

template <class F>
void written_bytes_read_back_and_their_neighbours_stay(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 1);
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  const std::size_t block = std::max<std::size_t>(device.block_size().count, 512);
  auto expected = Bench<F>::data(1);
  const auto fresh = pattern(2, 3 * block);
  std::copy(fresh.begin(), fresh.end(), expected.begin() + static_cast<std::ptrdiff_t>(5 * block));
  must(device.write_at(bench.place + Bytes{5 * block}, fresh));
  must(device.flush());
  const auto there = bench.read(std::move(device), bench.place);
  CHECK(there == expected);
}

template <class F>
void the_first_and_the_last_block_can_be_written(Bench<F>& bench) {
  auto device = must(bench.storage().open_volume(bench.writable(), Access::read_write));
  const std::size_t block = std::max<std::size_t>(device.block_size().count, 512);
  std::vector<std::byte> seen(block);
  for (const Bytes at : {Bytes{}, device.size() - Bytes{block}}) {
    must(device.write_at(at, pattern(at.count + 3, block)));
    must(device.read_at(at, seen));
    CHECK(seen == pattern(at.count + 3, block));
  }
}

template <class F>
void megabytes_go_through_in_one_call(Bench<F>& bench) {
  auto device = must(bench.storage().open_volume(bench.writable(), Access::read_write));
  const auto data = pattern(4, 5 << 20);
  std::vector<std::byte> seen(data.size());
  must(device.write_at(1_MiB, data));
  must(device.read_at(1_MiB, seen));
  CHECK(seen == data);
}

template <class F>
void what_was_closed_is_there_when_it_is_opened_again(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 5);
  CHECK(bench.holds(volume, 5));
  bench.fill(volume, 6);
  CHECK(bench.holds(volume, 6));
}

template <class F>
void a_range_that_is_not_on_blocks_is_invalid(Bench<F>& bench) {
  auto device = must(bench.storage().open_volume(bench.writable(), Access::read_write));
  const std::size_t block = device.block_size().count;
  if (block == 1) return;
  std::vector<std::byte> buffer(block);
  refused(device.read_at(Bytes{1}, buffer), Errc::invalid_argument);
  refused(device.write_at(Bytes{block - 1}, buffer), Errc::invalid_argument);
  refused(device.write_at(Bytes{}, std::span{buffer}.first(block - 1)), Errc::invalid_argument);
  refused(device.discard(Bytes{1}, Bytes{block}), Errc::invalid_argument);
  refused(device.write_zeroes(Bytes{}, Bytes{block + 1}), Errc::invalid_argument);
}

template <class F>
void a_range_beyond_the_end_is_invalid(Bench<F>& bench) {
  auto device = must(bench.storage().open_volume(bench.writable(), Access::read_write));
  const Bytes block = device.block_size();
  std::vector<std::byte> buffer(2 * block.count);
  const auto one = std::span{buffer}.first(block.count);
  refused(device.read_at(device.size(), one), Errc::invalid_argument);
  refused(device.read_at(device.size() - block, buffer), Errc::invalid_argument);
  refused(device.write_at(device.size() - block, buffer), Errc::invalid_argument);
  // at + length wraps around to a good offset
  const Bytes last{std::numeric_limits<std::uint64_t>::max() - block.count + 1};
  refused(device.read_at(last, buffer), Errc::invalid_argument);
  refused(device.write_at(last, buffer), Errc::invalid_argument);
  refused(device.discard(last, Bytes{2 * block.count}), Errc::invalid_argument);
  refused(device.write_zeroes(Bytes{}, device.size() + block), Errc::invalid_argument);
}

template <class F>
void what_is_open_for_reading_cannot_be_written(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 7);
  {
    auto device = must(bench.storage().open_volume(volume, Access::read_only));
    const Bytes length{Bench<F>::data(8).size()};
    refused(device.write_at(bench.place, Bench<F>::data(8)), Errc::wrong_state);
    refused(device.discard(bench.place, length), Errc::wrong_state);
    refused(device.write_zeroes(bench.place, length), Errc::wrong_state);
  }
  CHECK(bench.holds(volume, 7));
}

template <class F>
void written_zeroes_read_as_zeros(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 9);
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  const std::size_t block = std::max<std::size_t>(device.block_size().count, 512);
  auto expected = Bench<F>::data(9);
  std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(block), 4 * block, std::byte{});
  must(device.write_zeroes(bench.place + Bytes{block}, Bytes{4 * block}));
  const auto there = bench.read(std::move(device), bench.place);
  CHECK(there == expected);
}

/// Whether a discarded range reads as zeros is the type's matter; that nothing else changes is not.
template <class F>
void discard_leaves_the_neighbours_alone(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 10);
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  constexpr std::size_t quarter = 32 * 1024;
  must(device.discard(bench.place + Bytes{quarter}, Bytes{2 * quarter}));
  const auto seen = bench.read(std::move(device), bench.place);
  const auto before = Bench<F>::data(10);
  CHECK(std::equal(seen.begin(), seen.begin() + quarter, before.begin()));
  CHECK(std::equal(seen.end() - quarter, seen.end(), before.end() - quarter));
  bool old_or_zero = true;
  for (std::size_t i = quarter; i < 3 * quarter; ++i) old_or_zero &= seen[i] == before[i] || seen[i] == std::byte{};
  CHECK(old_or_zero);
}

template <class F>
void two_may_read_at_once(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 11);
  auto first = must(bench.storage().open_volume(volume, Access::read_only));
  CHECK(bench.holds(volume, 11));
  const auto there = bench.read(std::move(first), bench.place);
  CHECK(there == Bench<F>::data(11));
}

/// Of devices that have queues; of others it says what `what_was_closed_is_there_when_it_is_opened_again` says.
template <class F>
void a_queue_moves_the_bytes_of_its_device(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 12);
  {
    auto device = must(bench.storage().open_volume(volume, Access::read_write));
    if constexpr (QueuedDevice<decltype(device)>) {
      struct alignas(4096) Page {
        std::array<std::byte, 4096> bytes;
      };
      const auto data = Bench<F>::data(13);
      std::vector<Page> pages(data.size() / sizeof(Page));
      std::vector<::iovec> buffers;
      for (std::size_t i = 0; i < pages.size(); ++i) {
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(i * sizeof(Page)), sizeof(Page), pages[i].bytes.begin());
        buffers.push_back({pages[i].bytes.data(), sizeof(Page)});
      }
      auto queue = must(device.queue(pages.size()));
      CHECK(queue.size().count == device.size().count);
      CHECK(queue.block_size().count == device.block_size().count);
      for (std::size_t i = 0; i < pages.size(); ++i) {
        const Bytes at = bench.place + Bytes{i * sizeof(Page)};
        const IoRequest write{.op = IoOp::write, .offset = at, .buffers = {&buffers[i], 1}, .token = i};
        REQUIRE(queue.submit(write) == Submitted::yes);
      }
      std::vector<IoCompletion> done(pages.size());
      while (queue.in_flight() > 0) {
        const std::size_t count = must(wait(queue, std::span{done}, std::chrono::seconds{30}));
        for (std::size_t i = 0; i < count; ++i) CHECK(done[i].result == std::int64_t{sizeof(Page)});
      }
    } else {
      must(device.write_at(bench.place, Bench<F>::data(13)));
    }
    must(device.close());
  }
  CHECK(bench.holds(volume, 13));
}

}  // namespace stowage::testing::laws
