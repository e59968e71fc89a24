#pragma once
// Byte streams in memory, that break where a test wants it.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <stowage/transfer/descriptors.hpp>
#include <vector>

namespace stowage::testing {

/// Keeps what is written to it, as long as it has room.
struct CollectedBytes {
  std::vector<std::byte> data{};
  std::size_t room = std::size_t{1} << 30U;

  Result<void> write(std::span<const std::byte> more) {
    if (data.size() + more.size() > room) return fail(Errc::no_space, "the sink is full");
    data.insert(data.end(), more.begin(), more.end());
    return {};
  }
};

/// Gives its data in pieces: a pipe does not care for anybody's blocks. Fails at `fails_at`.
struct GivenBytes {
  std::vector<std::byte> data;
  std::size_t piece = 7'777;
  std::size_t fails_at = ~std::size_t{0};
  std::size_t at = 0;

  Result<std::size_t> read(std::span<std::byte> buffer) {
    if (at >= fails_at) return fail(Errc::unavailable, "the line is dead");
    const std::size_t n = std::min({buffer.size(), piece, data.size() - at, fails_at - at});
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n, buffer.begin());
    at += n;
    return n;
  }
  [[nodiscard]] static std::optional<Bytes> size() { return std::nullopt; }
};

static_assert(ByteSink<CollectedBytes> && ByteSource<GivenBytes>);

}  // namespace stowage::testing
