#pragma once
// Writing to what nobody reads any more, without the signal that ends programs.

#include <signal.h>
#include <time.h>
#include <cerrno>

namespace stowage::detail {

/// Keeps SIGPIPE, which a write to a closed pipe or socket raises, from the thread for as long as this lives. A library
/// must not touch the program's signal handlers, so the signal is blocked and taken back. One that was pending before
/// stays pending.
class NoSigpipe {
 public:
  NoSigpipe() noexcept {
    ::sigemptyset(&only_);
    ::sigaddset(&only_, SIGPIPE);
    blocked_ = ::pthread_sigmask(SIG_BLOCK, &only_, &before_) == 0;
    // only one that was blocked before can be pending
    if (!blocked_ || ::sigismember(&before_, SIGPIPE) != 1) return;
    ::sigset_t pending{};
    ::sigpending(&pending);
    if (::sigismember(&pending, SIGPIPE) == 1) blocked_ = false;
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  ~NoSigpipe() {
    if (!blocked_) return;
    const ::timespec at_once{};
    while (!calm_ && ::sigtimedwait(&only_, nullptr, &at_once) < 0 && errno == EINTR) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  /// No write has failed meanwhile: there is no signal to take back, which saves a system call.
  void calm() noexcept { calm_ = true; }

 private:
  ::sigset_t only_{};
  ::sigset_t before_{};
  bool blocked_ = false;
  bool calm_ = false;
};

}  // namespace stowage::detail
