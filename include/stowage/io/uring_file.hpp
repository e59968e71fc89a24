#pragma once
// What a queue must know of the block device or file that it works on.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// An open block device or regular file.
struct UringFile {
  Fd fd{};
  QueueTarget target{};
  bool is_block_device = false;
  bool direct = false;  ///< around the page cache: memory must lie on blocks too

  /// Errors: invalid_argument (neither, no whole number of blocks, or opened in another way); permission_denied (a
  /// read-only device); unavailable.
  [[nodiscard]] static Result<UringFile> of(Fd fd) {
    UringFile file{std::move(fd)};
    struct ::stat status {};
    const int flags = ::fcntl(file.fd.get(), F_GETFL);
    if (flags < 0 || ::fstat(file.fd.get(), &status) != 0) return fail(kernel_error(errno, "a queue's descriptor"));
    // Appending, the kernel ignores offsets; without blocking, it refuses what it would have to wait for.
    if ((flags & (O_APPEND | O_NONBLOCK)) != 0 || (flags & O_ACCMODE) == O_WRONLY) {
      return fail(Errc::invalid_argument,
                  "a queue's descriptor is opened to read, or to read and write, and as nothing else");
    }
    file.is_block_device = S_ISBLK(status.st_mode);
    file.direct = (flags & O_DIRECT) != 0;
    file.target.writable = (flags & O_ACCMODE) == O_RDWR;
    if (file.is_block_device) {
      int block = 0;
      if (::ioctl(file.fd.get(), BLKGETSIZE64, &file.target.size.count) != 0 ||
          ::ioctl(file.fd.get(), BLKSSZGET, &block) != 0) {
        return fail(kernel_error(errno, "asking a block device for its size"));
      }
      file.target.block_size = Bytes{static_cast<std::uint64_t>(block)};
      int read_only = 0;
      if (file.target.writable && ::ioctl(file.fd.get(), BLKROGET, &read_only) == 0 && read_only != 0) {
        return fail(Errc::permission_denied, "the block device is read-only", native_errno(EROFS));
      }
      return file;
    }
    if (!S_ISREG(status.st_mode)) return fail(Errc::invalid_argument, "neither a block device nor a regular file");
    file.target.size = Bytes{static_cast<std::uint64_t>(status.st_size)};
    const std::uint64_t block = file.direct ? direct_block(file.fd.get()) : file.target.size.count % 512 == 0 ? 512 : 1;
    if (block == 0 || file.target.size.count % block != 0) {
      return fail(Errc::invalid_argument,
                  "the file's size of " + std::to_string(file.target.size.count) + " bytes does not allow O_DIRECT");
    }
    file.target.block_size = Bytes{block};
    return file;
  }

  /// Around the page cache where that can be. A block device that is opened for writing is claimed (O_EXCL).
  /// Errors: not_found, permission_denied, in_use, unavailable, invalid_argument (neither device nor file).
  [[nodiscard]] static Result<UringFile> open(const std::string& path, Access access) {
    const int how = O_CLOEXEC | (access == Access::read_write ? O_RDWR | O_EXCL : O_RDONLY);
    const auto named = [&](Error error) { return std::move(error).during("'" + path + "'"); };
    if (Fd fd{::open(path.c_str(), how | O_DIRECT)}) {
      auto file = of(std::move(fd)).map_error(named);
      if (file || file.error().code() != Errc::invalid_argument) return file;
    } else if (errno != EINVAL) {
      return fail(kernel_error(errno, "opening '" + path + "'"));
    }
    Fd fd{::open(path.c_str(), how)};
    if (!fd) return fail(kernel_error(errno, "opening '" + path + "'"));
    return of(std::move(fd)).map_error(named);
  }

 private:
  /// The least block that O_DIRECT takes. statx tells it only from Linux 6.1 on, and not on all file systems: so it is
  /// tried.
  static std::uint64_t direct_block(int fd) noexcept {
    alignas(4096) std::array<std::byte, 4096> memory;
    for (const std::size_t block : {std::size_t{512}, memory.size()}) {
      if (::pread(fd, memory.data(), block, 0) >= 0) return block;
    }
    return 0;
  }
};

}  // namespace stowage::detail
