#pragma once
// The part of `Storage<B>` that does not depend on B: what is checked before a policy is asked, and how a new volume
// gets its name.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/features.hpp>
#include <stowage/names.hpp>
#include <stowage/storage_config.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

// What the compiler says to a call that the table forbids: each is the return type of a deleted function, so that
// its name stands in the error line ("use of deleted function 'this_storage_type_has_no_snapshots ...'").
struct this_storage_type_cannot_allocate_or_free_volumes;
struct this_storage_type_cannot_resize_volumes;
struct this_storage_type_cannot_rename_volumes;
struct this_storage_type_has_no_snapshots;
struct this_storage_type_has_no_linked_clones;
struct this_storage_type_has_no_templates;
struct this_storage_type_cannot_flatten_volumes;
struct this_storage_type_cannot_open_snapshots;
struct this_storage_type_cannot_be_imported_to;

}  // namespace stowage

namespace stowage::detail {

/// A new volume may be for `content`: the type holds it, and the storage is configured for it.
inline Result<void> check_content(const Features& row, const CommonConfig& config, Content content) {
  if (content == Content::none || !row.content.has(content)) {
    return fail(Errc::not_supported,
                "type " + std::string{row.name} + " does not hold content '" + std::string{name(content)} + "'");
  }
  if (!config.content.has(content)) {
    return fail(
        Error{Errc::wrong_state, "this storage is not configured for content '" + std::string{name(content)} + "'"}
            .advise("add it to 'content' of the storage"));
  }
  return {};
}

/// QEMU and librbd count in signed 64 bits; the last GiB is left for rounding up.
inline Result<void> check_size(Bytes size) {
  constexpr std::uint64_t most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - (1U << 30U);
  if (size.count > 0 && size.count <= most) return {};
  return fail(Errc::invalid_argument, "a volume cannot have " + std::to_string(size.count) + " bytes");
}

/// A new volume may be as `spec` says.
inline Result<void> check_new(const Features& row, const CommonConfig& config, const CreateSpec& spec) {
  return check_content(row, config, spec.content).and_then([&] { return check_size(spec.size); });
}

inline Result<void> check_access(const CommonConfig& config, Access access) {
  if (access == Access::read_only || !config.content.has(Content::none)) return {};
  return fail(Errc::wrong_state, "this storage has content none: its LUNs belong to somebody else");
}

/// `volume` shows the base that the volume really has: `real` is the name under which it is listed.
inline Result<void> check_same(const VolumeName& real, const VolumeName& volume) {
  if (real == volume) return {};
  return fail(Error{Errc::wrong_state, "it is not a clone of the base in this name"}.advise("its name is '" +
                                                                                            real.str() + "'"));
}

/// The owner that a renamed volume has.
inline Result<VmId> new_owner(StorageType type, const VolumeName& volume, const RenameSpec& to) {
  if (!to.vmid && !to.name) return fail(Errc::invalid_argument, "neither a new owner nor a new name was given");
  const auto owner = to.vmid ? to.vmid : parse_volume_name(type, volume)->owner();
  if (!owner) return fail(Errc::invalid_argument, "the owner's number is too large, say a new one");
  return *owner;
}

/// The capability acts on volumes in this state; if `only` is given, on no others, whatever the row says.
inline Result<void> check_state(const Features& row, Capability capability, State state, std::optional<State> only) {
  const auto acts_on = [&](State s) { return row.can.has(capability, s) && (!only || *only == s); };
  if (acts_on(state)) return {};
  std::string states;
  for (const State s : {State::current, State::base, State::snapshot}) {
    if (acts_on(s)) states += (states.empty() ? "it acts on: " : ", ") + std::string{name(s)};
  }
  return fail(Error{Errc::wrong_state, std::string{name(capability)} + " does not act on a " +
                                           std::string{name(state)} + " volume of type " + std::string{row.name}}
                  .advise(std::move(states)));
}

/// What the facade knows of a volume beyond what its policy says.
inline void complete(VolumeInfo& info, const Features& row, const CommonConfig& config) {
  info.name = linked_name(row.type, info.base, info.name);
  const bool images = config.content.has(Content::images);
  if (!info.content && images != config.content.has(Content::rootdir)) {
    info.content = images ? Content::images : Content::rootdir;
  }
}

/// And of all of them, sorted by name, those that are asked for.
inline void complete(std::vector<VolumeInfo>& infos, const ListFilter& filter, const Features& row,
                     const CommonConfig& config) {
  for (VolumeInfo& info : infos) complete(info, row, config);
  if (filter.content) {
    std::erase_if(infos, [&](const VolumeInfo& i) { return i.content && *i.content != *filter.content; });
  }
  std::sort(infos.begin(), infos.end(), [](const VolumeInfo& a, const VolumeInfo& b) { return a.name < b.name; });
}

/// Takes the name `wanted`, or else the next free one of the guest. `take(name)` is atomic and says already_exists:
/// who loses a race tries the next number. `names()` gives the names that are taken.
/// Errors: those of `take` and `names`; parse_failed (`wanted`); no_space. Only already_exists is about the new name:
/// the caller knows what the others are about.
template <class Names, class Take>
Result<VolumeName> claim_name(const StorageId& storage, StorageType type, VmId vmid,
                              const std::optional<VolumeName>& wanted, Names names, Take take) {
  if (wanted) {
    if (auto good = check_new_volume_name(type, vmid, *wanted); !good) return fail(std::move(good.error()));
    auto taken = take(*wanted);
    if (taken) return *wanted;
    if (taken.error().code() != Errc::already_exists) return fail(std::move(taken.error()));
    return fail(std::move(taken.error()).about(VolumeId{storage, *wanted}.str()));
  }
  auto existing = names();
  if (!existing) return fail(std::move(existing.error()));
  for (;;) {
    auto free = next_free_name(vmid, *existing);
    if (!free) return free;
    auto taken = take(*free);
    if (taken) return free;
    if (taken.error().code() != Errc::already_exists) return fail(std::move(taken.error()));
    existing->push_back(free->str());
  }
}

}  // namespace stowage::detail
