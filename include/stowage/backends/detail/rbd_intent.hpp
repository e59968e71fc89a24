#pragma once
// The intent of a verb of several steps stands on the image itself, in its metadata, so that any host that sees the
// image can finish the work of one that died.

#include <rbd/librbd.h>
#include <array>
#include <cerrno>
#include <optional>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/core/error.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

inline constexpr std::string_view rbd_intent_key = "stowage.intent";
/// Under which the header holds it: `metadata_` and the key.
inline constexpr std::string_view rbd_intent_omap_key = "metadata_stowage.intent";
/// The snapshot that clones of a template are made of.
inline constexpr std::string_view rbd_base_snapshot = "__base__";

/// `rollback SNAPSHOT`, `remove`, `import`, `template NEW-NAME` or `receive RECEIPT` (receipt_text.hpp).
struct RbdIntent {
  std::string verb;
  std::string object;

  [[nodiscard]] std::string str() const { return object.empty() ? verb : verb + " " + object; }
};

inline RbdIntent parse_rbd_intent(std::string_view text) {
  const std::size_t space = text.find(' ');
  RbdIntent intent{std::string{text.substr(0, space)}, {}};
  if (space != text.npos) intent.object = text.substr(space + 1);
  return intent;
}

inline Result<std::optional<RbdIntent>> rbd_intent(::rbd_image_t image) {
  std::array<char, 512> text{};
  std::size_t size = text.size();
  const int code = ::rbd_metadata_get(image, rbd_intent_key.data(), text.data(), &size);
  if (code == -ENOENT) return std::nullopt;
  if (code < 0) return fail(rbd_error(code, "reading the intent"));
  return parse_rbd_intent(text.data());
}

inline Result<void> rbd_set_intent(::rbd_image_t image, const RbdIntent& intent) {
  return rbd_changed(::rbd_metadata_set(image, rbd_intent_key.data(), intent.str().c_str()), "writing the intent");
}

inline Result<void> rbd_clear_intent(::rbd_image_t image) {
  const int code = ::rbd_metadata_remove(image, rbd_intent_key.data());
  return rbd_changed(code == -ENOENT ? 0 : code, "removing the intent");
}

}  // namespace stowage::detail
