#pragma once
// What an errno of block devices, files and completions means.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
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

/// The end of a request as a result. `result` as in `IoCompletion`.
inline Result<void> request_result(const IoRequest& request, std::int64_t result) {
  if (result >= 0) return {};
  constexpr const char* verbs[] = {"reading", "writing", "flushing", "discarding", "writing zeroes"};
  return fail(kernel_error(static_cast<int>(-result), std::string{verbs[static_cast<std::size_t>(request.op)]} +
                                                          " at " + std::to_string(request.offset.count)));
}

}  // namespace stowage::detail
