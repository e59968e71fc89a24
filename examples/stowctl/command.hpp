#pragma once
// What every command of stowctl gets and gives.

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <stowage/all.hpp>
#include <stowage/tasks.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowctl {

using Json = nlohmann::ordered_json;  // fields stay in the order in which CLI.md lists them
using stowage::Result;

/// The options that stand in front of every command.
struct Options {
  std::string config = "/etc/pve/storage.cfg";
  std::string priv = "/etc/pve/priv";
  std::string ceph_conf = "/etc/pve/ceph.conf";
  std::string cluster = stowage::cluster_folder;
  bool json = false;
  bool yes = false;
  bool dry_run = false;
  double timeout = 10;
  std::string progress = "auto";
};

/// The result of a command, for people and for programs.
struct Answer {
  std::string text;
  Json json;
  int exit_status = 0;
};

class Context {
 public:
  Context(const Options& options, std::stop_token stop) : options_{options}, stop_{std::move(stop)} {}

  [[nodiscard]] const Options& options() const noexcept { return options_; }
  /// Asked by Ctrl-C, once a change has begun.
  [[nodiscard]] const std::stop_token& stop() const noexcept { return stop_; }

  [[nodiscard]] Result<stowage::StorageConfigFile> config() const;
  [[nodiscard]] stowage::OpenOptions open_options() const;
  [[nodiscard]] Result<stowage::AnyStorage> open(const std::string& id) const;

  /// Asks all storages at once and waits for none longer than the deadline, if there is one: `ask(storage)` gives a
  /// `Result`. Pre: it owns what it uses.
  template <class Ask>
  [[nodiscard]] auto ask(const stowage::StorageConfigFile& file, const std::vector<stowage::ConfigStorage>& storages,
                         bool has_deadline, Ask ask) const {
    auto options = open_options();
    options.stop = stop_;
    std::optional<std::chrono::milliseconds> patience;
    // A little longer than each of them: their own words are better than ours.
    if (has_deadline) patience = options.timeout + std::chrono::milliseconds{500};
    const auto shared = std::make_shared<const stowage::StorageConfigFile>(file);
    auto answers = stowage::ask_all(
        storages, patience,
        [shared, options, has_deadline, ask](const stowage::ConfigStorage& storage, const stowage::Work& work) mutable {
          if (has_deadline) options.stop = work.stop;  // nobody waits for it any more
          return stowage::open_storage(*shared, storage.id, options).and_then([&](stowage::AnyStorage&& opened) {
            return ask(opened);
          });
        });
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (!answers[i]) answers[i] = stowage::fail(std::move(answers[i].error()).about(storages[i].id.str()));
    }
    return answers;
  }

  /// From here on Ctrl-C asks the library to stop, and does not just end the program.
  void begin_change() noexcept { changing = true; }
  /// Asks the person, if there is one. Errors: cancelled.
  [[nodiscard]] Result<void> confirm(const std::string& question) const;
  /// What --dry-run answers.
  [[nodiscard]] static Answer would(const std::string& what);
  /// A line on stderr; not with --json, whose document has it.
  void warn(const std::string& what) const;

  static inline std::atomic<bool> changing{false};

 private:
  const Options& options_;
  std::stop_token stop_;
};

/// The storages that a command is about: the one it names, or all of our types, sorted.
[[nodiscard]] Result<std::vector<stowage::ConfigStorage>> chosen(const stowage::StorageConfigFile& file,
                                                                 const std::string& id);
/// Nothing is asked of it here: it is disabled, or on other nodes.
[[nodiscard]] bool is_disabled(const stowage::ConfigStorage& storage);

/// A volume that the command line names, and its storage.
struct Volume {
  stowage::AnyStorage storage;
  stowage::VolumeName name;

  [[nodiscard]] static Result<Volume> open(const Context& context, const std::string& volid);
  [[nodiscard]] std::string volid() const { return storage.id().str() + ":" + name.str(); }
  [[nodiscard]] std::string volid(const stowage::VolumeName& other) const {
    return storage.id().str() + ":" + other.str();
  }
  /// As much as can be known without doing it: the volume is there, and its type can do that to it.
  [[nodiscard]] Result<stowage::VolumeInfo> could(stowage::Capability capability) const;
};

/// What a new volume is for, when nobody says: images, where the storage takes them.
[[nodiscard]] inline stowage::Content content_of(const stowage::AnyStorage& storage) {
  using stowage::Content;
  return storage.config().content.has(Content::images) ? Content::images : Content::rootdir;
}

/// Arguments that more than one command has.
struct NoArguments {};
struct OneVolume {
  std::string volid;
};
inline void one_volume(CLI::App& app, OneVolume& arguments) {
  app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
}

using Action = std::function<Result<Answer>(Context&)>;

/// Where commands are added: the parser, and what the chosen one will do.
struct Commands {
  CLI::App& app;
  Action& chosen;

  /// A command with arguments of its own, which `describe` ties to the command line.
  template <class Arguments>
  void add(const char* name, const char* what, void (*describe)(CLI::App&, Arguments&),
           Result<Answer> (*run)(Context&, const Arguments&)) {
    CLI::App* command = app.add_subcommand(name, what);
    auto arguments = std::make_shared<Arguments>();
    describe(*command, *arguments);
    command->callback([arguments, run, &chosen = chosen] {
      chosen = [arguments, run](Context& context) { return run(context, *arguments); };
    });
  }
  /// A command that only groups others.
  [[nodiscard]] Commands group(const char* name, const char* what) const {
    CLI::App* command = app.add_subcommand(name, what);
    command->require_subcommand(1);
    return {*command, chosen};
  }
};

void add_config_commands(Commands commands);    // features, config check|show
void add_status_commands(Commands commands);    // status, check
void add_recover_commands(Commands commands);   // recover
void add_watch_commands(Commands commands);     // watch
void add_volume_commands(Commands commands);    // list, info, path, blockdev, activate, deactivate
void add_change_commands(Commands commands);    // alloc, free, resize, rename, template, flatten
void add_snapshot_commands(Commands commands);  // snapshot, snapshots, rollback, delsnapshot
void add_clone_commands(Commands commands);     // clone
void add_stream_commands(Commands commands);    // export, import
void add_copy_commands(Commands commands);      // copy
void add_extent_commands(Commands commands);    // extents
void add_scan_commands(Commands commands);      // scan lvmthin|iscsi|iscsidirect|rbd

}  // namespace stowctl
