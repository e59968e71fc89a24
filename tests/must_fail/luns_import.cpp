// expect-error: deleted.*this_storage_type_cannot_be_imported_to
// expect-error: deleted.*this_storage_type_cannot_be_imported_to
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::import>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.begin_import({.vmid = VmId{100}, .size = 1_GiB}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.end_import(lun));
#endif
}
