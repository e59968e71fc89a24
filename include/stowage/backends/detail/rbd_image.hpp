#pragma once
// An open image, and the questions that one asks it: who watches it, what was cloned from it, what it is marked with.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <stowage/backends/detail/rbd_chain.hpp>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Waits until the client's callbacks that have begun are through. They run one after the other, and the completion of
/// a flush that has nothing to wait for is one of them: no round trip.
inline void rbd_settle(::rados_ioctx_t io) noexcept {
  ::rados_completion_t completion = nullptr;
  if (::rados_aio_create_completion2(nullptr, nullptr, &completion) < 0) return;
  if (::rados_aio_flush_async(io, completion) >= 0) ::rados_aio_wait_for_complete(completion);
  ::rados_aio_release(completion);
}

/// An open image; closes it. Goes before its pool.
///
/// librbd tells the caller that an image is open (or read anew) from a callback that afterwards takes the image's own
/// lock once more. An image that is closed before it does is used after it was freed: of 16.2.15, 32 threads that only
/// call `rbd_open_read_only` and `rbd_close` die within some thousand rounds. So a close lets that callback end first.
class RbdImage {
 public:
  RbdImage(const RbdPool& pool, ::rbd_image_t image) noexcept : io_{pool.io.get()}, image_{image} {}
  RbdImage(RbdImage&& other) noexcept : io_{other.io_}, image_{std::exchange(other.image_, nullptr)} {}
  RbdImage& operator=(RbdImage&& other) noexcept {
    if (this != &other) {
      static_cast<void>(close());
      io_ = other.io_;
      image_ = std::exchange(other.image_, nullptr);
    }
    return *this;
  }
  RbdImage(const RbdImage&) = delete;
  RbdImage& operator=(const RbdImage&) = delete;
  ~RbdImage() { static_cast<void>(close()); }

  [[nodiscard]] ::rbd_image_t get() const noexcept { return image_; }
  explicit operator bool() const noexcept { return image_ != nullptr; }

  /// What librbd says of the close; the image is gone in any case.
  int close() noexcept {
    if (image_ == nullptr) return 0;
    rbd_settle(io_);
    return ::rbd_close(std::exchange(image_, nullptr));
  }

 private:
  ::rados_ioctx_t io_;
  ::rbd_image_t image_;
};

/// A client that has an image open for writing.
struct RbdWatcher {
  std::string address;
  std::uint64_t client = 0;
  bool self = false;  ///< another handle of this very program

  [[nodiscard]] std::string str() const {
    return self ? "this program" : address + " (client." + std::to_string(client) + ")";
  }
};

/// To look at it: leaves no watch, takes no lock.
inline Result<RbdImage> rbd_look(const RbdPool& pool, const std::string& image, const std::string& snapshot = {}) {
  ::rbd_image_t raw = nullptr;
  const int code =
      ::rbd_open_read_only(pool.io.get(), image.c_str(), &raw, snapshot.empty() ? nullptr : snapshot.c_str());
  if (code < 0) return fail(rbd_open_error(pool, code, image, snapshot));
  return RbdImage{pool, raw};
}

/// To change it: registers a watch.
inline Result<RbdImage> rbd_edit(const RbdPool& pool, const std::string& image) {
  ::rbd_image_t raw = nullptr;
  const int code = ::rbd_open(pool.io.get(), image.c_str(), &raw, nullptr);
  if (code < 0) return fail(rbd_open_error(pool, code, image, {}));
  return RbdImage{pool, raw};
}

/// Old pools hold images of format 1. They have no id, and no clone can be made of them.
inline bool rbd_is_format_1(::rbd_image_t image) noexcept {
  std::uint8_t old = 0;
  return ::rbd_get_old_format(image, &old) >= 0 && old != 0;
}

/// "'x' is an image of format 1, which cannot be cloned".
inline Error rbd_format_1_error(const std::string& spec, std::string_view lacks) {
  return Error{Errc::not_supported, "'" + spec + "' is an image of format 1, which " + std::string{lacks}}.advise(
      "copy it to a new volume");
}

/// All who have the image open to change it, ourselves included.
inline Result<std::vector<RbdWatcher>> rbd_watchers(const RbdPool& pool, ::rbd_image_t image) {
  std::vector<::rbd_image_watcher_t> raw(16);
  std::size_t count = raw.size();
  int code = ::rbd_watchers_list(image, raw.data(), &count);
  while (code == -ERANGE) {
    raw.resize(count + 16);
    count = raw.size();
    code = ::rbd_watchers_list(image, raw.data(), &count);
  }
  if (code < 0) return fail(rbd_error(code, "asking for the watchers"));
  std::vector<RbdWatcher> watchers;
  for (std::size_t at = 0; at < count; ++at) {
    const auto client = static_cast<std::uint64_t>(raw[at].id);
    watchers.push_back({raw[at].addr, client, client == pool.cluster->instance()});
  }
  ::rbd_watchers_list_cleanup(raw.data(), count);
  return watchers;
}

/// The watchers besides `own` handles of this very client.
inline Result<std::vector<RbdWatcher>> rbd_others(const RbdPool& pool, ::rbd_image_t image, std::size_t own) {
  return rbd_watchers(pool, image).map([&](std::vector<RbdWatcher> watchers) {
    std::erase_if(watchers, [&](const RbdWatcher& w) { return w.self && own > 0 && own-- > 0; });
    return watchers;
  });
}

inline Error rbd_watched(const std::string& spec, const std::vector<RbdWatcher>& others) {
  std::string who;
  for (const RbdWatcher& watcher : others) who += (who.empty() ? "" : ", ") + watcher.str();
  return Error{Errc::in_use, "'" + spec + "' is held open by " + who, native_errno(EBUSY)}.advise(
      "close it there; a client that died is given up after 30 s, or at once by: ceph osd blocklist add " +
      (others.empty() || others.front().self ? "ADDRESS" : others.front().address));
}

/// Errors: in_use, with the addresses. `own`: how many handles the caller has open to change it.
inline Result<void> rbd_nobody_else(const RbdPool& pool, ::rbd_image_t image, const std::string& name,
                                    std::size_t own) {
  return rbd_others(pool, image, own).and_then([&](const std::vector<RbdWatcher>& others) -> Result<void> {
    if (!others.empty()) return fail(rbd_watched(pool.spec(name), others));
    return {};
  });
}

/// Takes the exclusive lock for good: librbd hands it to whoever asks for it, unless it was taken like this.
/// Errors: in_use. An image without the feature has only its watchers.
inline Result<void> rbd_own(const RbdPool& pool, ::rbd_image_t image, const std::string& name) {
  // The owner may be a guest that runs. It would hand the lock over, and fail at its next write: so it is not asked.
  auto others = rbd_others(pool, image, std::numeric_limits<std::size_t>::max());
  if (!others) return fail(std::move(others.error()));
  if (!others->empty()) return fail(rbd_watched(pool.spec(name), *others));
  const int code = ::rbd_lock_acquire(image, RBD_LOCK_MODE_EXCLUSIVE);
  if (code >= 0 || code == -EINVAL) return {};
  if (code == -EROFS || code == -EBUSY) {
    return fail(Errc::in_use, "'" + pool.spec(name) + "' is open for writing in this program", native_errno(code));
  }
  return fail(rbd_error(code, "locking '" + pool.spec(name) + "'"));
}

/// What was cloned from any snapshot of the image, or from the one that is set; in the trash too.
inline Result<std::vector<std::string>> rbd_clones(::rbd_image_t image) {
  std::vector<::rbd_linked_image_spec_t> raw(64);
  std::size_t count = raw.size();
  int code = ::rbd_list_children3(image, raw.data(), &count);
  while (code == -ERANGE) {
    raw.resize(count + 64);
    count = raw.size();
    code = ::rbd_list_children3(image, raw.data(), &count);
  }
  if (code < 0) return fail(rbd_error(code, "asking for the clones"));
  std::vector<std::string> clones;
  for (std::size_t at = 0; at < count; ++at) {
    clones.push_back(rbd_spec(raw[at].pool_name, raw[at].pool_namespace, raw[at].image_name) +
                     (raw[at].trash ? " (in the trash)" : ""));
  }
  ::rbd_linked_image_spec_list_cleanup(raw.data(), count);
  return clones;
}

/// "a, b, c and 40 more".
inline std::string rbd_some_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t at = 0; at < names.size() && at < 5; ++at) text += (at == 0 ? "" : ", ") + names[at];
  if (names.size() > 5) text += " and " + std::to_string(names.size() - 5) + " more";
  return text;
}

/// A snapshot as librbd lists it: also those of groups and of mirrors, removed ones that clones still need, and names
/// that are no `SnapshotName`.
struct RbdRawSnapshot {
  std::uint64_t id = 0;
  std::string name;
  Bytes size{};
  ::rbd_snap_namespace_type_t kind = RBD_SNAP_NAMESPACE_TYPE_USER;
};

/// All of them, oldest first.
inline Result<std::vector<RbdRawSnapshot>> rbd_all_snapshots(::rbd_image_t image) {
  std::vector<::rbd_snap_info_t> raw(32);
  int count = static_cast<int>(raw.size());
  int code = ::rbd_snap_list(image, raw.data(), &count);
  while (code == -ERANGE) {
    raw.resize(static_cast<std::size_t>(count) + 32);
    count = static_cast<int>(raw.size());
    code = ::rbd_snap_list(image, raw.data(), &count);
  }
  if (code < 0) return fail(rbd_error(code, "asking for the snapshots"));
  std::vector<RbdRawSnapshot> snapshots;
  for (int at = 0; at < code; ++at) {
    const ::rbd_snap_info_t& one = raw[static_cast<std::size_t>(at)];
    RbdRawSnapshot snapshot{one.id, one.name, Bytes{one.size}};
    if (::rbd_snap_get_namespace_type(image, one.id, &snapshot.kind) < 0) continue;  // removed meanwhile
    snapshots.push_back(std::move(snapshot));
  }
  ::rbd_snap_list_end(raw.data());
  std::sort(snapshots.begin(), snapshots.end(),
            [](const RbdRawSnapshot& a, const RbdRawSnapshot& b) { return a.id < b.id; });
  return snapshots;
}

/// The snapshots that users make, oldest first.
inline Result<std::vector<SnapshotInfo>> rbd_snapshots(::rbd_image_t image) {
  const auto all = rbd_all_snapshots(image);
  if (!all) return fail(all.error());
  std::vector<SnapshotInfo> snapshots;
  for (const RbdRawSnapshot& snapshot : *all) {
    auto name = SnapshotName::parse(snapshot.name);
    if (!name || snapshot.kind != RBD_SNAP_NAMESPACE_TYPE_USER) continue;
    SnapshotInfo info{.name = *std::move(name), .size = snapshot.size, .ctime = {}, .id = snapshot.id};
    int is_protected = 0;
    if (::rbd_snap_is_protected(image, snapshot.name.c_str(), &is_protected) >= 0) {
      info.is_protected = is_protected != 0;
    }
    ::timespec made{};
    if (::rbd_snap_get_timestamp(image, snapshot.id, &made) >= 0 && made.tv_sec != 0) {
      info.ctime = std::chrono::sys_seconds{std::chrono::seconds{made.tv_sec}};
    }
    snapshots.push_back(std::move(info));
  }
  return snapshots;
}

/// Errors: not_found.
inline Result<void> rbd_has_snapshot(const RbdPool& pool, ::rbd_image_t image, const std::string& name,
                                     const std::string& snapshot) {
  bool exists = false;
  if (const int code = ::rbd_snap_exists(image, snapshot.c_str(), &exists); code < 0) {
    return fail(rbd_error(code, "looking for the snapshot"));
  }
  if (!exists) return fail(rbd_open_error(pool, -ENOENT, name, snapshot));
  return {};
}

}  // namespace stowage::detail
