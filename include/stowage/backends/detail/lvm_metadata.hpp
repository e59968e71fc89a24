#pragma once
// The metadata of a thin pool that is in use, for tools that read it: the kernel holds it still for them, as a
// "metadata snapshot" (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
//
// A pool has one metadata snapshot, no owner stands in it, and it stays until somebody releases it, over reboots too;
// until then no block of the metadata that it has becomes free. So the pool gets a tag before, which is taken away
// behind it: who finds the tag, and has the lock, knows that it was left behind by one of us who died, and releases it.
// One without our tag is another program's, and neither read nor released: what it holds is of an earlier time.
// (Who dies between tagging the pool and taking the snapshot, some milliseconds, leaves a tag to a pool without one:
// what another program takes before the next of us comes looks like ours then.)

#include <sys/sysmacros.h>
#include <sys/types.h>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/lvm_device.hpp>
#include <stowage/backends/detail/lvm_error.hpp>
#include <stowage/backends/detail/lvm_lock.hpp>
#include <stowage/backends/detail/lvm_names.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/kernel_files.hpp>
#include <stowage/process/command.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage::detail {

/// On a pool, as a verb's intent is on a volume: its metadata snapshot is ours.
inline constexpr std::string_view lvm_metadata_intent = "metadata-snapshot";

inline bool lvm_metadata_marked(const LvmVolume& pool) { return pool.tag(lvm_intent_tag) == lvm_metadata_intent; }

/// The block of the metadata snapshot in a pool's status, `3 116/1024 7/16384 46 rw ...`; 0 when there is none.
/// Nothing: the pool is no more than `Fail`.
inline std::optional<std::uint64_t> lvm_held_root(std::string_view status) {
  const auto words = lvm_split(status, ' ');
  if (words.size() < 5) return std::nullopt;
  return words[3] == "-" ? 0 : lvm_number<std::uint64_t>(words[3]);
}

/// The device of an active pool, below its volumes.
struct LvmPoolDevice {
  std::string name;  ///< for device mapper: `vg-pool-tpool`
  std::string uuid;

  /// The block of its metadata snapshot, 0 when there is none. Costs no process. Errors: unavailable.
  [[nodiscard]] Result<std::uint64_t> held() const {
    const auto words = lvm_kernel_words(name);
    const auto root = words && words->type == "thin-pool" ? lvm_held_root(words->status) : std::nullopt;
    if (root) return *root;
    return fail(Error{Errc::unavailable, "the kernel does not tell the state of the thin pool '" + name + "'"}.advise(
        "is it active, and has it not failed? see: dmsetup status " + name));
  }
};

/// Where the kernel keeps the map of a thin volume's blocks.
struct LvmMapPlace {
  LvmPoolDevice pool;
  std::string metadata;              ///< path of the device
  std::uint64_t thin_id = 0;         ///< of the volume
  bool has_external_origin = false;  ///< what it has not itself is read from there: the map does not tell all
};

/// A number in a device's table: `253:2`.
inline std::optional<::dev_t> lvm_table_number(std::string_view text) noexcept {
  const std::size_t colon = text.find(':');
  if (colon == text.npos) return std::nullopt;
  const auto major = lvm_number<unsigned>(text.substr(0, colon));
  const auto minor = lvm_number<unsigned>(text.substr(colon + 1));
  if (!major || !minor) return std::nullopt;
  return makedev(*major, *minor);
}

/// As the tables of the volume's device and of its pool's tell it: `253:2 1` and `253:0 253:1 128 ...`. What is open
/// keeps its table, whatever LVM plans for the next activation. Errors: not_supported (not a thin volume).
inline Result<LvmMapPlace> lvm_map_place(::dev_t volume) {
  const auto name_of = [](::dev_t device) { return attribute("/sys/dev/block/" + number_text(device) + "/dm/name"); };
  const auto unknown = [&] {
    return fail(Errc::not_supported, "the device " + number_text(volume) + " is not a thin volume on its pool");
  };
  const auto table = lvm_kernel_table(volume);
  if (!table || table->type != "thin") return unknown();
  const auto words = lvm_split(table->status, ' ');
  const auto pool = lvm_table_number(words[0]);
  const auto id = words.size() < 2 ? std::nullopt : lvm_number<std::uint64_t>(words[1]);
  const auto below = pool ? lvm_kernel_table(*pool) : std::nullopt;
  if (!id || !below || below->type != "thin-pool") return unknown();
  const auto metadata = lvm_table_number(lvm_split(below->status, ' ')[0]);
  if (!metadata) return unknown();
  const bool origin = words.size() > 2 && !words[2].empty();
  return LvmMapPlace{{name_of(*pool), below->uuid}, "/dev/mapper/" + name_of(*metadata), *id, origin};
}

/// Runs a tool that is not LVM's own; `take` gets what it says, in pieces. It has six times the deadline of a question,
/// as a change has: the metadata may have gigabytes. Of what it says of a failure, the first line is the reason.
template <CommandRunner Runner, class Take>
Result<void> lvm_run_tool(const LvmTools<Runner>& tools, Command command, std::string_view doing, Take& take) {
  command.timeout = tools.options().timeout * 6;
  auto output = run_reading(tools.runner(), command, take);
  if (!output) return fail(std::move(output.error()).during(doing));
  if (output->exit_code == 0) return {};
  output->err.erase(std::min(output->err.find('\n'), output->err.size()));
  return fail(lvm_error(doing, *output));
}

/// Sends a message to a pool.
template <CommandRunner Runner, class Pool>
Result<void> lvm_tell_pool(const LvmTools<Runner>& tools, const Pool& pool, const std::string& message,
                           std::string_view doing) {
  const auto nothing = [](std::string_view) {};
  return lvm_run_tool(tools, {.argv = {"/sbin/dmsetup", "message", pool.name, "0", message}}, doing, nothing);
}

template <CommandRunner Runner, class Pool>
Result<void> lvm_release_metadata(const LvmTools<Runner>& tools, const Pool& pool) {
  return lvm_tell_pool(tools, pool, "release_metadata_snap",
                       "releasing the metadata snapshot of '" + tools.pool() + "'")
      .map_error([](Error&& error) { return std::move(error).advise("recover releases it"); });
}

template <CommandRunner Runner>
Result<void> lvm_unmark_metadata(const LvmTools<Runner>& tools) {
  return tools.finish("lvchange", {"--deltag", lvm_tag(lvm_intent_tag, lvm_metadata_intent), tools.pool()},
                      "marking that the metadata snapshot of '" + tools.pool() + "' was released");
}

template <CommandRunner Runner, class Pool>
tl::unexpected<Error> lvm_metadata_in_use(const LvmTools<Runner>& tools, const Pool& pool) {
  return fail(
      Error{Errc::in_use, "another program has taken a metadata snapshot of the thin pool '" + tools.pool() + "'"}
          .advise("wait for it; if it is dead: dmsetup message " + pool.name + " 0 release_metadata_snap"));
}

/// Takes the metadata snapshot of a pool, and says at which block it is. Pre: the lock is ours, and whether the pool
/// has our mark. Errors: in_use (another program's); those of the tools.
template <CommandRunner Runner, class Pool>
Result<std::uint64_t> lvm_reserve_metadata(const LvmTools<Runner>& tools, const Pool& pool, bool marked) {
  auto held = pool.held();
  if (!held) return held;
  if (*held != 0 && !marked) return lvm_metadata_in_use(tools, pool);
  if (*held != 0) {
    if (auto released = lvm_release_metadata(tools, pool); !released) return fail(std::move(released.error()));
  }
  if (!marked) {
    auto done = tools.change("lvchange", {"--addtag", lvm_tag(lvm_intent_tag, lvm_metadata_intent), tools.pool()},
                             "marking the thin pool '" + tools.pool() + "'");
    if (!done) return fail(std::move(done.error()));
  }
  auto reserved =
      lvm_tell_pool(tools, pool, "reserve_metadata_snap", "taking a metadata snapshot of '" + tools.pool() + "'");
  if (reserved) return pool.held();
  const Errc code = reserved.error().code();
  // One that was killed may have taken it: then the mark tells the next one.
  if (code != Errc::timed_out && code != Errc::outcome_unknown) static_cast<void>(lvm_unmark_metadata(tools));
  if (code == Errc::in_use) return lvm_metadata_in_use(tools, pool);
  return fail(std::move(reserved.error()));
}

inline std::string lvm_metadata_lock(std::string_view pool) { return std::string{pool} + " metadata"; }

/// Calls `read(view)` while the metadata of the pool is held still, as it was when that began. One at a time for each
/// pool. Errors: in_use (somebody else reads it, of ours or of other programs), identity_changed, conflict (another
/// program has released it meanwhile, so that nobody knows what was read); those of `read` and of the tools.
/// Blocks: while others of this host read it, up to six times the deadline; and while the pool commits.
template <CommandRunner Runner, class Pool, class Read>
auto lvm_with_metadata(const LvmTools<Runner>& tools, const Pool& pool, Read read)
    -> std::invoke_result_t<Read&, const LvmView&> {
  const auto lock = LvmLock::take(tools.options(), tools.vg(), lvm_metadata_lock(tools.config().thinpool),
                                  tools.options().timeout * 6);
  if (!lock) return fail(lock.error());
  const auto found = lvm_find_pool(tools);
  if (!found) return fail(found.error());
  if (const std::string wanted = lvm_device_uuid(*found->lv) + "-tpool"; pool.uuid != wanted) {
    return fail(Errc::identity_changed,
                "the volume is not of '" + tools.pool() + "': its pool is '" + pool.uuid + "', not '" + wanted + "'");
  }
  const auto root = lvm_reserve_metadata(tools, pool, lvm_metadata_marked(*found->lv));
  if (!root) return fail(root.error());
  auto told = read(found->view);
  if (pool.held().value_or(*root) != *root || *root == 0) {
    told = fail(Errc::conflict,
                "another program has released the metadata snapshot of '" + tools.pool() + "' while it was read");
  } else if (auto released = lvm_release_metadata(tools, pool); !released) {
    return fail(std::move(released.error()));  // marked, as it is still there
  }
  if (auto done = lvm_unmark_metadata(tools); !done && told) return fail(std::move(done.error()));
  return told;
}

/// Releases what one of us has left behind who died. Leaves alone a pool that is inactive, or that somebody reads.
template <CommandRunner Runner>
Result<std::vector<Recovered>> lvm_recover_metadata(const LvmTools<Runner>& tools) {
  std::vector<Recovered> recovered;
  const auto lock = LvmLock::take(tools.options(), tools.vg(), lvm_metadata_lock(tools.config().thinpool), {});
  if (!lock && lock.error().code() == Errc::in_use) return recovered;
  if (!lock) return fail(lock.error());
  const auto found = lvm_find_pool(tools);
  if (!found) return fail(found.error());
  const LvmPoolDevice pool{lvm_mapper_name(tools.vg(), tools.config().thinpool) + "-tpool", {}};
  const auto held = pool.held();
  if (!lvm_metadata_marked(*found->lv) || !held) return recovered;
  if (*held != 0) {
    if (auto released = lvm_release_metadata(tools, pool); !released) return fail(std::move(released.error()));
  }
  return lvm_unmark_metadata(tools).map([&] {
    recovered.push_back({tools.config().thinpool, "released the metadata snapshot that somebody left behind"});
    return recovered;
  });
}

/// A metadata snapshot that nobody releases, because its owner is dead or unknown.
template <CommandRunner Runner>
std::vector<Finding> lvm_check_metadata(const LvmTools<Runner>& tools, const LvmVolume& pool) {
  if (lvm_metadata_marked(pool)) {
    return {{tools.pool(), "its metadata snapshot is taken", "if nobody reads it, recover releases it"}};
  }
  const LvmPoolDevice device{lvm_mapper_name(tools.vg(), pool.name) + "-tpool", {}};
  if (!pool.active() || device.held().value_or(0) == 0) return {};
  return {{tools.pool(), "another program has taken its metadata snapshot, and what that holds is not reused",
           "if that program is dead: dmsetup message " + device.name + " 0 release_metadata_snap"}};
}

}  // namespace stowage::detail
