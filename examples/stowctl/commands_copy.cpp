// copy: between volumes and files, of whatever types

#include "command.hpp"
#include "json_output.hpp"
#include "new_file.hpp"
#include "progress_line.hpp"
#include "rate.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <stowage/io/kernel_extents.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>

namespace stowctl {

using namespace stowage;

namespace {

struct CopyArguments {
  std::string from;
  std::string to;
  std::string limit;
  std::size_t queue_depth = CopyOptions{}.queue_depth;
  bool verify = false;
};

/// `ID:VOLUME` is a volume; all else, and what begins as a path does, is a file.
bool names_file(const std::string& text) {
  return text.starts_with('/') || text.starts_with('.') || text.find(':') == text.npos;
}

/// Where the bytes come from: calls `work(queue, extents)`.
template <class Work>
Result<Answer> with_source(Context& context, const CopyArguments& arguments, Rate& rate, Work work) {
  if (names_file(arguments.from)) {
    const Fd file{::open(arguments.from.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file) return fail(file_error(arguments.from, errno));
    const auto extents = file_extents(file.get());
    if (!extents) return fail(Error{extents.error()}.about("file '" + arguments.from + "'"));
    auto queue = UringQueue::open(arguments.from, Access::read_only, arguments.queue_depth);
    if (!queue) return fail(std::move(queue.error()).about("file '" + arguments.from + "'"));
    return work(*queue, *extents);
  }
  auto volume = Volume::open(context, arguments.from);
  if (!volume) return fail(std::move(volume.error()));
  rate.pass(volume->storage);
  auto device = volume->storage.open_volume(volume->name, Access::read_only);
  if (!device) return fail(std::move(device.error()));
  auto extents = device->extents(context.stop());
  if (!extents && extents.error().code() == Errc::cancelled) return fail(std::move(extents.error()));
  if (!extents) {
    context.warn(volume->volid() +
                 ": all of it is read, for where it has data is not known: " + extents.error().message());
    extents = std::vector<Extent>{};
  }
  auto queue = device->queue(arguments.queue_depth);
  if (!queue) return fail(std::move(queue.error()).about(volume->volid()));
  return work(*queue, *extents);
}

/// A file, which appears under its name when it is complete; or a block device, which is there.
template <class Copy>
Result<Copied> onto_file(const Context& context, const CopyArguments& arguments, Bytes size, Copy copy) {
  struct ::stat about {};
  const bool there = ::stat(arguments.to.c_str(), &about) == 0;
  if (there && !S_ISREG(about.st_mode)) {
    if (auto sure = context.confirm("Overwrite " + arguments.to + "?"); !sure) return fail(std::move(sure.error()));
    auto queue = UringQueue::open(arguments.to, Access::read_write, arguments.queue_depth);
    if (!queue) return fail(std::move(queue.error()).about("file '" + arguments.to + "'"));
    return copy(*queue, CopyOptions{});
  }
  auto file = NewFile::create(context, arguments.to);
  if (!file) return fail(std::move(file.error()));
  if (::ftruncate(file->fd(), static_cast<::off_t>(size.count)) != 0) return fail(file_error(file->partial(), errno));
  const auto fill = [&]() -> Result<Copied> {
    auto queue = UringQueue::over(Fd{::fcntl(file->fd(), F_DUPFD_CLOEXEC, 3)}, arguments.queue_depth);
    if (!queue) return fail(std::move(queue.error()).about("file '" + file->partial() + "'"));
    return copy(*queue, CopyOptions{.fresh = true});
  };
  auto copied = fill();
  if (!copied) return copied;
  return file->finish().map([&] { return *copied; });
}

template <class Copy>
Result<Copied> onto_open_volume(AnyStorage& storage, const VolumeName& name, const CopyArguments& arguments,
                                Copy copy) {
  auto device = storage.open_volume(name, Access::read_write);
  if (!device) return fail(std::move(device.error()));
  auto copied = [&]() -> Result<Copied> {
    auto queue = device->queue(arguments.queue_depth);
    if (!queue) return fail(std::move(queue.error()));
    return copy(*queue, CopyOptions{});
  }();
  if (!copied) return copied;
  if (auto closed = device->close(); !closed) return fail(std::move(closed.error()));
  return copied;
}

/// A new volume for a guest, which is `incomplete` until all is there, and removed if that fails.
template <class Copy>
Result<Copied> onto_new_volume(Volume& volume, VmId vmid, const CopyArguments& arguments, Bytes size, Copy copy) {
  AnyStorage& storage = volume.storage;
  const CreateSpec spec{.vmid = vmid, .size = round_up(size, 1_KiB), .content = content_of(storage)};
  Copied copied;
  auto made = make_filled_volume(storage, spec, [&](auto& device) {
    return device.queue(arguments.queue_depth)
        .and_then([&](auto&& queue) { return copy(queue, onto_new(storage, device, CopyOptions{})); })
        .map([&](const Copied& all) { copied = all; });
  });
  if (!made) return fail(std::move(made.error()));
  volume.name = *std::move(made);
  return copied;
}

/// Where they go: calls `copy(queue, options)`, and says what the destination is called.
template <class Copy>
Result<Copied> onto(Context& context, const CopyArguments& arguments, Rate& rate, Bytes size, std::string& named,
                    Copy copy) {
  named = arguments.to;
  if (names_file(arguments.to)) return onto_file(context, arguments, size, copy);
  auto volume = Volume::open(context, arguments.to);
  if (!volume) return fail(std::move(volume.error()));
  rate.pass(volume->storage);
  if (const auto vmid = VmId::parse(volume->name.str())) {
    auto copied = onto_new_volume(*volume, *vmid, arguments, size, copy);
    named = volume->volid();
    return copied;
  }
  if (auto sure = context.confirm("Overwrite " + volume->volid() + "?"); !sure) return fail(std::move(sure.error()));
  return onto_open_volume(volume->storage, volume->name, arguments, copy).map_error([&](Error&& error) {
    return std::move(error).about(volume->volid());
  });
}

Result<Answer> copy_command(Context& context, const CopyArguments& arguments) {
  if (arguments.from == arguments.to) {
    return fail(Errc::invalid_argument, "'" + arguments.from + "' cannot be copied onto itself");
  }
  auto rate = Rate::parse(context, arguments.limit, Traffic::move);
  if (!rate) return fail(std::move(rate.error()));
  return with_source(
      context, arguments, *rate, [&](auto& source, const std::vector<Extent>& extents) -> Result<Answer> {
        if (context.options().dry_run) {
          return Context::would("copy " + to_string(source.size()) + " of " + arguments.from + " to " + arguments.to);
        }
        context.begin_change();
        ProgressLine line{context.options(), "copy " + arguments.from, ProgressLine::Unit::bytes};
        const Progress shown = line.progress();
        std::string named;
        const auto copied =
            onto(context, arguments, *rate, source.size(), named, [&](auto& destination, CopyOptions options) {
              options.queue_depth = arguments.queue_depth;
              options.verify = arguments.verify;
              options.rate_limit = rate->limit();
              options.progress = copy_progress(shown);
              options.stop = context.stop();
              return copy_queues(source, destination, extents, options);
            });
        if (!copied) return fail(copied.error());
        const double seconds = static_cast<double>(copied->elapsed.count()) / 1000;
        return Answer{arguments.from + ": " + std::to_string(copied->size.count) + " bytes to " + named + ", " +
                          std::to_string(copied->skipped.count) + " of them zeros",
                      {{"volid", named},
                       {"bytes", copied->size.count},
                       {"skipped", copied->skipped.count},
                       {"seconds", seconds}}};
      });
}

}  // namespace

void add_copy_commands(Commands commands) {
  commands.add<CopyArguments>(
      "copy", "copy all bytes of a volume or file onto another",
      [](CLI::App& app, CopyArguments& arguments) {
        app.add_option("FROM", arguments.from, "STORAGE:VOLUME, or a file")->required();
        app.add_option("TO", arguments.to, "STORAGE:VOLUME, a file, or STORAGE:VMID for a new volume")->required();
        app.add_flag("--verify", arguments.verify, "read it all back, and compare");
        app.add_option("--queue-depth", arguments.queue_depth, "requests in flight on either side")
            ->check(CLI::Range(1, 4096))
            ->capture_default_str();
        rate_option(app, arguments.limit);
      },
      copy_command);
}

}  // namespace stowctl
