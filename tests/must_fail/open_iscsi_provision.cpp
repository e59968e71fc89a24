// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
// expect-error: deleted.*this_storage_type_cannot_allocate_or_free_volumes
// expect-error: deleted.*this_storage_type_cannot_be_imported_to
// expect-error: deleted.*this_storage_type_cannot_be_imported_to
// expect-error: deleted.*this_storage_type_cannot_resize_volumes
// expect-error: deleted.*this_storage_type_cannot_rename_volumes
#include "open_iscsi.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] KernelLuns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<OpenIscsi, Capability::provision>);
  static_assert(!supports<OpenIscsi, Capability::import>);
  static_assert(!supports<OpenIscsi, Capability::resize>);
  static_assert(!supports<OpenIscsi, Capability::rename>);
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
#endif
}
