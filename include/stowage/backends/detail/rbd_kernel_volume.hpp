#pragma once
// Which of the kernel's devices are a volume's. The kernel keeps the name that an image was mapped under; another host
// may have renamed it since, and given the name to another one. So the cluster is asked for ids.

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stowage/backends/detail/rbd_kernel_devices.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_omap.hpp>
#include <stowage/backends/detail/rbd_receipt.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

inline Result<KrbdIdentity> krbd_identity(const RbdPool& pool, const VolumeName& volume,
                                          std::string_view snapshot = {}) {
  return pool.cluster->fsid().map([&](std::string fsid) {
    return KrbdIdentity{std::move(fsid), pool.config.pool, pool.config.name_space, volume.str(), std::string{snapshot}};
  });
}

inline std::string krbd_pool_id(const RbdPool& pool) { return std::to_string(::rados_ioctx_get_id(pool.io.get())); }

/// Errors: not_found.
inline Result<KrbdTarget> krbd_target(const RbdPool& pool, const VolumeName& volume, const std::string& snapshot) {
  if (snapshot.empty()) {
    return rbd_find_entry(pool, volume).map([&](RbdEntry&& entry) {
      return KrbdTarget{std::move(entry.id), {}, krbd_pool_id(pool)};
    });
  }
  auto image = rbd_look(pool, volume.str());
  if (!image) return fail(std::move(image.error()));
  return rbd_identity_key(image->get(), snapshot).map([&](RbdIdentityKey&& key) {
    return KrbdTarget{std::move(key.image), std::to_string(key.snapshot), krbd_pool_id(pool)};
  });
}

/// The name that the image with this id has now; nothing when there is none in the pool, as in its trash.
inline std::optional<std::string> krbd_name_now(const RbdPool& pool, const std::string& image_id) {
  const std::string key = "id_" + image_id;
  const RbdOmapQuery query{.io = pool.io.get(), .object = "rbd_directory", .keys = {key}};
  std::string name = decode_rbd_text(rbd_read_omaps(std::span{&query, 1}).front()[key]);
  return name.empty() ? std::nullopt : std::optional{std::move(name)};
}

/// A device that is mapped under the name of what is meant is that, and not what had the name before.
/// Errors: identity_changed. `name_now`: what the mapped image is called now, if that is known.
inline Result<void> krbd_is_target(const KrbdDevice& device, const KrbdTarget& target,
                                   const std::optional<std::string>& name_now = {}) {
  const auto differs = [&](const std::string& kind, const std::string& mapped, const std::string& now) {
    return fail(Error{Errc::identity_changed, "'/dev/" + device.name() + "' is '" + device.identity.spec() + "' of " +
                                                  kind + " id " + mapped + ", and the " + kind + " has id " + now}
                    .advise(name_now ? "the mapped one is called '" + *name_now + "' now: deactivate that"
                                     : "deactivate it, and activate it again"));
  };
  if (device.image_id != target.image_id) return differs("image", device.image_id, target.image_id);
  if (device.snapshot_id != target.snapshot_id) return differs("snapshot", device.snapshot_id, target.snapshot_id);
  return {};
}

/// The same, after asking what the image is called now.
inline Result<void> krbd_check_target(const RbdPool& pool, const KrbdDevice& device, const KrbdTarget& target) {
  if (device.image_id == target.image_id) return krbd_is_target(device, target);
  return krbd_is_target(device, target, krbd_name_now(pool, device.image_id));
}

/// What the cluster says of a volume and of mapped images.
struct KrbdKnown {
  std::string id;                   ///< of the volume; empty when there is none, or it is of format 1
  std::vector<std::string> others;  ///< ids of images that have another name now
};

/// Waits only for so long: to unmap a device must be possible without the cluster.
inline constexpr std::chrono::milliseconds krbd_patience{1000};

/// Errors: timed_out.
inline Result<KrbdKnown> krbd_ask(const RbdPoolPtr& pool, const VolumeName& volume, std::vector<std::string> mapped) {
  const auto call = std::make_shared<RbdCall<KrbdKnown>>();
  call->look();
  try {
    std::thread{[call, keep = pool, volume, mapped = std::move(mapped)]() mutable {
      Result<KrbdKnown> known{KrbdKnown{}};
      auto entry = rbd_find_entry(*keep, volume);
      if (entry) known->id = std::move(entry->id);
      if (!entry && entry.error().code() != Errc::not_found) known = fail(std::move(entry.error()));
      for (const std::string& id : mapped) {
        if (!known || id == known->id) continue;
        const auto name = krbd_name_now(*keep, id);
        if (name && *name != volume.str()) known->others.push_back(id);
      }
      keep.reset();
      call->finish(std::move(known));
    }}.detach();
  } catch (const std::system_error& error) {
    return fail(Errc::backend_failed, "no thread to ask the cluster", error.code());
  }
  return call->wait(std::min(pool->options.timeout, krbd_patience), {}, "asking which image is mapped");
}

/// The devices of a volume on this host, or of one snapshot of it. A device that was mapped under the volume's name and
/// is of an image that nobody finds by a name any more (in the trash) is among them; and so is any of that name when
/// the cluster does not answer in a second. Nothing mapped is nothing to ask for.
inline Result<std::vector<KrbdDevice>> krbd_devices_of(const RbdPoolPtr& pool, const VolumeName& volume,
                                                       std::string_view snapshot, KrbdScope scope,
                                                       const KernelTree& tree = {}) {
  const auto names = krbd_identity(*pool, volume);
  if (!names) return fail(names.error());
  const std::string pool_id = krbd_pool_id(*pool);
  auto devices = krbd_find_if(tree, [&](const KrbdDevice& device) {
    return krbd_is_in_pool(device, *names, pool_id) &&
           (scope == KrbdScope::with_snapshots || device.identity.snapshot == snapshot);
  });
  if (devices.empty()) return devices;
  const auto has_name = [&](const KrbdDevice& device) { return device.identity.image == volume.str(); };
  std::vector<std::string> named;
  for (const KrbdDevice& device : devices) {
    if (has_name(device) && !device.image_id.empty()) named.push_back(device.image_id);
  }
  const KrbdKnown known = krbd_ask(pool, volume, std::move(named)).value_or(KrbdKnown{});
  std::erase_if(devices, [&](const KrbdDevice& device) {
    if (!known.id.empty() && device.image_id == known.id) return false;
    const auto other = std::find(known.others.begin(), known.others.end(), device.image_id);
    return !has_name(device) || other != known.others.end();
  });
  return devices;
}

/// The path of the device of a volume or snapshot, where it is mapped; else the one that it will have.
/// Errors: identity_changed (what is mapped under its name is another image), unavailable (its node is not there).
inline Result<std::string> krbd_path(const RbdPool& pool, const VolumeName& volume, std::string_view snapshot,
                                     const KernelTree& tree = {}) {
  const auto names = krbd_identity(pool, volume, snapshot);
  if (!names) return fail(names.error());
  const std::string pool_id = krbd_pool_id(pool);
  const auto mapped = krbd_find_if(tree, [&](const KrbdDevice& device) {
    return krbd_is_in_pool(device, *names, pool_id) && device.identity.snapshot.empty() == snapshot.empty();
  });
  const auto unmapped = [&] { return krbd_device(names->fsid, pool.config, volume, snapshot); };
  if (mapped.empty()) return unmapped();
  const auto by_name = krbd_find(tree, *names);
  const auto target = krbd_target(pool, volume, std::string{snapshot});
  if (!target && target.error().code() == Errc::not_found && by_name.empty()) return unmapped();
  if (!target) return fail(target.error());
  const auto found = krbd_find_target(tree, *names, *target);
  if (!found.empty()) return krbd_device_path(tree, found.front(), *names);
  if (by_name.empty()) return unmapped();
  return krbd_check_target(pool, by_name.front(), *target).and_then(unmapped);
}

/// What this host has mapped is held by its own kernel, which the address of a watcher does not tell.
inline Error krbd_explain(const RbdPool& pool, const VolumeName& volume, Error error) {
  if (error.code() != Errc::in_use) return error;
  const auto names = krbd_identity(pool, volume);
  const auto target = krbd_target(pool, volume, {});
  const auto mapped = names && target ? krbd_find_target({}, *names, *target) : std::vector<KrbdDevice>{};
  if (mapped.empty()) return error;
  return std::move(error).advise("it is mapped here as /dev/" + mapped.front().name() + ": deactivate it first");
}

}  // namespace stowage::detail
