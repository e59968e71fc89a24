// expect-error: (conversion from .*int.* to non-scalar type .*Bytes|no viable conversion from 'int' to .*Bytes)
// expect-error: no matching (member )?function
// expect-error: (no match for|invalid operands)
// expect-error: (conversion from .*int.* to non-scalar type .*VmId|no viable conversion from 'int' to .*VmId)
#include <stowage/storage.hpp>

#include "../support/lun_backend.hpp"

using namespace stowage;

[[maybe_unused]] static void sizes([[maybe_unused]] Storage<testing::MemoryBackend>& storage,
                                   [[maybe_unused]] const VolumeName& volume) {
  static_cast<void>(storage.resize(volume, Bytes{1024}));
  static_cast<void>(storage.resize(volume, 1_KiB));
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  [[maybe_unused]] const Bytes size = 1024;
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  static_cast<void>(storage.resize(volume, 1024));
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 3
  [[maybe_unused]] const Bytes sum = 1_KiB + 1024;
#elif defined(STOWAGE_MUST_FAIL)
  [[maybe_unused]] const VmId vmid = 100;
#endif
}
