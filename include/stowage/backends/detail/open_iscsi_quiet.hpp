#pragma once
// The LUNs of a target before its sessions are ended: nobody uses them, nothing is left to be written, and nobody can
// begin to.

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <span>
#include <stop_token>
#include <stowage/backends/detail/open_iscsi_lun.hpp>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/io/kernel_users.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Nobody uses a LUN; `ours` are descriptors that do not count. Errors: in_use (the users of each LUN are named).
inline Result<void> check_unused(const OpenIscsiHost& host, std::span<const KernelLun> luns,
                                 std::span<const int> ours = {}) {
  std::string in_use;
  for (const KernelLun& lun : luns) {
    const std::vector<std::string> users = device_users(host.kernel, lun.devices(), ours);
    if (!users.empty()) in_use += (in_use.empty() ? "LUN " : "; LUN ") + lun.str() + " is " + in_use_by(users);
  }
  if (in_use.empty()) return {};
  return fail(Error{Errc::in_use, in_use}.advise("end these users first"));
}

/// Nobody has a LUN open but we, who hold `ours` open and claimed by now: QEMU does not claim what it opens. One that
/// only reads counts as well: so does QEMU until its guest arrives by a migration. What udev starts to look at a disk
/// (blkid, LVM's pvscan) is waited for.
/// Errors: in_use, with the users; cancelled. Blocks: up to `patience` while somebody has it open.
inline Result<void> check_no_other_user(const OpenIscsiHost& host, const KernelLun& lun, int ours,
                                        const std::stop_token& stop,
                                        std::chrono::milliseconds patience = std::chrono::seconds{3}) {
  std::vector<std::string> users;
  const auto unused = [&] {
    users = device_users(host.kernel, lun.devices(), std::array{ours});
    return users.empty();
  };
  switch (wait_until(unused, std::chrono::steady_clock::now() + patience, stop)) {
    case Waited::done: return {};
    case Waited::stopped: return fail(Errc::cancelled, "stopped while LUN " + lun.str() + " is " + in_use_by(users));
    case Waited::timed_out: break;
  }
  return fail(Errc::in_use, "LUN " + lun.str() + " is " + in_use_by(users), native_errno(EBUSY));
}

/// What was written to a LUN by somebody who cannot be seen is on the target. A path that does not work is passed over:
/// nothing can be written through it, and the target must be left all the same.
/// Errors: timed_out, unavailable. Blocks: each path at most `timeout`.
inline Result<void> flush(const OpenIscsiHost& host, const KernelLun& lun, std::chrono::milliseconds timeout) {
  std::vector<std::string> devices;
  for (const KernelLun::Path& path : lun.paths) {
    if (!path.usable()) continue;
    if (devices.empty() && !lun.multipath.empty()) devices.push_back(lun.multipath);
    devices.push_back(path.disk.name);
  }
  for (const std::string& device : devices) {
    const std::string path = path_of(host.kernel.dev, device);
    const auto error = done_within(timeout, path, [path] {
      const Fd disk{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
      // A node that is not there, or a disk that is going, has nothing that could still be written.
      return !disk || ::fsync(disk.get()) == 0 ? 0 : errno;
    });
    if (!error) return fail(Error{error.error()}.during("flushing LUN " + lun.str()));
    if (*error == 0) continue;
    return fail(Error{Errc::unavailable,
                      "flushing LUN " + lun.str() + " on " + path + ": " + native_errno(*error).message(),
                      native_errno(*error)}
                    .advise("what was written to it may be lost; nothing was logged out"));
  }
  return {};
}

/// Claims on the disks of LUNs, as a mount has: while they live, whatever claims one is refused.
class LunClaims {
 public:
  /// Errors: in_use.
  [[nodiscard]] static Result<LunClaims> take(const OpenIscsiHost& host, std::span<const KernelLun> luns) {
    LunClaims claims;
    for (const KernelLun& lun : luns) {
      for (const KernelLun::Path& path : lun.paths) {
        if (!path.usable()) continue;  // to open it may wait for as long as the session is lost
        Fd disk{::open(path_of(host.kernel.dev, path.disk.name).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK)};
        if (!disk && errno == EBUSY) {
          return fail(Errc::in_use, "LUN " + lun.str() + " is " + in_use_by(device_users(host.kernel, lun.devices())),
                      native_errno(EBUSY));
        }
        if (disk) claims.disks_.push_back(std::move(disk));
      }
    }
    return claims;
  }

  [[nodiscard]] std::vector<int> descriptors() const {
    std::vector<int> all;
    std::transform(disks_.begin(), disks_.end(), std::back_inserter(all), [](const Fd& disk) { return disk.get(); });
    return all;
  }

 private:
  LunClaims() = default;

  std::vector<Fd> disks_;
};

}  // namespace stowage::detail
