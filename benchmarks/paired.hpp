#pragma once
// How we compare: two ways to do the same work, in turn, in one run. What is reported is the ratio of each pair, for
// the speed of a machine drifts and both sides of a pair see the same weather.

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

/// Seconds that `work` takes.
template <class Work>
double seconds(Work&& work) {
  const auto start = Clock::now();
  std::forward<Work>(work)();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "benchmark: %s\n", why.c_str());
  std::_Exit(1);
}

/// What a Result holds; a benchmark that fails has nothing to say.
template <class R>
decltype(auto) must(R&& result, const char* what) {
  if (!result) die(std::string{what} + ": " + result.error().message());
  if constexpr (!std::is_void_v<typename std::decay_t<R>::value_type>) return *std::forward<R>(result);
}

/// The return value of a C library.
inline int must(int result, const char* what) {
  if (result < 0) die(std::string{what} + ": error " + std::to_string(result));
  return result;
}

/// Runs a program to its end, its output thrown away, and gives up after two minutes.
inline void run_command(std::vector<std::string> argv) {
  std::vector<char*> pointers;
  pointers.reserve(argv.size() + 1);
  for (std::string& word : argv) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::pid_t pid = 0;
  if (::posix_spawn(&pid, pointers[0], &actions, nullptr, pointers.data(), environ) != 0)
    die("cannot start " + argv[0]);
  ::posix_spawn_file_actions_destroy(&actions);
  // No timeout(1): a second process would count as the other side's.
  const int ended = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  ::pollfd wait{ended, POLLIN, 0};
  if (ended >= 0 && ::poll(&wait, 1, 120'000) == 0) ::kill(pid, SIGKILL);
  if (ended >= 0) ::close(ended);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) die(argv[0] + " " + argv[1] + " failed");
}

/// Median of the ratios of pairs, with the interval that holds the true median in 95 of 100 runs.
struct Ratio {
  double median = 0;
  double low = 0;
  double high = 0;
  double ours = 0;    ///< median seconds of our side
  double theirs = 0;  ///< and of the other
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// How many of the sorted values lie outside the interval on each side: the largest number for which a median falls
/// outside with a probability of at most 5 % (binomial distribution, p = 1/2).
inline std::size_t outside(std::size_t n) {
  double tail = 0;
  double term = std::pow(0.5, static_cast<double>(n));  // probability of 0 successes
  std::size_t k = 0;
  while (tail + term <= 0.025) {
    tail += term;
    term *= static_cast<double>(n - k) / static_cast<double>(k + 1);
    ++k;
  }
  return k == 0 ? 0 : k - 1;
}

/// Calls `ours` and `theirs` in turn; each does its work and says how many seconds count.
template <class Ours, class Theirs>
Ratio paired(std::size_t pairs, Ours ours, Theirs theirs) {
  static_cast<void>(ours());  // not counted: caches, connections, lazy binding
  static_cast<void>(theirs());
  std::vector<double> a;
  std::vector<double> b;
  std::vector<double> ratios;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const bool ours_first = pair % 2 == 0;
    if (ours_first) a.push_back(ours());
    b.push_back(theirs());
    if (!ours_first) a.push_back(ours());
    ratios.push_back(a.back() / b.back());
  }
  std::vector<double> sorted = ratios;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t k = outside(pairs);
  return {median(ratios), sorted[k], sorted[pairs - 1 - k], median(a), median(b)};
}

/// A goal for a ratio of times, ours over theirs.
struct Goal {
  enum class Kind { none, at_most, times_faster } kind = Kind::none;
  double value = 0;
};
constexpr Goal no_goal{};
constexpr Goal at_most(double value) { return {Goal::Kind::at_most, value}; }
constexpr Goal times_faster(double value) { return {Goal::Kind::times_faster, value}; }

inline void print_header() {
  std::puts("| work | against | ours | theirs | ratio (95 %) | goal | met |");
  std::puts("|---|---|---|---|---|---|---|");
}

/// One line of the table. A goal is met when the interval reaches it.
inline void print_row(const char* work, const char* peer, const Ratio& r, Goal goal = no_goal) {
  std::array<char, 96> ratio{};
  std::array<char, 32> want{};
  const char* met = "";
  if (goal.kind == Goal::Kind::times_faster) {
    std::snprintf(ratio.data(), ratio.size(), "%.1fx faster (%.1f-%.1f)", 1 / r.median, 1 / r.high, 1 / r.low);
    std::snprintf(want.data(), want.size(), ">= %.1fx", goal.value);
    met = 1 / r.low >= goal.value ? "yes" : "NO";
  } else {
    std::snprintf(ratio.data(), ratio.size(), "%.3f (%.3f-%.3f)", r.median, r.low, r.high);
    if (goal.kind == Goal::Kind::at_most) {
      std::snprintf(want.data(), want.size(), "<= %.2f", goal.value);
      met = r.low <= goal.value ? "yes" : "NO";
    }
  }
  std::printf("| %s | %s | %.3f ms | %.3f ms | %s | %s | %s |\n", work, peer, r.ours * 1e3, r.theirs * 1e3,
              ratio.data(), want.data(), met);
  std::fflush(stdout);
}

}  // namespace bench
