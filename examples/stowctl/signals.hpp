#pragma once
// Ctrl-C. While nothing is changed it just ends the program; a change is asked to stop where it leaves nothing
// half-done. Whoever cannot wait for that presses it again.

#include "command.hpp"
#include "failure.hpp"

#include <csignal>
#include <cstdlib>
#include <stop_token>
#include <thread>

namespace stowctl {

/// Pre: made before any other thread is, so that all of them leave the signals to this one.
class Signals {
 public:
  explicit Signals(const Options& options) {
    ::sigemptyset(&set_);
    ::sigaddset(&set_, SIGINT);
    ::sigaddset(&set_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::thread{[set = set_, stop = stop_, &options]() mutable {
      for (;;) {
        int signal = 0;
        if (::sigwait(&set, &signal) != 0) return;
        if (!Context::changing || stop.stop_requested()) {
          print_error({stowage::Errc::cancelled, "cancelled"}, options.json);
          std::_Exit(130);
        }
        stop.request_stop();
      }
    }}.detach();
  }

  [[nodiscard]] std::stop_token token() const noexcept { return stop_.get_token(); }

 private:
  ::sigset_t set_{};
  std::stop_source stop_;
};

}  // namespace stowctl
