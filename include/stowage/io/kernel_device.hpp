#pragma once
// A block device of the kernel: a logical volume, a LUN, a mapped image.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/io/uring_call.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// An open block device. Reads and writes go around the page cache.
///
/// Open for writing, it is claimed (O_EXCL): a device that is mounted, or belongs to device mapper or to another writer
/// of stowage, is `in_use`. QEMU does not claim what it opens.
///
/// Blocks: as long as the kernel does, which no deadline of ours can cut short. That is bounded by the device: a thin
/// pool that is full and queues fails after 60 s (`no_space_timeout` of dm_thin_pool), a LUN without paths after the
/// `replacement_timeout` of open-iscsi (120 s), unless multipath queues for ever (`no_path_retry queue`).
class KernelDevice {
 public:
  /// Errors: not_found, in_use (claimed by somebody), permission_denied (no rights, or a read-only device),
  /// unavailable (the device has gone), invalid_argument (not a block device).
  [[nodiscard]] static Result<KernelDevice> open(const std::string& path, Access access, std::string name_for_errors) {
    const bool writable = access == Access::read_write;
    const int flags = O_CLOEXEC | O_DIRECT | (writable ? O_RDWR | O_EXCL : O_RDONLY);
    KernelDevice device{Fd{::open(path.c_str(), flags)}, std::move(name_for_errors), writable};
    if (!device.fd_) return fail(detail::kernel_error(errno, "opening '" + path + "'"));
    struct ::stat status {};
    if (::fstat(device.fd_.get(), &status) != 0) return fail(detail::kernel_error(errno, "looking at '" + path + "'"));
    if (!S_ISBLK(status.st_mode)) return fail(Errc::invalid_argument, "'" + path + "' is not a block device");
    device.number_ = status.st_rdev;
    if (auto measured = device.measure(); !measured) return fail(std::move(measured.error()));
    int read_only = 0;
    if (writable && ::ioctl(device.fd_.get(), BLKROGET, &read_only) == 0 && read_only != 0) {
      return fail(Errc::permission_denied, "'" + path + "' is read-only", native_errno(EROFS));
    }
    return device;
  }

  /// As it was when last asked for: a request beyond it asks the kernel anew, and so does `refresh_size`.
  [[nodiscard]] Bytes size() const noexcept { return size_; }
  /// The logical block size, of which offsets and lengths are multiples.
  [[nodiscard]] Bytes block_size() const noexcept { return block_size_; }
  [[nodiscard]] IoSizes io_sizes() const noexcept {
    unsigned smallest = 0;
    unsigned optimal = 0;
    if (::ioctl(fd_.get(), BLKIOMIN, &smallest) != 0) smallest = 0;
    if (::ioctl(fd_.get(), BLKIOOPT, &optimal) != 0) optimal = 0;
    return {Bytes{smallest}, Bytes{optimal}};
  }
  /// Where it has data, see `MappedDevice`: all of it, for a block device does not tell. Errors: invalid_argument
  /// (closed).
  [[nodiscard]] Result<std::vector<Extent>> extents() const {
    if (!fd_) return closed();
    return std::vector<Extent>{{Bytes{}, size_, true}};
  }
  /// Major and minor number.
  [[nodiscard]] ::dev_t number() const noexcept { return number_; }
  /// The descriptor, for ioctls. -1 once it is closed.
  [[nodiscard]] int native() const noexcept { return fd_.get(); }

  /// The claim lasts as long as the device and its queues.
  /// Errors: invalid_argument (closed, or a depth below 1 or above 4096); backend_failed (no descriptor or thread
  /// left).
  [[nodiscard]] Result<UringQueue> queue(std::size_t depth) const {
    if (!fd_) return closed();
    Fd own{::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0)};
    if (!own) return fail(detail::kernel_error(errno, "a queue for '" + name_ + "'"));
    return UringQueue::over(std::move(own), depth, {.zero_chunk = zero_chunk_});
  }

  /// Looks whether the device has grown, and says its size.
  Result<Bytes> refresh_size() {
    if (!fd_) return closed();
    return measure().map([&] { return size_; });
  }

  Result<void> read_at(Bytes at, std::span<std::byte> buffer) {
    if (auto good = check(at, buffer.size()); !good) return good;
    return each_piece(at, buffer.size(), buffer.data(), "reading", [&](Bytes offset, std::size_t done, Piece piece) {
      const ::ssize_t got = ::pread(fd_.get(), piece.memory, piece.length, static_cast<::off_t>(offset.count));
      if (got > 0 && piece.bounced) std::memcpy(buffer.data() + done, piece.memory, static_cast<std::size_t>(got));
      return got;
    });
  }

  Result<void> write_at(Bytes at, std::span<const std::byte> data) {
    if (auto good = check_writable(at, data.size()); !good) return good;
    return each_piece(at, data.size(), data.data(), "writing", [&](Bytes offset, std::size_t done, Piece piece) {
      if (piece.bounced) std::memcpy(bounce_.get(), data.data() + done, piece.length);
      const void* from = piece.bounced ? bounce_.get() : data.data() + done;
      return ::pwrite(fd_.get(), from, piece.length, static_cast<::off_t>(offset.count));
    });
  }

  /// A device that cannot discard keeps the range, which is no error.
  Result<void> discard(Bytes at, Bytes length) { return in_range(IoOp::discard, at, length, "discarding"); }
  /// Gives the space back, where what lies there reads as zeros afterwards.
  Result<void> write_zeroes(Bytes at, Bytes length) {
    return in_range(IoOp::write_zeroes, at, length, "writing zeroes");
  }

  /// What is discarded in whole chunks of that size, at most 1 GiB, reads as zeros: here and on queues made from now
  /// on, zeros are written by discarding. The kernel does not tell that of any device; who knows what it is, does.
  void discards_to_zeros(Bytes chunk) noexcept { zero_chunk_ = chunk; }

  Result<void> flush() {
    if (!fd_) return closed();
    if (writable_ && ::fdatasync(fd_.get()) != 0) return fail(error(errno, "flushing", Bytes{}));
    return {};
  }

  Result<void> close() {
    if (!fd_) return {};
    auto flushed = flush();
    fd_.reset();
    return flushed;
  }

 private:
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }  // NOLINT(cppcoreguidelines-no-malloc)
  };
  /// What one system call moves: from or to the caller's memory, or the bounce buffer.
  struct Piece {
    void* memory = nullptr;  ///< to read into; writes take the caller's constant memory instead
    std::size_t length = 0;
    bool bounced = false;
  };
  static constexpr std::size_t bounce_size = std::size_t{1} << 20U;
  static constexpr std::size_t direct_size = std::size_t{64} << 20U;

  KernelDevice(Fd fd, std::string name, bool writable) noexcept
      : fd_{std::move(fd)}, name_{std::move(name)}, writable_{writable} {}

  [[nodiscard]] static tl::unexpected<Error> closed() { return fail(Errc::invalid_argument, "the device is closed"); }

  Result<void> measure() {
    std::uint64_t size = 0;
    int block = 0;
    if (::ioctl(fd_.get(), BLKGETSIZE64, &size) != 0 || ::ioctl(fd_.get(), BLKSSZGET, &block) != 0) {
      return fail(detail::kernel_error(errno, "asking '" + name_ + "' for its size"));
    }
    size_ = Bytes{size};
    block_size_ = Bytes{static_cast<std::uint64_t>(block)};
    return {};
  }

  Result<void> check(Bytes at, std::uint64_t length) {
    if (!fd_) return closed();
    auto good = detail::check_range(size_, block_size_, at, length);
    if (good) return good;
    // It may have grown.
    return measure().and_then([&] { return detail::check_range(size_, block_size_, at, length); });
  }
  Result<void> check_writable(Bytes at, std::uint64_t length) {
    if (fd_ && !writable_) return fail(Errc::wrong_state, "'" + name_ + "' was opened to read");
    return check(at, length);
  }

  Error error(int code, const char* doing, Bytes at) const {
    return detail::kernel_error(code, std::string{doing} + " '" + name_ + "' at " + std::to_string(at.count));
  }

  /// O_DIRECT wants memory that lies on blocks; other memory goes through a buffer that does.
  template <class Memory, class Call>
  Result<void> each_piece(Bytes at, std::size_t size, Memory* memory, const char* doing, Call call) {
    const bool bounced = reinterpret_cast<std::uintptr_t>(memory) % block_size_.count != 0;
    if (bounced && !bounce_) {
      bounce_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bounce_size)));
      if (!bounce_) return fail(error(ENOMEM, doing, at));
    }
    for (std::size_t done = 0; done < size;) {
      Piece piece{nullptr, std::min(size - done, bounced ? bounce_size : direct_size), bounced};
      if (bounced) {
        piece.memory = bounce_.get();
      } else if constexpr (!std::is_const_v<Memory>) {
        piece.memory = memory + done;
      }
      const ::ssize_t moved = call(at + Bytes{done}, done, piece);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0) return fail(error(errno, doing, at + Bytes{done}));
      if (moved == 0) return fail(Errc::conflict, "'" + name_ + "' became smaller while it was open");
      done += static_cast<std::size_t>(moved);
    }
    return {};
  }

  Result<void> in_range(IoOp op, Bytes at, Bytes length, const char* doing) {
    if (auto good = check_writable(at, length.count); !good || length == Bytes{}) return good;
    detail::UringOp change;
    change.begin({.op = op, .offset = at, .length = length}, length.count, true, zero_chunk_.count);
    while (!change.advance(change.call().perform(fd_.get()))) {
    }
    const std::int64_t result = change.completion().result;
    return result < 0 ? fail(error(static_cast<int>(-result), doing, at)) : Result<void>{};
  }

  Fd fd_;
  std::unique_ptr<std::byte, Free> bounce_;
  std::string name_;
  Bytes size_{};
  Bytes block_size_{512};
  Bytes zero_chunk_{};
  ::dev_t number_ = 0;
  bool writable_ = false;
};

static_assert(QueuedDevice<KernelDevice> && SizedDevice<KernelDevice> && MappedDevice<KernelDevice>);

}  // namespace stowage
