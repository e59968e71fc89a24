#pragma once
// What all copies of a `MemoryBackend` and its open volumes share: the volumes.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/intent/runs.hpp>
#include <stowage/testing/detail/sparse_blocks.hpp>
#include <stowage/volume.hpp>
#include <string>
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
  std::string record{};      // the text of its intent, as a storage keeps it; else empty
  std::optional<Run> run{};  // of this storage: an import or stream that was neither ended nor released
  bool is_base = false;
  bool has_writer = false;

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

}  // namespace stowage::testing::detail
