#pragma once
// Columns of text, as wide as their widest cell.

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace stowctl {

class TextTable {
 public:
  enum class Align { left, right };

  explicit TextTable(std::vector<std::pair<std::string, Align>> columns) : columns_{std::move(columns)} {
    std::vector<std::string> header;
    for (const auto& [title, align] : columns_) header.push_back(title);
    rows_.push_back(std::move(header));
  }

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  [[nodiscard]] std::string str() const {
    std::vector<std::size_t> widths(columns_.size());
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string gap(widths[i] - row[i].size(), ' ');
        if (i > 0) line += ' ';
        line += columns_[i].second == Align::left ? row[i] + gap : gap + row[i];
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += (text.empty() ? "" : "\n") + line;
    }
    return text;
  }

 private:
  std::vector<std::pair<std::string, Align>> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace stowctl
