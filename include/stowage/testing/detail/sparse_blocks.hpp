#pragma once
// The bytes of a volume in memory: only what was written takes space, and copies share it until one of them writes.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/io/extents.hpp>
#include <utility>
#include <vector>

namespace stowage::testing::detail {

/// Counts the chunks that are alive in one storage.
using ChunkCount = std::shared_ptr<std::atomic<std::uint64_t>>;

/// A sparse array of bytes. Copies are cheap: snapshots and clones are made of them.
class SparseBlocks {
 public:
  static constexpr std::size_t chunk_size = 64 * 1024;

  explicit SparseBlocks(ChunkCount count) : count_{std::move(count)} {}

  void read(std::uint64_t at, std::span<std::byte> out) const {
    while (!out.empty()) {
      const auto [number, offset, length] = piece(at, out.size());
      const auto chunk = chunks_.find(number);
      if (chunk == chunks_.end()) {
        std::fill_n(out.begin(), length, std::byte{});
      } else {
        std::memcpy(out.data(), chunk->second->bytes.data() + offset, length);
      }
      out = out.subspan(length);
      at += length;
    }
  }

  void write(std::uint64_t at, std::span<const std::byte> data) {
    while (!data.empty()) {
      const auto [number, offset, length] = piece(at, data.size());
      std::memcpy(own(number).bytes.data() + offset, data.data(), length);
      data = data.subspan(length);
      at += length;
    }
  }

  /// Fills a range of whole chunks of which none is there yet.
  void fill_new(std::uint64_t begin, std::uint64_t end, std::byte with) {
    const auto there = chunks_.lower_bound(begin / chunk_size);
    if (there != chunks_.end() && there->first * chunk_size < end) return;
    for (; begin < end; begin += chunk_size) own(begin / chunk_size).bytes.fill(with);
  }

  /// The range reads as zeros, and whole chunks of it take no space any more.
  void clear(std::uint64_t at, std::uint64_t size) {
    const std::uint64_t end = at + size;
    for (auto chunk = chunks_.lower_bound(at / chunk_size);
         chunk != chunks_.end() && chunk->first * chunk_size < end;) {
      const std::uint64_t begin = chunk->first * chunk_size;
      if (at <= begin && begin + chunk_size <= end) {
        chunk = chunks_.erase(chunk);
        continue;
      }
      const std::uint64_t first = std::max(at, begin) - begin;
      const std::uint64_t last = std::min(end - begin, std::uint64_t{chunk_size});
      std::memset(own(chunk->first).bytes.data() + first, 0, last - first);
      ++chunk;
    }
  }

  /// How much space a write to this range would take at most.
  [[nodiscard]] std::uint64_t growth(std::uint64_t at, std::uint64_t size) const {
    std::uint64_t chunks = 0;
    for (std::uint64_t number = at / chunk_size; size > 0 && number <= (at + size - 1) / chunk_size; ++number) {
      const auto chunk = chunks_.find(number);
      if (chunk == chunks_.end() || chunk->second.use_count() > 1) ++chunks;
    }
    return chunks * chunk_size;
  }

  /// Which chunks of the first `size` bytes are not those of `before`, and whether there is anything in them.
  [[nodiscard]] std::vector<Extent> changes_since(const SparseBlocks& before, Bytes size) const {
    std::vector<Extent> changes;
    const auto add = [&](std::uint64_t number, bool allocated) {
      const Bytes begin{number * chunk_size};
      stowage::detail::append_extent(changes, begin, std::min(begin + Bytes{chunk_size}, size), allocated);
    };
    auto now = chunks_.begin();
    auto then = before.chunks_.begin();
    while (now != chunks_.end() || then != before.chunks_.end()) {
      if (then == before.chunks_.end() || (now != chunks_.end() && now->first < then->first)) {
        add(now++->first, true);
      } else if (now == chunks_.end() || then->first < now->first) {
        add(then++->first, false);
      } else {
        if (now->second != then->second) add(now->first, true);
        ++now, ++then;
      }
    }
    return changes;
  }

  /// What this volume refers to, also what it shares.
  [[nodiscard]] Bytes used() const noexcept { return Bytes{chunks_.size() * chunk_size}; }

 private:
  struct Chunk {
    explicit Chunk(ChunkCount alive) : count{std::move(alive)} { ++*count; }
    Chunk(const Chunk& other) : count{other.count}, bytes{other.bytes} { ++*count; }
    Chunk& operator=(const Chunk&) = delete;
    ~Chunk() { --*count; }

    ChunkCount count;
    std::array<std::byte, chunk_size> bytes{};
  };
  struct Piece {
    std::uint64_t chunk;
    std::size_t offset;
    std::size_t length;
  };

  static Piece piece(std::uint64_t at, std::size_t size) {
    const std::size_t offset = at % chunk_size;
    return {at / chunk_size, offset, std::min(size, chunk_size - offset)};
  }

  Chunk& own(std::uint64_t number) {
    std::shared_ptr<Chunk>& chunk = chunks_[number];
    if (chunk == nullptr) {
      chunk = std::make_shared<Chunk>(count_);
    } else if (chunk.use_count() > 1) {
      chunk = std::make_shared<Chunk>(*chunk);
    }
    return *chunk;
  }

  ChunkCount count_;
  std::map<std::uint64_t, std::shared_ptr<Chunk>> chunks_;
};

}  // namespace stowage::testing::detail
