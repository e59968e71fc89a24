// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
// expect-error: deleted.*this_storage_type_cannot_be_imported_to
// expect-error: deleted.*this_storage_type_cannot_be_imported_to
// expect-error: deleted.*this_storage_type_cannot_resize_volumes
// expect-error: deleted.*this_storage_type_cannot_rename_volumes
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_has_no_snapshots
// expect-error: deleted.*this_storage_type_cannot_open_snapshots
// expect-error: deleted.*this_storage_type_has_no_templates
// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_cannot_flatten_volumes
// The LUNs of a target can only be read and written.
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::provision>);
  static_assert(!supports<LunPolicy, Capability::import>);
  static_assert(!supports<LunPolicy, Capability::resize>);
  static_assert(!supports<LunPolicy, Capability::rename>);
  static_assert(!supports<LunPolicy, Capability::snapshot>);
  static_assert(!supports_in<LunPolicy, Capability::copy, State::snapshot>);
  static_assert(!supports<LunPolicy, Capability::make_template>);
  static_assert(!supports<LunPolicy, Capability::clone>);
  static_assert(!supports<LunPolicy, Capability::flatten>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.create({.vmid = VmId{100}, .size = 1_GiB}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.remove(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 3
  static_cast<void>(luns.begin_import({.vmid = VmId{100}, .size = 1_GiB}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 4
  static_cast<void>(luns.end_import(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 5
  static_cast<void>(luns.resize(lun, 1_GiB));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 6
  static_cast<void>(luns.rename(lun, RenameSpec{}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 7
  static_cast<void>(luns.snapshot(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 8
  static_cast<void>(luns.snapshots(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 9
  static_cast<void>(luns.rollback(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 10
  static_cast<void>(luns.remove_snapshot(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 11
  static_cast<void>(luns.path(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 12
  static_cast<void>(luns.blockdev(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 13
  static_cast<void>(luns.activate(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 14
  static_cast<void>(luns.deactivate(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 15
  static_cast<void>(luns.rollback(lun, snap, {.when_open = WhenOpen::at_next_activation}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 16
  static_cast<void>(luns.open_volume(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 17
  static_cast<void>(luns.make_template(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 18
  static_cast<void>(luns.clone(lun, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 19
  static_cast<void>(luns.clone(lun, snap, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 20
  static_cast<void>(luns.flatten(lun));
#endif
}
