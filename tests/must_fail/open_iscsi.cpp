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
// expect-error: deleted.*this_storage_type_cannot_open_snapshots
// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_templates
// expect-error: deleted.*this_storage_type_cannot_flatten_volumes
// LUNs that the kernel has logged in to, likewise.
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/storage.hpp>

using namespace stowage;

[[maybe_unused]] static void calls([[maybe_unused]] Storage<OpenIscsi>& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<OpenIscsi, Capability::provision>);
  static_assert(!supports<OpenIscsi, Capability::import>);
  static_assert(!supports<OpenIscsi, Capability::resize>);
  static_assert(!supports<OpenIscsi, Capability::rename>);
  static_assert(!supports<OpenIscsi, Capability::snapshot>);
  static_assert(!supports_in<OpenIscsi, Capability::copy, State::snapshot>);
  static_assert(!supports<OpenIscsi, Capability::clone>);
  static_assert(!supports<OpenIscsi, Capability::make_template>);
  static_assert(!supports<OpenIscsi, Capability::flatten>);
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
  static_cast<void>(luns.open_volume(lun, snap));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 14
  static_cast<void>(luns.clone(lun, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 15
  static_cast<void>(luns.clone(lun, snap, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 16
  static_cast<void>(luns.make_template(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 17
  static_cast<void>(luns.flatten(lun));
#endif
}
