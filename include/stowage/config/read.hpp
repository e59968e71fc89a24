#pragma once
// Reading storage.cfg from the file system, and the name of the node it is read on.

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <stowage/config/storage_cfg.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <string>
#include <utility>

namespace stowage {

/// Reads and parses a storage.cfg. A file that is not there is an empty one, as for Proxmox VE.
/// Errors: permission_denied; invalid_argument (more than 16 MiB, or not a file); backend_failed.
inline Result<StorageConfigFile> read_storage_config(const std::string& path) {
  const auto failed = [&](int error) {
    const Errc code = error == EACCES || error == EPERM ? Errc::permission_denied
                      : error == EISDIR                 ? Errc::invalid_argument
                                                        : Errc::backend_failed;
    const std::error_code native = native_errno(error);
    return fail(Error{code, "cannot be read: " + native.message(), native}.about(path));
  };
  constexpr std::size_t most = std::size_t{16} << 20U;  // the cluster's file system holds 1 MiB
  const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd && errno == ENOENT) return StorageConfigFile::parse({});
  if (!fd) return failed(errno);
  std::string text;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ::ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(errno);
    if (got == 0) return StorageConfigFile::parse(std::move(text));
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > most) return fail(Error{Errc::invalid_argument, "too large for a storage.cfg"}.about(path));
  }
}

/// This host's name among the `nodes` of storage.cfg: its host name without the domain.
inline std::string local_node_name() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return {};
  const std::string name{host.data()};
  return name.substr(0, name.find('.'));
}

}  // namespace stowage
