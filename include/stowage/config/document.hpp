#pragma once
// storage.cfg as lines and sections: only its lexical rules. Nothing is lost: every byte of the file is kept, and a
// section knows the lines it came from, so that a writer can change one of them and leave the rest alone.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// What became of something that is wrong in the file.
enum class ConfigRemedy : std::uint8_t { noted, line_ignored, item_ignored, property_ignored, section_ignored };

constexpr std::string_view name(ConfigRemedy remedy) noexcept {
  switch (remedy) {
    case ConfigRemedy::noted: return "noted";
    case ConfigRemedy::line_ignored: return "line ignored";
    case ConfigRemedy::item_ignored: return "item ignored";
    case ConfigRemedy::property_ignored: return "property ignored";
    case ConfigRemedy::section_ignored: return "section ignored";
  }
  return "";
}

/// Something that is wrong in the file. The file as a whole is never refused.
struct ConfigProblem {
  std::size_t line = 0;  ///< from 1
  std::string section;   ///< may be empty, as the next
  std::string property;
  std::string message;
  ConfigRemedy remedy = ConfigRemedy::noted;
};

/// What a line is.
enum class ConfigLineKind : std::uint8_t { blank, comment, header, property, ignored };

/// One line, as it stands in the text.
struct ConfigLine {
  std::size_t begin = 0;
  std::size_t length = 0;  ///< without the line feed, but with a carriage return
  ConfigLineKind kind = ConfigLineKind::blank;
};

/// One line of a section's body. No value is not an empty value.
struct ConfigProperty {
  std::string key;
  std::optional<std::string> value;
  std::size_t line = 0;
};

/// A header and its body, whatever its type is.
struct ConfigSection {
  std::string type;  ///< in lower case
  std::string id;
  std::size_t line = 0;       ///< the header's
  std::size_t last_line = 0;  ///< the last line of the body, comments included
  std::vector<ConfigProperty> properties;
};

namespace detail {

constexpr std::string_view trim_front(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}
constexpr std::string_view trim_back(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}
constexpr std::size_t word_length(std::string_view text) noexcept {
  std::size_t length = 0;
  while (length < text.size() && !is_space(text[length])) ++length;
  return length;
}

/// `TYPE: ID`. The type reaches to the last colon that leaves an id: `rbd:x: ceph` has the type `rbd:x`.
constexpr std::optional<std::pair<std::string_view, std::string_view>> split_header(std::string_view line) noexcept {
  line = trim_back(line);
  std::string_view type = line.substr(0, word_length(line));
  for (std::size_t colon = type.rfind(':'); colon != type.npos && colon > 0; colon = type.rfind(':')) {
    const std::string_view id = trim_front(line.substr(colon + 1));
    type = type.substr(0, colon);
    if (!id.empty() && word_length(id) == id.size()) return std::pair{type, id};
  }
  return std::nullopt;
}

/// A key and perhaps a value, behind at least one blank.
inline std::optional<ConfigProperty> split_property(std::string_view line, std::size_t number) {
  const std::string_view text = trim_back(trim_front(line));
  if (text.empty() || !is_space(line.front())) return std::nullopt;
  const std::size_t length = word_length(text);
  ConfigProperty property{std::string{text.substr(0, length)}, std::nullopt, number};
  if (length < text.size()) property.value = trim_front(text.substr(length));
  return property;
}

inline std::string lower_case(std::string_view text) {
  std::string out{text};
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

}  // namespace detail

/// The text of storage.cfg, cut into lines and sections.
///
/// A section ends at an empty line. (So a header right below a body is a line of that body; Proxmox VE reads it so.)
/// A DOS file is read as if it were none, and a line that says just `0` ends no section: there we differ, since that
/// is where the reference swallows sections.
class ConfigDocument {
 public:
  /// Any text is a document; what is wrong in it is in `problems()`.
  [[nodiscard]] static ConfigDocument parse(std::string text) {
    ConfigDocument document;
    document.text_ = std::move(text);
    document.read();
    return document;
  }

  /// Every byte, as it was read.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] const std::vector<ConfigLine>& lines() const noexcept { return lines_; }
  /// Pre: 1 <= number <= lines().size().
  [[nodiscard]] std::string_view line(std::size_t number) const noexcept {
    const ConfigLine& line = lines_[number - 1];
    return std::string_view{text_}.substr(line.begin, line.length);
  }
  /// In the order of the file; also those of unknown types, with impossible ids, and duplicates.
  [[nodiscard]] const std::vector<ConfigSection>& sections() const noexcept { return sections_; }
  [[nodiscard]] const std::vector<ConfigProblem>& problems() const noexcept { return problems_; }

 private:
  void read() {
    bool in_section = false;
    lines_.reserve(static_cast<std::size_t>(std::count(text_.begin(), text_.end(), '\n')) + 1);
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = text_.find('\n', begin);
      const std::size_t length = (end == text_.npos ? text_.size() : end) - begin;
      std::string_view line = std::string_view{text_}.substr(begin, length);
      if (line.ends_with('\r')) line.remove_suffix(1);
      const std::size_t number = lines_.size() + 1;
      ConfigLineKind kind = ConfigLineKind::ignored;
      if (detail::trim_front(line).starts_with('#')) {
        kind = ConfigLineKind::comment;
      } else if (line.empty()) {
        kind = ConfigLineKind::blank;
        in_section = false;
      } else if (in_section) {
        kind = read_body(line, number);
      } else if (const auto header = detail::split_header(line)) {
        kind = ConfigLineKind::header;
        in_section = true;
        sections_.push_back({detail::lower_case(header->first), std::string{header->second}, number, number, {}});
      } else {
        problems_.push_back({number, {}, {}, "not a header (TYPE: ID)", ConfigRemedy::line_ignored});
      }
      if (in_section) sections_.back().last_line = number;
      lines_.push_back({begin, length, kind});
      begin += length + 1;
    }
  }

  ConfigLineKind read_body(std::string_view line, std::size_t number) {
    ConfigSection& section = sections_.back();
    if (section.properties.empty()) section.properties.reserve(6);  // few have more
    if (auto property = detail::split_property(line, number)) {
      section.properties.push_back(*std::move(property));
      return ConfigLineKind::property;
    }
    std::string_view why = "not a property (indented, KEY VALUE)";
    if (detail::trim_front(line).empty()) why = "a line of blanks does not end a section; only an empty line does";
    if (detail::split_header(line)) why = "a header needs an empty line before it; this one is not seen as one";
    problems_.push_back({number, section.id, {}, std::string{why}, ConfigRemedy::line_ignored});
    return ConfigLineKind::ignored;
  }

  std::string text_;
  std::vector<ConfigLine> lines_;
  std::vector<ConfigSection> sections_;
  std::vector<ConfigProblem> problems_;
};

}  // namespace stowage
