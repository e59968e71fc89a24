// alloc, free, resize, rename, template, flatten

#include "command.hpp"
#include "json_output.hpp"
#include "progress_line.hpp"

namespace stowctl {

using namespace stowage;

namespace {

struct AllocArguments {
  std::string storage;
  std::string vmid;
  std::string name;
  std::string size;
};
struct FreeArguments {
  std::string volid;
  bool snapshots = false;
};
struct VolumeAndText {
  std::string volid;
  std::string text;
};

Result<Answer> alloc(Context& context, const AllocArguments& arguments) {
  const auto vmid = VmId::parse(arguments.vmid);
  if (!vmid) return fail(vmid.error());
  const auto size = Bytes::parse(arguments.size);
  if (!size) return fail(size.error());
  CreateSpec spec{.vmid = *vmid, .size = *size};
  if (!arguments.name.empty()) {
    const auto name = VolumeName::parse(arguments.name);
    if (!name) return fail(name.error());
    spec.name = *name;
  }
  auto storage = context.open(arguments.storage);
  if (!storage) return fail(std::move(storage.error()));
  // A storage for containers only has no other use for a new volume.
  if (!storage->config().content.has(Content::images) && storage->config().content.has(Content::rootdir)) {
    spec.content = Content::rootdir;
  }
  if (context.options().dry_run) {
    if (!storage->features().can.has(Capability::provision)) return fail(storage->create(spec).error());
    return Context::would("create a volume of " + to_string(*size) + " for guest " + to_string(*vmid) + " on " +
                          storage->id().str());
  }
  context.begin_change();
  return storage->create(spec).map([&](const VolumeName& made) {
    const std::string volid = storage->id().str() + ":" + made.str();
    return Answer{"successfully created '" + volid + "'", {{"volid", volid}}};
  });
}

Result<Answer> free_volume(Context& context, const FreeArguments& arguments) {
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  const std::string what = volume->volid() + (arguments.snapshots ? " with its snapshots" : "");
  if (context.options().dry_run) {
    return volume->could(Capability::provision).map([&](auto&&) { return Context::would("remove " + what); });
  }
  if (auto yes = context.confirm("Remove " + what + "?"); !yes) return fail(std::move(yes.error()));
  context.begin_change();
  ProgressLine line{context.options(), "free " + volume->volid(), ProgressLine::Unit::steps};
  return volume->storage
      .remove(volume->name, RemoveOptions{.snapshots = arguments.snapshots}, {context.stop(), line.progress()})
      .map([&] {
        return Answer{"Removed volume '" + volume->volid() + "'", {{"freed", volume->volid()}}};
      });
}

Result<Answer> resize(Context& context, const VolumeAndText& arguments) {
  const bool more = arguments.text.starts_with('+');
  auto size = Bytes::parse(arguments.text.substr(more ? 1 : 0));
  if (!size) return fail(std::move(size.error()));
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  if (more || context.options().dry_run) {
    const auto now = volume->could(Capability::resize);
    if (!now) return fail(now.error());
    if (more && now->size + *size < *size) return fail(Errc::invalid_argument, "more than 64 bits hold");
    if (more) *size += now->size;
    if (*size < now->size) {
      return fail(
          Error{Errc::invalid_argument, "it has " + to_string(now->size) + " and cannot shrink to " + to_string(*size)}
              .about(volume->volid()));
    }
  }
  if (context.options().dry_run) return Context::would("resize " + volume->volid() + " to " + to_string(*size));
  context.begin_change();
  return volume->storage.resize(volume->name, *size).map([&](Bytes now) {
    return Answer{volume->volid() + ": " + to_string(now), {{"volid", volume->volid()}, {"size", now.count}}};
  });
}

/// Digits are a guest's number, all else is a name, whose owner it tells.
Result<RenameSpec> new_name(const AnyStorage& storage, const std::string& text) {
  if (text.find_first_not_of("0123456789") == text.npos) {
    return VmId::parse(text).map([](VmId vmid) { return RenameSpec{.vmid = vmid}; });
  }
  return VolumeName::parse(text).and_then([&](const VolumeName& name) {
    return parse_volume_name(storage.features().type, name).map([&](const VolumeParts& parts) {
      return RenameSpec{.vmid = parts.owner(), .name = name};
    });
  });
}

Result<Answer> renamed(const Volume& volume, Result<VolumeName> name) {
  return std::move(name).map([&](const VolumeName& now) {
    return Answer{volume.volid(now), {{"volid", volume.volid(now)}}};
  });
}

Result<Answer> rename_volume(Context& context, const VolumeAndText& arguments) {
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  const auto spec = new_name(volume->storage, arguments.text);
  if (!spec) return fail(spec.error());
  if (context.options().dry_run) {
    return volume->could(Capability::rename).map([&](auto&&) {
      return Context::would("rename " + volume->volid() + " to " + arguments.text);
    });
  }
  context.begin_change();
  return renamed(*volume, volume->storage.rename(volume->name, *spec));
}

Result<Answer> make_template(Context& context, const OneVolume& arguments) {
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  if (context.options().dry_run) {
    return volume->could(Capability::make_template).map([&](auto&&) {
      return Context::would("make " + volume->volid() + " a template");
    });
  }
  context.begin_change();
  return renamed(*volume, volume->storage.make_template(volume->name));
}

Result<Answer> flatten(Context& context, const OneVolume& arguments) {
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  const auto before = volume->could(Capability::flatten);
  if (!before) return fail(before.error());
  if (context.options().dry_run) return Context::would("copy into " + volume->volid() + " what it shares");
  context.begin_change();
  ProgressLine line{context.options(), "flatten " + volume->volid(), ProgressLine::Unit::steps};
  return renamed(*volume, volume->storage.flatten(volume->name, {context.stop(), line.progress()}).and_then([&] {
    // Without an origin it loses the base in front of its name.
    const auto parts = parse_volume_name(volume->storage.features().type, before->name);
    return VolumeName::parse(parts ? parts->name : before->name.str());
  }));
}

}  // namespace

void add_change_commands(Commands commands) {
  commands.add<AllocArguments>(
      "alloc", "make a new volume",
      [](CLI::App& app, AllocArguments& arguments) {
        app.add_option("ID", arguments.storage, "the storage")->required();
        app.add_option("VMID", arguments.vmid, "the guest that it is for")->required();
        app.add_option("NAME", arguments.name, "vm-<vmid>-<name>; '' for the next free one")->required();
        app.add_option("SIZE", arguments.size, "4G, 512M, 1.5T, 4096B; a bare number is KiB")->required();
      },
      alloc);
  commands.add<FreeArguments>(
      "free", "remove a volume",
      [](CLI::App& app, FreeArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_flag("--snapshots", arguments.snapshots, "its snapshots too");
      },
      free_volume);
  commands.add<VolumeAndText>(
      "resize", "grow a volume",
      [](CLI::App& app, VolumeAndText& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("SIZE", arguments.text, "the new size, or +SIZE for so much more")->required();
      },
      resize);
  commands.add<VolumeAndText>(
      "rename", "give a volume another owner or name",
      [](CLI::App& app, VolumeAndText& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("VMID-or-NAME", arguments.text, "a guest's number, or vm-<vmid>-<name>")->required();
      },
      rename_volume);
  commands.add<OneVolume>("template", "make a volume the origin of clones", one_volume, make_template);
  commands.add<OneVolume>("flatten", "make a clone independent of its origin", one_volume, flatten);
}

}  // namespace stowctl
