#pragma once
// Node records of open-iscsi, written by ourselves where a secret is in them: `iscsiadm --op update --value` would show
// it to everybody who can list processes.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <stowage/backends/detail/chap_file.hpp>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <stowage/backends/detail/open_iscsi_text.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/text.hpp>
#include <stowage/io/kernel_files.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Whether a node record gives `value` back as it is: its reader takes the blanks around a value away.
constexpr bool fits_record(std::string_view value) noexcept {
  return value.empty() || (!is_space(value.front()) && !is_space(value.back()));
}

/// Puts `text` in the place of `file`, at once and readable by its owner only. `folder` is on the same file system, and
/// nobody takes what lies there for a record.
/// Errors: permission_denied, no_space, unavailable.
inline Result<void> replace_secret_file(const std::string& folder, const std::string& file, const std::string& text) {
  std::string fresh = folder + "/.stowage-XXXXXX";
  const Fd fd{::mkostemp(fresh.data(), O_CLOEXEC)};  // mode 0600
  std::size_t written = 0;
  bool good = static_cast<bool>(fd);
  while (good && written < text.size()) {
    const ::ssize_t length = ::write(fd.get(), text.data() + written, text.size() - written);
    good = length > 0;
    if (good) written += static_cast<std::size_t>(length);
  }
  good = good && ::fsync(fd.get()) == 0 && ::rename(fresh.c_str(), file.c_str()) == 0;
  if (good) return {};
  const int error = errno;
  if (fd) static_cast<void>(::unlink(fresh.c_str()));
  return fail(error == EACCES || error == EPERM || error == EROFS ? Errc::permission_denied
              : error == ENOSPC || error == EDQUOT                ? Errc::no_space
                                                                  : Errc::unavailable,
              "cannot write the node record " + file + ": " + native_errno(error).message(), native_errno(error));
}

/// The files with records of a target: one for each portal and interface, or for each portal as old versions had it.
inline std::vector<std::string> record_files(const std::string& database, const std::string& target) {
  std::vector<std::string> files;
  const std::string folder = database + "/nodes/" + target;
  for (const std::string& portal : names_in(folder)) {
    const std::string path = path_of(folder, portal);
    struct ::stat about {};
    if (::stat(path.c_str(), &about) != 0) continue;
    if (!S_ISDIR(about.st_mode)) files.push_back(path);
    for (const std::string& interface : names_in(path)) files.push_back(path_of(path, interface));
  }
  return files;
}

/// Has every record of a target make one attempt to log in, and with `chap` log in with these secrets. Without it the
/// secrets that an administrator may have put there stay.
/// Errors: invalid_argument (a secret that no record can hold), those of `replace_secret_file`.
inline Result<void> prepare_records(const OpenIscsiHost& host, const std::string& target,
                                    const std::optional<IscsiChap>& chap) {
  // The first attempt, and none after it: with the standard of 8, a dead portal takes minutes.
  std::vector<RecordSetting> settings{{"node.session.initial_login_retry_max", "0"}};
  if (chap) {
    for (const std::string_view value :
         {std::string_view{chap->user}, std::string_view{chap->password.reveal()}, std::string_view{chap->user_in},
          std::string_view{chap->password_in.reveal()}}) {
      if (!fits_record(value)) {
        return fail(Errc::invalid_argument, "open-iscsi cannot hold a CHAP name or password with blanks around it");
      }
    }
    settings.insert(settings.end(), {{"node.session.auth.authmethod", "CHAP"},
                                     {"node.session.auth.username", chap->user},
                                     {"node.session.auth.password", chap->password.reveal()},
                                     {"node.session.auth.username_in", chap->user_in},
                                     {"node.session.auth.password_in", chap->password_in.reveal()}});
  }
  for (const std::string& database : host.databases) {
    for (const std::string& file : record_files(database, target)) {
      auto record = read_small_file(file, false);
      if (!record) return fail(std::move(record.error()));
      if (!*record) continue;  // somebody has removed it
      std::string fresh = with_settings(**record, settings);
      auto done = fresh == **record ? Result<void>{} : replace_secret_file(database, file, fresh);
      ::explicit_bzero((*record)->data(), (*record)->size());
      ::explicit_bzero(fresh.data(), fresh.size());
      if (!done) return done;
    }
  }
  return {};
}

}  // namespace stowage::detail
