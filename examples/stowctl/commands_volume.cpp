// list, info, path, blockdev, activate, deactivate

#include "command.hpp"
#include "failure.hpp"
#include "guests.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

#include <algorithm>
#include <optional>

namespace stowctl {

using namespace stowage;

namespace {

struct ListArguments {
  std::string storage;
  std::string vmid;
  std::string content;
};
struct VolumeOrSnapshot {
  std::string volid;  // of activate and deactivate, a storage too
  std::string snapshot;
  bool kernel = false;
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
      if (!info.pending.empty()) context.warn(volid + ": a " + info.pending + " waits for its next activation");
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

/// The snapshot that is asked for, if one is.
Result<std::optional<SnapshotName>> snapshot_of(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return SnapshotName::parse(text).map([](const SnapshotName& name) { return std::optional{name}; });
}

Result<Answer> show_path(Context& context, const VolumeOrSnapshot& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  const auto snapshot = snapshot_of(arguments.snapshot);
  if (!snapshot) return fail(snapshot.error());
  const UseOptions use{.kernel = arguments.kernel};
  return (*snapshot ? volume->storage.path(volume->name, **snapshot, use) : volume->storage.path(volume->name, use))
      .map([](const std::string& p) {
        return Answer{p, {{"path", p}}};
      });
}

Result<Answer> show_blockdev(Context& context, const VolumeOrSnapshot& arguments) {
  const auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(volume.error());
  const auto snapshot = snapshot_of(arguments.snapshot);
  if (!snapshot) return fail(snapshot.error());
  const UseOptions use{.kernel = arguments.kernel};
  return (*snapshot ? volume->storage.blockdev(volume->name, **snapshot, use)
                    : volume->storage.blockdev(volume->name, use))
      .map([&](const Blockdev& b) {
        // The secret itself is for whoever starts QEMU with it, not for a terminal.
        if (b.secret) context.warn(volume->volid() + ": QEMU needs the secret object '" + b.secret->id + "' first");
        return Answer{b.to_json(), Json::parse(b.to_json())};
      });
}

Result<void> switch_volume(Volume& volume, const std::optional<SnapshotName>& snapshot, const UseOptions& use,
                           bool on) {
  AnyStorage& storage = volume.storage;
  if (snapshot) return on ? storage.activate(volume.name, *snapshot, use) : storage.deactivate(volume.name, *snapshot);
  return on ? storage.activate(volume.name, use) : storage.deactivate(volume.name);
}

Result<Answer> switch_on(Context& context, const VolumeOrSnapshot& arguments, bool on) {
  const auto snapshot = snapshot_of(arguments.snapshot);
  if (!snapshot) return fail(snapshot.error());
  const std::string what = arguments.volid + (*snapshot ? "@" + (*snapshot)->str() : "");
  Answer answer{what + (on ? ": active" : ": inactive"), {{"active", on}}};
  const UseOptions use{.kernel = arguments.kernel};
  const std::string would = (on ? "activate " : "deactivate ") + what;
  if (arguments.volid.find(':') == std::string::npos) {
    if (*snapshot || arguments.kernel) {
      return fail(Errc::invalid_argument,
                  "'" + arguments.volid + "' is a storage: --snapshot, --kernel are for volumes");
    }
    auto storage = context.open(arguments.volid);
    if (!storage) return fail(std::move(storage.error()));
    if (context.options().dry_run) return Context::would(would);
    context.begin_change();
    return (on ? storage->activate() : storage->deactivate()).map([&] { return answer; });
  }
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  if (context.options().dry_run) {
    const auto there = *snapshot ? volume->could(Capability::snapshot) : volume->storage.info(volume->name);
    if (!there) return fail(there.error());
    const auto device = arguments.kernel ? volume->storage.path(volume->name, use) : Result<std::string>{};
    return device.map([&](const std::string&) { return Context::would(would); });
  }
  context.begin_change();
  return switch_volume(*volume, *snapshot, use, on).map([&] { return answer; });
}

Result<Answer> activate(Context& context, const VolumeOrSnapshot& arguments) {
  return switch_on(context, arguments, true);
}
Result<Answer> deactivate(Context& context, const VolumeOrSnapshot& arguments) {
  return switch_on(context, arguments, false);
}

void snapshot_and_use(CLI::App& app, VolumeOrSnapshot& arguments) {
  app.add_option("--snapshot", arguments.snapshot, "a snapshot of it");
  app.add_flag("--kernel", arguments.kernel, "as a device of the kernel, for containers: on rbd also without krbd");
}
void volume_and_snapshot(CLI::App& app, VolumeOrSnapshot& arguments) {
  app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
  snapshot_and_use(app, arguments);
}
void storage_or_volume(CLI::App& app, VolumeOrSnapshot& arguments) {
  app.add_option("ID-or-VOLID", arguments.volid, "a storage, or STORAGE:VOLUME")->required();
}
void use_of_storage_or_volume(CLI::App& app, VolumeOrSnapshot& arguments) {
  storage_or_volume(app, arguments);
  snapshot_and_use(app, arguments);
}
void end_of_storage_or_volume(CLI::App& app, VolumeOrSnapshot& arguments) {
  storage_or_volume(app, arguments);
  app.add_option("--snapshot", arguments.snapshot, "only this snapshot of it");
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
  commands.add<VolumeOrSnapshot>("activate", "make a storage or a volume usable here", use_of_storage_or_volume,
                                 activate);
  commands.add<VolumeOrSnapshot>("deactivate", "the opposite", end_of_storage_or_volume, deactivate);
}

}  // namespace stowctl
