// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_linked_clones
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::clone>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.clone(lun, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.clone(lun, snap, CloneSpec{.vmid = VmId{100}}));
#endif
}
