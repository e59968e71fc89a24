#pragma once
// The library's values as the JSON of CLI.md. What is not known is absent or null, never zero.

#include "command.hpp"

#include <chrono>
#include <optional>
#include <stowage/all.hpp>
#include <string>

namespace stowctl {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

inline std::optional<std::uint64_t> number(const std::optional<stowage::Bytes>& size) {
  return size ? std::optional{size->count} : std::nullopt;
}

inline std::optional<std::int64_t> seconds(const std::optional<std::chrono::sys_seconds>& time) {
  return time ? std::optional<std::int64_t>{time->time_since_epoch().count()} : std::nullopt;
}

inline std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : std::string{separator}) + item;
  return text;
}

/// The members of an enumeration that are in the set, by name.
template <class E>
std::vector<std::string> names(stowage::FlagSet<E> set) {
  std::vector<std::string> all;
  for (unsigned i = 0; i < static_cast<unsigned>(E::count_); ++i) {
    if (set.has(static_cast<E>(i))) all.emplace_back(name(static_cast<E>(i)));
  }
  return all;
}

inline Json to_json(const stowage::Features& row) {
  using stowage::Capability;
  Json can = Json::object();
  for (unsigned i = 0; i < static_cast<unsigned>(Capability::count_); ++i) {
    const auto capability = static_cast<Capability>(i);
    can[std::string{name(capability)}] = names(row.can.states(capability));
  }
  return {{"type", row.name},
          {"content", names(row.content)},
          {"formats", names(row.formats)},
          {"shared", row.shared},
          {"snapshots", row.can.has(Capability::snapshot)},
          {"clones", row.can.has(Capability::clone)},
          {"can", can}};
}

/// `pool/namespace/image@snapshot`, without the parts that there are not.
inline std::string to_string(const stowage::Parent& parent) {
  std::string text = parent.pool.empty() ? "" : parent.pool + "/";
  if (!parent.name_space.empty()) text += parent.name_space + "/";
  text += parent.image;
  return parent.snapshot.empty() ? text : text + "@" + parent.snapshot;
}

inline std::string state_of(const stowage::AnyStorage& storage, const stowage::VolumeInfo& info) {
  if (info.incomplete()) return "incomplete";
  const auto parts = stowage::parse_volume_name(storage.features().type, info.name);
  return std::string{name(parts ? parts->state() : stowage::State::current)};
}

inline Json to_json(const stowage::AnyStorage& storage, const stowage::VolumeInfo& info) {
  Json json{{"volid", storage.id().str() + ":" + info.name.str()},
            {"format", name(info.format)},
            {"size", info.size.count},
            {"vmid", info.vmid ? Json(info.vmid->number()) : Json(nullptr)},
            {"content", info.content ? Json(name(*info.content)) : Json(nullptr)}};
  if (info.parent) json["parent"] = to_string(*info.parent);
  if (info.used) json["used"] = info.used->count;
  if (info.ctime) json["ctime"] = *seconds(info.ctime);
  json["state"] = state_of(storage, info);
  if (info.incomplete()) json["intent"] = info.intent;
  if (!info.pending.empty()) json["pending"] = info.pending;
  return json;
}

inline Json to_json(const stowage::SnapshotInfo& snapshot) {
  return {{"name", snapshot.name.str()},
          {"size", snapshot.size.count},
          {"ctime", or_null(seconds(snapshot.ctime))},
          {"protected", snapshot.is_protected}};
}

}  // namespace stowctl
