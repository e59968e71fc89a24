// expect-error: SnapshotBackend
// expect-error: replicate
// expect-error: rootdir
#include <stowage/backend.hpp>

#include "common.hpp"

template <SnapshotBackend B>
void before_the_update(Storage<B>&) {}

template <class B>
  requires supports<B, Capability::replicate>
void replicate(const B*) {}

template <class B>
  requires supports_content<B, Content::rootdir>
void put_a_container_on(const B*) {}

[[maybe_unused]] static void calls([[maybe_unused]] Luns& luns, [[maybe_unused]] const Rbd* rbd,
                                   [[maybe_unused]] const LunPolicy* policy) {
  put_a_container_on(rbd);
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  before_the_update(luns);
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
  replicate(rbd);  // none of the types can
#elif defined(STOWAGE_MUST_FAIL)
  put_a_container_on(policy);
#endif
}
