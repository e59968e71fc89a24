#pragma once
// Texts that are well-formed because the only way to make one is to parse it.

#include <compare>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

namespace detail {

/// A text as errors show it. What no name is as long as is cut short, between two characters: an error about a text
/// takes no more memory than the text, however long that is.
inline std::string quoted(std::string_view text) {
  constexpr std::size_t most = 200;
  if (text.size() <= most) return std::string{"'"}.append(text).append("'");
  std::size_t end = most;
  while (end > most - 3 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) --end;  // inside one of UTF-8
  return std::string{"'"}.append(text.substr(0, end)).append("...', ").append(std::to_string(text.size())) + " bytes";
}

}  // namespace detail

/// A text of kind `Tag`: `Tag::valid(text)` has said yes to it, and `Tag::name` says what it is.
template <class Tag>
class Text {
 public:
  /// Errors: parse_failed, with the text in the detail, or its first 200 bytes.
  [[nodiscard]] static Result<Text> parse(std::string_view text, SourceLoc at = SourceLoc::here()) {
    if (!Tag::valid(text)) return fail(Errc::parse_failed, not_a(Tag::name, text), {}, at);
    return Text{std::string{text}};
  }

  [[nodiscard]] const std::string& str() const noexcept { return text_; }
  [[nodiscard]] const char* c_str() const noexcept { return text_.c_str(); }
  friend auto operator<=>(const Text&, const Text&) = default;

 private:
  explicit Text(std::string text) : text_{std::move(text)} {}

  static std::string not_a(std::string_view what, std::string_view text) {
    return std::string{"not a "}.append(what).append(": ") + detail::quoted(text);
  }

  std::string text_;
};

namespace detail {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_alnum(char c) noexcept { return is_digit(c) || is_alpha(c); }
constexpr bool is_hex(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
constexpr bool is_space(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }
constexpr bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20 || c == '\x7f'; }

template <class Predicate>
constexpr bool all_of(std::string_view text, Predicate predicate) {
  for (const char c : text) {
    if (!predicate(c)) return false;
  }
  return true;
}
constexpr bool all_digits(std::string_view text) noexcept { return !text.empty() && all_of(text, is_digit); }
constexpr bool printable(std::string_view text) noexcept {
  return all_of(text, [](char c) { return !is_control(c); });
}

/// Each line of a text, without its end.
template <class Each>
constexpr void for_each_line(std::string_view text, Each each) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    each(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

/// The words of a line, at most as many as `most` asks for: the rest is not looked at.
inline std::vector<std::string_view> words_of(std::string_view line, std::size_t most = 16) {
  std::vector<std::string_view> words;
  while (words.size() < most) {
    while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
    if (line.empty()) break;
    std::size_t length = 0;
    while (length < line.size() && !is_space(line[length])) ++length;
    words.push_back(line.substr(0, length));
    line.remove_prefix(length);
  }
  return words;
}

}  // namespace detail
}  // namespace stowage
