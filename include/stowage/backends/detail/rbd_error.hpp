#pragma once
// What the return codes of librados and librbd mean.

#include <cerrno>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace stowage::detail {

/// Both libraries return negative errno values. What one of them means where nothing more is known of it.
constexpr Errc rbd_errc(int code) noexcept {
  switch (code < 0 ? -code : code) {
    case ENOENT: return Errc::not_found;
    case EEXIST: return Errc::already_exists;
    case EPERM:
    case EACCES: return Errc::permission_denied;
    case EBUSY:
    case ENOTEMPTY:
    case EMLINK:
    case ECHILD:
    case EROFS: return Errc::in_use;  // another client holds the exclusive lock
    case ENOSPC:
    case EDQUOT: return Errc::no_space;
    case ETIMEDOUT: return Errc::timed_out;
    case ENOTCONN:
    case ESHUTDOWN:  // this client was put on the block list
    case EHOSTUNREACH:
    case ECONNREFUSED: return Errc::unavailable;
    case ECANCELED:
    case EINTR: return Errc::cancelled;
    case EINVAL:
    case EDOM:
    case ERANGE:
    case EFBIG: return Errc::invalid_argument;
    case EILSEQ:
    case EBADMSG: return Errc::corrupt;
    case ENOSYS:
    case EOPNOTSUPP: return Errc::not_supported;
    default: return Errc::backend_failed;
  }
}

inline std::string rbd_hint(int code) {
  switch (code < 0 ? -code : code) {
    case EPERM:
    case EACCES: return "the user's capabilities do not cover this: 'profile rbd' for the pool or namespace";
    case ETIMEDOUT: return "are the OSDs of the pool up? see 'ceph status'";
    case ESHUTDOWN: return "this client is on the cluster's block list; open the storage again";
    case ENOSPC: return "the cluster is full";
    case EDQUOT: return "the quota of the pool is used up";
    default: return {};
  }
}

/// "opening image 'x': No such file or directory", with code and hint.
inline Error rbd_error(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  const std::error_code native = native_errno(code);
  return Error{rbd_errc(code), std::string{doing} + ": " + native.message(), native, at}.advise(rbd_hint(code));
}

/// The same for a request that changes something: without an answer, nobody knows whether it did.
inline Error rbd_change_error(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  if (code != -ETIMEDOUT) return rbd_error(code, doing, at);
  const std::error_code native = native_errno(code);
  return Error{Errc::outcome_unknown, std::string{doing} + ": no answer in time", native, at}.advise(
      "look at the volume before you repeat it");
}

/// `return rbd_check(::rbd_close(image), "closing")`.
inline Result<void> rbd_check(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  if (code < 0) return fail(rbd_error(code, doing, at));
  return {};
}
inline Result<void> rbd_changed(int code, std::string_view doing, SourceLoc at = SourceLoc::here()) {
  if (code < 0) return fail(rbd_change_error(code, doing, at));
  return {};
}

}  // namespace stowage::detail
