#pragma once
// storage.cfg on the disk, and the files beside it: changed whole or not at all, by one program at a time.

#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stowage/config/change.hpp>
#include <stowage/config/lock.hpp>
#include <stowage/config/read.hpp>
#include <stowage/config/secrets.hpp>
#include <stowage/config/storage_cfg.hpp>
#include <stowage/config/write.hpp>
#include <stowage/core/error.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// Where a configuration is.
struct ConfigPlace {
  std::string config = "/etc/pve/storage.cfg";
  std::string priv = "/etc/pve/priv";  ///< keyrings and CHAP secrets
  /// How long to wait for others who change it.
  std::chrono::milliseconds wait{10'000};
  /// The cluster's file system. A configuration in this folder is changed under the lock that `pvesm` takes on it; any
  /// other under an `flock` of a file beside it, `CONFIG.lock`.
  std::string cluster = cluster_folder;
  ClusterLease lease{};  ///< how long that lock is ours
};

/// A configuration that is changed. A change is an `AddStorage`, `SetStorage` or `RemoveStorage`; no storage is
/// contacted.
class ConfigStore {
 public:
  explicit ConfigStore(ConfigPlace place) : place_{std::move(place)} {}

  /// What `commit` would do now. Takes no lock and changes nothing.
  /// Errors: those of the reading, of `apply`, and of the secret (as for `commit`).
  template <class Change>
  [[nodiscard]] Result<ConfigChange> preview(const Change& wanted, const SecretChange& secret = {}) const {
    const auto path = real_path();
    if (!path) return fail(path.error());
    return planned(*path, wanted, secret).map([](Planned planned) { return std::move(planned.change); });
  }

  /// Does it. On an error the configuration is as it was, but for `outcome_unknown`: then all is done, and a power cut
  /// may still undo it.
  /// Errors: those of `apply`; timed_out (the lock); conflict (somebody who knows no lock changed the file meanwhile);
  /// no_space; permission_denied; not_found (the folder); already_exists, invalid_argument, parse_failed (the secret).
  /// Blocks: on the lock up to `ConfigPlace::wait`, and on the disk.
  template <class Change>
  Result<ConfigChange> commit(const Change& wanted, const SecretChange& secret = {}) const {
    const auto path = real_path();
    if (!path) return fail(path.error());
    const auto lock = detail::take_config_lock(*path, place_.cluster, place_.wait, place_.lease);
    if (!lock) return fail(lock.error());
    auto planned = this->planned(*path, wanted, secret);
    if (!planned) return fail(std::move(planned.error()));
    if (auto written = write(*path, *planned, *lock); !written) return fail(std::move(written.error()));
    return std::move(planned->change);
  }

 private:
  struct Planned {
    std::optional<detail::FileSnapshot> old;
    ConfigChange change;
    detail::FilePlan files;
  };

  /// Of a link, what it points to: a rename would replace the link.
  [[nodiscard]] Result<std::string> real_path() const {
    const std::unique_ptr<char, decltype(&std::free)> real{::realpath(place_.config.c_str(), nullptr), &std::free};
    if (real) return std::string{real.get()};
    struct ::stat about {};
    if (errno == ENOENT && ::lstat(place_.config.c_str(), &about) != 0) return place_.config;
    return fail(detail::write_error(place_.config, errno));
  }

  /// `--delete keyring` stands among the properties.
  static SecretChange with_deletions(SecretChange secret, const SetStorage& wanted) {
    const auto& gone = wanted.remove;
    secret.remove = secret.remove || std::find(gone.begin(), gone.end(), "keyring") != gone.end();
    return secret;
  }
  template <class Change>
  static const SecretChange& with_deletions(const SecretChange& secret, const Change&) {
    return secret;
  }

  template <class Change>
  [[nodiscard]] Result<Planned> planned(const std::string& path, const Change& wanted,
                                        const SecretChange& secret) const {
    auto old = detail::read_file(path, detail::largest_config);
    if (!old) return fail(std::move(old.error()));
    auto change = apply(StorageConfigFile::parse(*old ? (*old)->text : std::string{}), wanted);
    if (!change) return fail(std::move(change.error()));
    const detail::StorageFiles files{place_.priv, wanted.id, !detail::in_cluster(path, place_.cluster)};
    auto plan = files.plan(*change, with_deletions(secret, wanted));
    if (!plan) return fail(std::move(plan.error()));
    for (std::string& note : plan->notes) change->notes.push_back(std::move(note));
    return Planned{*std::move(old), *std::move(change), *std::move(plan)};
  }

  /// First all that can fail for want of room or rights, then the renames: secrets, configuration. A storage that goes
  /// is out of the configuration before its secrets go.
  static Result<void> write(const std::string& path, Planned& planned, const Lock& lock) {
    std::vector<detail::StagedFile> staged;
    for (const detail::FilePlan::Put& put : planned.files.put) {
      const std::string folder = detail::folder_of(put.path);
      for (const std::string& needed : {detail::folder_of(folder), folder}) {
        if (auto made = detail::make_private_folder(needed); !made) return made;
      }
      auto file = detail::StagedFile::stage(put.path, put.text.reveal(), {.mode = put.mode});
      if (!file) return fail(std::move(file.error()));
      staged.push_back(*std::move(file));
    }
    const std::string before = planned.old ? planned.old->text : std::string{};
    if (planned.change.text != before) {
      detail::FileAccess access{.mode = 0640};
      if (planned.old) {
        const struct ::stat& about = planned.old->about;
        access = {.mode = about.st_mode & 07777U, .owner = std::pair{about.st_uid, about.st_gid}};
      }
      auto file = detail::StagedFile::stage(path, planned.change.text, access);
      if (!file) return fail(std::move(file.error()));
      staged.push_back(*std::move(file));
    }
    if (auto untouched = check_untouched(path, planned, lock); !untouched) return untouched;
    Result<void> durable;
    for (detail::StagedFile& file : staged) {
      auto done = file.commit();
      if (done) continue;
      if (done.error().code() == Errc::outcome_unknown) {
        durable = std::move(done);
        continue;
      }
      for (const detail::FilePlan::Put& put : planned.files.put) {
        if (put.is_new) static_cast<void>(::unlink(put.path.c_str()));
      }
      return done;
    }
    for (const std::string& gone : planned.files.remove) {
      if (::unlink(gone.c_str()) == 0 || errno == ENOENT) continue;
      planned.change.notes.push_back(gone + " could not be removed: " + native_errno(errno).message());
    }
    return durable;
  }

  /// Errors: conflict; timed_out.
  static Result<void> check_untouched(const std::string& path, const Planned& planned, const Lock& lock) {
    struct ::stat now {};
    const bool there = ::stat(path.c_str(), &now) == 0;
    if (there != planned.old.has_value() || (there && !planned.old->same_as(now))) {
      return fail(
          Error{Errc::conflict, "somebody changed it meanwhile without a lock"}.about(path).advise("try again"));
    }
    if (lock.holds()) return {};
    return fail(Error{
        Errc::timed_out,
        "the change took longer than the cluster's lock lasts, or the lock file was replaced; nothing was written"}
                    .about(path)
                    .advise("try again"));
  }

  ConfigPlace place_;
};

}  // namespace stowage
