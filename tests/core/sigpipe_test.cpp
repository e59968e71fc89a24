// Writing to closed pipes, with the signal mask that a caller may have.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <stowage/core/handle.hpp>
#include <stowage/core/sigpipe.hpp>
#include <thread>

using namespace stowage;

namespace {

bool is_pending() {
  ::sigset_t pending{};
  ::sigpending(&pending);
  return ::sigismember(&pending, SIGPIPE) == 1;
}

bool is_blocked() {
  ::sigset_t mask{};
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return ::sigismember(&mask, SIGPIPE) == 1;
}

void block() {
  ::sigset_t only{};
  ::sigemptyset(&only);
  ::sigaddset(&only, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &only, nullptr);
}

void write_to_nobody() {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const Fd to{ends[1]};
  ::close(ends[0]);
  CHECK(::write(to.get(), "x", 1) == -1);
  CHECK(errno == EPIPE);
}

/// In a thread, whose mask and pending signals end with it.
template <class Work>
void aside(Work work) {
  std::thread{work}.join();
}

}  // namespace

TEST_CASE("a write to a closed pipe ends no program and leaves the mask as it was") {
  aside([] {
    {
      const detail::NoSigpipe quiet;
      CHECK(is_blocked());
      write_to_nobody();
      CHECK(is_pending());
    }
    CHECK_FALSE(is_pending());
    CHECK_FALSE(is_blocked());
  });
}

TEST_CASE("a caller that blocks SIGPIPE itself finds none that it did not cause") {
  aside([] {
    block();
    {
      const detail::NoSigpipe quiet;
      write_to_nobody();
    }
    CHECK_FALSE(is_pending());
    CHECK(is_blocked());
  });
}

TEST_CASE("a SIGPIPE that was pending before stays pending") {
  aside([] {
    block();
    ::pthread_kill(::pthread_self(), SIGPIPE);
    {
      const detail::NoSigpipe quiet;
      write_to_nobody();
    }
    CHECK(is_pending());
    CHECK(is_blocked());
  });
}

TEST_CASE("when nothing was written to a closed pipe, the mask is put back all the same") {
  aside([] {
    {
      detail::NoSigpipe quiet;
      quiet.calm();
      CHECK(is_blocked());
    }
    CHECK_FALSE(is_blocked());
  });
}
