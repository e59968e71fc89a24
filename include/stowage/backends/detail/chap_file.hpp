#pragma once
// The CHAP secrets of an iSCSI storage, `PRIV/iscsi/<id>.chap`, for whichever initiator logs in.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/secret.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace stowage::detail {

/// Who we are (and, for mutual CHAP, who the target must be).
struct IscsiChap {
  std::string user;
  Secret password;
  std::string user_in;
  Secret password_in;

  [[nodiscard]] bool mutual() const noexcept { return !user_in.empty(); }
};

/// Reads `user=`, `password=`, and for mutual CHAP `user_in=`, `password_in=`, one a line; empty lines and lines with
/// `#` are skipped. What stands behind the `=` is taken as it is. No error repeats a line: it may be a password.
/// Errors: parse_failed.
inline Result<IscsiChap> parse_iscsi_chap(std::string_view text) {
  std::string user;
  std::string user_in;
  std::optional<Secret> password;
  std::optional<Secret> password_in;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;

    const auto bad = [&](std::string_view why) {
      return fail(Errc::parse_failed, "line " + std::to_string(number).append(" ").append(why));
    };
    const std::size_t equals = line.find('=');
    if (equals == line.npos) return bad("is not KEY=VALUE");
    const std::string_view key = line.substr(0, equals);
    const std::string_view value = line.substr(equals + 1);
    // libiscsi cuts off what goes beyond 255 bytes, and takes C strings
    if (value.empty() || value.size() > 255 || !printable(value)) return bad("has no usable value (1 to 255 bytes)");
    if (key == "user" && user.empty()) {
      user = value;
    } else if (key == "user_in" && user_in.empty()) {
      user_in = value;
    } else if (key == "password" && !password) {
      password.emplace(std::string{value});
    } else if (key == "password_in" && !password_in) {
      password_in.emplace(std::string{value});
    } else {
      return bad("has an unknown key, or one that was there before; known are user, password, user_in, password_in");
    }
  }
  if (user.empty() || !password) return fail(Errc::parse_failed, "user= and password= are needed");
  if (user_in.empty() != !password_in) return fail(Errc::parse_failed, "user_in= and password_in= go together");
  return IscsiChap{std::move(user), *std::move(password), std::move(user_in),
                   password_in ? *std::move(password_in) : Secret{}};
}

/// The content of a small file; nothing when there is none. With `secret`, others must not be able to read it.
/// Errors: permission_denied, unavailable.
inline Result<std::optional<std::string>> read_small_file(const std::string& path, bool secret) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!file && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>{};
  struct ::stat about {};
  if (!file || ::fstat(file.get(), &about) != 0) {
    const std::error_code native = native_errno(errno);
    const bool refused = native.value() == EACCES || native.value() == EPERM;
    return fail(refused ? Errc::permission_denied : Errc::unavailable, "cannot read " + path + ": " + native.message(),
                native);
  }
  if (secret && (!S_ISREG(about.st_mode) || (about.st_mode & 077U) != 0)) {
    return fail(
        Error{Errc::permission_denied, path + " holds a secret, but others than its owner have access to it"}.advise(
            "chmod 600 " + path));
  }
  std::array<char, 16384> buffer{};
  const ::ssize_t length = ::read(file.get(), buffer.data(), buffer.size());
  if (length < 0) return fail(Errc::unavailable, "cannot read " + path + ": " + native_errno(errno).message());
  std::optional<std::string> text{std::in_place, buffer.data(), static_cast<std::size_t>(length)};
  ::explicit_bzero(buffer.data(), buffer.size());
  return text;
}

/// Where the secrets of a storage are.
inline std::string iscsi_chap_file(const std::string& priv, const StorageId& id) {
  return priv + "/iscsi/" + id.str() + ".chap";
}

/// What stands in a CHAP file just now; nothing when there is none.
/// Errors: permission_denied (also when others can read it), parse_failed, unavailable.
inline Result<std::optional<IscsiChap>> read_iscsi_chap(const std::string& file) {
  auto text = read_small_file(file, true);
  if (!text) return fail(std::move(text.error()));
  if (!*text) return std::optional<IscsiChap>{};
  auto chap = parse_iscsi_chap(**text);
  ::explicit_bzero((*text)->data(), (*text)->size());
  if (!chap) return fail(std::move(chap.error()).during(file));
  return std::optional<IscsiChap>{*std::move(chap)};
}

}  // namespace stowage::detail
