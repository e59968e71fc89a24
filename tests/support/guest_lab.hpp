#pragma once
// What the tests of the suite guest are written with: its scratch disks, its targets and portals, its tools. They run
// inside the guest (tests/lab/guest); without it the program refuses to start (tests/guest/guest_test.cpp).

#include <catch2/catch.hpp>

#include <sys/wait.h>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace stowage::testing {

/// A variable that the guest sets. One that it has not set is an exception, and so a failure.
inline std::string guest_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe)
  if (value == nullptr)
    throw std::runtime_error{name + " is not set: this runs inside the guest only (ctest -L guest)"};
  return value;
}

/// What a shell command ended with, and said on both outputs.
struct Said {
  int status = 0;
  std::string text;
};

/// Runs a shell command to its end. No limit of its own: each costs a fork here, and the test case has one.
inline Said ask(const std::string& command) {
  std::FILE* pipe = ::popen(("exec 2>&1 </dev/null; " + command).c_str(), "r");  // NOLINT(cert-env33-c)
  REQUIRE(pipe != nullptr);
  Said said;
  std::array<char, 4096> buffer{};
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) said.text.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return said;
}

/// Runs a shell command that must succeed; what it said on both outputs.
inline std::string sh(const std::string& command) {
  Said said = ask(command);
  INFO(command << "\n" << said.text);
  REQUIRE(said.status == 0);
  return std::move(said.text);
}

/// tests/lab/inside: `inside("iscsid start")`, `inside("portal drop 127.0.0.1:3260")`, `inside("rules on sg3")`.
inline std::string inside(const std::string& what) { return sh(STOWAGE_TEST_LAB "/inside " + what); }

/// Scratch disk 1, 2 or 3: 4 GiB, all tests share them. Whatever an earlier test left on it is gone after this call; a
/// disk that is still in use is a failure.
inline std::string fresh_disk(int number) {
  std::string disk = guest_variable("STOWAGE_GUEST_DISK" + std::to_string(number));
  sh("wipefs --all --quiet --force " + disk + " && blkdiscard --force " + disk);
  return disk;
}

/// A portal through which nothing passes, or that refuses everybody, until this goes.
class ShutPortal {
 public:
  enum class How { drop, refuse };

  explicit ShutPortal(std::string portal, How how = How::drop) : portal_{std::move(portal)} {
    inside((how == How::drop ? "portal drop " : "portal refuse ") + portal_);
  }
  ShutPortal(const ShutPortal&) = delete;
  ShutPortal& operator=(const ShutPortal&) = delete;
  ~ShutPortal() { open(); }

  void open() {
    const std::string portal = std::exchange(portal_, {});
    if (!portal.empty()) static_cast<void>(ask(STOWAGE_TEST_LAB "/inside portal open " + portal));
  }

 private:
  std::string portal_;
};

/// A target of the kernel's (tests/lab/lio), which goes with the test. One of tgtd is `Server::own_target` (lab.hpp).
class KernelTarget {
 public:
  explicit KernelTarget(const std::string& name, const std::string& options = {})
      : folder_{guest_variable("STOWAGE_LAB") + "/lio-" + name} {
    command("start", options);
    std::ifstream file{folder_ + "/env"};
    for (std::string text; std::getline(file, text);) {
      const auto equals = text.find('=');
      std::string value = text.substr(equals + 1);
      if (value.size() >= 2 && value.front() == '\'') value = value.substr(1, value.size() - 2);
      facts_[text.substr(0, equals)] = std::move(value);
    }
  }
  KernelTarget(const KernelTarget&) = delete;
  KernelTarget& operator=(const KernelTarget&) = delete;
  ~KernelTarget() { static_cast<void>(ask(line("stop", {}))); }

  /// PORTAL, PORTALS, PORT, IQN1: a line of its env file.
  const std::string& operator[](const std::string& name) const { return facts_.at(name); }

  /// `command("remove", "2")`, `command("replace", "2")`, `command("grow", "2 256")`.
  void command(const std::string& verb, const std::string& rest = {}) const { sh(line(verb, rest)); }

 private:
  std::string line(const std::string& verb, const std::string& rest) const {
    return STOWAGE_TEST_LAB "/lio " + verb + " " + folder_ + " " + rest;
  }

  std::string folder_;
  std::map<std::string, std::string> facts_;
};

}  // namespace stowage::testing
