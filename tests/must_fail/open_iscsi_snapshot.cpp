// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_cannot_open_snapshots
#include "open_iscsi.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] KernelLuns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<OpenIscsi, Capability::snapshot>);
  static_assert(!supports_in<OpenIscsi, Capability::copy, State::snapshot>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.snapshot(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.snapshots(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 3
  static_cast<void>(luns.rollback(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 4
  static_cast<void>(luns.remove_snapshot(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 5
  static_cast<void>(luns.path(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 6
  static_cast<void>(luns.blockdev(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 7
  static_cast<void>(luns.open_volume(lun, snap));
#endif
}
