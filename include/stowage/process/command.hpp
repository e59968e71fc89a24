#pragma once
// A program to run and what it said: the seam at which tests put a script in place of the tools.

#include <chrono>
#include <concepts>
#include <functional>
#include <stop_token>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// An argv, never a shell line. `argv[0]` is an absolute path.
struct Command {
  std::vector<std::string> argv;
  std::chrono::milliseconds timeout{60'000};
  std::string input{};     ///< what the program reads on its standard input; empty: /dev/null
  std::stop_token stop{};  ///< ends the program early
};

/// How a program ended. An exit status that is not 0 is a value: the caller knows what 5 means.
struct CommandOutput {
  int exit_code = 0;  ///< 128 + N, when signal N ended it
  std::string out{};
  std::string err{};
};

/// Runs a program to its end. Copies are as good as the first. May be called from several threads at once.
/// Errors: unavailable (the program is not there), timed_out and cancelled (it was killed: whether it has done its work
/// is not known), backend_failed (it could not be started, or said more than can be meant).
template <class R>
concept CommandRunner = std::copyable<R> && requires(const R& runner, const Command& command) {
  { runner.run(command) } -> std::same_as<Result<CommandOutput>>;
};

namespace detail {

/// Who gets the standard output in pieces, as it comes; nobody by default.
struct OutputReader {
  void* user = nullptr;
  void (*take)(void* user, std::string_view piece) = nullptr;
};

}  // namespace detail

/// Runs a program that may say more than can be kept: `take(std::string_view)` gets its standard output in pieces of
/// any size. They come as the program writes them where the runner has a `run(command, take)`; else all of it at the
/// end. What was taken counts only if the program ends well.
template <CommandRunner R, class Take>
Result<CommandOutput> run_reading(const R& runner, const Command& command, Take& take) {
  if constexpr (requires { runner.run(command, std::ref(take)); }) {
    return runner.run(command, std::ref(take));
  } else {
    return runner.run(command).map([&](CommandOutput&& output) {
      take(std::string_view{output.out});
      return std::move(output);
    });
  }
}

}  // namespace stowage
