// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::snapshot>);
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
  static_cast<void>(luns.activate(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 8
  static_cast<void>(luns.deactivate(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 9
  static_cast<void>(luns.rollback(lun, snap, {.when_open = WhenOpen::at_next_activation}));
#endif
}
