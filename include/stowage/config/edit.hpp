#pragma once
// Changing storage.cfg line by line: a line that no change is about stays as it is, byte for byte.

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <stowage/config/document.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// Changes that a document will get. Between two lines of the old text there is room for new ones, so all changes speak
/// of the document as it is, and their order does not matter.
class ConfigEdit {
 public:
  /// `document` must live as long.
  explicit ConfigEdit(const ConfigDocument& document) noexcept : document_{document} {}
  explicit ConfigEdit(const ConfigDocument&&) = delete;

  /// The first line of `key`, the one that counts, gets this value; what stands around the value stays. Without such a
  /// line a new one comes behind the section's last property, indented like it.
  void set(const ConfigSection& section, std::string_view key, std::optional<std::string_view> value) {
    for (const ConfigProperty& p : section.properties) {
      if (p.key != key) continue;
      if (p.value == value) return;
      changes_[p.line].instead = with_value(document_.line(p.line), value);
      return;
    }
    const std::size_t neighbour = section.properties.empty() ? section.line : section.properties.back().line;
    const std::string_view line = document_.line(neighbour);
    const std::size_t indentation = line.size() - detail::trim_front(line).size();
    std::string added{section.properties.empty() ? "\t" : line.substr(0, indentation)};
    put_behind(neighbour, added.append(property(key, value)));
  }

  /// All lines of `key`: were the first to go alone, the next one would count.
  void remove(const ConfigSection& section, std::string_view key) {
    for (const ConfigProperty& p : section.properties) {
      if (p.key == key) changes_[p.line].drop = true;
    }
  }

  /// Header, body, and the empty line behind it. Comments at the end of the body that are not indented stay: they are
  /// as likely about what follows.
  void remove(const ConfigSection& section) {
    std::size_t last = section.last_line;
    while (last > section.line && document_.line(last).starts_with('#')) --last;
    const auto& lines = document_.lines();
    if (last == section.last_line && last < lines.size() && lines[last].kind == ConfigLineKind::blank) ++last;
    for (std::size_t number = section.line; number <= last; ++number) changes_[number].drop = true;
  }

  /// A section at the end of the file, in Proxmox VE's form: an empty line before it and one behind it.
  void append(std::string_view type, std::string_view id, std::span<const ConfigProperty> properties) {
    const auto& lines = document_.lines();
    const std::size_t end = lines.size();
    if (end > 0 && lines.back().kind != ConfigLineKind::blank) put_behind(end, {});
    put_behind(end, std::string{type}.append(": ").append(id));
    for (const ConfigProperty& p : properties) put_behind(end, "\t" + property(p.key, p.value));
    put_behind(end, {});
  }

  /// The whole file with the changes.
  [[nodiscard]] std::string text() const { return text(0, document_.lines().size()); }

  /// The lines of one section with the changes.
  [[nodiscard]] std::string text(const ConfigSection& section) const { return text(section.line, section.last_line); }

  /// The changes for a person to read, as `diff -U0` prints them. The value of a `keyring` is not shown.
  [[nodiscard]] std::string diff() const {
    std::string out;
    std::ptrdiff_t shift = 0;  // how far the new lines have moved against the old ones
    for (auto first = changes_.begin(); first != changes_.end();) {
      std::string removed;
      std::string added;
      std::size_t old_count = 0;
      std::size_t new_count = 0;
      const std::size_t start = first->first;
      auto end = first;
      for (std::size_t next = start; end != changes_.end() && end->first == next; ++end, ++next) {
        const Change& change = end->second;
        if (change.drop || change.instead) {
          removed.append("-").append(shown(document_.line(next))).append("\n");
          ++old_count;
        } else if (next != start) {
          break;  // lines behind one that stays: a hunk of their own
        }
        if (change.instead && !change.drop) {
          added.append("+").append(shown(*change.instead)).append("\n");
          ++new_count;
        }
        for (const std::string& line : change.behind) added.append("+").append(shown(line)).append("\n");
        new_count += change.behind.size();
        if (old_count == 0) {
          ++end;
          break;
        }
      }
      const std::size_t old_start = start;
      const std::size_t before = old_count == 0 ? start : start - 1;  // lines of the old text in front of the hunk
      const auto new_before = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(before) + shift);
      out.append("@@ -" + range(old_start, old_count) + " +" +
                 range(new_count == 0 ? new_before : new_before + 1, new_count))
          .append(" @@" + context(start) + "\n")
          .append(removed)
          .append(added);
      shift += static_cast<std::ptrdiff_t>(new_count) - static_cast<std::ptrdiff_t>(old_count);
      first = end;
    }
    return out;
  }

 private:
  struct Change {
    bool drop = false;
    std::optional<std::string> instead{};
    std::vector<std::string> behind{};
  };

  /// Lines `first` to `last`, with what comes behind them.
  [[nodiscard]] std::string text(std::size_t first, std::size_t last) const {
    const std::string& old = document_.text();
    const auto& lines = document_.lines();
    const std::size_t stop = last < lines.size() ? lines[last].begin : old.size();
    std::size_t copied = first > 0 ? lines[first - 1].begin : 0;
    std::string out;
    out.reserve(stop - copied + 256);
    for (auto it = changes_.lower_bound(first); it != changes_.end() && it->first <= last; ++it) {
      const auto& [number, change] = *it;
      if (number > 0) {
        const ConfigLine& line = lines[number - 1];
        out.append(old, copied, line.begin - copied);
        const std::size_t end = line.begin + line.length;
        copied = std::min(end + 1, old.size());
        if (!change.drop) {
          out.append(change.instead ? *change.instead : std::string{document_.line(number)});
          out.append(old, end, copied - end);
        }
      }
      for (const std::string& added : change.behind) {
        if (!out.empty() && out.back() != '\n') out += '\n';
        out.append(added).append("\n");
      }
    }
    return out.append(old, copied, stop - copied);
  }

  static std::string property(std::string_view key, std::optional<std::string_view> value) {
    std::string line{key};
    return value ? line.append(" ").append(*value) : line;
  }

  /// Only the value changes: indentation, the blanks between, and what is behind the value are those of `line`.
  static std::string with_value(std::string_view line, std::optional<std::string_view> value) {
    const std::string_view trimmed = detail::trim_back(line);
    const std::string_view rest = line.substr(trimmed.size());
    const std::size_t indentation = line.size() - detail::trim_front(line).size();
    const std::size_t key_end = indentation + detail::word_length(trimmed.substr(indentation));
    const std::string_view behind = trimmed.substr(key_end);
    const std::string_view gap = behind.substr(0, behind.size() - detail::trim_front(behind).size());
    std::string out{line.substr(0, key_end)};
    if (value) out.append(gap.empty() ? " " : gap).append(*value);
    return out.append(rest);
  }

  void put_behind(std::size_t number, std::string line) {
    const bool dos = !document_.lines().empty() && document_.line(std::max<std::size_t>(number, 1)).ends_with('\r');
    if (dos) line += '\r';
    changes_[number].behind.push_back(std::move(line));
  }

  static std::string shown(std::string_view line) {
    const std::string_view text = detail::trim_front(line);
    if (!text.starts_with("keyring")) return std::string{line};
    return std::string{line.substr(0, line.size() - text.size())} + "keyring (not shown)";
  }
  static std::string range(std::size_t start, std::size_t count) {
    return count == 1 ? std::to_string(start) : std::to_string(start) + "," + std::to_string(count);
  }
  /// The header above line `number`.
  [[nodiscard]] std::string context(std::size_t number) const {
    const auto& sections = document_.sections();
    const auto next = std::upper_bound(sections.begin(), sections.end(), number,
                                       [](std::size_t n, const ConfigSection& s) { return n < s.line; });
    if (next == sections.begin() || number > std::prev(next)->last_line) return {};
    return " " + std::prev(next)->type + ": " + std::prev(next)->id;
  }

  const ConfigDocument& document_;
  std::map<std::size_t, Change> changes_;  // by line; 0 is in front of the first
};

}  // namespace stowage
