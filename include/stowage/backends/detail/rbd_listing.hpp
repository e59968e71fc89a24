#pragma once
// What volumes there are, read off their headers in batches: 1000 of them in about 50 ms.

#include <rbd/librbd.h>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/names.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// An entry of the directory. Images of format 1 have no id.
struct RbdEntry {
  std::string name;
  std::string id;
};

/// All images of the pool or namespace, foreign ones too.
inline Result<std::vector<RbdEntry>> rbd_directory(const RbdPool& pool) {
  std::vector<::rbd_image_spec_t> raw(4096);
  std::size_t count = raw.size();
  int code = ::rbd_list2(pool.io.get(), raw.data(), &count);
  while (code == -ERANGE) {
    raw.resize(count + 256);  // new ones may come meanwhile
    count = raw.size();
    code = ::rbd_list2(pool.io.get(), raw.data(), &count);
  }
  if (code == -ENOENT) return std::vector<RbdEntry>{};
  if (code < 0) return fail(rbd_error(code, "listing the images of '" + pool.config.pool + "'"));
  std::vector<RbdEntry> entries;
  entries.reserve(count);
  for (std::size_t at = 0; at < count; ++at) entries.push_back({raw[at].name, raw[at].id});
  ::rbd_image_spec_list_cleanup(raw.data(), count);
  return entries;
}

/// What a listing found out about one entry.
struct RbdSeen {
  RbdEntry entry;
  bool header_missing = false;
  bool orphan = false;    ///< its parent's header, or pool, is missing
  bool in_trash = false;  ///< as well: something is on its way there, or from there
  bool removing = false;  ///< likewise, and a removal has begun, and was killed or goes on
  VolumeInfo info;
  std::optional<RbdParentRef> parent;
  RbdRecordPlace place{};
  RbdRecord record{};

  /// The record is there, for this image or void.
  void take(RbdRecordPlace where, RbdRecord found) {
    place = std::move(where);
    record = std::move(found);
    if (record.intent) info.intent = record.intent->verb;
  }
};

inline RbdOmapQuery rbd_header_query(::rados_ioctx_t io, const std::string& id) {
  return {io, "rbd_header." + id, {"size", "parent", "create_timestamp", std::string{rbd_record_key}}};
}

/// The whole image opened, for a header that we cannot read.
inline Result<void> rbd_open_to_see(const RbdPool& pool, RbdSeen& seen) {
  auto image = rbd_look(pool, seen.entry.name);
  if (!image) return fail(std::move(image.error()));
  std::uint64_t size = 0;
  if (const int code = ::rbd_get_size(image->get(), &size); code < 0)
    return fail(rbd_error(code, "asking for the size"));
  seen.info.size = Bytes{size};
  if (std::array<char, 128> prefix{};
      seen.entry.id.empty() && ::rbd_get_block_name_prefix(image->get(), prefix.data(), prefix.size()) >= 0) {
    seen.info.identity = prefix.data();
  }
  if (auto place = rbd_record_place(pool, image->get(), seen.entry.name)) {
    if (auto record = rbd_read_record(pool, *place)) seen.take(*std::move(place), *std::move(record));
  }
  ::rbd_linked_image_spec_t from{};
  ::rbd_snap_spec_t snapshot{};
  if (::rbd_get_parent(image->get(), &from, &snapshot) < 0) return {};
  seen.info.parent = Parent{from.pool_name, from.pool_namespace, from.image_name, snapshot.name};
  ::rbd_linked_image_spec_cleanup(&from);
  ::rbd_snap_spec_cleanup(&snapshot);
  return {};
}

/// Errors: timed_out, and what the cluster refuses for all alike. A missing header is none.
inline Result<void> rbd_understand(const RbdPool& pool, const RbdOmapAnswer& header, RbdSeen& seen) {
  seen.info.identity = seen.entry.id;
  if (!seen.entry.id.empty()) {
    if (header.code == -ENOENT) {
      seen.header_missing = true;
      return {};
    }
    if (header.code < 0)
      return fail(rbd_error(header.code, "reading the header of '" + pool.spec(seen.entry.name) + "'"));
    const auto size = decode_rbd_size(header["size"]);
    const auto parent = header["parent"].empty() ? RbdDecodedParent{true, {}} : decode_rbd_parent(header["parent"]);
    if (size && parent.good) {
      seen.info.size = Bytes{*size};
      seen.info.ctime = decode_rbd_time(header["create_timestamp"]);
      RbdRecordPlace place = rbd_record_place(pool, seen.entry.name, seen.entry.id);
      RbdRecord record = rbd_record_in(header[rbd_record_key], place);
      seen.take(std::move(place), std::move(record));
      seen.parent = parent.parent;
      return {};
    }
  }
  auto opened = rbd_open_to_see(pool, seen);
  if (!opened && opened.error().code() == Errc::not_found) {
    seen.header_missing = true;
    return {};
  }
  return opened;
}

/// Where the headers name parents by numbers, finds their names: one request for each pool's directory and one for each
/// parent's header, however many clones there are. A name that may not be read, or is gone, stays the number.
inline void rbd_name_parents(const RbdPool& pool, std::vector<RbdSeen>& volumes) {
  std::map<RbdParentRef, Parent> parents;
  for (const RbdSeen& seen : volumes) {
    if (seen.parent) parents.emplace(*seen.parent, Parent{});
  }
  if (parents.empty()) return;

  const std::int64_t here = ::rados_ioctx_get_id(pool.io.get());
  std::map<std::pair<std::int64_t, std::string>, RbdIo> places;
  std::vector<RbdOmapQuery> queries;
  for (const auto& [ref, names] : parents) {
    ::rados_ioctx_t io = pool.io.get();
    if (ref.pool != here || ref.name_space != pool.config.name_space) {
      auto& place = places[{ref.pool, ref.name_space}];
      if (!place) place = rbd_io(*pool.cluster, ref.pool, ref.name_space).value_or(RbdIo{});
      io = place.get();
    }
    queries.push_back({io, "rbd_directory", {"id_" + ref.image}});
    queries.push_back({io, "rbd_header." + ref.image, {rbd_snapshot_key(ref.snapshot)}});
  }
  const std::vector<RbdOmapAnswer> answers = rbd_read_omaps(queries);
  std::size_t at = 0;
  std::set<RbdParentRef> missing;
  for (auto& [ref, names] : parents) {
    if (answers[at + 1].code == -ENOENT) missing.insert(ref);
    names.pool = ref.pool == here ? pool.config.pool : pool.cluster->pool_name(ref.pool);
    names.name_space = ref.name_space;
    names.image = decode_rbd_text(answers[at][queries[at].keys.front()]);
    names.snapshot = decode_rbd_snapshot_name(answers[at + 1][queries[at + 1].keys.front()]);
    if (names.image.empty()) names.image = "id " + ref.image;
    if (names.snapshot.empty()) names.snapshot = "id " + std::to_string(ref.snapshot);
    at += 2;
  }
  for (RbdSeen& seen : volumes) {
    if (!seen.parent) continue;
    seen.info.parent = parents.at(*seen.parent);
    seen.orphan = missing.contains(*seen.parent);
  }
}

/// A linked clone of a template of this very storage shows it in its name; the same image in another pool is no
/// template of ours.
inline std::optional<VolumeName> rbd_base_of(const RbdPool& pool, const VolumeInfo& info) {
  if (!info.parent || info.parent->pool != pool.config.pool || info.parent->name_space != pool.config.name_space ||
      info.parent->snapshot != rbd_base_snapshot) {
    return std::nullopt;
  }
  auto name = VolumeName::parse(info.parent->image);
  if (!name) return std::nullopt;
  const auto parts = parse_volume_name(StorageType::rbd, *name);
  if (!parts || !parts->is_base) return std::nullopt;
  return *std::move(name);
}

/// Reads the headers of `entries`, of which all names are ours.
inline Result<std::vector<RbdSeen>> rbd_describe(const RbdPool& pool, const std::vector<RbdEntry>& entries) {
  std::vector<RbdSeen> volumes;
  std::vector<RbdOmapQuery> queries;
  for (const RbdEntry& entry : entries) {
    auto name = VolumeName::parse(entry.name);
    if (!name) continue;
    const auto parts = parse_volume_name(StorageType::rbd, *name);
    if (!parts || parts->base) continue;
    RbdSeen seen{.entry = entry, .info = VolumeInfo{.name = *std::move(name), .vmid = parts->owner()}, .parent = {}};
    volumes.push_back(std::move(seen));
    queries.push_back(rbd_header_query(pool.io.get(), entry.id));
  }
  RbdOmapQuery trash{pool.io.get(), "rbd_trash", {}};
  for (const RbdSeen& seen : volumes) trash.keys.push_back("id_" + seen.entry.id);
  queries.push_back(std::move(trash));
  const std::vector<RbdOmapAnswer> answers = rbd_read_omaps(queries);
  for (std::size_t at = 0; at < volumes.size(); ++at) {
    RbdSeen& seen = volumes[at];
    const std::string_view trashed = answers.back()["id_" + seen.entry.id];
    seen.in_trash = !trashed.empty();
    seen.removing = is_rbd_removing(trashed);
    if (auto good = rbd_understand(pool, answers[at], seen); !good) return fail(std::move(good.error()));
    if (seen.removing) seen.info.intent = "remove";
  }
  rbd_name_parents(pool, volumes);
  for (RbdSeen& seen : volumes) seen.info.base = rbd_base_of(pool, seen.info);
  return volumes;
}

/// Whether `entry` is a volume of guest `vmid`, without taking the whole name apart.
inline bool rbd_is_wanted(const RbdEntry& entry, const std::optional<VmId>& vmid) {
  const auto guest = split_guest_name(entry.name);
  return guest && (!vmid || guest->vmid == to_string(*vmid));
}

/// Everything that bears a name of ours, broken or not.
inline Result<std::vector<RbdSeen>> rbd_survey(const RbdPool& pool, const std::optional<VmId>& vmid) {
  return rbd_directory(pool).and_then([&](std::vector<RbdEntry> entries) {
    std::erase_if(entries, [&](const RbdEntry& entry) { return !rbd_is_wanted(entry, vmid); });
    return rbd_describe(pool, entries);
  });
}

/// Our volumes. What is left of a removal is one with the intent "remove", unless a new one has its name.
inline Result<std::vector<VolumeInfo>> rbd_list_volumes(const RbdPool& pool, const ListFilter& filter) {
  return rbd_survey(pool, filter.vmid).map([](std::vector<RbdSeen> seen) {
    std::vector<VolumeInfo> volumes;
    std::set<std::string> names;
    for (const bool removing : {false, true}) {
      for (RbdSeen& volume : seen) {
        if (volume.removing != removing || (volume.header_missing && !removing)) continue;
        if (names.insert(volume.entry.name).second) volumes.push_back(std::move(volume.info));
      }
    }
    return volumes;
  });
}

/// One image by name, in one round trip; one of format 1, or none, in two.
/// Errors: not_found.
inline Result<RbdEntry> rbd_find_entry(const RbdPool& pool, const VolumeName& volume) {
  std::array<char, 512> bytes{};
  const int length = ::rados_read(pool.io.get(), ("rbd_id." + volume.str()).c_str(), bytes.data(), bytes.size(), 0);
  if (length == -ENOENT && ::rados_stat(pool.io.get(), (volume.str() + ".rbd").c_str(), nullptr, nullptr) >= 0) {
    return RbdEntry{volume.str(), {}};
  }
  if (length < 0) return fail(rbd_open_error(pool, length, volume.str(), {}));
  return RbdEntry{volume.str(), decode_rbd_text({bytes.data(), static_cast<std::size_t>(length)})};
}

/// What the directory has under a name that cannot be opened.
inline Result<std::vector<RbdSeen>> rbd_find_broken(const RbdPool& pool, const std::string& name) {
  return rbd_directory(pool).and_then([&](std::vector<RbdEntry> entries) {
    std::erase_if(entries, [&](const RbdEntry& entry) { return entry.name != name; });
    return rbd_describe(pool, entries);
  });
}

/// Two round trips, and one more for the names of a parent. An image of format 1 is opened.
inline Result<VolumeInfo> rbd_volume_info(const RbdPool& pool, const VolumeName& volume) {
  const auto entry = rbd_find_entry(pool, volume);
  if (!entry && entry.error().code() != Errc::not_found) return fail(entry.error());
  auto seen = entry ? rbd_describe(pool, {*entry}) : rbd_find_broken(pool, volume.str());
  if (!seen) return fail(std::move(seen.error()));
  if (!entry) std::erase_if(*seen, [](const RbdSeen& s) { return !s.removing; });
  if (seen->empty()) return fail(rbd_open_error(pool, -ENOENT, volume.str(), {}));
  if (seen->front().header_missing && !seen->front().removing) {
    return fail(
        Error{Errc::not_found, "image '" + pool.spec(volume.str()) + "' has no header", native_errno(ENOENT)}.advise(
            "it was half created or half removed; remove it"));
  }
  return std::move(seen->front().info);
}

}  // namespace stowage::detail
