// clone: linked, or full; a full one also to another storage

#include "command.hpp"
#include "progress_line.hpp"
#include "rate.hpp"

#include <stowage/transfer/new_volume.hpp>

namespace stowctl {

using namespace stowage;

namespace {

struct CloneArguments {
  std::string volid;
  std::string vmid;
  std::string snapshot;
  std::string name;
  std::string storage;
  std::string limit;
  bool full = false;
};

/// What the arguments say, understood.
struct Clone {
  Volume from;
  std::optional<SnapshotName> snapshot;
  CloneSpec spec;

  [[nodiscard]] std::string source() const { return from.volid() + (snapshot ? "@" + snapshot->str() : ""); }
};

Result<Clone> parse(const Context& context, const CloneArguments& arguments) {
  const auto vmid = VmId::parse(arguments.vmid);
  if (!vmid) return fail(vmid.error());
  CloneSpec spec{.vmid = *vmid};
  if (!arguments.name.empty()) {
    auto name = VolumeName::parse(arguments.name);
    if (!name) return fail(std::move(name.error()));
    spec.name = *std::move(name);
  }
  std::optional<SnapshotName> snapshot;
  if (!arguments.snapshot.empty()) {
    auto name = SnapshotName::parse(arguments.snapshot);
    if (!name) return fail(std::move(name.error()));
    snapshot = *std::move(name);
  }
  return Volume::open(context, arguments.volid).map([&](Volume&& from) {
    return Clone{std::move(from), std::move(snapshot), std::move(spec)};
  });
}

Answer made(const AnyStorage& storage, const VolumeName& name) {
  const std::string volid = storage.id().str() + ":" + name.str();
  return {volid, {{"volid", volid}}};
}

Result<Answer> linked_clone(Context& context, Clone clone) {
  AnyStorage& storage = clone.from.storage;
  clone.spec.content = content_of(storage);
  if (context.options().dry_run) {
    // A snapshot of any volume can be cloned, of the volumes themselves only templates.
    auto can = clone.snapshot ? storage.info(clone.from.name) : clone.from.could(Capability::clone);
    return std::move(can).map(
        [&](auto&&) { return Context::would("clone " + clone.source() + " for guest " + to_string(clone.spec.vmid)); });
  }
  context.begin_change();
  const auto name = clone.snapshot ? storage.clone(clone.from.name, *clone.snapshot, clone.spec)
                                   : storage.clone(clone.from.name, clone.spec);
  return name.map([&](const VolumeName& n) { return made(storage, n); });
}

Result<Answer> full_clone_onto(Context& context, Clone& clone, AnyStorage& storage, Rate rate) {
  rate.pass(clone.from.storage);
  rate.pass(storage);
  if (context.options().dry_run) {
    return clone.from.could(Capability::copy).map([&](const VolumeInfo& info) {
      return Context::would("copy " + to_string(info.size) + " of " + clone.source() + " to " + storage.id().str() +
                            " for guest " + to_string(clone.spec.vmid));
    });
  }
  auto source = clone.snapshot ? clone.from.storage.open_volume(clone.from.name, *clone.snapshot)
                               : clone.from.storage.open_volume(clone.from.name, Access::read_only);
  if (!source) return fail(std::move(source.error()));
  context.begin_change();
  ProgressLine line{context.options(), "clone " + clone.source(), ProgressLine::Unit::bytes};
  const Progress shown = line.progress();
  clone.spec.content = content_of(storage);
  return full_clone(*source, storage, clone.spec,
                    {.rate_limit = rate.limit(), .progress = copy_progress(shown), .stop = context.stop()})
      .map([&](const VolumeName& name) { return made(storage, name); });
}

Result<Answer> clone_command(Context& context, const CloneArguments& arguments) {
  if (!arguments.full && !arguments.storage.empty()) {
    return fail(Error{Errc::invalid_argument, "a linked clone is on the storage of what it is made of"}.advise(
        "--full makes one on another storage"));
  }
  if (!arguments.full && !arguments.limit.empty()) {
    return fail(Errc::invalid_argument, "a linked clone moves no bytes: --limit goes with --full");
  }
  const auto rate = Rate::parse(context, arguments.limit, Traffic::clone);
  if (!rate) return fail(rate.error());
  auto clone = parse(context, arguments);
  if (!clone) return fail(std::move(clone.error()));
  if (!arguments.full) return linked_clone(context, *std::move(clone));
  if (arguments.storage.empty()) return full_clone_onto(context, *clone, clone->from.storage, *rate);
  auto storage = context.open(arguments.storage);
  if (!storage) return fail(std::move(storage.error()));
  return full_clone_onto(context, *clone, *storage, *rate);
}

}  // namespace

void add_clone_commands(Commands commands) {
  commands.add<CloneArguments>(
      "clone", "make a linked clone of a template or snapshot, or a full one of any volume",
      [](CLI::App& app, CloneArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("VMID", arguments.vmid, "the guest that it is for")->required();
        app.add_option("--snapshot", arguments.snapshot, "of this snapshot");
        app.add_option("--name", arguments.name, "vm-<vmid>-<name>; default: the next free one");
        app.add_flag("--full", arguments.full, "copy all bytes, and share none");
        app.add_option("--storage", arguments.storage, "where a full clone goes; default: where the volume is");
        rate_option(app, arguments.limit);
      },
      clone_command);
}

}  // namespace stowctl
