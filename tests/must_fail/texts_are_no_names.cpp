// expect-error: private
// expect-error: (conversion from|no viable conversion)
// expect-error: (no matching (member )?function|no viable conversion|cannot convert|invalid initialization)
// expect-error: (no matching (member )?function|no viable conversion|cannot convert|invalid initialization)
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

using namespace stowage;

[[maybe_unused]] static void names([[maybe_unused]] const Storage<testing::MemoryBackend>& storage) {
  const auto volume = VolumeName::parse("vm-100-disk-0");
  const auto snapshot = SnapshotName::parse("before");
  static_cast<void>(storage.info(*volume));
  static_cast<void>(storage.path(*volume, *snapshot));
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  [[maybe_unused]] const VolumeName name{std::string{"vm-100-disk-0"}};
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  [[maybe_unused]] const VolumeName name = std::string{"vm-100-disk-0"};
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 3
  static_cast<void>(storage.info(*snapshot));
#elif defined(STOWAGE_MUST_FAIL)
  static_cast<void>(storage.path(*snapshot, *volume));
#endif
}
