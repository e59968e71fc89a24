#pragma once
// A file that stowctl writes: it appears under its name when it is complete, and not before.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <utility>

#include "command.hpp"

namespace stowctl {

inline stowage::Error file_error(const std::string& file, int error) {
  using stowage::Errc;
  const Errc code = error == ENOENT                       ? Errc::not_found
                    : error == EEXIST                     ? Errc::already_exists
                    : error == EACCES || error == EPERM   ? Errc::permission_denied
                    : error == ENOSPC || error == EFBIG   ? Errc::no_space
                    : error == EISDIR || error == ENOTDIR ? Errc::invalid_argument
                                                          : Errc::backend_failed;
  const auto native = stowage::native_errno(error);
  return stowage::Error{code, native.message(), native}.about("file '" + file + "'");
}

class NewFile {
 public:
  /// Errors: already_exists (a file that is there is only replaced with --yes). One that is replaced gives its owner
  /// and mode to the new one.
  [[nodiscard]] static Result<NewFile> create(const Context& context, const std::string& file) {
    struct ::stat before {};
    const bool there = ::stat(file.c_str(), &before) == 0;
    if (there && !context.options().yes) {
      return stowage::fail(file_error(file, EEXIST).advise("--yes overwrites it"));
    }
    std::string partial = file + ".partial-" + std::to_string(::getpid());
    stowage::Fd fd{::open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640)};
    if (!fd) return stowage::fail(file_error(partial, errno));
    // The mode last: a change of the owner takes bits of it away.
    if (there &&
        (::fchown(fd.get(), before.st_uid, before.st_gid) != 0 || ::fchmod(fd.get(), before.st_mode & 07777U) != 0)) {
      context.warn("file '" + file +
                   "': not with the owner and mode of the one before: " + stowage::native_errno(errno).message());
    }
    return NewFile{std::move(fd), std::move(partial), file};
  }
  NewFile(NewFile&&) = default;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (fd_) ::unlink(partial_.c_str());
  }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const std::string& partial() const noexcept { return partial_; }

  /// It is complete: durable, and so is its name.
  Result<void> finish() {
    if (::fsync(fd_.get()) != 0 || ::rename(partial_.c_str(), file_.c_str()) != 0) {
      return stowage::fail(file_error(file_, errno));
    }
    fd_.reset();
    const std::size_t slash = file_.rfind('/');
    const std::string folder = slash == file_.npos ? "." : file_.substr(0, slash + 1);
    const stowage::Fd opened{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    // EINVAL: a file system that has nothing to do there.
    if (opened && (::fsync(opened.get()) == 0 || errno == EINVAL)) return {};
    return stowage::fail(file_error(folder, errno));
  }

 private:
  NewFile(stowage::Fd fd, std::string partial, std::string file)
      : fd_{std::move(fd)}, partial_{std::move(partial)}, file_{std::move(file)} {}

  stowage::Fd fd_;
  std::string partial_;
  std::string file_;
};

}  // namespace stowctl
