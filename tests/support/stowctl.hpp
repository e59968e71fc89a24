#pragma once
// stowctl as a person or program runs it: arguments and input in; exit status, stdout and stderr out.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::testing {

using nlohmann::json;

struct Run {
  int status = -1;  // 128 + n: ended by signal n
  std::string out;
  std::string err;

  [[nodiscard]] json document() const { return json::parse(out); }
  /// The error object of --json.
  [[nodiscard]] json error() const { return json::parse(err).at("error"); }
};

/// A folder with a storage.cfg and secrets that goes with the test, and the program that works on it.
class Stowctl {
 public:
  explicit Stowctl(const std::string& config = "") {
    std::string name = (std::filesystem::temp_directory_path() / "stowctl-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
    std::filesystem::create_directories(folder_ / "priv/ceph");
    std::filesystem::create_directories(folder_ / "priv/iscsi");
    write("storage.cfg", config);
  }
  Stowctl(const Stowctl&) = delete;
  Stowctl& operator=(const Stowctl&) = delete;
  ~Stowctl() { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string file(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream{file(name), std::ios::binary} << text;
    std::filesystem::permissions(file(name), std::filesystem::perms{0600});
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream in{file(name), std::ios::binary};
    REQUIRE(in);
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  void environment(const std::string& assignment) { extra_.push_back(assignment); }

  /// Runs it to its end; one that takes longer than a minute is killed, and has then status 137.
  Run operator()(std::vector<std::string> arguments, const std::string& input = "") const {
    return finish(start(std::move(arguments), input));
  }
  /// Runs it with --json, and gives the document. REQUIREs success.
  json ask(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), "--json");
    const Run run = (*this)(arguments, input);
    INFO(run.err);
    REQUIRE(run.status == 0);
    CHECK(run.err.empty());
    return run.document();
  }
  /// Runs it with --json, and gives the error. REQUIREs that status, and nothing on stdout.
  json refused(int status, std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), "--json");
    const Run run = (*this)(arguments, input);
    CAPTURE(arguments, run.err, run.out);
    REQUIRE(run.status == status);
    CHECK(run.out.empty());
    return run.error();
  }

  /// One that was started and goes on.
  struct Running {
    ::pid_t pid = -1;
    int input = -1;  // stays open when no input was given: the program waits for more
    std::string out;
    std::string err;
  };
  [[nodiscard]] Running start(std::vector<std::string> arguments, const std::string& input = "",
                              bool keep_open = false) const {
    static int count = 0;
    const std::string number = std::to_string(++count);
    Running running{.out = file("out" + number), .err = file("err" + number)};
    int ends[2] = {-1, -1};  // NOLINT(modernize-avoid-c-arrays)
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    ::posix_spawn_file_actions_t actions{};
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, running.out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_addopen(&actions, 2, running.err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    arguments.insert(arguments.begin(), STOWAGE_TEST_STOWCTL);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    std::vector<std::string> texts{"STOWAGE_CONFIG=" + file("storage.cfg"), "STOWAGE_PRIV=" + file("priv"),
                                   "PATH=/usr/bin:/bin", "LC_ALL=C"};
    texts.insert(texts.end(), extra_.begin(), extra_.end());
    std::vector<char*> environment;
    for (std::string& t : texts) environment.push_back(t.data());
    environment.push_back(nullptr);
    REQUIRE(::posix_spawn(&running.pid, STOWAGE_TEST_STOWCTL, &actions, nullptr, argv.data(), environment.data()) == 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
    std::size_t at = 0;
    ::signal(SIGPIPE, SIG_IGN);
    while (at < input.size()) {
      const ::ssize_t put = ::write(ends[1], input.data() + at, input.size() - at);
      if (put <= 0) break;  // it does not want it all
      at += static_cast<std::size_t>(put);
    }
    if (keep_open) {
      running.input = ends[1];
    } else {
      ::close(ends[1]);
    }
    return running;
  }
  /// The lines that it has written to stdout, as soon as there are so many.
  [[nodiscard]] static std::vector<std::string> lines(const Running& running, std::size_t wanted) {
    for (int tries = 0; tries < 1500; ++tries) {
      std::ifstream in{running.out};
      std::vector<std::string> all;
      for (std::string line; std::getline(in, line) && !in.eof();) all.push_back(line);
      if (all.size() >= wanted) return all;
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    FAIL("it did not write " << wanted << " lines");
    return {};
  }
  [[nodiscard]] static Run finish(const Running& running) {
    int how = 0;
    for (int tries = 0; ::waitpid(running.pid, &how, WNOHANG) == 0; ++tries) {
      if (tries > 3000) ::kill(running.pid, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    if (running.input >= 0) ::close(running.input);
    const auto text = [](const std::string& name) {
      std::ifstream in{name, std::ios::binary};
      return std::string{std::istreambuf_iterator<char>{in}, {}};
    };
    return {WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how), text(running.out), text(running.err)};
  }

 private:
  std::filesystem::path folder_;
  std::vector<std::string> extra_;
};

}  // namespace stowage::testing
