// extents: where a volume has data, or has changed

#include "command.hpp"
#include "text_table.hpp"

namespace stowctl {

using namespace stowage;

namespace {

struct ExtentArguments {
  std::string volid;
  std::string snapshot;
  std::string from;
};

Result<Answer> extents_command(Context& context, const ExtentArguments& arguments) {
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  auto device = arguments.snapshot.empty()
                    ? volume->storage.open_volume(volume->name, Access::read_only)
                    : SnapshotName::parse(arguments.snapshot).and_then([&](const SnapshotName& snapshot) {
                        return volume->storage.open_volume(volume->name, snapshot);
                      });
  if (!device) return fail(std::move(device.error()));
  auto extents = arguments.from.empty()
                     ? device->extents()
                     : SnapshotName::parse(arguments.from).and_then([&](const SnapshotName& snapshot) {
                         return device->changes_since(snapshot);
                       });
  if (!extents) return fail(std::move(extents.error()).about(volume->volid()));
  using enum TextTable::Align;
  TextTable table{{{"Offset", right}, {"Length", right}, {"Allocated", left}}};
  Answer answer{{}, Json::array()};
  for (const Extent& e : *extents) {
    table.add({std::to_string(e.offset.count), std::to_string(e.length.count), e.allocated ? "yes" : "no"});
    answer.json.push_back({{"offset", e.offset.count}, {"length", e.length.count}, {"allocated", e.allocated}});
  }
  answer.text = table.str();
  return answer;
}

}  // namespace

void add_extent_commands(Commands commands) {
  commands.add<ExtentArguments>(
      "extents", "where a volume has data: what is not allocated reads as zeros",
      [](CLI::App& app, ExtentArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("--snapshot", arguments.snapshot, "of this snapshot");
        app.add_option("--from", arguments.from, "only what has changed since this snapshot");
      },
      extents_command);
}

}  // namespace stowctl
