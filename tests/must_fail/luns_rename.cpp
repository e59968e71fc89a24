// expect-error: deleted.*this_storage_type_cannot_rename_volumes
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::rename>);
#if defined(STOWAGE_MUST_FAIL)
  static_cast<void>(luns.rename(lun, RenameSpec{}));
#endif
}
