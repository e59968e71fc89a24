// list, info, path, blockdev, activate, deactivate

#include "command.hpp"
#include "failure.hpp"
#include "guests.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

#include <algorithm>

namespace stowctl {

using namespace stowage;

namespace {

struct ListArguments {
  std::string storage;
  std::string vmid;
  std::string content;
};
struct VolumeOrSnapshot {
  std::string volid;
  std::string snapshot;
};
struct StorageOrVolume {
  std::string name;
};

Result<ListFilter> filter_of(const ListArguments& arguments) {
  ListFilter filter;
  if (!arguments.vmid.empty()) {
    const auto vmid = VmId::parse(arguments.vmid);
    if (!vmid) return fail(vmid.error());
    filter.vmid = *vmid;
  }
  if (arguments.content.empty()) return filter;
  for (const Content content : {Content::images, Content::rootdir}) {
    if (arguments.content == name(content)) filter.content = content;
  }
  if (!filter.content) {
    return fail(Errc::parse_failed, "not the content of a volume (images, rootdir): '" + arguments.content + "'");
  }
  return filter;
}

/// The storage may hold both kinds; then the guest's configuration tells.
void complete(const Context& context, VolumeInfo& info) {
  if (info.content || !info.vmid) return;
  info.content = content_by_guest(guests_folder(context.options().config), *info.vmid);
}

Result<Answer> show_list(Context& context, const ListArguments& arguments) {
  const auto filter = filter_of(arguments);
  if (!filter) return fail(filter.error());
  const auto file = context.config();
  if (!file) return fail(file.error());
  auto storages = chosen(*file, arguments.storage);
  if (!storages) return fail(std::move(storages.error()));
  const bool all = arguments.storage.empty();
  if (all) std::erase_if(*storages, is_disabled);
  struct Listing {
    AnyStorage storage;
    std::vector<VolumeInfo> volumes;
  };
  auto listings = context.ask(*file, *storages, all, [filter = *filter](AnyStorage& storage) {
    return storage.list(filter).map([&](std::vector<VolumeInfo>&& volumes) {
      return Listing{std::move(storage), std::move(volumes)};
    });
  });
  using enum TextTable::Align;
  TextTable table{{{"Volid", left}, {"Format", left}, {"Type", left}, {"Size", right}, {"VMID", left}}};
  Answer answer{{}, Json::array()};
  for (auto& listing : listings) {
    if (!listing) {
      if (!all) return fail(std::move(listing.error()));
      print_error(listing.error(), context.options().json);
      if (answer.exit_status == 0) answer.exit_status = exit_status(listing.error().code());
      continue;
    }
    auto& [storage, volumes] = *listing;
    for (VolumeInfo& info : volumes) complete(context, info);
    if (filter->content) {
      std::erase_if(volumes, [&](const VolumeInfo& i) { return i.content && i.content != filter->content; });
    }
    // as pvesm: first what belongs to guests
    std::stable_partition(volumes.begin(), volumes.end(), [](const VolumeInfo& i) { return i.vmid.has_value(); });
    for (const VolumeInfo& info : volumes) {
      const std::string volid = storage.id().str() + ":" + info.name.str();
      answer.json.push_back(to_json(storage, info));
      table.add({volid, std::string{name(info.format)}, info.content ? std::string{name(*info.content)} : "-",
                 std::to_string(info.size.count), info.vmid ? to_string(*info.vmid) : ""});
      if (info.incomplete()) context.warn(volid + ": incomplete, unfinished " + info.intent);
    }
  }
  answer.text = table.str();
  return answer;
}

Result<Answer> show_info(Context& context, const OneVolume& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  auto info = volume->storage.info(volume->name);
  if (!info) return fail(std::move(info.error()));
  complete(context, *info);
  Answer answer{{}, to_json(volume->storage, *info)};
  answer.json["snapshots"] = Json::array();
  if (volume->storage.features().can.has(Capability::snapshot)) {
    const auto snapshots = volume->storage.snapshots(volume->name);
    if (!snapshots) return fail(snapshots.error());
    for (const SnapshotInfo& s : *snapshots) answer.json["snapshots"].push_back(to_json(s));
  }
  for (const auto& [key, value] : answer.json.items()) {
    if (key == "snapshots") {
      for (const Json& s : value) answer.text += "\nsnapshot: " + s["name"].get<std::string>();
    } else if (!value.is_null()) {
      answer.text += (answer.text.empty() ? "" : "\n") + key + ": " +
                     (value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  return answer;
}

Result<Answer> show_path(Context& context, const VolumeOrSnapshot& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  auto path = volume->storage.path(volume->name);
  if (!arguments.snapshot.empty()) {
    path = SnapshotName::parse(arguments.snapshot).and_then([&](const SnapshotName& snapshot) {
      return volume->storage.path(volume->name, snapshot);
    });
  }
  return std::move(path).map([](const std::string& p) { return Answer{p, {{"path", p}}}; });
}

Result<Answer> show_blockdev(Context& context, const VolumeOrSnapshot& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  auto node = volume->storage.blockdev(volume->name);
  if (!arguments.snapshot.empty()) {
    node = SnapshotName::parse(arguments.snapshot).and_then([&](const SnapshotName& snapshot) {
      return volume->storage.blockdev(volume->name, snapshot);
    });
  }
  return std::move(node).map([&](const Blockdev& b) {
    // The secret itself is for whoever starts QEMU with it, not for a terminal.
    if (b.secret) context.warn(volume->volid() + ": QEMU needs the secret object '" + b.secret->id + "' first");
    return Answer{b.to_json(), Json::parse(b.to_json())};
  });
}

Result<Answer> switch_on(Context& context, const StorageOrVolume& arguments, bool on) {
  Answer answer{arguments.name + (on ? ": active" : ": inactive"), {{"active", on}}};
  const std::string would = (on ? "activate " : "deactivate ") + arguments.name;
  if (arguments.name.find(':') == std::string::npos) {
    auto storage = context.open(arguments.name);
    if (!storage) return fail(std::move(storage.error()));
    if (context.options().dry_run) return Context::would(would);
    context.begin_change();
    return (on ? storage->activate() : storage->deactivate()).map([&] { return answer; });
  }
  auto volume = Volume::open(context, arguments.name);
  if (!volume) return fail(std::move(volume.error()));
  if (context.options().dry_run)
    return volume->storage.info(volume->name).map([&](auto&&) { return Context::would(would); });
  context.begin_change();
  return (on ? volume->storage.activate(volume->name) : volume->storage.deactivate(volume->name)).map([&] {
    return answer;
  });
}

Result<Answer> activate(Context& context, const StorageOrVolume& arguments) {
  return switch_on(context, arguments, true);
}
Result<Answer> deactivate(Context& context, const StorageOrVolume& arguments) {
  return switch_on(context, arguments, false);
}

void volume_and_snapshot(CLI::App& app, VolumeOrSnapshot& arguments) {
  app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
  app.add_option("--snapshot", arguments.snapshot, "a snapshot of it");
}
void storage_or_volume(CLI::App& app, StorageOrVolume& arguments) {
  app.add_option("ID-or-VOLID", arguments.name, "a storage, or STORAGE:VOLUME")->required();
}

}  // namespace

void add_volume_commands(Commands commands) {
  commands.add<ListArguments>(
      "list", "the volumes of a storage, or of all, which are asked at once",
      [](CLI::App& app, ListArguments& arguments) {
        app.add_option("ID", arguments.storage, "only this storage");
        app.add_option("--vmid", arguments.vmid, "only this guest's");
        app.add_option("--content", arguments.content, "only images, or only rootdir");
      },
      show_list);
  commands.add<OneVolume>("info", "one volume, with its snapshots", one_volume, show_info);
  commands.add<VolumeOrSnapshot>("path", "the file string that QEMU opens it by", volume_and_snapshot, show_path);
  commands.add<VolumeOrSnapshot>("blockdev", "the object for QEMU's -blockdev", volume_and_snapshot, show_blockdev);
  commands.add<StorageOrVolume>("activate", "make a storage or a volume usable here", storage_or_volume, activate);
  commands.add<StorageOrVolume>("deactivate", "the opposite", storage_or_volume, deactivate);
}

}  // namespace stowctl
