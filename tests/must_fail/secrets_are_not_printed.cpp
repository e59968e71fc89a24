// expect-error: no match
// expect-error: (no match|invalid operands)
#include <stowage/core/secret.hpp>

using namespace stowage;

[[maybe_unused]] static void secrets(std::string& log, [[maybe_unused]] const Secret& secret) {
  log += secret.reveal();  // can be searched for
#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
  log.append(secret);
#elif defined(STOWAGE_MUST_FAIL)
  static_cast<void>(secret == secret);
#endif
}
