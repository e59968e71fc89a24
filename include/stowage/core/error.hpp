#pragma once
// Errors are values: what it means (`Errc`), what it was about, what the system said, what to do.

#include <string>
#include <string_view>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace stowage {

/// Where in the source an error was made. (`std::source_location` is missing in clang++ 14 with libstdc++ 12.)
struct SourceLoc {
  const char* file = "";
  unsigned line = 0;

  static constexpr SourceLoc here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) noexcept {
    return {file, line};
  }
};

/// What went wrong, as far as a caller would act on it differently.
enum class Errc {
  invalid_argument = 1,  ///< the caller's value
  parse_failed,          ///< a text is not what it should be
  not_found,
  already_exists,
  not_supported,      ///< the storage type cannot
  wrong_state,        ///< the type can, but not on this volume in this state
  in_use,             ///< watchers, holders, clones or snapshots stand in the way; they are named
  conflict,           ///< changed since it was read
  identity_changed,   ///< the object under this name is not the one that was meant
  no_space,           //
  permission_denied,  //
  unavailable,        ///< portal, monitor, pool or tool is not there or not active
  timed_out,          ///< the deadline passed
  cancelled,          ///< by stop_token or Ctrl-C
  outcome_unknown,    ///< sent, but no answer came: look before you repeat
  corrupt,            ///< what was read cannot be right
  command_failed,     ///< a tool failed, and there is no better word
  backend_failed,     ///< a library failed, and there is no better word
};

/// The same call may succeed a little later.
constexpr bool retryable(Errc code) noexcept {
  return code == Errc::unavailable || code == Errc::timed_out || code == Errc::in_use || code == Errc::conflict;
}

/// The enumerator as text: a stable word for JSON and logs.
constexpr std::string_view name(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument: return "invalid_argument";
    case Errc::parse_failed: return "parse_failed";
    case Errc::not_found: return "not_found";
    case Errc::already_exists: return "already_exists";
    case Errc::not_supported: return "not_supported";
    case Errc::wrong_state: return "wrong_state";
    case Errc::in_use: return "in_use";
    case Errc::conflict: return "conflict";
    case Errc::identity_changed: return "identity_changed";
    case Errc::no_space: return "no_space";
    case Errc::permission_denied: return "permission_denied";
    case Errc::unavailable: return "unavailable";
    case Errc::timed_out: return "timed_out";
    case Errc::cancelled: return "cancelled";
    case Errc::outcome_unknown: return "outcome_unknown";
    case Errc::corrupt: return "corrupt";
    case Errc::command_failed: return "command_failed";
    case Errc::backend_failed: return "backend_failed";
  }
  return "unknown";
}

/// A failure. Callers compare `code()`; nobody parses the texts.
class [[nodiscard]] Error {
 public:
  Error(Errc code, std::string detail, std::error_code native = {}, SourceLoc at = SourceLoc::here())
      : code_{code}, native_{native}, at_{at}, detail_{std::move(detail)} {}

  [[nodiscard]] Errc code() const noexcept { return code_; }
  /// The errno or exit status behind it; zero when there is none.
  [[nodiscard]] std::error_code native() const noexcept { return native_; }
  [[nodiscard]] SourceLoc where() const noexcept { return at_; }
  /// One sentence for a person, with the offending value. Never a secret.
  [[nodiscard]] const std::string& detail() const noexcept { return detail_; }
  /// The storage or volume that it is about; may be empty.
  [[nodiscard]] const std::string& object() const noexcept { return object_; }
  /// What to do about it; may be empty.
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

  /// Adds what was being done, in front of the detail: "listing LUNs: connection refused".
  Error during(std::string_view what) && {
    detail_.insert(0, std::string{what} + ": ");
    return std::move(*this);
  }
  /// Names the object, unless somebody closer to it already has.
  Error about(std::string object) && {
    if (object_.empty()) object_ = std::move(object);
    return std::move(*this);
  }
  Error advise(std::string hint) && {
    hint_ = std::move(hint);
    return std::move(*this);
  }

  /// `OBJECT: DETAIL (HINT)`, without the parts that are empty.
  [[nodiscard]] std::string message() const {
    std::string text = object_;
    if (!text.empty()) text += ": ";
    text += detail_;
    if (!hint_.empty()) text += " (" + hint_ + ")";
    return text;
  }

 private:
  Errc code_;
  std::error_code native_;
  SourceLoc at_;
  std::string detail_;
  std::string object_;
  std::string hint_;
};

/// What every function gives back that can fail.
template <class T>
using Result = tl::expected<T, Error>;

/// `return fail(Errc::not_found, "no image 'x'");`
inline tl::unexpected<Error> fail(Errc code, std::string detail, std::error_code native = {},
                                  SourceLoc at = SourceLoc::here()) {
  return tl::unexpected<Error>{Error{code, std::move(detail), native, at}};
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>{std::move(error)}; }

/// An errno, positive or negative as C libraries return it, as `Error::native` wants it.
inline std::error_code native_errno(int value) noexcept {
  return {value < 0 ? -value : value, std::generic_category()};
}

}  // namespace stowage
