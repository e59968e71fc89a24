#pragma once
// Reading storage.cfg from the file system, and the name of the node it is read on.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <stowage/config/storage_cfg.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <utility>

namespace stowage {

namespace detail {

/// A file as it was at one moment.
struct FileSnapshot {
  std::string text;
  struct ::stat about {};

  /// As far as its inode tells, nobody wrote to it in between.
  [[nodiscard]] bool same_as(const struct ::stat& now) const noexcept {
    return now.st_ino == about.st_ino && now.st_dev == about.st_dev && now.st_size == about.st_size &&
           now.st_mtim.tv_sec == about.st_mtim.tv_sec && now.st_mtim.tv_nsec == about.st_mtim.tv_nsec;
  }
};

/// Nothing: there is no such file.
/// Errors: permission_denied; invalid_argument (more than `most` bytes, or not a file); backend_failed.
inline Result<std::optional<FileSnapshot>> read_file(const std::string& path, std::size_t most) {
  const auto failed = [&](int error) {
    const Errc code = error == EACCES || error == EPERM ? Errc::permission_denied
                      : error == EISDIR                 ? Errc::invalid_argument
                                                        : Errc::backend_failed;
    const std::error_code native = native_errno(error);
    return fail(Error{code, "cannot be read: " + native.message(), native}.about(path));
  };
  const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd && errno == ENOENT) return std::optional<FileSnapshot>{};
  FileSnapshot file;
  if (!fd || ::fstat(fd.get(), &file.about) != 0) return failed(errno);
  if (S_ISDIR(file.about.st_mode)) return failed(EISDIR);
  // In one piece where its size is known: a text that grows leaves copies of its beginning in memory.
  const auto expected = static_cast<std::size_t>(file.about.st_size) + 1;
  for (std::size_t size = 0;;) {
    if (size > most) return fail(Error{Errc::invalid_argument, "larger than such a file can be"}.about(path));
    if (file.text.size() == size) file.text.resize(size < expected ? std::min(expected, most + 1) : size + 4096);
    const ::ssize_t got = ::read(fd.get(), file.text.data() + size, file.text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(errno);
    size += static_cast<std::size_t>(got);
    if (got == 0) {
      file.text.resize(size);
      return std::optional{std::move(file)};
    }
  }
}

inline constexpr std::size_t largest_config = std::size_t{16} << 20U;  // the cluster's file system holds 1 MiB

}  // namespace detail

/// Reads and parses a storage.cfg. A file that is not there is an empty one, as for Proxmox VE.
/// Errors: permission_denied; invalid_argument (more than 16 MiB, or not a file); backend_failed.
inline Result<StorageConfigFile> read_storage_config(const std::string& path) {
  return detail::read_file(path, detail::largest_config).map([&](std::optional<detail::FileSnapshot> file) {
    return StorageConfigFile::parse(file ? std::move(file->text) : std::string{}, path);
  });
}

/// This host's name among the `nodes` of storage.cfg: its host name without the domain.
inline std::string local_node_name() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return {};
  const std::string name{host.data()};
  return name.substr(0, name.find('.'));
}

}  // namespace stowage
