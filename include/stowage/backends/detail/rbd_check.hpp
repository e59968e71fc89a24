#pragma once
// What is unfinished or broken in a pool or namespace: records of verbs, images without a name or a header, and what is
// on its way out.

#include <rbd/librbd.h>
#include <map>
#include <optional>
#include <stowage/backends/detail/rbd_lease.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_publish.hpp>
#include <stowage/backends/detail/rbd_record.hpp>
#include <stowage/intent/table.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// One thing that needs to be put in order.
struct RbdTrouble {
  enum class Kind {
    verb,          ///< a record that is bound to the image
    void_record,   ///< the record of another image, which it was cloned or copied from
    leaving,       ///< its removal has taken its name away; in the trash
    rbd_rm,        ///< the same by `rbd rm`, which the directory lists still; or it has no header any more
    unnamed,       ///< made under a private name, which it has still
    no_header,     ///< half created or half removed by others
    no_id_object,  ///< the directory has it, and it cannot be opened by its name
    orphan,        ///< its parent is missing: nothing that can be put in order here
  };
  Kind kind = Kind::verb;
  RbdEntry entry;
  RbdRecordPlace place{};
  RbdRecord record{};

  [[nodiscard]] std::string verb() const {
    if (record.intent) return record.intent->verb;
    switch (kind) {
      case Kind::leaving:
      case Kind::rbd_rm: return "remove";
      case Kind::unnamed:
      case Kind::no_header: return "create";
      default: return {};
    }
  }
};

/// What is in the trash because a removal of ours has put it there.
inline Result<std::vector<RbdTrouble>> rbd_leaving(const RbdPool& pool) {
  std::vector<::rbd_trash_image_info_t> raw(256);
  std::size_t count = raw.size();
  int code = ::rbd_trash_list(pool.io.get(), raw.data(), &count);
  while (code == -ERANGE) {
    raw.resize(count + 256);
    count = raw.size();
    code = ::rbd_trash_list(pool.io.get(), raw.data(), &count);
  }
  if (code == -ENOENT) return std::vector<RbdTrouble>{};
  if (code < 0) return fail(rbd_error(code, "listing the trash of '" + pool.spec("") + "'"));
  std::vector<RbdTrouble> found;
  std::vector<RbdOmapQuery> queries;
  for (std::size_t at = 0; at < count; ++at) {
    RbdTrouble trouble{RbdTrouble::Kind::leaving, {raw[at].name, raw[at].id}};
    trouble.place = rbd_record_place(pool, trouble.entry.name, trouble.entry.id);
    queries.push_back({pool.io.get(), trouble.place.header, {std::string{rbd_record_key}}});
    found.push_back(std::move(trouble));
  }
  ::rbd_trash_list_cleanup(raw.data(), count);
  const std::vector<RbdOmapAnswer> answers = rbd_read_omaps(queries);
  for (std::size_t at = 0; at < found.size(); ++at) {
    found[at].record = rbd_record_in(answers[at][std::string{rbd_record_key}], found[at].place);
    // Its removal has come as far as the header, and the trash is what is left.
    if (answers[at].code == -ENOENT && rbd_is_wanted(found[at].entry, std::nullopt)) {
      found[at].kind = RbdTrouble::Kind::rbd_rm;
    }
  }
  std::erase_if(found, [](const RbdTrouble& t) {
    return t.kind == RbdTrouble::Kind::leaving && (!t.record.intent || t.record.intent->verb != "remove");
  });
  return found;
}

/// Of an image with a volume's name. `named`: it can be found by it.
inline std::optional<RbdTrouble> rbd_trouble_of(const RbdSeen& seen, bool named) {
  using Kind = RbdTrouble::Kind;
  const auto trouble = [&](Kind kind) { return RbdTrouble{kind, seen.entry, seen.place, seen.record}; };
  if (seen.removing) return trouble(Kind::rbd_rm);
  if (seen.in_trash) return std::nullopt;  // it comes or goes at this moment, or a removal of ours has it
  if (seen.header_missing) return trouble(Kind::no_header);
  if (!named && !seen.entry.id.empty()) return trouble(Kind::no_id_object);
  if (seen.record.intent) return trouble(Kind::verb);
  if (!seen.record.text.empty()) return trouble(Kind::void_record);
  if (seen.orphan) return trouble(Kind::orphan);
  return std::nullopt;
}

/// All of it. `only`: of one volume. Errors: what the cluster says when it is asked for a list.
inline Result<std::vector<RbdTrouble>> rbd_troubles(const RbdPool& pool, const std::optional<VolumeName>& only) {
  auto found = rbd_leaving(pool);
  if (!found) return found;
  auto entries = rbd_directory(pool);
  if (!entries) return fail(std::move(entries.error()));
  for (const RbdEntry& entry : *entries) {
    if (rbd_nonce_in(entry.name)) found->push_back({RbdTrouble::Kind::unnamed, entry});
  }
  std::erase_if(*entries, [](const RbdEntry& entry) { return !rbd_is_wanted(entry, std::nullopt); });
  const auto volumes = rbd_describe(pool, *entries);
  if (!volumes) return fail(volumes.error());
  std::vector<RbdOmapQuery> queries;
  for (const RbdSeen& volume : *volumes) queries.push_back({pool.io.get(), "rbd_id." + volume.entry.name, {}});
  const std::vector<RbdOmapAnswer> answers = rbd_read_omaps(queries);
  for (std::size_t at = 0; at < volumes->size(); ++at) {
    if (answers[at].code < 0 && answers[at].code != -ENOENT) {
      return fail(rbd_error(answers[at].code, "looking for names"));
    }
    if (auto trouble = rbd_trouble_of((*volumes)[at], answers[at].code == 0)) found->push_back(*std::move(trouble));
  }
  if (only) std::erase_if(*found, [&](const RbdTrouble& trouble) { return trouble.entry.name != only->str(); });
  return found;
}

inline Finding rbd_finding_of(const RbdTrouble& trouble) {
  const std::string& name = trouble.entry.name;
  switch (trouble.kind) {
    case RbdTrouble::Kind::verb:
    case RbdTrouble::Kind::leaving:
      return {name, "unfinished: " + holder_of(*trouble.record.intent), way_out_of(*trouble.record.intent)};
    case RbdTrouble::Kind::void_record:
      return {name, "it has the record of another image's verb, which it was copied from", "recover takes it away"};
    case RbdTrouble::Kind::rbd_rm: return {name, "unfinished: remove", "recover finishes it, if nobody is at it"};
    case RbdTrouble::Kind::unnamed:
      return {name, "an image that was being made, and never got its name", "recover removes it, if nobody is at it"};
    case RbdTrouble::Kind::no_header:
      return {name, "the image has no header: it was half created or half removed", "recover removes it"};
    case RbdTrouble::Kind::no_id_object:
      return {name, "the object rbd_id." + name + " is missing, so that the image cannot be opened",
              "recover writes it"};
    case RbdTrouble::Kind::orphan:
      return {name, "its parent is missing: what was not written to it itself is lost",
              "bring the parent's pool or image back, or remove the volume"};
  }
  return {};
}

inline Result<std::vector<Finding>> rbd_check_storage(const RbdPool& pool) {
  return rbd_troubles(pool, std::nullopt).map([](const std::vector<RbdTrouble>& troubles) {
    std::vector<Finding> findings;
    findings.reserve(troubles.size());
    for (const RbdTrouble& trouble : troubles) findings.push_back(rbd_finding_of(trouble));
    return findings;
  });
}

}  // namespace stowage::detail
