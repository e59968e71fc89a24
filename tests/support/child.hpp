#pragma once
// A second program that a test may kill: this one again, running a hidden test case.

#include <catch2/catch.hpp>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace stowage::testing {

/// The test case `[.child]` of this name, with one text for it (`Child::told`), until it says `Child::ready()`.
class Child {
 public:
  Child(const std::string& test_case, const std::string& text) {
    int ends[2] = {-1, -1};  // NOLINT(modernize-avoid-c-arrays)
    if (::pipe(ends) != 0) throw std::runtime_error{"pipe"};
    ::setenv("STOWAGE_CHILD", (std::to_string(ends[1]) + " " + text).c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    std::string name = test_case;
    std::string self = "/proc/self/exe";
    char* const argv[] = {self.data(), name.data(), nullptr};  // NOLINT(modernize-avoid-c-arrays)
    if (::posix_spawn(&pid_, self.c_str(), nullptr, nullptr, argv, ::environ) != 0) throw std::runtime_error{"spawn"};
    ::close(ends[1]);
    char said = 0;
    ready_ = ::read(ends[0], &said, 1) == 1;
    ::close(ends[0]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(); }

  /// It came as far as `ready()`.
  bool is_ready() const { return ready_; }
  void stop() const { ::kill(pid_, SIGSTOP); }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  // The child's side.
  static std::string told() {
    const std::string text = std::getenv("STOWAGE_CHILD");  // NOLINT(concurrency-mt-unsafe)
    return text.substr(text.find(' ') + 1);
  }
  static void ready() {
    const int fd = std::atoi(std::getenv("STOWAGE_CHILD"));  // NOLINT
    static_cast<void>(::write(fd, "x", 1) == 1);
  }

 private:
  ::pid_t pid_ = -1;
  bool ready_ = false;
};

}  // namespace stowage::testing
