#pragma once
// iscsiadm, a command at a time.

#include <unistd.h>
#include <chrono>
#include <initializer_list>
#include <stop_token>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/net.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The first of these programs that can be run; empty when none can.
inline std::string first_program(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

/// By whom the sessions are there after a login.
enum class LoggedIn {
  by_this,  ///< iscsid answers when the kernel has looked for the LUNs (session_scan_host in its initiator.c)
  before,   ///< one at least by somebody else, and for its LUNs the kernel may still be looking
};

/// Runs iscsiadm. Errors of all: unavailable (open-iscsi is not installed, iscsid does not run, the portal does not
/// answer), timed_out, cancelled, permission_denied, and those of `iscsiadm_error`.
template <class Runner>
class Iscsiadm {
 public:
  Iscsiadm(Runner runner, OpenIscsiHost host, std::chrono::milliseconds timeout, std::stop_token stop)
      : runner_{std::move(runner)}, host_{std::move(host)}, timeout_{timeout}, stop_{std::move(stop)} {}

  /// All node records.
  [[nodiscard]] Result<std::vector<IscsiRecord>> records() const {
    auto output = run({"--mode", "node"});
    if (!output) return fail(std::move(output.error()));
    if (output->exit_code == 21) return std::vector<IscsiRecord>{};
    return said(*output, "reading node records").map([&] { return parse_iscsi_nodes(output->out); });
  }

  /// What a portal tells of targets; leaves no node records.
  [[nodiscard]] Result<std::vector<IscsiRecord>> discover(const Portal& portal) const {
    auto output =
        run({"--mode", "discovery", "--type", "sendtargets", "--portal", portal.bracketed(), "--op", "nonpersistent"});
    const std::string doing = "discovery at " + portal.str();
    if (!output) return fail(std::move(output.error()).during(doing));
    if (output->exit_code == 21) return std::vector<IscsiRecord>{};  // it answered, and has no target for us
    return said(*output, doing).map([&] { return parse_iscsi_nodes(output->out); });
  }

  /// Makes a node record, with the settings of iscsid.conf.
  Result<void> add_record(const IscsiRecord& record) const {
    return call({"--mode", "node", "--op", "new", "--targetname", record.target, "--portal",
                 record.portal.bracketed() + "," + record.group},
                "making a node record for " + record.portal.str());
  }

  /// Logs in by all node records of a target at once. A session that is there already is no failure.
  Result<LoggedIn> login(const std::string& target) const {
    auto output = run({"--mode", "node", "--targetname", target, "--login"});
    const std::string doing = "login to " + target;
    if (!output) return fail(std::move(output.error()).during(doing));
    if (output->exit_code == 15) return LoggedIn::before;
    return said(*output, doing).map([] { return LoggedIn::by_this; });
  }

  /// Ends a session. One that has ended is no failure.
  Result<void> logout(const KernelSession& session) const {
    auto done = call({"--mode", "session", "--sid", session.number, "--logout"}, "logout from " + session.portal);
    if (!done && done.error().code() == Errc::not_found) return {};
    return done;
  }

  /// Has the kernel look for new LUNs and new sizes in one session.
  Result<void> rescan(const KernelSession& session) const {
    return call({"--mode", "session", "--sid", session.number, "--rescan"}, "rescan of " + session.portal);
  }

  /// Takes away what multipath has made of the paths to a LUN; it refuses while that is in use.
  Result<void> flush_multipath(const std::string& name) const {
    const std::string program = first_program(host_.multipath);
    if (program.empty()) return no_multipath("multipath", name);
    auto output = runner_.run({.argv = {program, "-f", name}, .timeout = timeout_, .input = {}, .stop = stop_});
    if (!output) return fail(std::move(output.error()).during("flushing " + name));
    if (output->exit_code == 0) return {};
    return fail(Errc::in_use, "multipath does not let go of " + name + ": " + iscsiadm_words(output->err));
  }

  /// Has multipathd take the size of the paths for that of their map. It answers "ok", or "fail" and worse.
  /// Errors: unavailable (it is not installed, or does not run), command_failed.
  Result<void> resize_multipath(const std::string& name) const {
    const std::string program = first_program(host_.multipathd);
    if (program.empty()) return no_multipath("multipathd", name);
    auto output =
        runner_.run({.argv = {program, "resize", "map", name}, .timeout = timeout_, .input = {}, .stop = stop_});
    const std::string doing = "resizing " + name;
    if (!output) return fail(std::move(output.error()).during(doing));
    if (output->exit_code == 0 && output->out.starts_with("ok")) return {};
    // Of a daemon that does not run it says nothing at all.
    const std::string words = iscsiadm_words(output->err.empty() ? output->out : output->err);
    const std::string why = words.empty() ? "it ended with " + std::to_string(output->exit_code) : words;
    return fail(Error{Errc::command_failed, doing + " by multipathd: " + why}.advise(
        "does multipathd run? then: multipathd resize map " + name));
  }

  /// Errors: unavailable, when iscsiadm is not there.
  [[nodiscard]] Result<std::string> program() const {
    auto found = first_program(host_.iscsiadm);
    if (!found.empty()) return found;
    return fail(Error{Errc::unavailable, "open-iscsi is not installed: there is no " + host_.iscsiadm.front()}.advise(
        "apt-get install open-iscsi"));
  }

 private:
  static tl::unexpected<Error> no_multipath(const std::string& program, const std::string& name) {
    return fail(Error{Errc::unavailable, program + " is not installed, and multipath holds " + name}.advise(
        "apt-get install multipath-tools"));
  }

  Result<CommandOutput> run(std::initializer_list<std::string> arguments) const {
    auto path = program();
    if (!path) return fail(std::move(path.error()));
    Command command{.argv = {*std::move(path)}, .timeout = timeout_, .input = {}, .stop = stop_};
    command.argv.insert(command.argv.end(), arguments);
    auto output = runner_.run(command);
    // Without iscsid, iscsiadm calls it for two minutes before it gives up.
    if (!output && output.error().code() == Errc::timed_out && !iscsid_listens(host_)) {
      return fail(iscsiadm_error({.exit_code = 20, .out = {}, .err = {}},
                                 "iscsiadm was stopped after " + std::to_string(timeout_.count()) + " ms"));
    }
    return output;
  }

  static Result<void> said(const CommandOutput& output, const std::string& doing) {
    if (output.exit_code == 0) return {};
    return fail(iscsiadm_error(output, doing));
  }

  Result<void> call(std::initializer_list<std::string> arguments, const std::string& doing) const {
    auto output = run(arguments);
    if (!output) return fail(std::move(output.error()).during(doing));
    return said(*output, doing);
  }

  Runner runner_;
  OpenIscsiHost host_;
  std::chrono::milliseconds timeout_;
  std::stop_token stop_;
};

}  // namespace stowage::detail
