#pragma once
// The record of a verb of several steps, as it stands on the volume itself: what is being done, how far it has come, to
// which object it is bound, and which run of which process does it. Any host that sees the volume can read it.

#include <sys/random.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stowage/core/error.hpp>
#include <stowage/intent/owner.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// What `recover` does with a record that nobody works on: undo, complete, or let it wait.
enum class IntentPhase : std::uint8_t { prepare, commit, waiting };

/// Who wrote a record: this version; one before it (0.1, whose records name neither their object nor their run); or a
/// version that is not known here.
enum class IntentFormat : std::uint8_t { current, earlier, unknown };

/// A record. Its text has at most `max_size` characters of `[A-Za-z0-9_+./=!&#-]`, which tags of LVM take as well.
struct Intent {
  static constexpr std::size_t max_size = 1000;

  IntentFormat format = IntentFormat::current;
  std::string verb{};   ///< "rollback", "remove", "template", "import", "receive", "rename", "clone"
  std::string nonce{};  ///< of the run: 16 hexadecimal digits
  IntentPhase phase = IntentPhase::prepare;
  std::string bound{};  ///< the object that it is about, in the backend's own words, which no other object has
  IntentOwner owner{};
  std::vector<std::string> arguments{};
  std::string read_as{};  ///< the text that it was parsed from: what a compare-and-swap compares with

  [[nodiscard]] std::string argument(std::size_t at) const { return at < arguments.size() ? arguments[at] : ""; }
};

namespace detail {

/// Keeps letters, digits and `_+.-`; every other byte becomes `=` and two hexadecimal digits.
inline void append_escaped(std::string& text, std::string_view value) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  for (const char c : value) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '+' || c == '.' || c == '-';
    if (plain) {
      text += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      text += '=';
      text += hex[byte >> 4U];
      text += hex[byte & 0xFU];
    }
  }
}

inline std::string unescaped(std::string_view text) {
  std::string value;
  for (std::size_t at = 0; at < text.size(); ++at) {
    unsigned byte = 0;
    const bool escape =
        text[at] == '=' && at + 2 < text.size() &&
        std::from_chars(text.data() + at + 1, text.data() + at + 3, byte, 16).ptr == text.data() + at + 3;
    value += escape ? static_cast<char>(byte) : text[at];
    if (escape) at += 2;
  }
  return value;
}

inline std::vector<std::string> split_escaped(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(unescaped(text.substr(begin, end == text.npos ? end : end - begin)));
    if (end == text.npos) return parts;
    begin = end + 1;
  }
}

inline std::uint64_t intent_number(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

constexpr std::string_view phase_name(IntentPhase phase) noexcept {
  switch (phase) {
    case IntentPhase::prepare: return "prepare";
    case IntentPhase::commit: return "commit";
    case IntentPhase::waiting: return "waiting";
  }
  return "";
}

inline std::string owner_text(const IntentOwner& owner) {
  if (owner.nobody()) return {};
  std::string text;
  for (const std::string& field :
       {owner.machine, owner.boot, std::to_string(owner.pid_namespace), std::to_string(owner.pid),
        std::to_string(owner.started), owner.host, owner.client}) {
    if (!text.empty()) text += '#';
    append_escaped(text, field);
  }
  return text;
}

/// Nobody, when it cannot be understood.
inline IntentOwner parse_owner(std::string_view text) {
  // Not through unescaped parts of the whole: `#` separates before escapes are undone.
  const std::vector<std::string> fields = split_escaped(text, '#');
  if (fields.size() != 7) return {};
  return {fields[0], fields[1], intent_number(fields[2]), intent_number(fields[3]), intent_number(fields[4]),
          fields[5], fields[6]};
}

}  // namespace detail

/// A new run's own number. Errors: backend_failed (the kernel gives no random bytes).
inline Result<std::string> new_nonce() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != static_cast<::ssize_t>(sizeof number)) {
    return fail(Errc::backend_failed, "the kernel gives no random bytes", native_errno(errno));
  }
  constexpr std::string_view hex = "0123456789abcdef";
  std::string nonce;
  for (unsigned shift = 64; shift > 0; shift -= 4) nonce += hex[number >> (shift - 4) & 0xFU];
  return nonce;
}

/// `1/NONCE/VERB/PHASE/BOUND/OWNER/ARGUMENT...`. Errors: invalid_argument (too long, for want of room in a tag).
inline Result<std::string> intent_text(const Intent& intent) {
  std::string text =
      "1/" + intent.nonce + "/" + intent.verb + "/" + std::string{detail::phase_name(intent.phase)} + "/";
  detail::append_escaped(text, intent.bound);
  text += "/" + detail::owner_text(intent.owner);
  for (const std::string& argument : intent.arguments) {
    text += '/';
    detail::append_escaped(text, argument);
  }
  if (text.size() <= Intent::max_size) return text;
  return fail(Errc::invalid_argument, "the names of this " + intent.verb + " are too long to note it on the volume");
}

/// Never fails: what is not of this version says so in `format`. Of an earlier one the verb is known, and the rest of
/// its text is the one argument.
inline Intent parse_intent(std::string_view text) {
  Intent intent;
  intent.read_as = text;
  const std::size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == text.npos || text[digits] != '/') {
    const std::size_t end = text.find_first_of(" /");
    intent.format = IntentFormat::earlier;
    intent.verb = text.substr(0, end);
    intent.phase = IntentPhase::commit;
    if (end != text.npos) intent.arguments.emplace_back(text.substr(end + 1));
    return intent;
  }
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    fields.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  intent.verb = fields.size() > 2 ? detail::unescaped(fields[2]) : "unknown";
  const auto phase = [&](IntentPhase one) { return fields[3] == detail::phase_name(one); };
  if (fields.size() < 6 || fields[0] != "1" || fields[1].size() != 16 ||
      !(phase(IntentPhase::prepare) || phase(IntentPhase::commit) || phase(IntentPhase::waiting))) {
    intent.format = IntentFormat::unknown;
    return intent;
  }
  intent.nonce = fields[1];
  intent.phase = phase(IntentPhase::prepare)  ? IntentPhase::prepare
                 : phase(IntentPhase::commit) ? IntentPhase::commit
                                              : IntentPhase::waiting;
  intent.bound = detail::unescaped(fields[4]);
  intent.owner = detail::parse_owner(fields[5]);
  for (std::size_t at = 6; at < fields.size(); ++at) intent.arguments.push_back(detail::unescaped(fields[at]));
  return intent;
}

}  // namespace stowage
