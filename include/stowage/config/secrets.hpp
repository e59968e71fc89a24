#pragma once
// The files that belong to a storage but not into storage.cfg, which others can read: the keyring and the conf of an
// rbd storage, the CHAP secrets of an iSCSI one.

#include <sys/stat.h>
#include <algorithm>
#include <cstddef>
#include <optional>
#include <stowage/config/change.hpp>
#include <stowage/config/read.hpp>
#include <stowage/config/storage_cfg.hpp>
#include <stowage/config/write.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/secret.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace stowage {

/// What a change of a storage does to its secret: the text of a keyring for rbd, of a .chap file for iscsi and
/// iscsidirect.
struct SecretChange {
  std::optional<Secret> text{};  ///< the new one
  bool remove = false;           ///< there is to be none
};

/// A secret that somebody has put into a file.
/// Errors: not_found; permission_denied; invalid_argument (not a file, or more than 64 KiB); backend_failed.
inline Result<Secret> read_secret_file(const std::string& path) {
  auto file = detail::read_file(path, 65536);
  if (!file) return fail(std::move(file.error()));
  if (!*file) return fail(Error{Errc::not_found, "no such file"}.about(path));
  return Secret{std::move((*file)->text)};
}

namespace detail {

/// What is to happen to the files of one storage. Nothing has, yet.
struct FilePlan {
  struct Put {
    std::string path;
    Secret text;
    ::mode_t mode = 0600;
    bool is_new = false;
  };
  std::vector<Put> put{};
  std::vector<std::string> remove{};
  std::vector<std::string> notes{};
};

/// The files of one storage, in the layout of Proxmox VE (and, for CHAP, which it has not, our own).
class StorageFiles {
 public:
  /// `keep_by_mode`: a keyring whose mode is not the one that we give it is a person's, and stays. (On /etc/pve every
  /// file has the same mode: there the storage's keyring goes with it, as it does for Proxmox VE.)
  StorageFiles(std::string priv, const StorageId& id, bool keep_by_mode)
      : priv_{std::move(priv)}, id_{id.str()}, keep_by_mode_{keep_by_mode} {}

  [[nodiscard]] std::string keyring() const { return priv_ + "/ceph/" + id_ + ".keyring"; }
  [[nodiscard]] std::string conf() const { return priv_ + "/ceph/" + id_ + ".conf"; }
  [[nodiscard]] std::string chap() const { return priv_ + "/iscsi/" + id_ + ".chap"; }

  /// Errors: invalid_argument (a secret that the type has no use for); parse_failed (not such a secret); already_exists
  /// (a secret of an earlier storage of this name, or of a person); permission_denied; backend_failed.
  [[nodiscard]] Result<FilePlan> plan(const ConfigChange& change, const SecretChange& secret) const {
    const bool gone = !change.after;
    if (secret.text && secret.remove) {
      return fail(Error{Errc::invalid_argument, "a secret to be set and to be deleted"}.about(id_));
    }
    if (change.type == "rbd") return gone ? remove_rbd() : put_rbd(change, secret);
    if (change.type == "iscsi" || change.type == "iscsidirect") return gone ? remove_chap() : put_chap(change, secret);
    if (secret.text || secret.remove) {
      return fail(Error{Errc::invalid_argument, "type " + change.type + " has no secret"}.about(id_));
    }
    return FilePlan{};
  }

 private:
  static constexpr std::size_t largest = 65536;
  static constexpr ::mode_t keyring_mode = 0400;
  static constexpr std::string_view chap_mark = "# written by stowage: goes with its storage\n";

  /// What QEMU needs to find the keyring, since its options have no word for it.
  [[nodiscard]] std::string conf_text() const { return "[global]\n\tkeyring = " + keyring() + "\n\n"; }

  [[nodiscard]] static Result<std::optional<Secret>> read_secret(const std::string& path) {
    return read_file(path, largest).map([](std::optional<FileSnapshot> file) {
      return file ? std::optional{Secret{std::move(file->text)}} : std::nullopt;
    });
  }

  [[nodiscard]] Result<FilePlan> put_rbd(const ConfigChange& change, const SecretChange& secret) const {
    FilePlan plan;
    const bool is_new = change.is_new;
    const auto there = read_secret(keyring());
    if (!there) return fail(there.error());
    const auto& config = std::get<RbdConfig>(*change.after->config);
    const bool external = !config.monhost.empty();
    bool has_key = there->has_value();
    if (secret.remove) {
      if (has_key) plan.remove.push_back(keyring());
      const auto ours = is_our_conf();
      if (!ours) return fail(ours.error());
      if (*ours) plan.remove.push_back(conf());
      return plan;
    }
    if (secret.text) {
      if (!looks_like_keyring(secret.text->reveal())) {
        return fail(Error{Errc::parse_failed, "that is no keyring ([client.USER], then key = ...)"}.about(id_));
      }
      if (auto put = put_keyring(plan, *secret.text, *there, is_new); !put) return fail(std::move(put.error()));
      has_key = true;
    } else if (is_new && has_key) {
      return fail(left_over(keyring(), "--keyring"));
    } else if (is_new && !external && config.username == "admin") {
      const auto admin = read_secret(priv_ + "/ceph.client.admin.keyring");
      if (!admin) return fail(admin.error());
      if (*admin) {
        if (auto put = put_keyring(plan, **admin, {}, true); !put) return fail(std::move(put.error()));
        has_key = true;
      }
    }
    if (is_new && !has_key) plan.notes.emplace_back("there is no keyring: the storage is used without authentication");
    if (!external || !has_key) return plan;
    const auto conf_there = read_secret(conf());
    if (!conf_there) return fail(conf_there.error());
    if (!*conf_there) {
      plan.put.push_back({conf(), Secret{conf_text()}, 0600, true});
    } else if (is_new && (*conf_there)->reveal() != conf_text()) {
      plan.notes.push_back(conf() + " is there already, and stays as it is: look whether it fits");
    }
    return plan;
  }

  /// A new storage does not take over a key that is there, unless it is the very same.
  [[nodiscard]] Result<void> put_keyring(FilePlan& plan, const Secret& text, const std::optional<Secret>& there,
                                         bool is_new) const {
    const std::string_view key = without_line_feeds(text.reveal());
    const bool same = there && without_line_feeds(there->reveal()) == key;
    if (same && there->reveal().ends_with('\n')) return {};
    if (is_new && there && !same) return fail(left_over(keyring(), "--keyring"));
    std::string line;
    line.reserve(key.size() + 1);
    line.append(key).append("\n");
    plan.put.push_back({keyring(), Secret{std::move(line)}, keyring_mode, !there});
    return {};
  }

  [[nodiscard]] Result<FilePlan> remove_rbd() const {
    FilePlan plan;
    struct ::stat about {};
    if (::lstat(keyring().c_str(), &about) == 0) {
      if (keep_by_mode_ && (about.st_mode & 07777U) != keyring_mode) {
        plan.notes.push_back(keyring() + " stays: it was not written by stowage");
      } else {
        plan.remove.push_back(keyring());
      }
    }
    const auto ours = is_our_conf();
    if (!ours) return fail(ours.error());
    if (*ours) {
      plan.remove.push_back(conf());
    } else if (::lstat(conf().c_str(), &about) == 0) {
      plan.notes.push_back(conf() + " stays: it was not written by stowage");
    }
    return plan;
  }

  [[nodiscard]] Result<bool> is_our_conf() const {
    return read_secret(conf()).map(
        [&](const std::optional<Secret>& text) { return text && text->reveal() == conf_text(); });
  }

  [[nodiscard]] Result<FilePlan> put_chap(const ConfigChange& change, const SecretChange& secret) const {
    FilePlan plan;
    const auto there = read_secret(chap());
    if (!there) return fail(there.error());
    if (secret.remove && *there) plan.remove.push_back(chap());
    if (!secret.text) return plan;
    if (!looks_like_chap(secret.text->reveal())) {
      return fail(Error{Errc::parse_failed, "that is no CHAP file (lines user=... and password=...)"}.about(id_));
    }
    std::string text;
    text.reserve(chap_mark.size() + secret.text->reveal().size() + 1);
    if (!secret.text->reveal().starts_with(chap_mark)) text.append(chap_mark);
    text.append(secret.text->reveal());
    if (!text.ends_with('\n')) text += '\n';
    Secret whole{std::move(text)};
    if (*there && (*there)->reveal() == whole.reveal()) return plan;
    if (change.is_new && *there) return fail(left_over(chap(), "--chap"));
    plan.put.push_back({chap(), std::move(whole), 0600, !*there});
    return plan;
  }

  [[nodiscard]] Result<FilePlan> remove_chap() const {
    return read_secret(chap()).map([&](const std::optional<Secret>& text) {
      FilePlan plan;
      if (text && text->reveal().starts_with(chap_mark))
        plan.remove.push_back(chap());
      else if (text)
        plan.notes.push_back(chap() + " stays: it was not written by stowage");
      return plan;
    });
  }

  [[nodiscard]] Error left_over(const std::string& path, std::string_view option) const {
    return Error{Errc::already_exists, path + " is there already"}.about(id_).advise(
        "if it is the one to use, give it with " + std::string{option} + "; else remove it");
  }

  static std::string_view without_line_feeds(std::string_view text) noexcept {
    while (text.ends_with('\n')) text.remove_suffix(1);
    return text;
  }

  /// Lines `[...]` and `key...`, in this order. What it is good for, the cluster will say.
  static bool looks_like_keyring(std::string_view text) {
    bool in_section = false;
    bool has_key = false;
    each_line(text, [&](std::string_view line) {
      in_section = in_section || line.starts_with('[');
      has_key = has_key || (in_section && line.starts_with("key"));
    });
    return has_key;
  }
  static bool looks_like_chap(std::string_view text) {
    bool user = false;
    bool password = false;
    each_line(text, [&](std::string_view line) {
      user = user || line.starts_with("user=");
      password = password || line.starts_with("password=");
    });
    return user && password;
  }
  template <class Each>
  static void each_line(std::string_view text, Each each) {
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      each(trim_front(line));
    }
  }

  std::string priv_;
  std::string id_;
  bool keep_by_mode_;
};

}  // namespace detail
}  // namespace stowage
