// Counts what is locked: in a test program once. It goes before glibc's pthread_mutex_lock, and looks who calls.

#include "support/locks.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <atomic>

// The linker's: where the code of the program begins, and ends.
extern "C" const char __executable_start;  // NOLINT(bugprone-reserved-identifier)
extern "C" const char etext;

namespace {
using Lock = int (*)(::pthread_mutex_t*);
thread_local std::uint64_t count = 0;
std::atomic<Lock> of_glibc{nullptr};
}  // namespace

extern "C" int pthread_mutex_lock(::pthread_mutex_t* mutex) noexcept {
  const auto* const caller = static_cast<const char*>(__builtin_return_address(0));
  if (caller >= &__executable_start && caller < &etext) ++count;
  Lock lock = of_glibc.load(std::memory_order_relaxed);
  if (lock == nullptr) {
    lock = reinterpret_cast<Lock>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
    of_glibc.store(lock, std::memory_order_relaxed);
  }
  return lock(mutex);
}

namespace stowage::testing {
std::uint64_t locks() noexcept { return count; }
}  // namespace stowage::testing
