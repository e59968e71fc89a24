#pragma once

#include <cstdint>

namespace stowage::testing {

/// How often this thread has asked for memory: `operator new`, of our code and of the libraries that it calls.
std::uint64_t allocations() noexcept;
/// And for how many bytes in all, whatever it gave back meanwhile.
std::uint64_t allocated_bytes() noexcept;

}  // namespace stowage::testing
