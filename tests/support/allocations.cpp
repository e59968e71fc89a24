// Counts what is allocated. In a test program of its own kind once: it replaces `operator new`, except under ASan,
// which has hooks for that.

#include "support/allocations.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STOWAGE_TEST_HOOKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STOWAGE_TEST_HOOKS 1
#endif
#endif

namespace {
thread_local std::uint64_t count = 0;
thread_local std::uint64_t bytes = 0;

[[maybe_unused]] void note(std::size_t size) noexcept {
  ++count;
  bytes += size;
}
}  // namespace

namespace stowage::testing {
std::uint64_t allocations() noexcept { return count; }
std::uint64_t allocated_bytes() noexcept { return bytes; }
}  // namespace stowage::testing

#if defined(STOWAGE_TEST_HOOKS)

#include <sanitizer/allocator_interface.h>

namespace {
[[maybe_unused]] const int hooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t size) { note(size); }, [](const volatile void*) {});
}

#else

// NOLINTBEGIN(cppcoreguidelines-no-malloc, misc-new-delete-overloads)
void* operator new(std::size_t size) {
  note(size);
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, std::align_val_t align) {
  note(size);
  const auto unit = static_cast<std::size_t>(align);
  if (void* memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc{};
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*align*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/, std::align_val_t /*align*/) noexcept { std::free(memory); }
// NOLINTEND(cppcoreguidelines-no-malloc, misc-new-delete-overloads)

#endif
