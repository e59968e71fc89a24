#pragma once
// The record of an unfinished verb stands in the header of its image, where librbd keeps metadata, and names the image:
// clones and copies get the metadata of their origin, and theirs are void. It is read and written by operations of
// rados, never by librbd, which would take the exclusive lock from its owner for it.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <array>
#include <cerrno>
#include <optional>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/intent/record.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

/// Under which the header holds it: `metadata_` and the key that `rbd image-meta` shows.
inline constexpr std::string_view rbd_record_key = "metadata_stowage.intent";
/// The snapshot that clones of a template are made of.
inline constexpr std::string_view rbd_base_snapshot = "__base__";

/// The object that holds the record of one image, and what the record is bound to.
struct RbdRecordPlace {
  std::string header;
  std::string bound;
};

/// `id`: of the image, or of one of format 1, which has none, the prefix of its objects.
inline RbdRecordPlace rbd_record_place(const RbdPool& pool, const std::string& name, const std::string& id,
                                       bool format_1 = false) {
  return {format_1 ? name + ".rbd" : "rbd_header." + id,
          std::to_string(::rados_ioctx_get_id(pool.io.get())) + "/" + pool.config.name_space + "/" + id};
}

/// Of an open image. Errors: what librbd says.
inline Result<RbdRecordPlace> rbd_record_place(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  std::array<char, 256> id{};
  std::uint8_t old = 0;
  const bool format_1 = ::rbd_get_old_format(image, &old) >= 0 && old != 0;
  const int code =
      format_1 ? ::rbd_get_block_name_prefix(image, id.data(), id.size()) : ::rbd_get_id(image, id.data(), id.size());
  if (code < 0) return fail(rbd_error(code, "asking for the image's id"));
  return rbd_record_place(pool, name, id.data(), format_1);
}

/// What stands there. A text that is bound to another image is void: there is no intent.
struct RbdRecord {
  std::string text;
  std::optional<Intent> intent;
};

inline RbdRecord rbd_record_in(std::string_view text, const RbdRecordPlace& place) {
  RbdRecord record{std::string{text}, {}};
  if (text.empty()) return record;
  Intent intent = parse_intent(text);
  const bool is_void = intent.format == IntentFormat::current && intent.bound != place.bound;
  if (!is_void) record.intent = std::move(intent);
  return record;
}

/// One round trip. An image without header has no record.
inline Result<RbdRecord> rbd_read_record(const RbdPool& pool, const RbdRecordPlace& place) {
  const std::string key{rbd_record_key};
  const RbdOmapAnswer answer = RbdOmapRead{{pool.io.get(), place.header, {key}}}.wait();
  if (answer.code < 0 && answer.code != -ENOENT) return fail(rbd_error(answer.code, "reading the record of a verb"));
  return rbd_record_in(answer[key], place);
}

/// Compare and swap: `after`, empty for none, takes the place of `before`. (On Ceph 16.2.15 a key that is not there
/// compares as an empty value.) Errors: conflict, when something else stands there; not_found, without a header.
inline Result<void> rbd_swap_record(const RbdPool& pool, const std::string& header, const std::string& before,
                                    const std::string& after) {
  const Handle<void, &::rados_release_write_op> op{::rados_create_write_op()};
  const char* const key = rbd_record_key.data();
  const std::size_t key_size = rbd_record_key.size();
  int compared = 0;
  ::rados_write_op_assert_exists(op.get());
  ::rados_write_op_omap_cmp2(op.get(), key, LIBRADOS_CMPXATTR_OP_EQ, before.data(), key_size, before.size(), &compared);
  if (after.empty()) {
    ::rados_write_op_omap_rm_keys2(op.get(), &key, &key_size, 1);
  } else {
    const char* const value = after.data();
    const std::size_t value_size = after.size();
    ::rados_write_op_omap_set2(op.get(), &key, &value, &key_size, &value_size, 1);
  }
  const int code = ::rados_write_op_operate2(op.get(), pool.io.get(), header.c_str(), nullptr, 0);
  if (code == -ECANCELED) {
    return fail(Error{Errc::conflict, "another verb took the volume over just now", native_errno(code)}.advise(
        "look at it, and try again"));
  }
  return rbd_changed(code, "noting on the volume what is being done");
}

}  // namespace stowage::detail
