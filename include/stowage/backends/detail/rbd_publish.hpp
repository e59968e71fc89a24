#pragma once
// New images whose name comes last: they are made under a private name with the number of their run, and get their own
// when they carry a record or a parent. An image that its maker has left half done has no volume's name.

#include <rados/librados.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/wait.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

inline constexpr std::string_view rbd_private_prefix = "stowage.new.";

inline std::string rbd_private_name(const std::string& nonce) { return std::string{rbd_private_prefix} + nonce; }

/// The run that a private name is of.
inline std::optional<std::string> rbd_nonce_in(std::string_view name) {
  if (!name.starts_with(rbd_private_prefix) || name.size() != rbd_private_prefix.size() + 16) return std::nullopt;
  return std::string{name.substr(rbd_private_prefix.size())};
}

/// A text as the classes of the OSDs take it: its length in four bytes, little-endian, in front.
inline std::string rbd_encoded(std::string_view text) {
  std::string bytes;
  for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(text.size() >> shift & 0xFFU);
  return bytes.append(text);
}

/// The id that the object `rbd_id.<name>` has. Errors: not_found.
inline Result<std::string> rbd_id_of(const RbdPool& pool, const std::string& name) {
  std::array<char, 512> bytes{};
  const int length = ::rados_read(pool.io.get(), ("rbd_id." + name).c_str(), bytes.data(), bytes.size(), 0);
  if (length < 0) return fail(rbd_error(length, "looking for image '" + pool.spec(name) + "'"));
  return decode_rbd_text({bytes.data(), static_cast<std::size_t>(length)});
}

/// Makes the object by which an image is found, unless it is there. Returns an errno of librados; 0 also if it is there
/// and this image's.
inline int rbd_write_id(const RbdPool& pool, const std::string& name, const std::string& id) {
  const Handle<void, &::rados_release_write_op> op{::rados_create_write_op()};
  const std::string bytes = rbd_encoded(id);
  ::rados_write_op_create(op.get(), LIBRADOS_CREATE_EXCLUSIVE, nullptr);
  ::rados_write_op_write_full(op.get(), bytes.data(), bytes.size());
  const int code = ::rados_write_op_operate2(op.get(), pool.io.get(), ("rbd_id." + name).c_str(), nullptr, 0);
  if (code != -EEXIST) return code;
  const auto there = rbd_id_of(pool, name);
  return there && *there == id ? 0 : code;
}

inline int rbd_rename_entry(const RbdPool& pool, const std::string& from, const std::string& to,
                            const std::string& id) {
  const std::string input = rbd_encoded(from) + rbd_encoded(to) + rbd_encoded(id);
  return ::rados_exec(pool.io.get(), "rbd_directory", "rbd", "dir_rename_image", input.data(), input.size(), nullptr,
                      0);
}

/// Gives the private image `from` its own name. The directory takes the name, in one step that is refused when somebody
/// has it (cls_rbd, `dir_rename_image`); killed after that, the image is whole, and only `rbd_id.<name>` is missing,
/// which `recover` writes. `rbd_rename` would open the image and take its lock for it: 20 ms instead of 2.
/// Errors: already_exists, and then it has its private name.
inline Result<void> rbd_publish(const RbdPool& pool, const std::string& from, const std::string& id,
                                const std::string& to) {
  const auto taken = [&] {
    return fail(Errc::already_exists, "there is an image '" + pool.spec(to) + "' already", native_errno(EEXIST));
  };
  const std::string doing = "naming the new image '" + pool.spec(to) + "'";
  if (::rados_stat(pool.io.get(), (to + ".rbd").c_str(), nullptr, nullptr) >= 0) return taken();  // of format 1
  static_cast<void>(::rados_remove(pool.io.get(), ("rbd_id." + from).c_str()));  // nobody looks for it by that name
  const int named = rbd_rename_entry(pool, from, to, id);
  if (named == -EEXIST) return taken();
  if (named < 0) return rbd_changed(named, doing);
  // Somebody who makes an image of that name at this moment has its object for a few milliseconds, until the directory
  // refuses the name.
  int written = 0;
  const auto done = [&] { return (written = rbd_write_id(pool, to, id)) != -EEXIST; };
  static_cast<void>(wait_until(done, std::chrono::steady_clock::now() + std::chrono::seconds{1}, pool.options.stop));
  if (written < 0 && written != -ETIMEDOUT) static_cast<void>(rbd_rename_entry(pool, to, from, id));
  return written == -EEXIST ? taken() : rbd_changed(written, doing);
}

/// What was made under a private name and will not get its own.
inline void rbd_discard_private(const RbdPool& pool, const std::string& name) {
  static_cast<void>(::rbd_remove(pool.io.get(), name.c_str()));
}

}  // namespace stowage::detail
