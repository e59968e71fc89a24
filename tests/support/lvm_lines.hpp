#pragma once
// Output of `lvs` as LvmThin asks for it, made up or translated from what the reference asks for.

#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/backends/detail/lvm_tools.hpp>
#include <stowage/testing/fake_runner.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::testing {

/// A line with these columns; those that are not given are empty.
inline std::string lvs_line(const std::map<std::string, std::string>& columns) {
  std::string line;
  for (const std::string_view column : ::stowage::detail::lvm_columns) {
    const auto given = columns.find(std::string{column});
    if (column != ::stowage::detail::lvm_columns.front()) line += ::stowage::detail::lvm_separator;
    line += given == columns.end() ? "" : given->second;
  }
  return "  " + line + "\n";
}

/// The first `asked` columns of a report that has a line for each volume, in rows: a line for each column.
inline std::string lvs_rows(const std::string& lines, std::size_t asked = ::stowage::detail::lvm_columns.size()) {
  std::vector<std::string> rows(asked);
  bool first = true;
  for (const std::string_view line : ::stowage::detail::lvm_split(lines, '\n')) {
    if (line.empty()) continue;
    const auto fields = ::stowage::detail::lvm_split(line, ::stowage::detail::lvm_separator);
    for (std::size_t n = 0; n < asked; ++n)
      rows[n].append(first ? "  " : "|").append(n < fields.size() ? fields[n] : "");
    first = false;
  }
  std::string text;
  for (const std::string& row : rows) text += first ? "" : row + "\n";
  return text;
}

/// The columns of `lines` that the command asks for: `lvs` answers what it is asked, and no more.
inline std::string lvs_answer(const std::string& lines, const Command& command) {
  const auto option = std::find(command.argv.begin(), command.argv.end(), "-o");
  if (option == command.argv.end()) return lines;
  return lvs_rows(lines, ::stowage::detail::lvm_split(*(option + 1), ',').size());
}

/// A thin volume of `vg`/`pool`.
inline std::string lvs_volume(const std::string& name, const std::map<std::string, std::string>& more = {}) {
  static int uuid = 0;
  std::map<std::string, std::string> columns{{"vg_name", "vg"},
                                             {"vg_uuid", "group-uuid"},
                                             {"vg_extent_size", "4194304"},
                                             {"lv_name", name},
                                             {"lv_uuid", "uuid-" + std::to_string(++uuid)},
                                             {"lv_size", "8388608"},
                                             {"lv_attr", name.starts_with("snap_") ? "Vri---tz-k" : "Vwi-a-tz--"},
                                             {"pool_lv", "pool"},
                                             {"data_percent", "0.00"},
                                             {"lv_time", "1700000000"}};
  for (const auto& [column, value] : more) columns[column] = value;
  return lvs_line(columns);
}

inline std::string lvs_pool(const std::map<std::string, std::string>& more = {}) {
  std::map<std::string, std::string> columns{{"vg_name", "vg"},
                                             {"vg_uuid", "group-uuid"},
                                             {"vg_extent_size", "4194304"},
                                             {"lv_name", "pool"},
                                             {"lv_uuid", "uuid-pool"},
                                             {"lv_size", "1073741824"},
                                             {"lv_attr", "twi-aotz--"},
                                             {"data_percent", "50.00"},
                                             {"metadata_percent", "10.00"},
                                             {"lv_metadata_size", "4194304"},
                                             {"transaction_id", "7"},
                                             {"seg_monitor", "monitored"},
                                             {"lv_when_full", "queue"},
                                             {"discards", "passdown"},
                                             {"chunk_size", "65536"},
                                             {"vg_free", "0"}};
  for (const auto& [column, value] : more) columns[column] = value;
  return lvs_line(columns);
}

/// A line of the reference, `VG:LV:SIZE:ATTR:POOL:DATA%:METADATA%:SNAP%:UUID:TAGS:METADATA:TIME`, in our columns. Its
/// tags may hold the separator.
inline std::string lvs_line_of_reference(const std::string& line) {
  std::vector<std::string> field;
  for (const std::string_view part : ::stowage::detail::lvm_split(line, ':')) field.emplace_back(part);
  if (field.size() < 12) return {};
  std::string tags = field[9];
  const std::size_t last = field.size() - 1;
  for (std::size_t at = 10; at < last - 1; ++at) tags += ":" + field[at];
  return lvs_line({{"vg_name", field[0]},
                   {"vg_extent_size", "4194304"},
                   {"lv_name", field[1]},
                   {"lv_uuid", field[1]},
                   {"lv_size", field[2]},
                   {"lv_attr", field[3]},
                   {"pool_lv", field[4]},
                   {"data_percent", field[5]},
                   {"metadata_percent", field[6]},
                   {"lv_metadata_size", field[last - 1]},
                   {"lv_time", field[last]},
                   {"lv_tags", tags}});
}

}  // namespace stowage::testing
