#pragma once
// The real servers of the suites ceph and iscsi (tests/lab): the shared ones that ctest started, and private ones for
// tests that break what they touch.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace stowage::testing {

/// One server: a folder with its state, and what its `env` file says (MONHOST, KEYRING; PORTAL, IQN1 ...).
class Server {
 public:
  /// A shared server: "ceph", "iscsi", "iscsi-chap", "iscsi-mutual" or "iscsi-4k" (tests/lab/servers has the list).
  /// Leave it as you found it: other tests follow.
  static Server shared(const std::string& name) { return Server{name, {}}; }

  /// A server of this test's own, to break. It ends with the test; if the test dies first, with the suite. A test with
  /// no shared server beside it is tagged [own], and runs beside those that have them.
  static Server own_cluster(const std::string& name, const std::string& options = {}) {
    return Server{"ceph-" + name, "cluster", options};
  }
  static Server own_target(const std::string& name, const std::string& options = {}) {
    return Server{"iscsi-" + name, "target", options};
  }
  /// A target for tests of the suite ceph: it ends with that suite, and not with the suite iscsi.
  static Server target_beside_ceph(const std::string& name, const std::string& options = {}) {
    return Server{"target-" + name, "target", options};
  }

  Server(Server&& other) noexcept
      : folder_{std::move(other.folder_)}, script_{std::exchange(other.script_, {})}, facts_{std::move(other.facts_)} {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  Server& operator=(Server&&) = delete;
  ~Server() {
    if (!script_.empty()) static_cast<void>(std::system(line("stop", {}).c_str()));  // NOLINT(concurrency-mt-unsafe)
  }

  const std::string& folder() const { return folder_; }
  /// A line of the env file. One that is not there is an exception, and so a failure.
  const std::string& operator[](const std::string& name) const { return facts_.at(name); }

  /// `command("kill", "osd.0")`, `command("up")`: the commands of tests/lab/cluster or target. Only on a server of
  /// one's own.
  void command(const std::string& verb, const std::string& rest = {}) const {
    REQUIRE_FALSE(script_.empty());
    INFO(line(verb, rest));
    REQUIRE(std::system(line(verb, rest).c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  }

 private:
  Server(const std::string& name, std::string script, const std::string& options = {}) : script_{std::move(script)} {
    const char* lab = std::getenv("STOWAGE_LAB");  // NOLINT(concurrency-mt-unsafe)
    if (lab == nullptr) throw std::runtime_error{"STOWAGE_LAB is not set: run this through ctest"};
    folder_ = std::string{lab} + "/" + name;
    if (!script_.empty()) command("start", options);
    read_facts();
  }

  void read_facts() {
    std::ifstream file{folder_ + "/env"};
    if (!file) throw std::runtime_error{"no server in " + folder_};
    for (std::string text; std::getline(file, text);) {
      const auto equals = text.find('=');
      std::string value = text.substr(equals + 1);
      if (value.size() >= 2 && value.front() == '\'') value = value.substr(1, value.size() - 2);
      facts_[text.substr(0, equals)] = std::move(value);
    }
  }

  std::string line(const std::string& verb, const std::string& rest) const {
    return STOWAGE_TEST_LAB "/" + script_ + " " + verb + " " + folder_ + " " + rest + " >&2";
  }

  std::string folder_;
  std::string script_;  // empty: shared, not ours to command
  std::map<std::string, std::string> facts_;
};

}  // namespace stowage::testing
