// export, import

#include "command.hpp"
#include "json_output.hpp"
#include "progress_line.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>

namespace stowctl {

using namespace stowage;

namespace {

struct ExportArguments {
  std::string volid;
  std::string format;
  std::string file;
  std::string snapshot;
};
struct ImportArguments {
  std::string volid;
  std::string format;
  std::string file;
  std::string size;
  bool allow_rename = false;
};

Error file_error(const std::string& file, int error) {
  const Errc code = error == ENOENT                       ? Errc::not_found
                    : error == EEXIST                     ? Errc::already_exists
                    : error == EACCES || error == EPERM   ? Errc::permission_denied
                    : error == ENOSPC                     ? Errc::no_space
                    : error == EISDIR || error == ENOTDIR ? Errc::invalid_argument
                                                          : Errc::backend_failed;
  return Error{code, native_errno(error).message(), native_errno(error)}.about("file '" + file + "'");
}

/// The file that an export writes. A regular file appears under its name when it is complete, and not before.
class Target {
 public:
  static Result<Target> open(const Context& context, const std::string& file) {
    if (file == "-") return Target{Fd{::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)}, {}, {}};
    struct ::stat about {};
    const bool there = ::stat(file.c_str(), &about) == 0;
    if (there && !S_ISREG(about.st_mode)) {  // a pipe, a device
      Fd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
      if (!fd) return fail(file_error(file, errno));
      return Target{std::move(fd), {}, {}};
    }
    if (there && !context.options().yes) {
      return fail(Error{Errc::already_exists, "it exists"}.about("file '" + file + "'").advise("--yes overwrites it"));
    }
    std::string partial = file + ".partial-" + std::to_string(::getpid());
    Fd fd{::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640)};
    if (!fd) return fail(file_error(partial, errno));
    return Target{std::move(fd), std::move(partial), file};
  }
  Target(Target&&) = default;
  Target& operator=(Target&&) = delete;
  ~Target() {
    if (fd_ && !partial_.empty()) ::unlink(partial_.c_str());
  }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  Result<void> finish() {
    if (partial_.empty()) return {};
    if (::fsync(fd_.get()) != 0 || ::rename(partial_.c_str(), file_.c_str()) != 0)
      return fail(file_error(file_, errno));
    fd_.reset();
    return {};
  }

 private:
  Target(Fd fd, std::string partial, std::string file)
      : fd_{std::move(fd)}, partial_{std::move(partial)}, file_{std::move(file)} {}

  Fd fd_;
  std::string partial_;
  std::string file_;
};

Result<Answer> export_command(Context& context, const ExportArguments& arguments) {
  const auto format = parse_stream_format(arguments.format);
  if (!format) return fail(format.error());
  std::optional<SnapshotName> snapshot;
  if (!arguments.snapshot.empty()) {
    auto name = SnapshotName::parse(arguments.snapshot);
    if (!name) return fail(std::move(name.error()));
    snapshot = *std::move(name);
  }
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
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
  const ExportOptions options{.format = *format, .work = {context.stop(), line.progress()}};
  const auto sent = snapshot ? export_volume(volume->storage, volume->name, *snapshot, sink, options)
                             : export_volume(volume->storage, volume->name, sink, options);
  if (!sent) return fail(sent.error());
  if (auto whole = target->finish(); !whole) return fail(std::move(whole.error()));
  if (arguments.file == "-") return Answer{};  // stdout is the stream
  return Answer{volume->volid() + ": " + std::to_string(sent->count) + " bytes to " + arguments.file,
                {{"volid", volume->volid()}, {"bytes", sent->count}}};
}

Result<Answer> import_command(Context& context, const ImportArguments& arguments) {
  const auto format = parse_stream_format(arguments.format);
  if (!format) return fail(format.error());
  ImportOptions options{.format = *format, .allow_rename = arguments.allow_rename};
  if (!arguments.size.empty()) {
    const auto size = Bytes::parse(arguments.size);
    if (!size) return fail(size.error());
    options.size = *size;
  }
  auto volume = Volume::open(context, arguments.volid);
  if (!volume) return fail(std::move(volume.error()));
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
        app.add_option("FORMAT", arguments.format, "raw+size (as pvesm), or raw")->required();
        app.add_option("FILE", arguments.file, "a file, or - for stdout")->required();
        app.add_option("--snapshot", arguments.snapshot, "of this snapshot");
      },
      export_command);
  commands.add<ImportArguments>(
      "import", "make a volume of a file or pipe",
      [](CLI::App& app, ImportArguments& arguments) {
        app.add_option("VOLID", arguments.volid, "STORAGE:VOLUME")->required();
        app.add_option("FORMAT", arguments.format, "raw+size (as pvesm), or raw")->required();
        app.add_option("FILE", arguments.file, "a file, or - for stdin")->required();
        app.add_option("--size", arguments.size, "of a raw stream from a pipe");
        app.add_flag("--allow-rename", arguments.allow_rename, "take the next free name when this one is taken");
      },
      import_command);
}

}  // namespace stowctl
