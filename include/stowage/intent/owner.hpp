#pragma once
// The process that runs a verb, as a record on a volume names it; and whether that process can still be there.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <array>
#include <cstdint>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>

namespace stowage {

/// A process, named so that any host can tell it from all others. Default: nobody.
struct IntentOwner {
  std::string machine;  ///< machine-id(5); where there is none the boot id. Empty: nobody
  std::string boot;     ///< of proc_sys_kernel(5), random/boot_id, without dashes
  std::uint64_t pid_namespace = 0;
  std::uint64_t pid = 0;
  std::uint64_t started = 0;  ///< in clock ticks after boot: a pid is used again
  std::string host;           ///< its name, for people
  std::string client{};       ///< the address of its client of a Ceph cluster, to fence it by

  [[nodiscard]] bool nobody() const noexcept { return machine.empty(); }
  /// The same process, whatever its client.
  [[nodiscard]] bool same_process(const IntentOwner& other) const noexcept {
    return !nobody() && machine == other.machine && boot == other.boot && pid_namespace == other.pid_namespace &&
           pid == other.pid && started == other.started;
  }
  /// "process 7 on pve1".
  [[nodiscard]] std::string str() const {
    return nobody() ? "nobody" : "process " + std::to_string(pid) + " on " + host;
  }

  friend bool operator==(const IntentOwner&, const IntentOwner&) = default;
};

/// Whether the run of a verb goes on. `unknown`: this host cannot tell.
enum class Liveness { live, dead, unknown };

namespace detail {

/// A file of one line, without its end; empty when it cannot be read.
inline std::string one_line_of(const char* path) {
  const Fd file{::open(path, O_RDONLY | O_CLOEXEC)};
  std::array<char, 1024> text{};
  const ::ssize_t length = file ? ::read(file.get(), text.data(), text.size()) : -1;
  const std::string_view read{text.data(), length < 0 ? 0 : static_cast<std::size_t>(length)};
  return std::string{read.substr(0, read.find('\n'))};
}

/// When a process was started, see proc_pid_stat(5), field 22; 0 when there is none.
inline std::uint64_t process_start(std::uint64_t pid) {
  const std::string stat = one_line_of(("/proc/" + std::to_string(pid) + "/stat").c_str());
  std::size_t at = stat.rfind(')');  // a program calls itself what it likes
  for (int field = 2; field < 22 && at != stat.npos; ++field) at = stat.find(' ', at + 1);
  std::uint64_t ticks = 0;
  if (at == stat.npos) return 0;
  for (const char c : std::string_view{stat}.substr(at + 1)) {
    if (c < '0' || c > '9') break;
    ticks = ticks * 10 + static_cast<std::uint64_t>(c - '0');
  }
  // A zombie runs nothing any more.
  const std::size_t state = stat.rfind(')');
  return state != stat.npos && stat.size() > state + 2 && stat[state + 2] == 'Z' ? 0 : ticks;
}

inline std::string boot_id() {
  std::string id;
  for (const char c : one_line_of("/proc/sys/kernel/random/boot_id")) {
    if (c != '-') id += c;
  }
  return id;
}

}  // namespace detail

/// This process. Cost: a few small files of /proc.
inline IntentOwner this_process() {
  static const std::string boot = detail::boot_id();
  static const std::string machine = [] {
    std::string id = detail::one_line_of("/etc/machine-id");
    return id.empty() ? boot : id;
  }();
  struct ::stat pids {};
  if (::stat("/proc/self/ns/pid", &pids) != 0) pids.st_ino = 0;
  std::array<char, 256> host{};
  static_cast<void>(::gethostname(host.data(), host.size() - 1));
  const auto pid = static_cast<std::uint64_t>(::getpid());
  return {machine, boot, pids.st_ino, pid, detail::process_start(pid), host.data()};
}

/// What this host can tell of `owner` by itself. Nobody is dead; so is a process of this machine that it had before its
/// last boot, or that has ended. Another machine, and another pid namespace of this one, are unknown.
inline Liveness liveness_here(const IntentOwner& owner) {
  if (owner.nobody()) return Liveness::dead;
  const IntentOwner self = this_process();
  if (owner.machine != self.machine) return Liveness::unknown;
  if (owner.boot != self.boot) return Liveness::dead;
  if (owner.pid_namespace != self.pid_namespace) return Liveness::unknown;
  return detail::process_start(owner.pid) == owner.started && owner.started != 0 ? Liveness::live : Liveness::dead;
}

}  // namespace stowage
