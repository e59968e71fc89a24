// stowctl: what `pvesm` does, on the storages of storage.cfg, and the verbs that it lacks. All of it is in the
// library; here are words, tables and exit codes.

#include "command.hpp"
#include "failure.hpp"
#include "signals.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#ifndef STOWCTL_VERSION  // the build says it; a tool that reads this file alone may not
#define STOWCTL_VERSION "unknown"
#endif

namespace stowctl {
namespace {

void add_options(CLI::App& app, Options& options) {
  app.add_option("--config", options.config, "storage.cfg")->envname("STOWAGE_CONFIG")->capture_default_str();
  app.add_option("--priv", options.priv, "the folder of keyrings and CHAP secrets")
      ->envname("STOWAGE_PRIV")
      ->capture_default_str();
  app.add_option("--ceph-conf", options.ceph_conf, "the conf of the cluster that a managed rbd storage belongs to")
      ->envname("STOWAGE_CEPH_CONF")
      ->capture_default_str();
  app.add_option("--cluster", options.cluster, "the cluster's file system: a configuration in it is shared with pvesm")
      ->envname("STOWAGE_CLUSTER")
      ->capture_default_str();
  app.add_flag("--json", options.json, "one JSON document on stdout; errors as JSON on stderr");
  app.add_flag("--yes", options.yes, "do not ask; overwrite the file of an export or copy");
  app.add_flag("--dry-run", options.dry_run, "say what would be done, and change nothing");
  app.add_option("--timeout", options.timeout, "seconds to wait for an answer")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  app.add_option("--progress", options.progress, "the progress line on stderr")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
}

void add_commands(Commands commands) {
  add_config_commands(commands);
  add_status_commands(commands);
  add_recover_commands(commands);
  add_watch_commands(commands);
  add_volume_commands(commands);
  add_change_commands(commands);
  add_snapshot_commands(commands);
  add_clone_commands(commands);
  add_stream_commands(commands);
  add_copy_commands(commands);
  add_extent_commands(commands);
  add_scan_commands(commands);
}

/// Prints the result. A full disk or a closed pipe must not look like success.
int print(const Answer& answer, bool json) {
  const std::string text =
      json && !answer.json.is_null() ? answer.json.dump(2, ' ', false, Json::error_handler_t::replace) : answer.text;
  if (!text.empty()) std::fprintf(stdout, "%s\n", text.c_str());
  if (std::fflush(stdout) == 0) return answer.exit_status;
  print_error({stowage::Errc::backend_failed, "the result could not be written", stowage::native_errno(errno)}, json);
  return 1;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app{"Storage for hypervisors: volumes, snapshots and clones on the storages of storage.cfg", "stowctl"};
  app.fallthrough();
  app.require_subcommand(1);
  app.set_version_flag("--version", "stowctl " STOWCTL_VERSION);
  add_options(app, options);
  Action action;
  add_commands({app, action});
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const bool json = std::any_of(argv + 1, argv + argc, [](std::string_view a) { return a == "--json"; });
    print_error(stowage::Error{stowage::Errc::invalid_argument, error.what()}.advise("see stowctl --help"), json,
                "usage");
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  const Signals signals{options};
  Context context{options, signals.token()};
  const auto answer = action(context);
  if (answer) return print(*answer, options.json);
  print_error(answer.error(), options.json, app.get_subcommands().front()->get_name());
  return exit_status(answer.error().code());
}

}  // namespace
}  // namespace stowctl

int main(int argc, char** argv) {
  int status = 1;
  try {
    status = stowctl::run(argc, argv);
  } catch (const std::exception& error) {  // no memory, no threads
    std::fprintf(stderr, "stowctl: %s\n", error.what());
  }
  std::fflush(nullptr);
  // Threads that still wait for a storage that does not answer must not keep the program.
  std::_Exit(status);
}
