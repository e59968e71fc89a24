#pragma once
// Runs programs: the only place of the library that starts a process.

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <csignal>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace stowage {
namespace detail {

/// The package that brings a program, as Debian and Proxmox VE name it; empty: unknown.
constexpr std::string_view package_of(std::string_view program) noexcept {
  const std::string_view name = program.substr(program.rfind('/') + 1);
  for (const std::string_view tool : {"iscsiadm", "iscsid", "iscsistart"}) {
    if (name == tool) return "open-iscsi";
  }
  for (const std::string_view tool : {"rbd", "ceph", "rados"}) {
    if (name == tool) return "ceph-common";
  }
  for (const std::string_view tool : {"dmsetup", "blkdeactivate"}) {
    if (name == tool) return "dmsetup";
  }
  if (name.starts_with("thin_")) return "thin-provisioning-tools";
  if (name == "multipath" || name == "multipathd") return "multipath-tools";
  if (name == "udevadm") return "udev";
  if (name == "modprobe") return "kmod";
  for (const std::string_view prefix : {"lv", "vg", "pv"}) {  // lvs, lvcreate, vgchange, pvs ... and lvm itself
    if (name.starts_with(prefix)) return "lvm2";
  }
  return {};
}

/// One program, from its start to its end. Used by one thread.
class Process {
 public:
  static constexpr std::size_t out_limit = std::size_t{64} << 20U;
  static constexpr std::size_t err_limit = std::size_t{1} << 20U;  // of more, the end is kept: the reason stands there
  /// Between SIGTERM and SIGKILL. LVM blocks signals while devices are suspended, and ends cleanly when it is through;
  /// killed there, it would leave them suspended.
  static constexpr std::chrono::milliseconds grace{1000};

  explicit Process(const Command& command, OutputReader reader = {}) noexcept : command_{command}, reader_{reader} {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Result<CommandOutput> run() {
    if (auto started = start(); !started) return fail(std::move(started.error()));
    auto failed = follow();
    if (failed) end(*failed);
    if (!failed) failed = take_output();
    if (failed) return fail(*std::move(failed));
    return std::move(said_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Pipe {
    Fd ours;
    Fd theirs;
  };

  [[nodiscard]] const std::string& program() const noexcept { return command_.argv.front(); }
  [[nodiscard]] std::string quoted() const { return "'" + program() + "'"; }
  [[nodiscard]] Error broken(std::string_view doing, int code) const {
    return Error{Errc::backend_failed, quoted() + ": " + std::string{doing} + ": " + native_errno(code).message(),
                 native_errno(code)};
  }

  /// A program may run with its standard descriptors closed: what we open then takes their numbers, and would be
  /// overwritten by the redirections before its own turn came.
  static Fd above_standard(Fd fd) {
    if (!fd || fd.get() > STDERR_FILENO) return fd;
    return Fd{::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1)};
  }

  static std::optional<Pipe> open_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
    Pipe pipe{Fd{ends[0]}, Fd{ends[1]}};
    pipe.theirs = above_standard(std::move(pipe.theirs));
    if (!pipe.theirs || ::fcntl(pipe.ours.get(), F_SETFL, O_NONBLOCK) != 0) return {};
    return pipe;
  }

  /// Standard output as a file in memory, which takes no more than its size: a pipe would wake us for each line that a
  /// tool flushes, a thousand times in a listing.
  static Fd open_output() {
    Fd file = above_standard(Fd{::memfd_create("output", MFD_CLOEXEC | MFD_ALLOW_SEALING)});
    if (!file || ::ftruncate(file.get(), ::off_t{2 * out_limit}) != 0 ||
        ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
      return {};
    }
    return file;
  }

  /// Standard input as a file in memory: nobody has to feed it, no SIGPIPE when the program does not read it.
  [[nodiscard]] Fd open_input() const {
    if (command_.input.empty()) return above_standard(Fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)});
    Fd file = above_standard(Fd{::memfd_create("input", MFD_CLOEXEC)});
    std::string_view left = command_.input;
    while (file && !left.empty()) {
      const ssize_t written =
          ::pwrite(file.get(), left.data(), left.size(), static_cast<::off_t>(command_.input.size() - left.size()));
      if (written < 0 && errno != EINTR) return {};
      if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
    }
    return file;
  }

  [[nodiscard]] Result<void> check_command() const {
    if (command_.argv.empty() || !program().starts_with('/')) {
      return fail(Errc::invalid_argument, "a program is named by its absolute path, not by '" +
                                              (command_.argv.empty() ? std::string{} : program()) + "'");
    }
    for (const std::string& argument : command_.argv) {
      if (argument.find('\0') != argument.npos) {
        return fail(Errc::invalid_argument, quoted() + ": an argument with a NUL byte would be cut off there");
      }
    }
    return {};
  }

  Result<void> start() {
    if (auto good = check_command(); !good) return good;
    if (command_.stop.stop_requested()) return fail(Errc::cancelled, quoted() + ": stopped before it was started");
    const Fd input = open_input();
    auto out = reader_.take != nullptr ? open_pipe() : Pipe{open_output(), {}};
    auto err = open_pipe();
    if (!input || !out || !out->ours || !err) return fail(broken("no descriptors for it", errno));
    const int to = (out->theirs ? out->theirs : out->ours).get();
    if (const int code = spawn(input.get(), to, err->theirs.get()); code != 0) return fail(spawn_error(code));
    out_ = std::move(out->ours);
    err_ = std::move(err->ours);
    // Not pidfd_open(): glibc 2.36 declares it without extern "C". Where the kernel or a sandbox has none, we look
    // every few milliseconds.
    ended_ = Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
    return {};
  }

  int spawn(int input, int out, int err) {
    ::posix_spawn_file_actions_t files{};
    ::posix_spawnattr_t how{};
    if (const int code = ::posix_spawn_file_actions_init(&files); code != 0) return code;
    if (const int code = ::posix_spawnattr_init(&how); code != 0) {
      ::posix_spawn_file_actions_destroy(&files);
      return code;
    }
    ::sigset_t all{};
    ::sigset_t none{};
    ::sigfillset(&all);
    ::sigemptyset(&none);
    const std::array<int, 8> codes{
        ::posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO),
        ::posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO),
        ::posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO),
        ::posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1),
        ::posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF),
        ::posix_spawnattr_setpgroup(&how, 0),
        ::posix_spawnattr_setsigmask(&how, &none),
        ::posix_spawnattr_setsigdefault(&how, &all)};
    const auto bad = std::find_if(codes.begin(), codes.end(), [](int code) { return code != 0; });
    int code = bad == codes.end() ? 0 : *bad;
    if (code == 0) {
      std::vector<std::string> words = command_.argv;  // the C interface takes char*, though it changes nothing
      // Nothing of the caller's: LD_PRELOAD, CEPH_ARGS, LVM_SYSTEM_DIR and their like would change what a tool does.
      std::vector<std::string> variables{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                                         "LVM_SUPPRESS_FD_WARNINGS=1"};
      code = ::posix_spawn(&pid_, program().c_str(), &files, &how, pointers(words).data(), pointers(variables).data());
    }
    ::posix_spawnattr_destroy(&how);
    ::posix_spawn_file_actions_destroy(&files);
    return code;
  }

  static std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> list;
    list.reserve(texts.size() + 1);
    for (std::string& text : texts) list.push_back(text.data());
    list.push_back(nullptr);
    return list;
  }

  [[nodiscard]] Error spawn_error(int code) const {
    if (code == ENOENT || code == ENOTDIR) {
      const std::string package{package_of(program())};
      return Error{Errc::unavailable, "the program " + quoted() + " is not there", native_errno(code)}.advise(
          package.empty() ? "" : "install the package " + package);
    }
    if (code == EACCES || code == EPERM) {
      return Error{Errc::permission_denied, "the program " + quoted() + " may not be run", native_errno(code)};
    }
    return broken("cannot be started", code);
  }

  /// Until the program has ended; what stands against it otherwise.
  std::optional<Error> follow() {
    Fd stopped;
    if (command_.stop.stop_possible()) {
      stopped = Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
      if (!stopped) return broken("no descriptor to stop it by", errno);
    }
    const std::stop_callback wake{command_.stop, [&] {
                                    const std::uint64_t one = 1;
                                    static_cast<void>(!stopped || ::write(stopped.get(), &one, sizeof one) > 0);
                                  }};
    // A deadline in the far future would overflow the clock.
    const auto deadline = Clock::now() + std::min<std::chrono::milliseconds>(command_.timeout, std::chrono::years{1});
    for (;;) {
      if (auto failed = reap(); failed || reaped_) return failed;
      if (command_.stop.stop_requested()) return Error{Errc::cancelled, quoted() + " was stopped"};
      if (Clock::now() >= deadline) {
        return Error{Errc::timed_out,
                     quoted() + " did not end within " + std::to_string(command_.timeout.count()) + " ms",
                     native_errno(ETIMEDOUT)};
      }
      wait_until(deadline, stopped.get());
      hand_on();
      read_what_is_there(err_, said_.err, 2 * err_limit);
      if (said_.err.size() >= 2 * err_limit) keep_end_of_err();
    }
  }

  /// Until something happens: output, an end, a stop, or `until`.
  void wait_until(Clock::time_point until, int stopped) const {
    const int out = reader_.take != nullptr ? out_.get() : -1;
    std::array<::pollfd, 4> events{::pollfd{out, POLLIN, 0}, ::pollfd{err_.get(), POLLIN, 0},
                                   ::pollfd{ended_.get(), POLLIN, 0}, ::pollfd{stopped, POLLIN, 0}};
    const auto longest = ended_ ? std::chrono::milliseconds{60'000} : std::chrono::milliseconds{5};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    const auto pause = std::clamp(left, std::chrono::milliseconds{0}, longest);
    static_cast<void>(::poll(events.data(), events.size(), static_cast<int>(pause.count())));  // EINTR: look again
  }

  /// Takes what the pipe holds, up to `limit` bytes in `text`; closes it at its end, so that nobody polls it any more.
  static void read_what_is_there(Fd& pipe, std::string& text, std::size_t limit) {
    std::array<char, 65536> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
    while (pipe && text.size() < limit) {
      const ssize_t got = ::read(pipe.get(), buffer.data(), std::min(buffer.size(), limit - text.size()));
      if (got > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(got));
        continue;
      }
      if (got < 0 && errno == EINTR) continue;
      if (got == 0 || errno != EAGAIN) pipe.reset();
      return;
    }
  }

  /// To the reader, what the pipe holds: more than it can hold at once, so that nothing is left after the end.
  void hand_on() {
    if (reader_.take == nullptr) return;
    read_what_is_there(out_, said_.out, err_limit);
    if (!said_.out.empty()) reader_.take(reader_.user, said_.out);
    said_.out.clear();
  }

  /// After the end: all that the program itself wrote. A child that it left behind may write on; nobody waits for that.
  std::optional<Error> take_output() {
    int waiting = 0;
    if (err_ && ::ioctl(err_.get(), FIONREAD, &waiting) == 0 && waiting > 0) {
      read_what_is_there(err_, said_.err, said_.err.size() + static_cast<std::size_t>(waiting));
    }
    keep_end_of_err();
    hand_on();
    if (reader_.take != nullptr) return {};
    const ::off_t size = ::lseek(out_.get(), 0, SEEK_CUR);  // they write where we stand: the file was opened once
    if (size < 0) return broken("its output cannot be read", errno);
    if (static_cast<std::size_t>(size) > out_limit) {
      return Error{Errc::backend_failed, quoted() + " said more than " + std::to_string(out_limit >> 20U) + " MiB"};
    }
    said_.out.resize(static_cast<std::size_t>(size));
    for (std::size_t done = 0; done < said_.out.size();) {
      const ssize_t got =
          ::pread(out_.get(), said_.out.data() + done, said_.out.size() - done, static_cast<::off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return broken("its output cannot be read", errno);
      done += static_cast<std::size_t>(got);
    }
    return {};
  }

  void keep_end_of_err() {
    if (said_.err.size() > err_limit) said_.err.erase(0, said_.err.size() - err_limit);
  }

  /// Takes the exit status, if the program has ended.
  std::optional<Error> reap() {
    int status = 0;
    const ::pid_t got = ::waitpid(pid_, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return {};
    reaped_ = true;
    if (got < 0) {
      return Error{Errc::outcome_unknown,
                   "the exit status of " + quoted() + " was taken by somebody else of this process",
                   native_errno(errno)}
          .advise("no waitpid(-1) and no ignored SIGCHLD beside this library");
    }
    said_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return {};
  }

  /// Ends the program and what it started, first politely.
  void end(Error& why) {
    if (reaped_) return;  // its number may be somebody else's by now
    // The group keeps its number as long as the program itself is not reaped.
    for (const int signal : {SIGTERM, SIGKILL}) {
      ::kill(-pid_, signal);
      for (const auto patience = Clock::now() + grace; !has_ended() && Clock::now() < patience;) {
        wait_until(patience, -1);
        hand_on();
        std::string unheard;
        read_what_is_there(err_, unheard, out_limit);
      }
    }
    static_cast<void>(reap());
    if (reaped_) return;
    // It waits in the kernel, say for a device that does not answer, and dies when that is over.
    why = std::move(why).advise("process " + std::to_string(pid_) + " waits in the kernel and cannot be killed");
    try {
      std::thread{[pid = pid_] { static_cast<void>(::waitpid(pid, nullptr, 0)); }}.detach();
    } catch (const std::system_error&) {  // no thread for it: a zombie is left, nothing worse
      return;
    }
  }

  /// Without taking the exit status.
  [[nodiscard]] bool has_ended() const {
    ::siginfo_t info{};
    return ::waitid(P_PID, static_cast<::id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid_;
  }

  const Command& command_;
  OutputReader reader_;
  CommandOutput said_;
  ::pid_t pid_ = -1;
  bool reaped_ = false;
  Fd out_;
  Fd err_;
  Fd ended_;
};

}  // namespace detail

/// Runs programs of this host, each in a process group of its own, without a shell and without anything of the
/// caller's: a clean environment, no descriptors but the three standard ones, all signals at their defaults. The
/// working directory is the caller's.
///
/// What has not ended at the deadline or when it is asked to stop gets SIGTERM, and SIGKILL a second later, with all
/// that it started in its process group. Of the standard output up to 64 MiB are taken, of the standard error the last
/// MiB is kept: the standard output is a file in memory, the standard error a pipe. Output of children that a program
/// leaves behind is not waited for.
///
/// Threads: any number at once. A process that ignores SIGCHLD or waits for any child takes our exit statuses away:
/// then the answer is outcome_unknown.
class PosixRunner {
 public:
  /// Errors: unavailable (no such program; the hint names the package), permission_denied (it may not be run),
  /// timed_out and cancelled (it was killed: whether it has done its work is not known), invalid_argument (not an
  /// absolute path, a NUL byte), backend_failed (it could not be started, or said too much), outcome_unknown (above).
  /// Blocks: until the program ends, at the longest `Command::timeout` and two seconds.
  [[nodiscard]] Result<CommandOutput> run(const Command& command) const { return detail::Process{command}.run(); }

  /// The same, and `take(std::string_view)` gets the standard output in pieces, as it comes, however much that is.
  template <class Take>
    requires std::invocable<Take&, std::string_view>
  [[nodiscard]] Result<CommandOutput> run(const Command& command, Take take) const {
    static constexpr auto hand_on = [](void* user, std::string_view piece) { (*static_cast<Take*>(user))(piece); };
    return detail::Process{command, {&take, hand_on}}.run();
  }
};

static_assert(CommandRunner<PosixRunner>);

}  // namespace stowage
