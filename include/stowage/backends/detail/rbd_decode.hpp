#pragma once
// The parts of an image header that listings need, out of their bytes on the OSDs (ceph: src/cls/rbd/cls_rbd.h). Whole
// images would be opened 50 times more slowly. The structures carry versions; what does not parse is opened instead.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

/// Takes little-endian values off the front of a text. Once something is missing, all is missing.
class RbdBytes {
 public:
  explicit RbdBytes(std::string_view bytes) noexcept : rest_{bytes} {}

  [[nodiscard]] bool good() const noexcept { return good_; }

  std::uint64_t number(std::size_t width) noexcept {
    std::uint64_t value = 0;
    const std::string_view bytes = take(width);
    for (std::size_t at = bytes.size(); at > 0; --at) value = value << 8U | static_cast<unsigned char>(bytes[at - 1]);
    return value;
  }
  std::string text() { return std::string{take(number(4))}; }

  /// The version of a structure, and no bytes but its own from here on.
  std::uint64_t structure() noexcept {
    const std::uint64_t version = number(1);
    number(1);  // the oldest reader that understands it; the length says what is ours
    const std::size_t length = number(4);
    if (length > rest_.size()) good_ = false;
    rest_ = rest_.substr(0, length);
    return version;
  }

 private:
  std::string_view take(std::size_t width) noexcept {
    if (!good_ || width > rest_.size()) {
      good_ = false;
      return {};
    }
    const std::string_view bytes = rest_.substr(0, width);
    rest_.remove_prefix(width);
    return bytes;
  }

  std::string_view rest_;
  bool good_ = true;
};

/// The key of the header that is there while a snapshot has clones of format 2.
inline std::string rbd_clones_omap_key(std::uint64_t snapshot) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string key = "snap_children_";
  for (unsigned shift = 64; shift > 0;) key += digits[snapshot >> (shift -= 4) & 0xfU];
  return key;
}

/// What an image was cloned from, as its header says it: by numbers.
struct RbdParentRef {
  std::int64_t pool = -1;
  std::string name_space;
  std::string image;
  std::uint64_t snapshot = 0;

  friend auto operator<=>(const RbdParentRef&, const RbdParentRef&) = default;
};

struct RbdDecodedParent {
  bool good = false;
  std::optional<RbdParentRef> parent;  ///< none: flattened, only older snapshots still have one
};

/// The value under "parent". Version 2 came with Nautilus: it has the namespace, and an overlap that may be absent.
inline RbdDecodedParent decode_rbd_parent(std::string_view bytes) {
  RbdBytes in{bytes};
  const std::uint64_t version = in.structure();
  RbdParentRef parent;
  parent.pool = static_cast<std::int64_t>(in.number(8));
  if (version >= 2) parent.name_space = in.text();
  parent.image = in.text();
  parent.snapshot = in.number(8);
  const bool has_overlap = version < 2 || in.number(1) != 0;
  const std::uint64_t overlap = has_overlap ? in.number(8) : 0;
  RbdDecodedParent out;
  out.good = in.good() && version >= 1;
  if (out.good && parent.pool >= 0 && overlap > 0) out.parent = std::move(parent);
  return out;
}

/// The value under "size".
inline std::optional<std::uint64_t> decode_rbd_size(std::string_view bytes) noexcept {
  RbdBytes in{bytes};
  const std::uint64_t size = in.number(8);
  return in.good() ? std::optional{size} : std::nullopt;
}

/// The value under "create_timestamp": seconds and nanoseconds.
inline std::optional<std::chrono::sys_seconds> decode_rbd_time(std::string_view bytes) noexcept {
  RbdBytes in{bytes};
  const std::uint64_t seconds = in.number(4);
  if (!in.good() || seconds == 0) return std::nullopt;
  return std::chrono::sys_seconds{std::chrono::seconds{seconds}};
}

/// The name in the value under "snapshot_<id>"; empty when it does not parse.
inline std::string decode_rbd_snapshot_name(std::string_view bytes) {
  RbdBytes in{bytes};
  in.structure();
  in.number(8);
  std::string name = in.text();
  return in.good() ? name : std::string{};
}

struct RbdDecodedSnapshot {
  std::string name;
  bool is_protected = false;
};

/// The same value, for its protection. Nothing: it does not parse, or is of before Nautilus.
inline std::optional<RbdDecodedSnapshot> decode_rbd_snapshot(std::string_view bytes) {
  constexpr std::uint64_t nautilus = 8;
  constexpr std::uint64_t status_protected = 2;  // 1: on the way from it
  RbdBytes in{bytes};
  in.number(1);
  const bool known = in.number(1) >= nautilus;
  in.number(4);
  in.number(8);
  std::string name = in.text();
  in.number(8);
  const bool is_protected = in.number(1) == status_protected;
  if (!in.good() || !known) return std::nullopt;
  return RbdDecodedSnapshot{std::move(name), is_protected};
}

/// A text by itself: the values of the directory, and the object `rbd_id.<name>`.
inline std::string decode_rbd_text(std::string_view bytes) {
  RbdBytes in{bytes};
  std::string text = in.text();
  return in.good() ? text : std::string{};
}

/// The value under "id_<id>" of the trash: whether it is there because `rbd rm`, anybody's, has begun to remove it.
/// (Such images are listed as if they were whole, but cannot be opened by name.)
inline bool is_rbd_removing(std::string_view bytes) noexcept {
  constexpr std::uint64_t source_removing = 3;
  RbdBytes in{bytes};
  in.structure();
  const std::uint64_t source = in.number(1);
  return in.good() && source == source_removing;
}

/// The key of a snapshot in its image's header.
inline std::string rbd_snapshot_key(std::uint64_t id) {
  constexpr std::string_view hex = "0123456789abcdef";
  std::string key = "snapshot_";
  for (unsigned shift = 64; shift > 0; shift -= 4) key += hex[id >> (shift - 4) & 0xFU];
  return key;
}

}  // namespace stowage::detail
