#pragma once
// How a copy is to be made, how far it is, and what it did.

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/volume.hpp>

namespace stowage {

/// How far a copy has come.
struct CopyState {
  Bytes done{};  ///< of the source, in any order
  Bytes total{};
  Bytes skipped{};     ///< zeros that were not moved as data
  Bytes per_second{};  ///< data that were moved in the last second or so; zero in the first
};

/// Who wants to know. `report` is called from the thread that copies, once for each piece, and must not block.
struct CopyProgress {
  void (*report)(void* user, const CopyState& state) = nullptr;
  void* user = nullptr;
};

/// Tells a verb's `Progress` of a copy, as long as both live.
inline CopyProgress copy_progress(const Progress& progress) noexcept {
  static constexpr auto report = [](void* user, const CopyState& state) {
    (*static_cast<const Progress*>(user))(state.done.count, state.total.count);
  };
  return {report, const_cast<Progress*>(&progress)};  // NOLINT(cppcoreguidelines-pro-type-const-cast): it is read only
}

struct CopyOptions {
  std::size_t queue_depth = 16;  ///< requests in flight on either side, and buffers: memory is `queue_depth` * `chunk`
  Bytes chunk = 1_MiB;           ///< what is read at once; rounded up to the blocks of both sides
  bool sparse = true;            ///< zeros are looked for, and written as such
  bool fresh = false;            ///< the destination reads as zeros: they are not written at all
  Bytes fresh_block{};           ///< with `fresh`: such a block is written as a whole or not at all (`UnzeroedDevice`)
  bool only_extents = false;     ///< what lies outside the extents is left as it is; not with `verify`
  bool verify = false;           ///< read it all back, and compare checksums
  Bytes rate_limit{};            ///< bytes a second that are read; zero: as fast as it goes
  CopyProgress progress{};
  std::stop_token stop{};
};

/// What a copy did.
struct Copied {
  Bytes size{};     ///< of the source
  Bytes written{};  ///< as data
  Bytes skipped{};  ///< zeros, written as such or not at all
  std::chrono::milliseconds elapsed{};
};

}  // namespace stowage
