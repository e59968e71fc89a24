#pragma once
// What an errno of block devices, files and completions means.

#include <cerrno>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>
#include <system_error>

namespace stowage::detail {

/// What an errno of a block device or a file means.
constexpr Errc kernel_errc(int code) noexcept {
  switch (code) {
    case ENOENT: return Errc::not_found;
    case EBUSY:
    case EBADE: return Errc::in_use;  // EBADE: a SCSI reservation of another host
    case EACCES:
    case EPERM:
    case EROFS: return Errc::permission_denied;
    case ENOSPC: return Errc::no_space;
    case ENXIO:
    case ENODEV:
    case ENOLINK:
    case ENOTCONN: return Errc::unavailable;
    case ETIMEDOUT: return Errc::timed_out;
    case EINVAL: return Errc::invalid_argument;
    default: return Errc::backend_failed;
  }
}

inline Error kernel_error(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  const std::error_code native = native_errno(code);
  return {kernel_errc(code), std::string{doing} + ": " + native.message(), native, at};
}

}  // namespace stowage::detail
