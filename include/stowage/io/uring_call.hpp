#pragma once
// A request to a block device or a file, as the system calls that it takes: one after the other until all of it is
// done, whether io_uring makes them or a thread does.

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stowage/core/handle.hpp>
#include <stowage/io/queue.hpp>

namespace stowage::detail {

/// What requests are written from where neither the device nor the file system can zero a range. Nobody writes to it.
alignas(4096) inline std::array<std::byte, std::size_t{64} << 10U> uring_zeros{};

/// One system call.
struct UringCall {
  enum class What : std::uint8_t { read, write, sync, allocate, discard };

  What what = What::sync;
  std::span<const ::iovec> buffers{};  ///< of a read or write of several buffers; else empty
  void* memory = nullptr;              ///< of a read or write of one
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  int mode = 0;  ///< of fallocate

  /// The bytes moved, or 0, or -errno.
  [[nodiscard]] std::int64_t perform(int fd) const noexcept {
    const auto at = static_cast<::off_t>(offset);
    std::int64_t result = -EINVAL;
    switch (what) {
      case What::read:
        result = buffers.empty() ? ::pread(fd, memory, length, at)
                                 : ::preadv(fd, buffers.data(), static_cast<int>(buffers.size()), at);
        break;
      case What::write:
        result = buffers.empty() ? ::pwrite(fd, memory, length, at)
                                 : ::pwritev(fd, buffers.data(), static_cast<int>(buffers.size()), at);
        break;
      case What::sync: result = ::fdatasync(fd); break;
      case What::allocate: result = ::fallocate(fd, mode, at, static_cast<::off_t>(length)); break;
      case What::discard: {
        std::uint64_t range[2] = {offset, length};
        result = ::ioctl(fd, BLKDISCARD, range);
        break;
      }
    }
    return result < 0 ? -errno : result;
  }
};

/// A request on its way: what is left of it.
class UringOp {
 public:
  UringOp* next = nullptr;  ///< for whoever holds it

  /// `zero_chunk`: see `UringOptions`.
  void begin(const IoRequest& request, std::uint64_t length, bool on_block_device,
             std::uint64_t zero_chunk = 0) noexcept {
    token_ = request.token;
    op_ = request.op;
    buffers_ = op_ == IoOp::read || op_ == IoOp::write ? request.buffers : std::span<const ::iovec>{};
    skipped_ = 0;
    skip(0);
    offset_ = request.offset.count;
    left_ = length;
    result_ = static_cast<std::int64_t>(length);
    const bool has_chunk = zero_chunk != 0 && zero_chunk <= range_most &&
                           left_ >= zero_chunk + (zero_chunk - offset_ % zero_chunk) % zero_chunk;
    chunk_ = op_ == IoOp::write_zeroes && has_chunk ? zero_chunk : 0;
    way_ = op_ == IoOp::discard && on_block_device ? Way::discard : Way::punch_hole;
    choose_way();
  }

  /// The next call. Pre: the request is not done.
  [[nodiscard]] UringCall call() noexcept {
    using What = UringCall::What;
    switch (op_) {
      case IoOp::read: return move(What::read);
      case IoOp::write: return move(What::write);
      case IoOp::flush: return {};
      case IoOp::discard:
      case IoOp::write_zeroes: break;
    }
    UringCall call{.what = What::allocate, .offset = offset_, .length = range_length()};
    switch (way_) {
      case Way::discard: call.what = What::discard; break;
      case Way::punch_hole: call.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; break;
      case Way::zero_range: call.mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; break;
      case Way::write:
        call.what = What::write;
        call.memory = uring_zeros.data();
        break;
    }
    return call;
  }

  /// Takes the result of the call: bytes, 0 or -errno. True when the request is done.
  [[nodiscard]] bool advance(std::int64_t result) noexcept {
    // EAGAIN is not expected of files and disks, but seen with SCSI disks. ECANCELED: the thread that submitted has
    // ended. Either way nothing was done.
    if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) return false;
    if (result == -EOPNOTSUPP && (op_ == IoOp::discard || op_ == IoOp::write_zeroes)) return other_way();
    // What a disk did not answer in time may have been done.
    const bool changes = op_ != IoOp::read && op_ != IoOp::flush;
    if (result < 0) return finish(changes && result == -ETIMEDOUT ? -EINPROGRESS : result);
    const bool moved = op_ == IoOp::read || op_ == IoOp::write || (op_ == IoOp::write_zeroes && way_ == Way::write);
    if (moved && result == 0) return finish(-ENXIO);  // behind the end: it became smaller while it was open
    const std::uint64_t done = moved ? static_cast<std::uint64_t>(result) : range_length();
    offset_ += done;
    left_ -= done;
    skip(done);
    choose_way();
    return left_ == 0;
  }

  [[nodiscard]] IoCompletion completion() const noexcept { return {token_, result_}; }

  /// It has a discard in it, now or later: io_uring of a 6.1 kernel has no ioctl for it, and fallocate on a thin volume
  /// says EOPNOTSUPP.
  [[nodiscard]] bool needs_thread() const noexcept { return way_ == Way::discard || chunk_ != 0; }

 private:
  /// How a range is discarded or zeroed: each way is tried until one works. A hole reads as zeros, of a block device
  /// too, and gives the space back; where the kernel does not know that of the device, it says EOPNOTSUPP.
  enum class Way : std::uint8_t { discard, punch_hole, zero_range, write };

  // A device is not kept busy for long by one call.
  static constexpr std::uint64_t range_most = std::uint64_t{1} << 30U;
  // io_uring takes a length of 32 bits, and the kernel moves less than 2 GiB at once.
  static constexpr std::uint64_t move_most = std::uint64_t{1} << 30U;

  [[nodiscard]] UringCall move(UringCall::What what) const noexcept {
    const ::iovec& first = buffers_[0];
    // What is left of a buffer goes alone: the caller's list is not ours to change.
    if (skipped_ == 0 && buffers_.size() > 1) return {.what = what, .buffers = buffers_, .offset = offset_};
    return {.what = what,
            .memory = static_cast<std::byte*>(first.iov_base) + skipped_,
            .offset = offset_,
            .length = std::min<std::uint64_t>(first.iov_len - skipped_, move_most)};
  }

  [[nodiscard]] std::uint64_t range_length() const noexcept {
    const std::uint64_t most = std::min<std::uint64_t>(left_, way_ == Way::write ? uring_zeros.size() : range_most);
    if (chunk_ == 0) return most;
    return way_ == Way::discard ? most / chunk_ * chunk_ : std::min(most, chunk_ - offset_ % chunk_);
  }

  /// Of zeros, whole chunks are discarded, and only what is left at both ends is written.
  void choose_way() noexcept {
    if (chunk_ == 0) return;
    const bool whole = offset_ % chunk_ == 0 && left_ >= chunk_;
    if (whole || way_ == Way::discard) way_ = whole ? Way::discard : Way::punch_hole;
  }

  /// Goes on in the buffers by so many bytes, and over buffers of no length.
  void skip(std::uint64_t bytes) noexcept {
    for (skipped_ += bytes; !buffers_.empty() && skipped_ >= buffers_[0].iov_len; buffers_ = buffers_.subspan(1)) {
      skipped_ -= buffers_[0].iov_len;
    }
  }

  bool other_way() noexcept {
    if (op_ == IoOp::discard) return true;  // who cannot discard keeps the range, which is no error
    if (way_ == Way::write) return finish(-EOPNOTSUPP);
    if (way_ == Way::discard) chunk_ = 0;
    way_ = static_cast<Way>(static_cast<int>(way_) + 1);
    return false;
  }

  bool finish(std::int64_t result) noexcept {
    result_ = result;
    return true;
  }

  std::uint64_t token_ = 0;
  std::span<const ::iovec> buffers_{};
  std::uint64_t skipped_ = 0;  // of the first buffer
  std::uint64_t offset_ = 0;
  std::uint64_t left_ = 0;
  std::uint64_t chunk_ = 0;  // of zeros: what is discarded as a whole
  std::int64_t result_ = 0;
  IoOp op_ = IoOp::flush;
  Way way_ = Way::write;
};

}  // namespace stowage::detail
