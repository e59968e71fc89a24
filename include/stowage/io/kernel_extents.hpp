#pragma once
// Where a file has data, as its file system knows it.

#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/kernel_error.hpp>
#include <vector>

namespace stowage {

/// The extents of an open file, from its begin to its end (SEEK_DATA, SEEK_HOLE). A block device, and a file on a file
/// system that does not know, are data as a whole. The position of the descriptor is changed.
/// Errors: those of lseek.
[[nodiscard]] inline Result<std::vector<Extent>> file_extents(int fd) {
  const ::off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < 0) return fail(detail::kernel_error(errno, "asking for the size of a file"));
  const Bytes size{static_cast<std::uint64_t>(end)};
  detail::ExtentMap map;
  struct ::stat status {};
  if (::fstat(fd, &status) != 0) return fail(detail::kernel_error(errno, "looking at a file"));
  for (::off_t at = 0; at < end;) {
    ::off_t data = S_ISREG(status.st_mode) ? ::lseek(fd, at, SEEK_DATA) : at;
    if (data < 0 && errno == ENXIO) break;       // none behind `at`
    if (data < 0 && errno == EINVAL) data = at;  // it does not know
    if (data < 0) return fail(detail::kernel_error(errno, "asking where a file has data"));
    const ::off_t hole = S_ISREG(status.st_mode) ? ::lseek(fd, data, SEEK_HOLE) : end;
    at = hole < 0 ? end : hole;
    map.add(Bytes{static_cast<std::uint64_t>(data)}, Bytes{static_cast<std::uint64_t>(std::min(at, end))}, true);
  }
  return map.take(size);
}

}  // namespace stowage
