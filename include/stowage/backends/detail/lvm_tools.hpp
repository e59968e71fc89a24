#pragma once
// How LVM's tools are called, and for what.

#include <cerrno>
#include <iterator>
#include <memory>
#include <mutex>
#include <stop_token>
#include <stowage/backends/detail/lvm_error.hpp>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/backends/detail/lvm_runs.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/process/command.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The name of a device of the volume group in /dev/mapper: a dash in a name is doubled.
inline std::string lvm_mapper_part(std::string_view name) {
  std::string text;
  for (const char c : name) text.append(c == '-' ? "--" : std::string_view{&c, 1});
  return text;
}

/// Where device mapper has a volume, or a part of one.
inline std::string lvm_mapper_name(std::string_view vg, std::string_view name) {
  return lvm_mapper_part(vg) + "-" + lvm_mapper_part(name);
}

/// Settings for one call. The filter keeps LVM away from our own volumes and their partitions: in them are the disks of
/// guests, whose volume groups are none of the host's business. It stands beside the administrator's `global_filter`
/// and leaves all other devices alone, multipath ones too. Reports must look as we ask for them, and changes be told,
/// whatever lvm.conf says. An empty `vg` means all.
inline std::string lvm_settings(std::string_view vg) {
  std::string filter;
  if (!vg.empty()) {
    const auto literal = [](std::string_view name) {
      std::string text;
      for (const char c : name) text += (c == '.' || c == '+') ? std::string{'['} + c + ']' : std::string{c};
      return text;
    };
    filter = "devices{filter=[\"r|^/dev/" + literal(vg) + "/|\",\"r|^/dev/mapper/" + literal(lvm_mapper_part(vg)) +
             "-[^-]|\"]} ";
  }
  return filter +
         "report{time_format=\"%s\" compact_output=0 compact_output_cols=\"\" list_item_separator=\",\" prefixes=0 "
         "binary_values_as_numeric=0 output_format=\"basic\"} log{report_command_log=0 silent=0}";
}

/// What is asked about every volume: all that there is, or what a listing tells.
enum class LvmDetail : bool { listing, all };

/// `lvs` for a whole volume group, LVM's hidden volumes with it. An empty `vg` means all. In rows, for LVM hands over
/// each line by itself: a line for each of 1000 volumes takes a twentieth longer.
inline std::vector<std::string> lvm_report_argv(const std::string& vg, LvmDetail detail) {
  std::string columns;
  for (std::size_t n = 0; n < (detail == LvmDetail::all ? lvm_columns.size() : lvm_listing_columns); ++n) {
    columns.append(columns.empty() ? "" : ",").append(lvm_columns[n]);
  }
  std::vector<std::string> argv{"/sbin/lvs",       "-a",          "--noheadings",    "--nosuffix",
                                "--units",         "b",           "--rows",          "--sort",
                                "vg_name,lv_name", "--separator", {lvm_separator},   "--config",
                                lvm_settings(vg),  "-o",          std::move(columns)};
  if (!vg.empty()) argv.push_back(vg);
  return argv;
}

/// A tool that changes something, and never asks back.
inline std::vector<std::string> lvm_change_argv(const std::string& vg, std::string_view tool,
                                                std::vector<std::string> arguments) {
  std::vector<std::string> argv{std::string{"/sbin/"}.append(tool), "-y", "--config", lvm_settings(vg)};
  argv.insert(argv.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  return argv;
}

inline Error lvm_missing_tool(Error error) {
  if (error.native() != native_errno(ENOENT)) return error;
  return std::move(error).advise("install the Debian package lvm2");
}

/// Asks for all volumes of a volume group, or of all groups. Errors: unavailable, timed_out, corrupt.
template <CommandRunner Runner>
Result<LvmReport> lvm_report(const Runner& runner, const std::string& vg, const OpenOptions& options,
                             LvmDetail detail = LvmDetail::all) {
  Command command{.argv = lvm_report_argv(vg, detail), .timeout = options.timeout, .stop = options.stop};
  auto output = runner.run(command);
  if (!output) return fail(lvm_missing_tool(std::move(output.error())).during("listing logical volumes"));
  if (output->exit_code != 0) return fail(lvm_error("listing logical volumes", *output));
  return parse_lvm_report(output->out);
}

/// LVM's tools, for one thin pool. Copies wait for each other.
template <CommandRunner Runner>
class LvmTools {
 public:
  LvmTools(LvmThinConfig config, OpenOptions options, Runner runner)
      : config_{std::move(config)}, options_{std::move(options)}, runner_{std::move(runner)} {}

  [[nodiscard]] const LvmThinConfig& config() const noexcept { return config_; }
  [[nodiscard]] const OpenOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::string& vg() const noexcept { return config_.vgname; }
  /// `vg/lv`, as the tools want it.
  [[nodiscard]] std::string spec(std::string_view name) const { return config_.vgname + "/" + std::string{name}; }
  [[nodiscard]] std::string pool() const { return spec(config_.thinpool); }
  [[nodiscard]] std::string device(std::string_view name) const { return "/dev/" + spec(name); }

  /// All volumes of the volume group: one process. Errors: unavailable (no such volume group, no lvm2), timed_out.
  [[nodiscard]] Result<LvmReport> report(LvmDetail detail = LvmDetail::all) const {
    return lvm_report(runner_, config_.vgname, options_, detail);
  }

  /// Runs a tool that changes something. It has six times the deadline of a question: it may wait for LVM's own lock,
  /// which other tools hold for a second at a time, and to kill it helps nobody. LVM lets one command at a time change
  /// a group: who waits for his turn here, and not there, does not use up his deadline, nor starve those who ask.
  /// Errors: outcome_unknown, when it was killed at its deadline.
  Result<void> change(std::string_view tool, std::vector<std::string> arguments, std::string_view doing) const {
    return run_change(tool, std::move(arguments), doing, options_.stop);
  }

  /// The same for the end of a verb that is worth no half: it is done though somebody asks to stop.
  Result<void> finish(std::string_view tool, std::vector<std::string> arguments, std::string_view doing) const {
    return run_change(tool, std::move(arguments), doing, {});
  }

  [[nodiscard]] const Runner& runner() const noexcept { return runner_; }
  /// Shared with all copies.
  [[nodiscard]] LvmRuns& runs() const noexcept { return *runs_; }

 private:
  Result<void> run_change(std::string_view tool, std::vector<std::string> arguments, std::string_view doing,
                          const std::stop_token& stop) const {
    if (stop.stop_requested()) return fail(Errc::cancelled, std::string{doing} + ": stopped before it began");
    Command command{.argv = lvm_change_argv(config_.vgname, tool, std::move(arguments)),
                    .timeout = options_.timeout * 6};
    const std::lock_guard turn{*turn_};
    auto output = runner_.run(command);
    if (!output && output.error().code() == Errc::timed_out) {
      return fail(
          Error{Errc::outcome_unknown, std::string{doing} + ": " + output.error().detail(), output.error().native()}
              .advise("look at the volume before you repeat it"));
    }
    if (!output) return fail(lvm_missing_tool(std::move(output.error())).during(doing));
    if (output->exit_code != 0) return fail(lvm_error(doing, *output));
    return {};
  }

  LvmThinConfig config_;
  OpenOptions options_;
  Runner runner_;
  std::shared_ptr<std::mutex> turn_ = std::make_shared<std::mutex>();
  std::shared_ptr<LvmRuns> runs_ = std::make_shared<LvmRuns>();
};

}  // namespace stowage::detail
