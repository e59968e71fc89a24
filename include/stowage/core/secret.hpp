#pragma once
// Passwords and keys.

#include <cstring>
#include <string>
#include <utility>

namespace stowage {

/// A password or key. It has no output operator and no comparison, is wiped when it goes, and its text is reached
/// only by `reveal()`, which is easy to search for. It never enters argv, environment, logs or error texts.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_{std::move(text)} { wipe(text); }
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept : text_{std::move(other.text_)} { wipe(other.text_); }
  Secret& operator=(Secret other) noexcept {
    wipe(text_);
    text_ = std::move(other.text_);
    return *this;
  }
  ~Secret() { wipe(text_); }

  [[nodiscard]] const std::string& reveal() const noexcept { return text_; }
  [[nodiscard]] bool empty() const noexcept { return text_.empty(); }

 private:
  // A short text stays behind in the string it was moved from, beyond its size: so all of the capacity is wiped.
  static void wipe(std::string& text) noexcept {
    text.resize(text.capacity());
    ::explicit_bzero(text.data(), text.size());
    text.clear();
  }

  std::string text_;
};

}  // namespace stowage
