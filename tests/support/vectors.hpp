#pragma once
// The reference's behaviour as data: tests/data/vectors.json, one array of rows for each group. A row with `defect`
// says what the reference does and why we must not.

#include <nlohmann/json.hpp>

#include <fstream>
#include <stdexcept>
#include <string>

namespace stowage::testing {

/// The rows of `group`. A group that is not there, or empty, is a failure: else a table-driven test would check
/// nothing.
inline const nlohmann::json& vectors(const std::string& group) {
  static const nlohmann::json all = [] {
    std::ifstream file{STOWAGE_TEST_DATA "/vectors.json"};
    if (!file) throw std::runtime_error{"cannot read " STOWAGE_TEST_DATA "/vectors.json"};
    return nlohmann::json::parse(file);
  }();
  const nlohmann::json& rows = all.at(group);
  if (!rows.is_array() || rows.empty()) throw std::runtime_error{"no vectors in group " + group};
  return rows;
}

/// The member as text; empty when it is missing or null.
inline std::string text(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  return found == row.end() || found->is_null() ? std::string{} : found->get<std::string>();
}

}  // namespace stowage::testing
