// expect-error: deleted.*this_storage_type_cannot_flatten_volumes
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

using namespace stowage;

// A thin pool has clones, which share blocks for ever.
[[maybe_unused]] static void calls([[maybe_unused]] Storage<LvmThin>& pool, [[maybe_unused]] const VolumeName& volume) {
  static_assert(supports<LvmThin, Capability::clone> && !supports<LvmThin, Capability::flatten>);
#if defined(STOWAGE_MUST_FAIL)
  static_cast<void>(pool.flatten(volume));
#endif
}
