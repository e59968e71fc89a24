#pragma once
// Folders of lock files. Whoever can replace the files in a folder can take a lock away from its holder, or keep one
// for ever: so it is known whose a folder is before a lock in it counts.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

/// The folder where programs of this user lock what they change: /run/stowage for root; else `stowage` in
/// XDG_RUNTIME_DIR, or /tmp/stowage-UID where that is not set. Programs that are to see each other's locks must get the
/// same one.
inline std::string default_lock_folder() {
  if (::geteuid() == 0) return "/run/stowage";
  const char* runtime = ::secure_getenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe)
  if (runtime != nullptr && *runtime == '/') return std::string{runtime} + "/stowage";
  return "/tmp/stowage-" + std::to_string(::geteuid());
}

namespace detail {

/// Who shares a folder of lock files.
enum class LockSharing {
  own_programs,    ///< programs of this user: the folder is this user's, and is made with mode 0700
  other_programs,  ///< also other software: the folder is root's or this user's, and is made with mode 0755
};

inline Error lock_failed(const std::string& path, int error) {
  const bool refused = error == EACCES || error == EPERM || error == EROFS;
  const std::error_code native = native_errno(error);
  return Error{refused ? Errc::permission_denied : Errc::unavailable,
               "the lock '" + path + "' cannot be taken: " + native.message(), native}
      .advise(refused ? "are you root?" : "");
}

/// `what` ("the folder '/run/x'") is not safe for locks, because `why`.
inline Error unsafe_lock(const std::string& what, const std::string& why, ::uid_t owner) {
  return Error{Errc::permission_denied, "no lock is safe in " + what + ", which " + why}.advise(
      owner == ::geteuid() ? "find out what made it so, then: chmod go="
                           : "nothing was changed; find out what user " + std::to_string(owner) +
                                 " does there, then remove it, or chown it to user " + std::to_string(::geteuid()));
}

/// Nobody but root and this user (and the owner of the whole tree, who is nobody else outside of user namespaces) can
/// replace something in the folders above `folder`.
/// Errors: permission_denied, unavailable.
inline Result<void> check_above_lock_folder(const Fd& folder, const std::string& path) {
  struct ::stat root {};
  if (::stat("/", &root) != 0) return fail(lock_failed("/", errno));
  const auto same = [](const struct ::stat& a, const struct ::stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
  };
  struct ::stat below {};
  if (::fstat(folder.get(), &below) != 0) return fail(lock_failed(path, errno));
  for (Fd at; !same(below, root);) {
    Fd up{::openat(at ? at.get() : folder.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    struct ::stat about {};
    if (!up || ::fstat(up.get(), &about) != 0) return fail(lock_failed(path + "/..", errno));
    if (same(about, below)) return {};  // where the tree ends that we can see
    const bool trusted = about.st_uid == 0 || about.st_uid == ::geteuid() || about.st_uid == root.st_uid;
    const bool open_to_all = (about.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (about.st_mode & S_ISVTX) == 0;
    if (!trusted || open_to_all) {
      std::array<char, 4096> name{};
      const std::string link = "/proc/self/fd/" + std::to_string(up.get());
      const ::ssize_t length = ::readlink(link.c_str(), name.data(), name.size());
      const std::string shown = length > 0 ? std::string(name.data(), static_cast<std::size_t>(length)) : path + "/..";
      return fail(unsafe_lock(std::string{"'"}.append(path).append("' below '").append(shown).append("'"),
                              trusted ? "others may write to" : "belongs to user " + std::to_string(about.st_uid),
                              about.st_uid));
    }
    at = std::move(up);
    below = about;
  }
  return {};
}

/// Opens a folder of lock files, which is made if it is missing; the folder above it is there.
/// Errors: permission_denied, with the owner, when somebody else can change it; unavailable.
inline Result<Fd> open_lock_folder(const std::string& path, LockSharing sharing) {
  const bool own = sharing == LockSharing::own_programs;
  if (::mkdir(path.c_str(), own ? 0700 : 0755) != 0 && errno != EEXIST) return fail(lock_failed(path, errno));
  Fd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  struct ::stat about {};
  if (!folder) {
    const int error = errno;
    const bool seen = ::lstat(path.c_str(), &about) == 0 && !S_ISDIR(about.st_mode);
    return fail(seen ? unsafe_lock("'" + path + "'",
                                   "is no folder, and belongs to user " + std::to_string(about.st_uid), about.st_uid)
                           .advise("look at what it is, and remove it")
                     : lock_failed(path, error));
  }
  if (::fstat(folder.get(), &about) != 0) return fail(lock_failed(path, errno));
  if (about.st_uid != ::geteuid() && (own || about.st_uid != 0)) {
    return fail(
        unsafe_lock("the folder '" + path + "'", "belongs to user " + std::to_string(about.st_uid), about.st_uid));
  }
  // Who may only enter cannot change anything, but could lock a file that its maker left readable.
  if ((about.st_mode & (own ? S_IRWXG | S_IRWXO : S_IWGRP | S_IWOTH)) != 0) {
    return fail(unsafe_lock("the folder '" + path + "'",
                            "others than its owner, user " + std::to_string(about.st_uid) + ", may use", about.st_uid));
  }
  if (auto good = check_above_lock_folder(folder, path); !good) return fail(std::move(good.error()));
  return folder;
}

/// Opens a lock file in such a folder; it is made if it is missing, and stays.
/// Errors: permission_denied, when it is another user's or no file; invalid_argument; unavailable.
inline Result<Fd> open_lock_file(const Fd& folder, const std::string& path, std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) {
    return fail(Errc::invalid_argument, "'" + std::string{name} + "' cannot be the name of a lock");
  }
  // Without O_NONBLOCK a pipe would keep us waiting.
  Fd file{
      ::openat(folder.get(), std::string{name}.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)};
  if (!file && errno == ELOOP) return fail(unsafe_lock("'" + path + "'", "is a link", ::geteuid()).advise("remove it"));
  struct ::stat about {};
  if (!file || ::fstat(file.get(), &about) != 0) return fail(lock_failed(path, errno));
  if (!S_ISREG(about.st_mode)) return fail(unsafe_lock("'" + path + "'", "is no file", about.st_uid));
  if (about.st_uid != ::geteuid() && about.st_uid != 0) {
    return fail(unsafe_lock("'" + path + "'", "belongs to user " + std::to_string(about.st_uid), about.st_uid));
  }
  return file;
}

}  // namespace detail
}  // namespace stowage
