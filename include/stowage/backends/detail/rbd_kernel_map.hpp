#pragma once
// Mapping and unmapping by `rbd`, which alone knows how the kernel wants its monitors and keys (the key goes into the
// kernel's keyring, and never through argv), and waits for udev. A program can be ended at a deadline; our own write
// to /sys/bus/rbd/add could not. What happened is read from sysfs, not from what the program says.

#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/rbd_connection.hpp>
#include <stowage/backends/detail/rbd_kernel_devices.hpp>
#include <stowage/core/lock.hpp>
#include <stowage/core/wait.hpp>
#include <stowage/io/kernel_users.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

inline constexpr const char* rbd_program = "/usr/bin/rbd";

/// `rbd map` as the storage's user. Program and kernel give up by themselves at `timeout`; some time later the program
/// is ended.
inline Command krbd_map_command(const RbdAccess& access, const KrbdIdentity& image, const OpenOptions& options) {
  // Without a conf of the storage's own, that of the host must not be read: it may be of another cluster.
  std::vector<std::string> argv{rbd_program, "-c", access.conf.empty() ? "/dev/null" : access.conf};
  argv.insert(argv.end(), {"-n", "client." + access.user});
  if (!access.keyring.empty()) argv.insert(argv.end(), {"--keyring", access.keyring});
  if (access.external) {
    argv.insert(argv.end(), {"-m", rbd_monhosts(access.monhost, ',')});
    argv.insert(argv.end(), {"--auth_client_required", std::string{access.auth()}});
  }
  // The program waits for monitors as well, 300 s unless it is told.
  argv.insert(argv.end(), {"--client_mount_timeout", rbd_seconds(options.timeout)});
  argv.insert(argv.end(), {"map", "--pool", image.pool});
  if (!image.name_space.empty()) argv.insert(argv.end(), {"--namespace", image.name_space});
  std::string how = "mount_timeout=" + rbd_seconds(options.timeout);
  // At port 3300 monitors speak version 2 of the protocol only, which the kernel speaks when it is told to
  // (Linux 5.11).
  const bool v2 = std::all_of(access.monhost.begin(), access.monhost.end(),
                              [](const Portal& monitor) { return monitor.port_text() == "3300"; });
  if (access.external && v2) how += ",ms_mode=prefer-crc";
  argv.insert(argv.end(), {"--image", image.image});
  if (!image.snapshot.empty()) argv.insert(argv.end(), {"--snap", image.snapshot});
  argv.insert(argv.end(), {"-o", std::move(how)});
  return {.argv = std::move(argv), .timeout = options.timeout + std::chrono::seconds{5}, .stop = options.stop};
}

/// Asks no monitor: the cluster may be gone.
inline Command krbd_unmap_command(const std::string& node, const OpenOptions& options) {
  return {.argv = {rbd_program, "-c", "/dev/null", "--no-mon-config", "unmap", node},
          .timeout = options.timeout,
          .stop = options.stop};
}

/// The same by names, as the kernel has them, for a device without a node. Pre: they name one mapping of this host, for
/// the program does not look at the cluster.
inline Command krbd_unmap_by_name_command(const KrbdIdentity& image, const OpenOptions& options) {
  std::vector<std::string> argv{rbd_program, "-c", "/dev/null", "--no-mon-config", "unmap", "--pool", image.pool};
  if (!image.name_space.empty()) argv.insert(argv.end(), {"--namespace", image.name_space});
  argv.insert(argv.end(), {"--image", image.image});
  if (!image.snapshot.empty()) argv.insert(argv.end(), {"--snap", image.snapshot});
  return {.argv = std::move(argv), .timeout = options.timeout, .stop = options.stop};
}

/// What a program said about its failure: its lines that begin with `rbd: `, else the last one. Ceph's log comes before
/// them. On one line, without what a terminal would obey.
inline std::string krbd_words(std::string_view text) {
  std::string words;
  std::string last;
  while (!text.empty()) {
    std::string line{text.substr(0, text.find('\n'))};
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    std::erase_if(line, is_control);
    if (line.empty()) continue;
    last = line.substr(0, 500);
    if (line.starts_with("rbd: ") && words.size() < 1000) words += (words.empty() ? "" : "; ") + last.substr(5);
  }
  return words.empty() ? last : words;
}

/// `rbd` exits with an errno; with 1 also when it has none to tell.
inline Error krbd_tool_error(const CommandOutput& output, const std::string& doing) {
  const auto code = [&] {
    switch (output.exit_code) {
      case ENOENT: return Errc::not_found;
      case EACCES: return Errc::permission_denied;
      case EBUSY: return Errc::in_use;
      case EIO:
      case ETIMEDOUT:
      case ECONNREFUSED:
      case EHOSTUNREACH: return Errc::unavailable;
      default: return Errc::command_failed;
    }
  }();
  const std::string words = krbd_words(output.err);
  return Error{
      code, doing + ": " + (words.empty() ? "rbd ended with exit status " + std::to_string(output.exit_code) : words),
      native_errno(output.exit_code)};
}

/// The bus of the kernel module, which is loaded if need be.
/// Errors: unavailable (the kernel has no such module).
template <CommandRunner Runner>
Result<void> krbd_load(const Runner& runner, const KernelTree& tree, const OpenOptions& options) {
  const std::string bus = tree.sys + "/bus/rbd";
  if (::access(bus.c_str(), F_OK) == 0) return {};
  const auto loaded = runner.run({.argv = {"/sbin/modprobe", "rbd"}, .timeout = options.timeout, .stop = options.stop});
  if (!loaded) return fail(loaded.error());
  if (::access(bus.c_str(), F_OK) == 0) return {};
  const std::string words = krbd_words(loaded->err);
  return fail(
      Error{Errc::unavailable, "the kernel module rbd is not there" + (words.empty() ? "" : ": " + words)}.advise(
          "krbd needs a kernel with the module rbd; without krbd, librbd is used"));
}

/// The features that this kernel can serve; all, where it does not say.
inline std::uint64_t krbd_supported_features(const KernelTree& tree) {
  const std::string text = attribute(tree.sys + "/bus/rbd/supported_features");
  return text.empty() ? ~std::uint64_t{0} : std::strtoull(text.c_str(), nullptr, 16);
}

/// One at a time maps or unmaps an image and its snapshots on this host: held while it lives, by whichever program, and
/// gone with it.
/// The locked byte of /sys/bus/rbd/add stands for the image, by its id where it has one, so that images do not wait for
/// each other. Only root opens that file, and containers have the same one.
inline Result<Lock> krbd_lock(const KernelTree& tree, const KrbdIdentity& image, const OpenOptions& options,
                              const std::string& image_id = {}) {
  const std::string which = image_id.empty() ? image.without_snapshot().spec() : image_id;
  auto lock = Lock::take_part(tree.sys + "/bus/rbd/add", image.fsid + "/" + which, options.timeout, options.stop);
  if (lock) return lock;
  switch (lock.error().code()) {
    case Errc::cancelled: return fail(Errc::cancelled, "stopped while another program maps the image");
    case Errc::timed_out:
      return fail(Errc::timed_out, "another program has been mapping or unmapping '" + image.spec() + "' for " +
                                       std::to_string(options.timeout.count()) + " ms");
    default: return fail(std::move(lock.error()).advise("mapping kernel devices is for root, outside of containers"));
  }
}

/// Maps an image that is not mapped. Pre: the caller holds its lock.
/// Errors: those of `rbd map`; timed_out, when it hung and nothing was mapped; backend_failed, when it lied.
template <CommandRunner Runner>
Result<KrbdDevice> krbd_map(const Runner& runner, const KernelTree& tree, const RbdAccess& access,
                            const KrbdIdentity& image, const OpenOptions& options) {
  const std::string doing = "mapping '" + image.spec() + "'";
  auto output = runner.run(krbd_map_command(access, image, options));
  if (const std::vector<KrbdDevice> mapped = krbd_find(tree, image); !mapped.empty()) return mapped.front();
  if (!output) return fail(std::move(output.error()).during(doing));
  if (output->exit_code != 0) return fail(krbd_tool_error(*output, doing));
  return fail(Errc::backend_failed,
              doing + ": rbd says that it did, and the kernel has it not: '" + krbd_words(output->out) + "'");
}

/// Waits for the node of a mapped image; udev's links come with it or are not needed.
/// Errors: unavailable (a file is in its place), timed_out.
inline Result<void> krbd_wait_for_node(const KernelTree& tree, const KrbdDevice& device, const OpenOptions& options) {
  const std::string node = tree.dev + "/" + device.name();
  std::optional<KrbdDevice> now = device;
  struct ::stat about {};
  const auto there_or_never = [&] {
    now = krbd_read_device(tree, std::to_string(device.number));
    if (!now || krbd_has_node(tree, *now)) return true;
    return tree.number_of(node).empty() && ::stat(node.c_str(), &about) == 0;  // what is no device becomes none
  };
  const Waited waited = wait_until(there_or_never, std::chrono::steady_clock::now() + options.timeout, options.stop);
  if (waited == Waited::stopped) return fail(Errc::cancelled, "stopped while waiting for '" + node + "'");
  if (!now) return fail(Errc::conflict, "somebody unmapped '" + device.identity.spec() + "' meanwhile");
  if (waited == Waited::done && krbd_has_node(tree, *now)) return {};
  if (waited == Waited::done || !tree.number_of(node).empty()) return fail(krbd_no_node(tree, *now));
  return fail(Error{Errc::timed_out, "'" + device.identity.spec() + "' is mapped, but '" + node +
                                         "' did not appear within " + std::to_string(options.timeout.count()) + " ms"}
                  .advise("is /dev a devtmpfs, or does udevd run?"));
}

inline Error krbd_busy(const KernelTree& tree, const KrbdDevice& device, const std::vector<std::string>& users) {
  return Error{Errc::in_use, "'" + tree.dev + "/" + device.name() + "' is " + in_use_by(users), native_errno(EBUSY)}
      .advise("close it there");
}

/// The command for a device: by its node, or without one by its names.
/// Errors: unavailable, when neither tells it from others.
inline Result<Command> krbd_choose_unmap(const KernelTree& tree, const KrbdDevice& device, const OpenOptions& options) {
  if (krbd_has_node(tree, device)) return krbd_unmap_command(tree.dev + "/" + device.name(), options);
  const auto alike =
      krbd_find_if(tree, [&](const KrbdDevice& other) { return other.identity.spec() == device.identity.spec(); });
  if (alike.size() == 1) return krbd_unmap_by_name_command(device.identity, options);
  return fail(krbd_no_node(tree, device));
}

/// Unmaps a device. Pre: the caller holds the lock of its image.
/// While the cluster does not answer, the kernel takes an unused device away all the same. The program that unmaps is
/// ended at its deadline then, and the cluster gives up the kernel as it does with clients that died, 30 s later.
/// Errors: in_use, with the users; unavailable (no program), timed_out (the cluster does not answer the kernel).
template <CommandRunner Runner>
Result<void> krbd_unmap_one(const Runner& runner, const KernelTree& tree, const KrbdDevice& device,
                            const OpenOptions& options) {
  const std::string node = tree.dev + "/" + device.name();
  const std::string doing = "unmapping '" + node + "'";
  const auto command = krbd_choose_unmap(tree, device, options);
  if (!command) return fail(Error{command.error()}.during(doing));
  auto output = runner.run(*command);
  const auto now = krbd_read_device(tree, std::to_string(device.number));
  if (!now || !krbd_is_same(*now, device)) return {};  // gone, whatever was said
  if (!output && output.error().code() == Errc::timed_out) {
    return fail(std::move(output.error())
                    .during(doing)
                    .advise("does the cluster answer? as a last resort: rbd unmap -o force " + node));
  }
  if (!output) return fail(std::move(output.error()).during(doing));
  if (output->exit_code == EBUSY) return fail(krbd_busy(tree, device, device_users(tree, std::array{device.name()})));
  if (output->exit_code != 0) return fail(krbd_tool_error(*output, doing));
  return fail(Errc::backend_failed, doing + ": rbd says that it did, and the kernel still has it");
}

/// Errors: in_use, with the first of these devices that is used, and its users.
inline Result<void> krbd_check_all_unused(const KernelTree& tree, const std::vector<KrbdDevice>& devices) {
  for (const KrbdDevice& device : devices) {
    const auto users = device_users(tree, std::array{device.name()});
    if (!users.empty()) return fail(krbd_busy(tree, device, users));
  }
  return {};
}

/// Unmaps these devices, as far as they are still mapped. None is nothing to do, without a question to anybody.
/// Errors: those of `krbd_unmap_one`; what was unmapped before that stays so.
template <CommandRunner Runner>
Result<void> krbd_unmap_all(const Runner& runner, const KernelTree& tree, const std::vector<KrbdDevice>& devices,
                            const OpenOptions& options) {
  for (const KrbdDevice& device : devices) {
    const auto lock = krbd_lock(tree, device.identity, options, device.image_id);
    if (!lock) return fail(lock.error());
    const auto now = krbd_read_device(tree, std::to_string(device.number));
    if (!now || !krbd_is_same(*now, device)) continue;
    if (auto done = krbd_unmap_one(runner, tree, device, options); !done) return done;
  }
  return {};
}

}  // namespace stowage::detail
