// expect-error: deleted.*this_storage_type_has_no_templates
#include "common.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<LunPolicy, Capability::make_template>);
#if defined(STOWAGE_MUST_FAIL)
  static_cast<void>(luns.make_template(lun));
#endif
}
