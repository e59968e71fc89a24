#pragma once
// A volume of a thin pool, open.

#include <unistd.h>
#include <cerrno>
#include <cstdint>
#include <stowage/backends/detail/lvm_extents_text.hpp>
#include <stowage/backends/detail/lvm_metadata.hpp>
#include <stowage/backends/detail/lvm_open.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/kernel_device.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {
namespace detail {

/// Runs a tool that writes a map. Pre: the pool's metadata are held still.
template <CommandRunner Runner, class Reader>
Result<std::vector<Extent>> lvm_read_map(const LvmTools<Runner>& tools, Command command, const Reader& reader) {
  LvmMapText<Reader> text{reader};
  command.stop = tools.options().stop;
  return lvm_run_tool(tools, std::move(command), "reading the metadata of '" + tools.pool() + "'", text).and_then([&] {
    return text.finish();
  });
}

/// Where a thin volume has blocks.
template <CommandRunner Runner>
Result<std::vector<Extent>> lvm_thin_dump(const LvmTools<Runner>& tools, const LvmMapPlace& place, Bytes size) {
  const std::string id = std::to_string(place.thin_id);
  return lvm_read_map(tools, {.argv = {"/usr/sbin/thin_dump", "-m", "--dev-id", id, "--format", "xml", place.metadata}},
                      LvmDumpReader{place.thin_id, size});
}

/// Where it differs from the volume `before` of the same pool.
template <CommandRunner Runner>
Result<std::vector<Extent>> lvm_thin_delta(const LvmTools<Runner>& tools, const LvmMapPlace& place,
                                           std::uint64_t before, Bytes size) {
  const std::string then = std::to_string(before);
  const std::string now = std::to_string(place.thin_id);
  return lvm_read_map(tools, {.argv = {"/usr/sbin/thin_delta", "-m", "--thin1", then, "--thin2", now, place.metadata}},
                      LvmDeltaReader{before, place.thin_id, size});
}

}  // namespace detail

/// A volume of a thin pool, or a snapshot of it: a block device that also knows where it has data, and what became of
/// it since a snapshot. Both come from the pool's metadata, through the tools of thin-provisioning-tools (Debian
/// installs it with lvm2, if nobody forbids that), in whole chunks of the pool. What was acknowledged before the call
/// is in them; of what is written meanwhile, nobody can tell.
///
/// Zeros are written by giving whole chunks back, to a pool that zeroes new ones and takes discards.
///
/// Errors of both: unavailable (no such tool); in_use (another program has taken the metadata snapshot of the pool, of
/// which there is one); conflict (it was released while we read it); timed_out, cancelled; corrupt (what a tool wrote);
/// identity_changed. `copy` and the exports read a source as a whole that cannot tell.
/// Blocks: while others of this host ask the same pool, up to six times the deadline; and the tools as long.
/// Cost: six processes, two of which change a tag of the pool (see `detail/lvm_metadata.hpp`). 24 bytes for each
/// extent; what a tool writes, 80 to 100 bytes for each run of blocks, is read as it comes.
template <class Runner>
class BasicLvmThinDevice : public KernelDevice {
 public:
  BasicLvmThinDevice(detail::LvmOpened opened, detail::LvmTools<Runner> tools, VolumeName volume)
      : KernelDevice{std::move(opened.device)},
        tools_{std::move(tools)},
        volume_{std::move(volume)},
        unzeroed_block_{opened.unzeroed_chunk} {
    const auto place = detail::lvm_map_place(number());
    if (place && !place->has_external_origin) discards_to_zeros(opened.zeroed_chunk);
  }

  /// The chunk of a pool that does not zero new ones (`lvchange --zero n`), as it was when the volume was opened; else
  /// zero. See `UnzeroedDevice`.
  [[nodiscard]] Bytes unzeroed_block() const noexcept { return unzeroed_block_; }

  /// Where it has data, see `MappedDevice`. All of it, where an external origin stands behind it, as LVM can make them.
  [[nodiscard]] Result<std::vector<Extent>> extents() {
    return in_metadata([&](const detail::LvmView&, const detail::LvmMapPlace& place) {
      return detail::lvm_thin_dump(tools_, place, size());
    });
  }

  /// What may differ from a snapshot of the same volume, see `TracksChanges`: where it has other blocks. A block that
  /// was written with what it held before is one of them. Errors: also not_found (the volume has no such snapshot),
  /// in_use (it may be another volume's).
  [[nodiscard]] Result<std::vector<Extent>> changes_since(const SnapshotName& snapshot) {
    return in_metadata([&](const detail::LvmView& view, const detail::LvmMapPlace& place) {
      return view.snapshot(volume_, snapshot).and_then([&](const detail::LvmVolume* lv) {
        return detail::lvm_thin_delta(tools_, place, lv->thin_id, size());
      });
    });
  }

 private:
  template <class Read>
  Result<std::vector<Extent>> in_metadata(Read read) {
    if (const auto now = refresh_size(); !now) return fail(now.error());
    // What lies in the page cache, whoever wrote it there, has no block yet.
    if (::fsync(native()) != 0) return fail(detail::kernel_error(errno, "flushing '" + volume_.str() + "'"));
    const auto place = detail::lvm_map_place(number());
    if (!place) return fail(place.error());
    if (place->has_external_origin) return std::vector<Extent>{{Bytes{}, size(), true}};
    return detail::lvm_with_metadata(tools_, place->pool,
                                     [&](const detail::LvmView& view) { return read(view, *place); });
  }

  detail::LvmTools<Runner> tools_;
  VolumeName volume_;
  Bytes unzeroed_block_;
};

}  // namespace stowage
