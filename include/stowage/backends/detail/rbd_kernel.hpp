#pragma once
// An image as a device of the kernel: mapped with features that the kernel has, found by its whole identity, unmapped.

#include <rbd/librbd.h>
#include <array>
#include <cstdint>
#include <optional>
#include <stowage/backends/detail/rbd_change.hpp>
#include <stowage/backends/detail/rbd_kernel_devices.hpp>
#include <stowage/backends/detail/rbd_kernel_map.hpp>
#include <stowage/backends/detail/rbd_kernel_volume.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/process/posix_runner.hpp>
#include <string>
#include <string_view>
#include <utility>

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

/// Maps the image or its snapshot, unless it is mapped, under whichever name. For a snapshot, which can only be read,
/// features need not fit. One that cannot be used in the end is unmapped again.
/// Errors: those of `krbd_map`; identity_changed (another image is mapped under this name), unavailable (a file is in
/// the place of the node).
inline Result<void> krbd_activate(const RbdPoolPtr& pool, const VolumeName& volume, const std::string& snapshot = {}) {
  const KernelTree tree;
  const PosixRunner runner;
  const OpenOptions& options = pool->options;
  const auto target = krbd_target(*pool, volume, snapshot);
  if (!target) return fail(target.error());
  const auto image = krbd_identity(*pool, volume, snapshot);
  if (!image) return fail(image.error());
  const auto mapped = [&]() -> Result<std::optional<KrbdDevice>> {
    if (auto found = krbd_find_target(tree, *image, *target); !found.empty()) return found.front();
    const auto named = krbd_find(tree, *image);
    if (named.empty()) return std::optional<KrbdDevice>{};
    return krbd_check_target(*pool, named.front(), *target).map([&]() -> std::optional<KrbdDevice> {
      return named.front();
    });
  };
  const auto before = mapped();
  if (!before) return fail(before.error());
  if (*before) return krbd_wait_for_node(tree, **before, options);
  if (auto loaded = krbd_load(runner, tree, options); !loaded) return loaded;
  const auto lock = krbd_lock(tree, *image, options, target->image_id);
  if (!lock) return fail(lock.error());
  const auto meanwhile = mapped();
  if (!meanwhile) return fail(meanwhile.error());
  if (*meanwhile) return krbd_wait_for_node(tree, **meanwhile, options);
  if (snapshot.empty()) {
    if (auto fit = krbd_fit_features(pool, volume.str(), krbd_supported_features(tree)); !fit) return fit;
  }
  const auto device = krbd_map(runner, tree, pool->access, *image, options);
  if (!device) return fail(device.error());
  // It was mapped by its name, which may have become another's.
  auto ready =
      krbd_check_target(*pool, *device, *target).and_then([&] { return krbd_wait_for_node(tree, *device, options); });
  if (ready) return ready;
  if (auto undone = krbd_unmap_one(runner, tree, *device, options); !undone) {
    return fail(std::move(ready.error()).advise("and it stays mapped: " + undone.error().message()));
  }
  return ready;
}

/// What this host has mapped of a volume is used by nobody. Nothing is changed: for the proof of a verb that unmaps.
/// Errors: in_use, with the device and its users.
inline Result<void> krbd_check_unused(const RbdPoolPtr& pool, const VolumeName& volume, std::string_view snapshot = {},
                                      KrbdScope scope = KrbdScope::with_snapshots) {
  const auto devices = krbd_devices_of(pool, volume, snapshot, scope);
  if (!devices) return fail(devices.error());
  return krbd_check_all_unused({}, *devices);
}

/// Unmaps what this host has mapped of the image or its snapshot, whoever mapped it: containers are, also without krbd.
/// A verb calls it after all its other proofs and before it asks for watchers, of which this kernel is one while the
/// image is mapped.
/// Errors: those of `krbd_unmap_one`; with in_use, nothing was unmapped.
inline Result<void> krbd_unmap_unused(const RbdPoolPtr& pool, const VolumeName& volume, std::string_view snapshot = {},
                                      KrbdScope scope = KrbdScope::with_snapshots) {
  const auto devices = krbd_devices_of(pool, volume, snapshot, scope);
  if (!devices) return fail(devices.error());
  // Of one, the kernel itself says whether it is used; of several, the first must not go before the last refuses.
  if (devices->size() > 1) {
    if (auto unused = krbd_check_all_unused({}, *devices); !unused) return unused;
  }
  return krbd_unmap_all(PosixRunner{}, {}, *devices, pool->options);
}

/// What a verb calls when all its proofs but the last hold: a verb that is refused has unmapped nothing.
struct KrbdUnmap {
  RbdPoolPtr pool;
  VolumeName volume;
  std::string snapshot;
  KrbdScope scope = KrbdScope::with_snapshots;

  Result<void> operator()() const { return krbd_unmap_unused(pool, volume, snapshot, scope); }
};

}  // namespace stowage::detail
