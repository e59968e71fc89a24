#pragma once

#include <cstdint>

namespace stowage::testing {

/// How often this thread has locked a mutex from our code, which is all in the test program. What the libraries lock
/// among themselves is not counted.
std::uint64_t locks() noexcept;

}  // namespace stowage::testing
