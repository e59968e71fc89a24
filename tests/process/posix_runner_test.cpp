// Real programs, well and badly behaved.

#include <catch2/catch.hpp>

#include <stowage/process/posix_runner.hpp>

#include <sys/resource.h>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace stowage;
using namespace std::chrono_literals;

namespace {

/// A script for /bin/sh: the shortest way to a program that misbehaves.
Command script(std::string text, std::chrono::milliseconds timeout = 20s) {
  return Command{.argv = {"/bin/sh", "-c", std::move(text)}, .timeout = timeout};
}

CommandOutput run(const Command& command) {
  auto output = PosixRunner{}.run(command);
  INFO((output ? std::string{} : output.error().message()));
  REQUIRE(output);
  return *std::move(output);
}

Error refusal(const Command& command, Errc expected) {
  const auto output = PosixRunner{}.run(command);
  REQUIRE_FALSE(output);
  INFO(output.error().message());
  CHECK(output.error().code() == expected);
  return output.error();
}

void refused(const Command& command, Errc expected) { static_cast<void>(refusal(command, expected)); }

template <class F>
std::chrono::milliseconds elapsed(F work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
}

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator all{"/proc/self/fd"};
  return std::distance(begin(all), end(all));
}

/// No child of ours is left, alive or dead. (This test program has no others.)
bool no_children() { return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

/// Whether a process of this number runs. One that is dead, but that nobody has reaped yet, does not.
bool runs(const std::string& pid) {
  std::ifstream file{"/proc/" + pid + "/stat"};
  std::string stat;
  std::getline(file, stat);
  return !stat.empty() && stat.substr(stat.rfind(')')).substr(2, 1) != "Z";
}
/// A killed process is gone when it has had its turn.
bool ends(const std::string& pid) {
  for (int round = 0; round < 200 && runs(pid); ++round) std::this_thread::sleep_for(10ms);
  return !runs(pid);
}

class Folder {
 public:
  Folder() {
    static std::atomic<int> number{0};
    path_ = "/tmp/stowage-runner-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream{path_ + "/" + name} << text;
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

std::string first_line(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

TEST_CASE("a program's words and its exit status") {
  const CommandOutput output = run(script("echo to out; echo to err >&2; exit 5"));
  CHECK(output.exit_code == 5);
  CHECK(output.out == "to out\n");
  CHECK(output.err == "to err\n");
  CHECK(run(Command{.argv = {"/bin/true"}}).exit_code == 0);
  CHECK(run(Command{.argv = {"/bin/echo", "a b", "", "$HOME;'\"*"}}).out == "a b  $HOME;'\"*\n");  // no shell
  CHECK(no_children());
}

TEST_CASE("the signal that ended a program") {
  CHECK(run(script("kill -SEGV $$")).exit_code == 128 + SIGSEGV);
  CHECK(run(script("kill -KILL $$")).exit_code == 128 + SIGKILL);
  CHECK(run(script("exit 139")).exit_code == 139);
  CHECK(no_children());
}

TEST_CASE("standard input is empty, or what the command gives") {
  CHECK(run(Command{.argv = {"/bin/cat"}}).out.empty());
  CHECK(run(script("readlink /proc/self/fd/0")).out == "/dev/null\n");
  std::string text;
  while (text.size() < 1'000'000) text += "line " + std::to_string(text.size()) + "\n";
  text += std::string("\0\xff\x80", 3);
  CHECK(run(Command{.argv = {"/bin/cat"}, .input = text}).out == text);
}

TEST_CASE("a program that does not read its input harms nobody") {
  REQUIRE(std::signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  CHECK(run(Command{.argv = {"/bin/true"}, .input = std::string(1'000'000, 'x')}).exit_code == 0);
  CHECK(run(Command{.argv = {"/usr/bin/head", "-c", "3"}, .input = std::string(1'000'000, 'x')}).out == "xxx");
}

TEST_CASE("a program sees a clean environment") {
  ::setenv("STOWAGE_SECRET", "s3cret", 1);  // NOLINT(concurrency-mt-unsafe)
  ::setenv("CEPH_ARGS", "--id nobody", 1);  // NOLINT(concurrency-mt-unsafe)
  CHECK(run(Command{.argv = {"/usr/bin/env"}}).out ==
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\nLVM_SUPPRESS_FD_WARNINGS=1\n");
  ::unsetenv("STOWAGE_SECRET");  // NOLINT(concurrency-mt-unsafe)
  ::unsetenv("CEPH_ARGS");       // NOLINT(concurrency-mt-unsafe)
}

TEST_CASE("a program gets three descriptors and no more") {
  const Fd leaky{::open("/dev/null", O_RDWR)};  // no O_CLOEXEC
  const Fd far{::fcntl(leaky.get(), F_DUPFD, 500)};
  REQUIRE(leaky);
  REQUIRE(far);
  CHECK(run(script("ls /proc/$$/fd; true")).out == "0\n1\n2\n");
}

TEST_CASE("a program runs, though ours has closed its standard descriptors") {
  const int saved[3] = {::fcntl(0, F_DUPFD_CLOEXEC, 10), ::fcntl(1, F_DUPFD_CLOEXEC, 10),  // NOLINT
                        ::fcntl(2, F_DUPFD_CLOEXEC, 10)};
  for (const int fd : {0, 1, 2}) ::close(fd);
  const auto plain = PosixRunner{}.run(script("echo out; echo err >&2; cat; ls /proc/$$/fd; true"));
  const auto fed = PosixRunner{}.run(Command{.argv = {"/bin/cat"}, .input = "fed"});
  for (const int fd : {0, 1, 2}) {
    if (saved[fd] >= 0) ::dup2(saved[fd], fd);
    if (saved[fd] >= 0) ::close(saved[fd]);
  }
  REQUIRE(plain);
  CHECK(plain->out == "out\n0\n1\n2\n");
  CHECK(plain->err == "err\n");
  REQUIRE(fed);
  CHECK(fed->out == "fed");
}

TEST_CASE("a program has its own process group, and all signals as they are by default") {
  std::signal(SIGTERM, SIG_IGN);
  ::sigset_t blocked{};
  ::sigset_t before{};
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const std::string text = run(script("read -r _ _ _ _ group _ </proc/self/stat;"
                                      "[ $group = $$ ] && echo own; exec grep -E 'SigBlk|SigIgn' /proc/self/status"))
                               .out;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  std::signal(SIGTERM, SIG_DFL);
  const std::string words = "own\nSigBlk:\t0000000000000000\nSigIgn:\t";
  REQUIRE(text.starts_with(words));
  const auto internal =
      std::uint64_t{0x180000000};  // 32 and 33 are glibc's own: posix_spawn ignores them for everybody
  CHECK((std::stoull(text.substr(words.size()), nullptr, 16) & ~internal) == 0);
}

TEST_CASE("programs that hang are ended at the deadline") {
  SECTION("one that obeys") {
    const auto time = elapsed([] {
      const Error error = refusal(Command{.argv = {"/bin/sleep", "60"}, .timeout = 200ms}, Errc::timed_out);
      CHECK(error.detail().find("/bin/sleep") != std::string::npos);
      CHECK(error.detail().find("200 ms") != std::string::npos);
    });
    CHECK(time >= 200ms);
    CHECK(time < 3s);
  }
  SECTION("one that ends in order when asked to") {
    const Folder folder;
    const std::string note = folder.file("note", "");
    refused(script("trap 'echo put away >" + note + "; exit 0' TERM; while :; do sleep 0.05; done", 300ms),
            Errc::timed_out);
    CHECK(first_line(note) == "put away");
  }
  SECTION("one that does not listen, talks on, and has children") {
    const Folder folder;
    const std::string note = folder.file("note", "");
    const auto time = elapsed([&] {
      refused(
          script("trap '' TERM; (sleep 60 & echo $! >" + note + "; wait) & while :; do echo still here; done", 300ms),
          Errc::timed_out);
    });
    CHECK(time < 5s);
    const std::string child = first_line(note);
    REQUIRE_FALSE(child.empty());
    CHECK(ends(child));
  }
  SECTION("one that has closed its outputs") {
    CHECK(elapsed([] { refused(script("exec >&- 2>&-; sleep 60", 200ms), Errc::timed_out); }) < 3s);
  }
  SECTION("a deadline that has passed already, and one beyond the end of time") {
    refused(Command{.argv = {"/bin/sleep", "60"}, .timeout = 0ms}, Errc::timed_out);
    refused(Command{.argv = {"/bin/sleep", "60"}, .timeout = -1ms}, Errc::timed_out);
    CHECK(run(Command{.argv = {"/bin/true"}, .timeout = std::chrono::milliseconds::max()}).exit_code == 0);
  }
  CHECK(no_children());
}

TEST_CASE("children that a program leaves behind are not waited for") {
  const Folder folder;
  const std::string note = folder.file("note", "");
  CommandOutput output;
  CHECK(elapsed([&] { output = run(script("echo said; sleep 60 & echo $! >" + note)); }) < 5s);
  CHECK(output.exit_code == 0);
  CHECK(output.out == "said\n");
  const std::string child = first_line(note);  // it holds our pipes open; the next program does not wait for it either
  CHECK(runs(child));
  CHECK(elapsed([&] { CHECK(run(Command{.argv = {"/bin/true"}}).exit_code == 0); }) < 5s);
  CHECK(::kill(std::stoi(child), SIGKILL) == 0);

  // one that goes on talking
  CHECK(elapsed([&] { output = run(script("echo said; (while echo more; do :; done) & exit 3")); }) < 5s);
  CHECK(output.exit_code == 3);
  CHECK(output.out.starts_with("said\n"));
}

TEST_CASE("everything is read, also what no pipe holds at once") {
  const CommandOutput output =
      run(script("head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2; printf end; printf reason >&2"));
  CHECK(output.out.size() == 20'000'003);
  CHECK(output.out.ends_with("end"));
  CHECK(output.err.size() <= 1U << 20U);  // the end of it, where the reason stands
  CHECK(output.err.size() > 1U << 19U);
  CHECK(output.err.ends_with("reason"));
}

TEST_CASE("output without end is an error, not the end of the memory") {
  const Error error = refusal(Command{.argv = {"/bin/cat", "/dev/zero"}}, Errc::backend_failed);
  CHECK(error.detail().find("64 MiB") != std::string::npos);
  CHECK(run(script("head -c 200000000 /dev/zero >&2; exit 1")).exit_code == 1);
  CHECK(no_children());
}

TEST_CASE("garbage is handed on as it is") {
  CHECK(run(script(R"(printf '\000\377\200\033[2J\r\n\0'; printf '\0' >&2)")).out ==
        std::string("\0\xff\x80\033[2J\r\n\0", 10));
}

TEST_CASE("programs that cannot be started") {
  SECTION("missing ones, with their packages") {
    for (const auto& [program, package] :
         std::vector<std::pair<std::string, std::string>>{{"/nowhere/lvs", "lvm2"},
                                                          {"/nowhere/vgcreate", "lvm2"},
                                                          {"/nowhere/iscsiadm", "open-iscsi"},
                                                          {"/nowhere/rbd", "ceph-common"},
                                                          {"/nowhere/thin_dump", "thin-provisioning-tools"}}) {
      const Error error = refusal(Command{.argv = {program}}, Errc::unavailable);
      CHECK(error.detail().find(program) != std::string::npos);
      CHECK(error.hint() == "install the package " + package);
      CHECK(error.native().value() == ENOENT);
    }
    CHECK(refusal(Command{.argv = {"/nowhere/unheard-of"}}, Errc::unavailable).hint().empty());
    refused(Command{.argv = {"/dev/null/x"}}, Errc::unavailable);
  }
  SECTION("ones that may not be run") {
    const Folder folder;
    refused(Command{.argv = {folder.file("tool", "#!/bin/sh\n")}}, Errc::permission_denied);
    refused(Command{.argv = {"/tmp"}}, Errc::permission_denied);
  }
  SECTION("no programs") {
    const Folder folder;
    const std::string file = folder.file("tool", "\x01\x02 neither script nor ELF");
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    refused(Command{.argv = {file}}, Errc::backend_failed);
    refused(Command{.argv = {}}, Errc::invalid_argument);
    refused(Command{.argv = {"sh"}}, Errc::invalid_argument);
    refused(Command{.argv = {"/bin/echo", std::string("a\0b", 3)}}, Errc::invalid_argument);
    refused(Command{.argv = {"/bin/echo", std::string(4'000'000, 'x')}}, Errc::backend_failed);  // E2BIG
  }
  SECTION("no descriptors left") {
    ::rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (::rlim_t limit = static_cast<::rlim_t>(open_descriptors()); limit > 3; --limit) {
      const ::rlimit tight{limit, before.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
      const auto output = PosixRunner{}.run(Command{.argv = {"/bin/true"}});
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
      if (output) continue;
      CHECK(output.error().code() == Errc::backend_failed);
    }
  }
  CHECK(no_children());
}

TEST_CASE("a program is stopped by its token") {
  SECTION("before it starts") {
    std::stop_source stop;
    stop.request_stop();
    const Folder folder;
    const std::string note = folder.file("note", "");
    Command command = script("echo ran >" + note);
    command.stop = stop.get_token();
    refused(command, Errc::cancelled);
    CHECK(first_line(note).empty());
  }
  SECTION("while it runs, at once") {
    std::stop_source stop;
    Command command{.argv = {"/bin/sleep", "60"}};
    command.stop = stop.get_token();
    const std::jthread stopper{[&] {
      std::this_thread::sleep_for(200ms);
      stop.request_stop();
    }};
    const auto time = elapsed([&] { refused(command, Errc::cancelled); });
    CHECK(time >= 150ms);
    CHECK(time < 3s);
  }
  SECTION("or not, when nobody asks") {
    const std::stop_source stop;
    Command command{.argv = {"/bin/true"}};
    command.stop = stop.get_token();
    CHECK(run(command).exit_code == 0);
  }
  CHECK(no_children());
}

TEST_CASE("eight threads at once do not mix their programs up, and nothing is left of them") {
  const auto before = open_descriptors();
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (int at = 0; at < 8; ++at) {
      threads.emplace_back([&, at] {
        for (int round = 0; round < 10; ++round) {
          const std::string text = std::to_string(at * 100 + round);
          Command command = script("cat; echo " + text + " >&2; exit " + std::to_string(at));
          command.input = text;
          const auto output = PosixRunner{}.run(command);
          wrong += !output || output->out != text || output->err != text + "\n" || output->exit_code != at ? 1 : 0;
        }
      });
    }
  }
  CHECK(wrong == 0);
  CHECK(no_children());
  CHECK(open_descriptors() == before);
}

TEST_CASE("an exit status that somebody else took is not made up") {
  REQUIRE(std::signal(SIGCHLD, SIG_IGN) != SIG_ERR);  // the kernel then reaps by itself
  const Error error = refusal(Command{.argv = {"/bin/true"}}, Errc::outcome_unknown);
  refused(Command{.argv = {"/bin/sleep", "60"}, .timeout = 100ms}, Errc::timed_out);
  REQUIRE(std::signal(SIGCHLD, SIG_DFL) != SIG_ERR);
  CHECK(error.detail().find("/bin/true") != std::string::npos);
  CHECK(run(Command{.argv = {"/bin/true"}}).exit_code == 0);
}

TEST_CASE("output that is read as it comes has no limit, and is not kept") {
  std::string taken;
  const auto take = [&](std::string_view piece) { taken += piece; };
  const auto reading = [&](const Command& command) {
    taken.clear();
    return PosixRunner{}.run(command, take);
  };
  const auto large = reading(script("head -c 104857600 /dev/zero; echo last; echo word >&2; exit 3"));
  REQUIRE(large);
  CHECK(taken.size() == 104857600 + 5);
  CHECK(taken.find_first_not_of('\0') == 104857600);
  CHECK(taken.ends_with("last\n"));
  CHECK(large->out.empty());
  CHECK(large->err == "word\n");
  CHECK(large->exit_code == 3);
  CHECK(elapsed([&] { CHECK(reading(script("sleep 60 & echo hello"))); }) < 10s);  // which holds the pipe open
  CHECK(taken == "hello\n");
  const auto endless = reading(script("exec yes", 300ms));
  REQUIRE_FALSE(endless);
  CHECK(endless.error().code() == Errc::timed_out);
  CHECK(taken.starts_with("y\ny\n"));
  CHECK(no_children());
}
