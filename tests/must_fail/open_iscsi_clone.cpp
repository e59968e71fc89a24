// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_linked_clones
// expect-error: deleted.*this_storage_type_has_no_templates
// expect-error: deleted.*this_storage_type_cannot_flatten_volumes
#include "open_iscsi.hpp"

[[maybe_unused]] static void calls([[maybe_unused]] KernelLuns& luns, [[maybe_unused]] const VolumeName& lun,
                                   [[maybe_unused]] const SnapshotName& snap) {
  static_assert(!supports<OpenIscsi, Capability::clone>);
  static_assert(!supports<OpenIscsi, Capability::make_template>);
  static_assert(!supports<OpenIscsi, Capability::flatten>);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  static_cast<void>(luns.clone(lun, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(luns.clone(lun, snap, CloneSpec{.vmid = VmId{100}}));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 3
  static_cast<void>(luns.make_template(lun));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 4
  static_cast<void>(luns.flatten(lun));
#endif
}
