#pragma once
// What the kernel knows of iSCSI sessions and of the disks behind them, out of sysfs.

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/backends/detail/scsi_identity.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/net.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Where this host keeps things. Tests put a folder of their own in place of each.
struct OpenIscsiHost {
  KernelTree kernel;
  std::string by_id = "/dev/disk/by-id";
  std::string udev_queue = "/run/udev/queue";  ///< there as long as udev has work to do
  /// open-iscsi's folder: the first one that has node records.
  std::vector<std::string> databases{"/etc/iscsi", "/var/lib/iscsi"};
  std::vector<std::string> iscsiadm{"/usr/sbin/iscsiadm", "/usr/bin/iscsiadm", "/sbin/iscsiadm", "/bin/iscsiadm"};
  std::vector<std::string> multipath{"/usr/sbin/multipath", "/sbin/multipath"};
  std::vector<std::string> multipathd{"/usr/sbin/multipathd", "/sbin/multipathd"};
};

/// Does what asks a target, and gives its errno. While a session is lost such a call sleeps where no signal wakes it;
/// so it is done in a thread that is left behind when the time is over. Errors: timed_out; backend_failed (no thread).
template <class Work>
Result<int> done_within(std::chrono::milliseconds timeout, const std::string& what, Work work) {
  struct Call {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<int> error;
  };
  const auto call = std::make_shared<Call>();
  try {
    std::thread{[call, work = std::move(work)] {
      const int error = work();
      const std::lock_guard lock{call->mutex};
      call->error = error;
      call->done.notify_all();
    }}.detach();
  } catch (const std::system_error& error) {
    return fail(Errc::backend_failed, "no thread for " + what, error.code());
  }
  std::unique_lock lock{call->mutex};
  if (call->done.wait_for(lock, timeout, [&] { return call->error.has_value(); })) return *call->error;
  return fail(Errc::timed_out, "no answer from " + what + " within " + std::to_string(timeout.count()) + " ms");
}

/// Writes to an attribute that makes the kernel ask the target.
/// Errors: timed_out, not_found (the device is gone), permission_denied, unavailable.
inline Result<void> write_attribute(const std::string& path, const std::string& text,
                                    std::chrono::milliseconds timeout) {
  const auto error = done_within(timeout, path, [path, text] {
    const Fd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    const bool good = file && ::write(file.get(), text.data(), text.size()) == static_cast<::ssize_t>(text.size());
    return good ? 0 : errno;
  });
  if (!error) return fail(error.error());
  if (*error == 0) return {};
  const std::error_code native = native_errno(*error);
  const bool gone = *error == ENOENT || *error == ENODEV || *error == ENXIO;
  const bool refused = *error == EACCES || *error == EPERM || *error == EROFS;
  return fail(gone      ? Errc::not_found
              : refused ? Errc::permission_denied
                        : Errc::unavailable,
              "cannot write to " + path + ": " + native.message(), native);
}

/// A LUN as one session sees it.
struct KernelDisk {
  std::string name;                  ///< "sdb"; empty as long as the kernel has made no block device of it
  std::string address;               ///< "0.0.1"
  std::string folder;                ///< in sysfs
  std::string state;                 ///< "running", "blocked", "transport-offline" ...
  std::vector<std::string> serials;  ///< best first
  Bytes size{};                      ///< zero: the target has taken the LUN away
  bool is_disk = false;
  bool read_only = false;

  /// Its identity, ID_SERIAL of udev; empty when the LUN tells none.
  [[nodiscard]] std::string wwid() const { return serials.empty() ? std::string{} : serials.front(); }
};

/// A session.
struct KernelSession {
  std::string number;
  std::string portal;  ///< `canonical_portal`
  std::string state;   ///< "LOGGED_IN", "FAILED", "FREE"
  std::vector<KernelDisk> disks;

  [[nodiscard]] bool up() const noexcept { return state == "LOGGED_IN"; }
};

inline Bytes block_size_of(const OpenIscsiHost& host, const std::string& device) {
  const std::string sectors = attribute(host.kernel.sys + "/block/" + device + "/size");
  std::uint64_t number = 0;
  if (!all_digits(sectors) || sectors.size() > 16) return Bytes{};
  for (const char c : sectors) number = number * 10 + static_cast<std::uint64_t>(c - '0');
  return Bytes{number * 512};  // whatever its blocks are (Documentation/ABI/stable/sysfs-block)
}

inline ScsiBytes scsi_bytes(const std::string& bytes) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};  // NOLINT: bytes are bytes
}

inline KernelDisk read_disk(const OpenIscsiHost& host, const std::string& folder, std::string address) {
  KernelDisk disk;
  disk.address = std::move(address);
  disk.folder = folder;
  disk.state = attribute(folder + "/state");
  disk.is_disk = attribute(folder + "/type") == "0";
  const Inquiry inquiry = parse_inquiry(scsi_bytes(read_attribute(folder + "/inquiry")));
  disk.serials = serials_from_page_83(scsi_bytes(read_attribute(folder + "/vpd_pg83")), inquiry);
  auto serial = wwid_from_page_80(scsi_bytes(read_attribute(folder + "/vpd_pg80")), inquiry);
  if (!serial.empty()) disk.serials.push_back(std::move(serial));
  // Its folder comes before the size in it.
  const auto names = names_in(folder + "/block");
  if (!names.empty() && ::access((host.kernel.sys + "/block/" + names.front() + "/size").c_str(), F_OK) == 0) {
    disk.name = names.front();
    disk.size = block_size_of(host, disk.name);
    disk.read_only = attribute(host.kernel.sys + "/block/" + disk.name + "/ro") == "1";
  }
  return disk;
}

/// The portal of a session, as its node record has it. Where it came to by a redirect is not of interest.
inline std::string portal_of_session(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    if (!name.starts_with("connection")) continue;
    const std::string connection = path_of(path_of(path_of(folder, name), "iscsi_connection"), name);
    std::string host = attribute(path_of(connection, "persistent_address"));
    if (host.find(':') != host.npos) host.insert(0, "[").append("]");
    const auto portal = Portal::parse(host.append(":").append(attribute(path_of(connection, "persistent_port"))));
    if (portal) return canonical_portal(*portal);
  }
  return {};
}

/// The sessions of a target, whatever carries them (tcp, iser, an offload card), by number.
inline std::vector<KernelSession> read_sessions(const OpenIscsiHost& host, const std::string& target) {
  std::vector<KernelSession> sessions;
  const std::string all = host.kernel.sys + "/class/iscsi_session";
  for (const std::string& name : names_in(all)) {
    const std::string about = path_of(all, name);
    if (!name.starts_with("session") || attribute(path_of(about, "targetname")) != target) continue;
    const std::string folder = path_of(about, "device");
    KernelSession session{name.substr(7), portal_of_session(folder), attribute(path_of(about, "state")), {}};
    for (const std::string& bus : names_in(folder)) {
      if (!bus.starts_with("target")) continue;
      const std::string devices = path_of(folder, bus);
      for (const std::string& device : names_in(devices)) {
        if (auto address = lun_address(device)) {
          session.disks.push_back(read_disk(host, path_of(devices, device), *std::move(address)));
        }
      }
    }
    sessions.push_back(std::move(session));
  }
  std::sort(sessions.begin(), sessions.end(), [](const KernelSession& a, const KernelSession& b) {
    return a.number.size() != b.number.size() ? a.number.size() < b.number.size() : a.number < b.number;
  });
  return sessions;
}

/// The links in /dev/disk/by-id.
inline std::vector<ByIdLink> read_by_id(const OpenIscsiHost& host) {
  std::vector<ByIdLink> links;
  for (const std::string& name : names_in(host.by_id)) links.push_back({name, link_name(path_of(host.by_id, name))});
  return links;
}

/// Whether somebody listens where iscsiadm calls iscsid: the daemon, or systemd that would start it. Asking the table
/// of sockets starts nobody.
inline bool iscsid_listens(const OpenIscsiHost& host) {
  return read_attribute(host.kernel.proc + "/net/unix").find("@ISCSIADM_ABSTRACT_NAMESPACE") != std::string::npos;
}

}  // namespace stowage::detail
