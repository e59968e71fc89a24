#pragma once
// What stowctl says and how it ends when something went wrong.

#include <nlohmann/json.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <string>

namespace stowctl {

constexpr int exit_status(stowage::Errc code) noexcept {
  using stowage::Errc;
  switch (code) {
    case Errc::invalid_argument:
    case Errc::parse_failed: return 2;
    case Errc::not_found: return 3;
    case Errc::already_exists: return 4;
    case Errc::not_supported:
    case Errc::wrong_state: return 5;
    case Errc::timed_out:
    case Errc::unavailable: return 6;
    case Errc::in_use:
    case Errc::conflict:
    case Errc::identity_changed: return 7;
    case Errc::cancelled: return 130;
    case Errc::no_space:
    case Errc::permission_denied:
    case Errc::corrupt:
    case Errc::outcome_unknown:
    case Errc::command_failed:
    case Errc::backend_failed: break;
  }
  return 1;
}

/// The object that stands for an error wherever JSON speaks of one.
inline nlohmann::ordered_json to_json(const stowage::Error& error) {
  const std::string& object = error.object();
  const auto storage = stowage::StorageId::parse(object.substr(0, object.find(':')));
  nlohmann::ordered_json json{{"code", name(error.code())}, {"message", error.detail()}};
  json["storage"] = storage ? nlohmann::ordered_json(storage->str()) : nullptr;
  json["object"] = object.empty() ? nullptr : nlohmann::ordered_json(object);
  json["native"] = error.native() ? nlohmann::ordered_json(error.native().value()) : nullptr;
  json["retryable"] = retryable(error.code());
  if (!error.hint().empty()) json["hint"] = error.hint();
  return json;
}

/// One line on stderr, `stowctl: WHAT: WHY (WHAT TO DO)`, or a JSON document. `what` is for errors that are about no
/// object: the command.
void print_error(const stowage::Error& error, bool json, const std::string& what = "");

}  // namespace stowctl
