#pragma once
// Writing a file so that it has its old or its new content at every moment, whatever ends the program or the host.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

/// Who may do what with a file.
struct FileAccess {
  ::mode_t mode = 0600;
  std::optional<std::pair<::uid_t, ::gid_t>> owner{};  ///< nothing: the writer's
};

inline Error write_error(const std::string& path, int error) {
  const std::error_code native = native_errno(error);
  Errc code = Errc::backend_failed;
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) code = Errc::no_space;
  if (error == EACCES || error == EPERM || error == EROFS) code = Errc::permission_denied;
  if (error == ENOENT) code = Errc::not_found;
  return Error{code, "cannot be written: " + native.message(), native}.about(path);
}

inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// What was renamed or removed in a folder is so after a power cut, too.
inline Result<void> sync_folder(const std::string& path) {
  const Fd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  // EINVAL: a file system that has nothing to sync
  if (folder && (::fsync(folder.get()) == 0 || errno == EINVAL)) return {};
  return fail(write_error(path, errno));
}

/// The new content of a file, complete and on the disk, but not yet in its place.
class StagedFile {
 public:
  /// Pre: nobody else stages this file (a lock is held): what an earlier writer left is removed.
  /// Errors: no_space; permission_denied; not_found (the folder); backend_failed.
  [[nodiscard]] static Result<StagedFile> stage(std::string path, std::string_view text, const FileAccess& access) {
    remove_left_overs(path);
    StagedFile staged;
    staged.path_ = std::move(path);
    const std::string aside = staged.path_ + std::string{mark} + std::to_string(::getpid());
    const Fd file{::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, access.mode & 0600U)};
    if (!file) return fail(write_error(staged.path_, errno));
    staged.aside_ = aside;
    // Before the first byte, and only what differs: on /etc/pve nobody may change owner and mode, nor needs to.
    struct ::stat now {};
    if (::fstat(file.get(), &now) != 0) return fail(write_error(staged.path_, errno));
    const auto owner = access.owner.value_or(std::pair{now.st_uid, now.st_gid});
    if (owner != std::pair{now.st_uid, now.st_gid} && ::fchown(file.get(), owner.first, owner.second) != 0) {
      return fail(write_error(staged.path_, errno));
    }
    if ((now.st_mode & 07777U) != access.mode && ::fchmod(file.get(), access.mode) != 0) {
      return fail(write_error(staged.path_, errno));
    }
    while (!text.empty()) {
      const ::ssize_t put = ::write(file.get(), text.data(), text.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return fail(write_error(staged.path_, put < 0 ? errno : ENOSPC));
      text.remove_prefix(static_cast<std::size_t>(put));
    }
    if (::fsync(file.get()) != 0) return fail(write_error(staged.path_, errno));
    return staged;
  }

  StagedFile(StagedFile&& other) noexcept : path_{std::move(other.path_)}, aside_{std::exchange(other.aside_, {})} {}
  StagedFile& operator=(StagedFile&&) = delete;
  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;
  ~StagedFile() {
    if (!aside_.empty()) static_cast<void>(::unlink(aside_.c_str()));
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Puts it in its place.
  /// Errors: those of `stage`: the old content is there; outcome_unknown: the new one is, but a power cut may undo it.
  Result<void> commit() {
    if (::rename(aside_.c_str(), path_.c_str()) != 0) return fail(write_error(path_, errno));
    aside_.clear();
    if (auto synced = sync_folder(folder_of(path_)); !synced) {
      return fail(Error{Errc::outcome_unknown, "written, but perhaps not for good: " + synced.error().detail(),
                        synced.error().native()}
                      .about(path_));
    }
    return {};
  }

 private:
  StagedFile() = default;

  static constexpr std::string_view mark = ".stowage.";

  /// Removes what writers left that were killed: `NAME.stowage.PID`.
  static void remove_left_overs(const std::string& path) {
    const std::string folder = folder_of(path);
    const Handle<::DIR, &::closedir> entries{::opendir(folder.c_str())};
    if (!entries) return;
    const std::string start = path.substr(path.rfind('/') + 1).append(mark);
    while (const ::dirent* entry = ::readdir(entries.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
      const std::string_view name{entry->d_name};
      if (!name.starts_with(start) || !all_digits(name.substr(start.size()))) continue;
      static_cast<void>(::unlinkat(::dirfd(entries.get()), entry->d_name, 0));
    }
  }

  std::string path_;
  std::string aside_;
};

/// A folder for secrets is there; a new one is closed to others from the start.
/// Errors: permission_denied; not_found (the folder above); no_space; backend_failed.
inline Result<void> make_private_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) return sync_folder(folder_of(path));
  if (errno == EEXIST) return {};
  return fail(write_error(path, errno));
}

}  // namespace stowage::detail
