// export, import

#include "command.hpp"
#include "json_output.hpp"
#include "new_file.hpp"
#include "progress_line.hpp"
#include "rate.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>

namespace stowctl {

using namespace stowage;

namespace {

struct ExportArguments {
  std::string volid;
  std::string format;
  std::string file;
  std::string snapshot;
  std::string from;
  std::string limit;
  std::uint64_t begin = 0;
};
struct ImportArguments {
  std::string volid;
  std::string format;
  std::string file;
  std::string size;
  std::string limit;
  bool allow_rename = false;
  bool rollback = false;
};

/// The format of our own: a snapshot, or what has changed since another.
constexpr std::string_view snapshot_format = "stowage";

/// Where an export goes: a new file, or what is there: a pipe, a device, stdout.
class Target {
 public:
  static Result<Target> open(const Context& context, const std::string& file) {
    if (file == "-") return Target{Fd{::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)}};
    struct ::stat about {};
    if (::stat(file.c_str(), &about) == 0 && !S_ISREG(about.st_mode)) {
      Fd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
      if (!fd) return fail(file_error(file, errno));
      return Target{std::move(fd)};
    }
    return NewFile::create(context, file).map([](NewFile&& fresh) { return Target{std::move(fresh)}; });
  }

  [[nodiscard]] int fd() const noexcept { return file_ ? file_->fd() : fd_.get(); }
  Result<void> finish() { return file_ ? file_->finish() : Result<void>{}; }

 private:
  explicit Target(Fd fd) : fd_{std::move(fd)} {}
  explicit Target(NewFile file) : file_{std::move(file)} {}

  Fd fd_{};
  std::optional<NewFile> file_{};
};

/// A snapshot that the command line may name.
Result<std::optional<SnapshotName>> optional_snapshot(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return SnapshotName::parse(text).map([](SnapshotName name) { return std::optional{std::move(name)}; });
}

/// What the format is, or that it is our own. Errors: parse_failed; invalid_argument (options of another format).
Result<std::optional<StreamFormat>> format_of(const std::string& text, bool has_options_of_ours) {
  if (text == snapshot_format) return std::nullopt;
  if (has_options_of_ours) return fail(Errc::invalid_argument, "only the format stowage takes such options");
  return parse_stream_format(text)
      .map([](StreamFormat format) { return std::optional{format}; })
      .map_error([](Error&& error) { return std::move(error).advise("or stowage, for snapshots"); });
}

Result<Answer> export_command(Context& context, const ExportArguments& arguments) {
  const auto format = format_of(arguments.format, !arguments.from.empty() || arguments.begin != 0);
  if (!format) return fail(format.error());
  const auto snapshot = optional_snapshot(arguments.snapshot);
  if (!snapshot) return fail(snapshot.error());
  const auto from = optional_snapshot(arguments.from);
  if (!from) return fail(from.error());
  auto rate = Rate::parse(context, arguments.limit, Traffic::migration);
  if (!rate) return fail(std::move(rate.error()));
  if (!*format && !*snapshot) {
    return fail(Error{Errc::invalid_argument, "the format stowage is of a snapshot"}.advise("say which: --snapshot"));
  }
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  rate->pass(volume->storage);
  if (context.options().dry_run) {
    return volume->could(Capability::copy).map([&](const VolumeInfo& info) {
      return Context::would("write " + to_string(info.size) + " of " + volume->volid() + " to " + arguments.file);
    });
  }
  context.begin_change();
  auto target = Target::open(context, arguments.file);
  if (!target) return fail(std::move(target.error()));
  FdSink sink{target->fd(), context.stop()};
  ProgressLine line{context.options(), "export " + volume->volid(), ProgressLine::Unit::bytes};
  const Work work{context.stop(), line.progress()};
  const auto sent = [&]() -> Result<Bytes> {
    if (!*format) {
      const SendOptions options{
          .since = *from, .begin = Bytes{arguments.begin}, .rate_limit = rate->limit(), .work = work};
      return send_snapshot(volume->storage, volume->name, **snapshot, sink, options).map([](const Sent& all) {
        return all.data;
      });
    }
    const ExportOptions options{.format = **format, .rate_limit = rate->limit(), .work = work};
    return *snapshot ? export_volume(volume->storage, volume->name, **snapshot, sink, options)
                     : export_volume(volume->storage, volume->name, sink, options);
  }();
  if (!sent) return fail(sent.error());
  if (auto whole = target->finish(); !whole) return fail(std::move(whole.error()));
  if (arguments.file == "-") return Answer{};  // stdout is the stream
  return Answer{volume->volid() + ": " + std::to_string(sent->count) + " bytes to " + arguments.file,
                {{"volid", volume->volid()}, {"bytes", sent->count}}};
}

/// A stream of our own format onto a volume.
Result<Answer> receive(Volume& volume, FdSource& source, const ReceiveOptions& options) {
  return receive_snapshot(volume.storage, volume.name, source, options).map([&](const Received& got) {
    return Answer{volume.volid() + " has snapshot '" + got.snapshot.str() + "', " + std::to_string(got.data.count) +
                      " bytes were written",
                  {{"volid", volume.volid()},
                   {"bytes", got.data.count},
                   {"snapshot", got.snapshot.str()},
                   {"size", got.size.count},
                   {"zeros", got.zeros.count},
                   {"skipped", got.skipped.count}}};
  });
}

Result<Answer> import_command(Context& context, const ImportArguments& arguments) {
  const auto format = format_of(arguments.format, arguments.rollback);
  if (!format) return fail(format.error());
  if (!*format && (arguments.allow_rename || !arguments.size.empty())) {
    return fail(Errc::invalid_argument, "the format stowage takes neither --size nor --allow-rename");
  }
  ImportOptions options{.format = format->value_or(StreamFormat::raw), .allow_rename = arguments.allow_rename};
  if (!arguments.size.empty()) {
    const auto size = Bytes::parse(arguments.size);
    if (!size) return fail(size.error());
    options.size = *size;
  }
  auto rate = Rate::parse(context, arguments.limit, Traffic::migration);
  if (!rate) return fail(std::move(rate.error()));
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
  rate->pass(volume->storage);
  options.rate_limit = rate->limit();
  const Fd file{arguments.file == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                      : ::open(arguments.file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return fail(file_error(arguments.file, errno));
  options.content = content_of(volume->storage);
  if (context.options().dry_run && volume->storage.features().can.has(Capability::import)) {
    return Context::would("make " + volume->volid() + " of " + arguments.file);
  }
  context.begin_change();
  ProgressLine line{context.options(), "import " + volume->volid(), ProgressLine::Unit::bytes};
  options.work = {context.stop(), line.progress()};
  FdSource source{file.get(), context.stop()};
  if (!*format) {
    return receive(*volume, source,
                   {.rollback = arguments.rollback,
                    .content = options.content,
                    .rate_limit = options.rate_limit,
                    .work = options.work});
  }
  return import_volume(volume->storage, volume->name, source, options).map([&](const Imported& made) {
    const std::string volid = volume->volid(made.volume);
    return Answer{"successfully imported '" + volid + "'", {{"volid", volid}, {"bytes", made.size.count}}};
  });
}

}  // namespace

void add_stream_commands(Commands commands) {
  commands.add<ExportArguments>(
      "export", "write a volume to a file or pipe",
      [](CLI::App& app, ExportArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("FORMAT", arguments.format, "raw+size (as pvesm), raw, or stowage")->required();
        app.add_option("FILE", arguments.file, "a file, or - for stdout")->required();
        app.add_option("--snapshot", arguments.snapshot, "of this snapshot");
        app.add_option("--from", arguments.from, "stowage: only what has changed since this snapshot");
        app.add_option("--at", arguments.begin, "stowage: goes on at this byte, which an import that failed has told");
        rate_option(app, arguments.limit);
      },
      export_command);
  commands.add<ImportArguments>(
      "import", "make a volume of a file or pipe",
      [](CLI::App& app, ImportArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("FORMAT", arguments.format, "raw+size (as pvesm), raw, or stowage")->required();
        app.add_option("FILE", arguments.file, "a file, or - for stdin")->required();
        app.add_option("--size", arguments.size, "of a raw stream from a pipe");
        app.add_flag("--allow-rename", arguments.allow_rename, "take the next free name when this one is taken");
        app.add_flag("--rollback", arguments.rollback, "stowage: first back to the snapshot that the stream begins at");
        rate_option(app, arguments.limit);
      },
      import_command);
}

}  // namespace stowctl
