// snapshot, snapshots, rollback, delsnapshot

#include "command.hpp"
#include "json_output.hpp"
#include "progress_line.hpp"
#include "text_table.hpp"

#include <ctime>

namespace stowctl {

using namespace stowage;

namespace {

struct OneSnapshot {
  std::string volid;
  std::string snapshot;
  bool at_next_activation = false;  // of rollback
};

/// A volume and a snapshot of it, ready for `verb`.
template <class Verb>
Result<Answer> on_snapshot(Context& context, const OneSnapshot& arguments, const std::string& what, Verb verb) {
  const auto snapshot = SnapshotName::parse(arguments.snapshot);
  if (!snapshot) return fail(snapshot.error());
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  const std::string full = volume->volid() + "@" + snapshot->str();
  if (context.options().dry_run) {
    return volume->could(Capability::snapshot).map([&](auto&&) { return Context::would(what + " " + full); });
  }
  return verb(*volume, *snapshot).map([&] {
    return Answer{full, {{"volid", volume->volid()}, {"snapshot", snapshot->str()}}};
  });
}

Result<Answer> snapshot(Context& context, const OneSnapshot& arguments) {
  return on_snapshot(context, arguments, "take the snapshot", [&](Volume& volume, const SnapshotName& name) {
    context.begin_change();
    return volume.storage.snapshot(volume.name, name);
  });
}

Result<Answer> rollback(Context& context, const OneSnapshot& arguments) {
  return on_snapshot(context, arguments, "roll back to", [&](Volume& volume, const SnapshotName& name) -> Result<void> {
    const std::string question = "Roll " + volume.volid() + " back to " + name.str() + ", and lose what came after?";
    if (auto yes = context.confirm(question); !yes) return yes;
    context.begin_change();
    ProgressLine line{context.options(), "rollback " + volume.volid(), ProgressLine::Unit::steps};
    const RollbackOptions options{arguments.at_next_activation ? WhenOpen::at_next_activation : WhenOpen::refuse};
    return volume.storage.rollback(volume.name, name, options, {context.stop(), line.progress()});
  });
}

Result<Answer> delsnapshot(Context& context, const OneSnapshot& arguments) {
  return on_snapshot(context, arguments, "remove", [&](Volume& volume, const SnapshotName& name) -> Result<void> {
    if (auto yes = context.confirm("Remove " + volume.volid() + "@" + name.str() + "?"); !yes) return yes;
    context.begin_change();
    return volume.storage.remove_snapshot(volume.name, name);
  });
}

std::string local_time(std::chrono::sys_seconds when) {
  const std::time_t seconds = when.time_since_epoch().count();
  std::tm parts{};
  std::array<char, 32> text{};
  if (::localtime_r(&seconds, &parts) == nullptr) return "-";
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return text.data();
}

Result<Answer> snapshots(Context& context, const OneVolume& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  return volume->storage.snapshots(volume->name).map([](const std::vector<SnapshotInfo>& all) {
    using enum TextTable::Align;
    TextTable table{{{"Name", left}, {"Size", right}, {"Created", left}, {"Protected", left}}};
    Answer answer{{}, Json::array()};
    for (const SnapshotInfo& s : all) {
      table.add({s.name.str(), std::to_string(s.size.count), s.ctime ? local_time(*s.ctime) : "-",
                 s.is_protected ? "yes" : "no"});
      answer.json.push_back(to_json(s));
    }
    answer.text = table.str();
    return answer;
  });
}

void one_snapshot(CLI::App& app, OneSnapshot& arguments) {
  app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
  app.add_option("SNAPSHOT", arguments.snapshot, "the name of the snapshot")->required();
}
void rollback_arguments(CLI::App& app, OneSnapshot& arguments) {
  one_snapshot(app, arguments);
  app.add_flag("--at-next-activation", arguments.at_next_activation,
               "lvmthin: if somebody has it open, roll it back when it is activated next");
}

}  // namespace

void add_snapshot_commands(Commands commands) {
  commands.add<OneSnapshot>("snapshot", "take a snapshot", one_snapshot, snapshot);
  commands.add<OneVolume>("snapshots", "the snapshots of a volume, oldest first", one_volume, snapshots);
  commands.add<OneSnapshot>("rollback", "give a volume the content of a snapshot", rollback_arguments, rollback);
  commands.add<OneSnapshot>("delsnapshot", "remove a snapshot", one_snapshot, delsnapshot);
}

}  // namespace stowctl
