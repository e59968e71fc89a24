#pragma once
// What an errno of block devices, files and completions means.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace stowage::detail {

/// What an errno of a block device, a file or a completion means.
constexpr Errc kernel_errc(int code) noexcept {
  switch (code) {
    case ENOENT: return Errc::not_found;
    case EBUSY:
    case EBADE: return Errc::in_use;  // EBADE: a SCSI reservation of another host
    case EACCES:
    case EPERM:
    case EROFS: return Errc::permission_denied;
    case ENOSPC:
    case EDQUOT: return Errc::no_space;
    case ENXIO:
    case ENODEV:
    case ENOLINK:
    case ENOTCONN:
    case ESHUTDOWN: return Errc::unavailable;  // ESHUTDOWN: on the block list of a Ceph cluster
    case ESTALE: return Errc::identity_changed;
    case EINPROGRESS: return Errc::outcome_unknown;
    case EOPNOTSUPP: return Errc::not_supported;
    case EBADMSG:
    case EILSEQ: return Errc::corrupt;
    case ETIMEDOUT: return Errc::timed_out;
    case EINVAL: return Errc::invalid_argument;
    default: return Errc::backend_failed;
  }
}

inline Error kernel_error(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  const std::error_code native = native_errno(code);
  return {kernel_errc(code), std::string{doing} + ": " + native.message(), native, at};
}

/// What a request of a queue failed with, as an error. `doing`: "reading the source"; `result` as in `IoCompletion`.
template <IoQueue Q>
Error queue_error(const Q& queue, std::int64_t result, std::string_view doing, Bytes at) {
  const int code = static_cast<int>(-result);
  const Errc meaning = kernel_errc(code);
  const bool in_doubt = meaning == Errc::outcome_unknown;
  const std::error_code native = native_errno(code);
  std::string text = std::string{doing} + " at " + std::to_string(at.count) + ": ";
  text += in_doubt ? "sent, but no answer came" : native.message();
  if constexpr (requires { queue.trouble(); }) {
    const Error* const trouble = queue.trouble();
    if (trouble != nullptr && (trouble->code() == meaning || in_doubt)) text += ", " + trouble->detail();
  }
  Error error{meaning, std::move(text), native};
  if (!in_doubt) return error;
  return std::move(error).advise("the range holds its old or its new content; write it again before you rely on it");
}

/// The end of a request as a result. `result` as in `IoCompletion`.
template <IoQueue Q>
Result<void> request_result(const Q& queue, const IoRequest& request, std::int64_t result) {
  if (result >= 0) return {};
  constexpr std::string_view verbs[] = {"reading", "writing", "flushing", "discarding", "writing zeroes"};
  return fail(queue_error(queue, result, verbs[static_cast<std::size_t>(request.op)], request.offset));
}

}  // namespace stowage::detail
