#pragma once
// What all copies of a `MemoryBackend` and its open volumes share.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/testing/detail/sparse_blocks.hpp>
#include <stowage/testing/serial_queue.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage::testing::detail {

struct MemorySnapshot {
  SnapshotInfo info;
  SparseBlocks blocks;
  std::string identity{};  // of its content: given by a stream
};

struct MemoryOrigin {
  std::uint64_t volume = 0;  // by number, as names change
  std::string snapshot;      // empty: the volume is a template
};

struct MemoryVolume {
  std::uint64_t id = 0;
  Bytes size{};
  Content content = Content::images;
  SparseBlocks blocks;
  std::vector<MemorySnapshot> snapshots{};
  std::optional<MemoryOrigin> origin{};
  std::chrono::sys_seconds ctime{};
  std::string intent{};
  std::optional<Receipt> receipt{};
  std::optional<SnapshotName> waits_for{};  // whose content it gets when it is activated next
  bool is_base = false;
  bool has_writer = false;
  bool has_owner = false;  // an import or stream that was begun, and neither ended nor released

  [[nodiscard]] MemorySnapshot* find(const SnapshotName& snapshot) {
    for (MemorySnapshot& s : snapshots) {
      if (s.info.name == snapshot) return &s;
    }
    return nullptr;
  }
  void go_back_to(const MemorySnapshot& snapshot) {
    size = snapshot.info.size;
    blocks = snapshot.blocks;
  }
};

inline std::chrono::sys_seconds now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}
inline Result<void> set_intent(MemoryVolume& volume, std::string intent) {
  if (intent.empty()) {
    volume.receipt.reset();
    volume.waits_for.reset();
    volume.has_owner = false;
  }
  volume.intent = std::move(intent);
  return {};
}
inline Result<void> unused(const MemoryVolume& volume) {
  if (volume.has_writer) return fail(Errc::in_use, "somebody has it open for writing");
  return {};
}
/// Stands for work that takes long elsewhere.
inline Result<void> copied(const Work& work, const MemoryVolume& volume) {
  work.progress(0, volume.size.count);
  if (work.stop.stop_requested()) return fail(Errc::cancelled, "nothing was changed");
  work.progress(volume.size.count, volume.size.count);
  return {};
}
/// A rollback waits until nobody has the volume open.
inline Result<void> finish_waiting(MemoryVolume& volume) {
  if (!volume.waits_for || volume.has_writer) return {};
  if (const MemorySnapshot* snapshot = volume.find(*volume.waits_for)) volume.go_back_to(*snapshot);
  return set_intent(volume, {});
}

struct MemoryState {
  std::mutex mutex;
  Bytes capacity;
  Bytes block_size;
  Bytes unzeroed_block{};
  ChunkCount chunks = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::map<std::string, std::shared_ptr<MemoryVolume>> volumes{};
  std::uint64_t last_id = 0;
  std::uint64_t number = std::random_device{}();  // tells this storage from all others
  std::optional<Errc> planned_failure{};
  unsigned calls_before_failure = 0;
  bool offline = false;

  /// The failure that a test has planned for this call.
  Result<void> planned() {
    if (offline) return fail(Errc::unavailable, "the memory storage is offline");
    if (!planned_failure) return {};
    if (calls_before_failure > 0) {
      --calls_before_failure;
      return {};
    }
    const Errc code = *std::exchange(planned_failure, std::nullopt);
    return fail(code, "a failure that the test asked for: " + std::string{name(code)});
  }

  [[nodiscard]] Bytes used() const { return Bytes{*chunks * SparseBlocks::chunk_size}; }
};

inline void recover_one(MemoryState& state, const std::string& name, MemoryVolume& volume, Recovery& recovery,
                        bool dry_run) {
  const auto receipt = volume.intent == "receive" ? volume.receipt : std::nullopt;
  const auto* base = receipt && receipt->base ? volume.find(*receipt->base) : nullptr;
  const bool removed = volume.intent == "import" || volume.intent == "remove" || (receipt && !receipt->base);
  recovery.done.push_back({name, (removed ? "removed, unfinished " : "finished ") + volume.intent});
  if (dry_run) return;
  if (base != nullptr) volume.go_back_to(*base);
  static_cast<void>(finish_waiting(volume));
  static_cast<void>(set_intent(volume, {}));
  if (removed) state.volumes.erase(name);
}

/// Pre: the mutex is locked.
inline Result<Recovery> recover(MemoryState& state, const std::optional<VolumeName>& only,
                                const RecoverOptions& options, const Work& work) {
  Recovery recovery;
  if (only && !state.volumes.contains(only->str())) return fail(Errc::not_found, "no volume '" + only->str() + "'");
  for (auto at = state.volumes.begin(); at != state.volumes.end();) {
    const auto [name, volume] = *at++;  // a copy: it may be removed
    if (volume->intent.empty() || (only && only->str() != name)) continue;
    if (volume->has_owner || volume->has_writer) {
      recovery.busy.push_back({name, volume->intent, volume->has_owner ? "this process" : "a writer"});
    } else if (work.stop.stop_requested()) {
      recovery.left.push_back({name, volume->intent, "stopped before its turn", {}, Errc::cancelled});
    } else {
      recover_one(state, name, *volume, recovery, options.dry_run);
    }
  }
  return recovery;
}

}  // namespace stowage::testing::detail

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
