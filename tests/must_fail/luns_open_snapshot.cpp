// expect-error: deleted.*this_storage_type_cannot_open_snapshots
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports_in<LunPolicy, Capability::copy, State::snapshot>);
#if defined(STOWAGE_MUST_FAIL)
  static_cast<void>(luns.open_volume(lun, snap));
#endif
}
