#pragma once
// An image as a device of the kernel: mapped with features that the kernel has, found by its whole identity, unmapped.

#include <rbd/librbd.h>
#include <array>
#include <cstdint>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_kernel_devices.hpp>
#include <stowage/backends/detail/rbd_kernel_map.hpp>
#include <stowage/backends/detail/rbd_listing.hpp>
#include <stowage/backends/detail/rbd_receipt.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/process/posix_runner.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// "journaling, object-map".
inline std::string rbd_feature_names(std::uint64_t features) {
  constexpr std::array<std::string_view, 11> names{"layering",   "striping",     "exclusive-lock", "object-map",
                                                   "fast-diff",  "deep-flatten", "journaling",     "data-pool",
                                                   "operations", "migrating",    "non-primary"};
  std::string text;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((features >> bit & 1U) == 0) continue;
    text.append(text.empty() ? "" : ", ");
    text.append(bit < names.size() ? std::string{names.at(bit)} : "feature " + std::to_string(bit));
  }
  return text;
}

/// What must be switched off on an image, so that a kernel with `supported` maps it: what the kernel lacks, and what
/// cannot be without that.
constexpr std::uint64_t krbd_unfit_features(std::uint64_t features, std::uint64_t supported) noexcept {
  std::uint64_t lacking = ~supported;
  if ((lacking & RBD_FEATURE_EXCLUSIVE_LOCK) != 0) lacking |= RBD_FEATURE_OBJECT_MAP | RBD_FEATURE_JOURNALING;
  if ((lacking & RBD_FEATURE_OBJECT_MAP) != 0) lacking |= RBD_FEATURE_FAST_DIFF;
  return features & lacking;
}

inline constexpr std::uint64_t rbd_switchable_features = RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_OBJECT_MAP |
                                                         RBD_FEATURE_FAST_DIFF | RBD_FEATURE_DEEP_FLATTEN |
                                                         RBD_FEATURE_JOURNALING;

/// Switches off what the kernel lacks, and nothing else. Switching on again is up to whoever wants to: deep-flatten
/// never can be.
/// Errors: wrong_state, with the features that cannot be switched off.
inline Result<void> krbd_fit_features(const RbdPoolPtr& pool, const std::string& name, std::uint64_t supported) {
  return rbd_run(pool, "fitting features to the kernel", {}, [=](RbdProgress& progress) -> Result<void> {
    auto image = rbd_look(*pool, name);
    if (!image) return fail(std::move(image.error()));
    std::uint64_t features = 0;
    if (const int code = ::rbd_get_features(image->get(), &features); code < 0) {
      return fail(rbd_error(code, "asking for the features"));
    }
    const std::uint64_t unfit = krbd_unfit_features(features, supported);
    if (unfit == 0) return {};
    if (const std::uint64_t stuck = unfit & ~rbd_switchable_features; stuck != 0) {
      return fail(Error{Errc::wrong_state,
                        "this kernel cannot map '" + pool->spec(name) + "', which has " + rbd_feature_names(stuck)}
                      .advise("copy it to a new volume, or use it without krbd"));
    }
    image = rbd_edit_beside(*pool, name, Verb::activate, progress);
    if (!image) return fail(std::move(image.error()));
    return rbd_changed(::rbd_update_features(image->get(), unfit, 0),
                       "switching off " + rbd_feature_names(unfit) + ", which this kernel lacks");
  });
}

inline Result<KrbdIdentity> krbd_identity(const RbdPool& pool, const VolumeName& volume,
                                          std::string_view snapshot = {}) {
  return pool.cluster->fsid().map([&](std::string fsid) {
    return KrbdIdentity{std::move(fsid), pool.config.pool, pool.config.name_space, volume.str(), std::string{snapshot}};
  });
}

/// What is to be mapped, by the ids that are not given again.
struct KrbdTarget {
  std::string image_id;
  std::string snapshot_id{};  ///< empty: the image itself
};

/// Errors: not_found.
inline Result<KrbdTarget> krbd_target(const RbdPool& pool, const VolumeName& volume, const std::string& snapshot) {
  if (snapshot.empty()) {
    return rbd_find_entry(pool, volume).map([](RbdEntry&& entry) { return KrbdTarget{std::move(entry.id)}; });
  }
  auto image = rbd_look(pool, volume.str());
  if (!image) return fail(std::move(image.error()));
  return rbd_identity_key(image->get(), snapshot).map([](RbdIdentityKey&& key) {
    return KrbdTarget{std::move(key.image), std::to_string(key.snapshot)};
  });
}

/// An image or snapshot of the same name that came after the one that is mapped has another id.
/// Errors: identity_changed.
inline Result<void> krbd_is_target(const KrbdDevice& device, const KrbdTarget& target) {
  const auto differs = [&](const std::string& kind, const std::string& mapped, const std::string& now) {
    return fail(Error{Errc::identity_changed, "'/dev/" + device.name() + "' is '" + device.identity.spec() + "' of " +
                                                  kind + " id " + mapped + ", and the " + kind + " has id " + now}
                    .advise("deactivate it, and activate it again"));
  };
  if (device.image_id != target.image_id) return differs("image", device.image_id, target.image_id);
  if (device.snapshot_id != target.snapshot_id) return differs("snapshot", device.snapshot_id, target.snapshot_id);
  return {};
}

/// What this host has mapped is held by its own kernel, which the address of a watcher does not tell.
inline Error krbd_explain(const RbdPool& pool, const VolumeName& volume, Error error) {
  if (error.code() != Errc::in_use) return error;
  const auto image = krbd_identity(pool, volume);
  const auto mapped = image ? krbd_find({}, *image) : std::vector<KrbdDevice>{};
  if (mapped.empty()) return error;
  return std::move(error).advise("it is mapped here as /dev/" + mapped.front().name() + ": deactivate it first");
}

/// Maps the image or its snapshot, unless it is mapped. For a snapshot, which can only be read, features need not fit.
inline Result<void> krbd_activate(const RbdPoolPtr& pool, const VolumeName& volume, const std::string& snapshot = {}) {
  const KernelTree tree;
  const PosixRunner runner;
  const OpenOptions& options = pool->options;
  const auto target = krbd_target(*pool, volume, snapshot);
  if (!target) return fail(target.error());
  const auto image = krbd_identity(*pool, volume, snapshot);
  if (!image) return fail(image.error());
  const auto ready = [&](const KrbdDevice& device) {
    return krbd_is_target(device, *target).and_then([&] { return krbd_wait_for_node(tree, device, options); });
  };
  if (const auto mapped = krbd_find(tree, *image); !mapped.empty()) return ready(mapped.front());
  if (auto loaded = krbd_load(runner, tree, options); !loaded) return loaded;
  const auto lock = krbd_lock(tree, *image, options);
  if (!lock) return fail(lock.error());
  if (const auto mapped = krbd_find(tree, *image); !mapped.empty()) return ready(mapped.front());
  if (snapshot.empty()) {
    if (auto fit = krbd_fit_features(pool, volume.str(), krbd_supported_features(tree)); !fit) return fit;
  }
  return krbd_map(runner, tree, pool->access, *image, options).and_then(ready);
}

/// Unmaps the image or its snapshot if it is mapped, whoever mapped it: containers are, also without krbd.
inline Result<void> krbd_deactivate(const RbdPool& pool, const VolumeName& volume, std::string_view snapshot,
                                    KrbdScope scope = KrbdScope::one) {
  return krbd_identity(pool, volume, snapshot).and_then([&](const KrbdIdentity& image) {
    return krbd_unmap(PosixRunner{}, KernelTree{}, image, pool.options, scope);
  });
}

}  // namespace stowage::detail
