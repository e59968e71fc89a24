// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::provision>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.create({.vmid = VmId{100}, .size = 1_GiB}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.remove(lun));
#endif
}
