#pragma once
// An open volume of a `MemoryBackend`, and a queue on it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/testing/detail/memory_state.hpp>
#include <stowage/testing/detail/sparse_blocks.hpp>
#include <stowage/testing/serial_queue.hpp>
#include <stowage/volume.hpp>
#include <utility>
#include <vector>

namespace stowage::testing {

/// An open volume of a `MemoryBackend`.
class MemoryDevice {
 public:
  [[nodiscard]] Bytes size() const noexcept { return size_; }
  [[nodiscard]] Bytes block_size() const noexcept { return block_size_; }
  [[nodiscard]] IoSizes io_sizes() const noexcept { return {.smallest = block_size_, .optimal = Bytes{}}; }

  [[nodiscard]] Bytes unzeroed_block() const noexcept { return open_ ? open_->state->unzeroed_block : Bytes{}; }

  Result<void> read_at(Bytes at, std::span<std::byte> buffer) {
    return access(Access::read_only, at, buffer.size(), [&](detail::SparseBlocks& blocks) -> Result<void> {
      blocks.read(at.count, buffer);
      return {};
    });
  }
  Result<void> write_at(Bytes at, std::span<const std::byte> data) {
    return access(Access::read_write, at, data.size(), [&](detail::SparseBlocks& blocks) -> Result<void> {
      const detail::MemoryState& state = *open_->state;
      if (state.used().count + blocks.growth(at.count, data.size()) > state.capacity.count) {
        return fail(Errc::no_space, "the memory storage of " + to_string(state.capacity) + " is full");
      }
      write(blocks, at, data);
      return {};
    });
  }
  /// Reads as zeros afterwards.
  Result<void> discard(Bytes at, Bytes length) {
    return access(Access::read_write, at, length.count, [&](detail::SparseBlocks& blocks) -> Result<void> {
      blocks.clear(at.count, length.count);
      return {};
    });
  }
  Result<void> write_zeroes(Bytes at, Bytes length) {
    if (unzeroed_block() == Bytes{}) return discard(at, length);
    return access(Access::read_write, at, length.count, [&](detail::SparseBlocks& blocks) -> Result<void> {
      write(blocks, at, std::vector<std::byte>(static_cast<std::size_t>(length.count)));
      return {};
    });
  }
  Result<void> flush() {
    return access(open_ ? open_->access : Access::read_only, Bytes{}, 0,
                  [](detail::SparseBlocks&) { return Result<void>{}; });
  }
  Result<void> close() {
    auto flushed = flush();
    open_.reset();
    return flushed;
  }

  /// What may differ from a snapshot, in chunks of 64 KiB; see `TracksChanges`.
  [[nodiscard]] Result<std::vector<Extent>> changes_since(const SnapshotName& snapshot) const {
    if (!open_) return fail(Errc::wrong_state, "the volume is closed");
    const std::lock_guard lock{open_->state->mutex};
    if (auto good = open_->state->planned(); !good) return fail(std::move(good.error()));
    const detail::MemorySnapshot* before = open_->volume->find(snapshot);
    if (before == nullptr) return fail(Errc::not_found, "no snapshot '" + snapshot.str() + "'");
    return (open_->snapshot ? *open_->snapshot : open_->volume->blocks).changes_since(before->blocks, size_);
  }

  /// The volume stays open as long as its queues.
  [[nodiscard]] Result<SerialQueue<MemoryDevice>> queue(std::size_t depth) const {
    if (!open_) return fail(Errc::wrong_state, "the volume is closed");
    return SerialQueue<MemoryDevice>::over(MemoryDevice{size_, block_size_, open_}, open_->access == Access::read_write,
                                           depth);
  }

 private:
  friend class MemoryBackend;

  struct Open {
    std::shared_ptr<detail::MemoryState> state;
    std::shared_ptr<detail::MemoryVolume> volume;
    Access access;
    std::optional<detail::SparseBlocks> snapshot;  // its own: a removed snapshot can still be read

    Open(std::shared_ptr<detail::MemoryState> s, std::shared_ptr<detail::MemoryVolume> v, Access a,
         std::optional<detail::SparseBlocks> blocks)
        : state{std::move(s)}, volume{std::move(v)}, access{a}, snapshot{std::move(blocks)} {}
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    ~Open() {
      const std::lock_guard lock{state->mutex};
      if (access == Access::read_write) volume->has_writer = false;
      volume.reset();
      snapshot.reset();
    }
  };

  MemoryDevice(Bytes size, Bytes block_size, std::shared_ptr<Open> open)
      : size_{size}, block_size_{block_size}, open_{std::move(open)} {}

  void write(detail::SparseBlocks& blocks, Bytes at, std::span<const std::byte> data) const {
    if (const std::uint64_t block = unzeroed_block().count; block != 0) {
      for (std::uint64_t begin = at.count / block * block; begin < at.count + data.size(); begin += block) {
        blocks.fill_new(begin, begin + block, std::byte{0xAA});
      }
    }
    blocks.write(at.count, data);
  }

  template <class Verb>
  Result<void> access(Access needed, Bytes at, std::uint64_t length, Verb verb) {
    if (!open_) return fail(Errc::wrong_state, "the volume is closed");
    if (needed == Access::read_write && open_->access != Access::read_write) {
      return fail(Errc::wrong_state, "the volume is open for reading only");
    }
    if (auto good = stowage::detail::check_range(size_, block_size_, at, length); !good) return good;
    const std::lock_guard lock{open_->state->mutex};
    if (auto good = open_->state->planned(); !good) return good;
    return verb(open_->snapshot ? *open_->snapshot : open_->volume->blocks);
  }

  Bytes size_;
  Bytes block_size_;
  std::shared_ptr<Open> open_;
};

using MemoryQueue = SerialQueue<MemoryDevice>;

static_assert(QueuedDevice<MemoryDevice> && SizedDevice<MemoryDevice> && UnzeroedDevice<MemoryDevice> &&
              TracksChanges<MemoryDevice>);

}  // namespace stowage::testing
