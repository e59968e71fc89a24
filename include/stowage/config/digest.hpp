#pragma once
// The digest of a configuration file: SHA-1, since that is what Proxmox VE compares. It detects changes; nothing is
// kept secret or safe by it. Our own few lines, because a crypto library for this one function would be a dependency
// of everybody who reads a configuration.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace stowage {

namespace detail {

/// FIPS 180-4, 6.1.
class Sha1 {
 public:
  constexpr void add_block(std::string_view block) noexcept {  // of 64 bytes
    std::array<std::uint32_t, 80> w{};
    const auto octet = [block](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(block[i])}; };
    for (std::size_t i = 0; i < 16; ++i) {
      w[i] = octet(4 * i) << 24U | octet(4 * i + 1) << 16U | octet(4 * i + 2) << 8U | octet(4 * i + 3);
    }
    for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    std::uint32_t a = state_[0];
    std::uint32_t b = state_[1];
    std::uint32_t c = state_[2];
    std::uint32_t d = state_[3];
    std::uint32_t e = state_[4];
    const auto twenty_rounds = [&](std::size_t from, std::uint32_t constant, auto mix) {
      for (std::size_t i = from; i < from + 20; ++i) {
        const std::uint32_t next = std::rotl(a, 5) + mix(b, c, d) + e + constant + w[i];
        e = d;
        d = c;
        c = std::rotl(b, 30);
        b = a;
        a = next;
      }
    };
    constexpr auto choose = [](auto x, auto y, auto z) { return z ^ (x & (y ^ z)); };
    constexpr auto parity = [](auto x, auto y, auto z) { return x ^ y ^ z; };
    constexpr auto majority = [](auto x, auto y, auto z) { return (x & y) | (z & (x | y)); };
    twenty_rounds(0, 0x5a827999, choose);
    twenty_rounds(20, 0x6ed9eba1, parity);
    twenty_rounds(40, 0x8f1bbcdc, majority);
    twenty_rounds(60, 0xca62c1d6, parity);
    const std::array<std::uint32_t, 5> sums{a, b, c, d, e};
    for (std::size_t i = 0; i < sums.size(); ++i) state_[i] += sums[i];
  }

  [[nodiscard]] constexpr std::array<char, 40> hex() const noexcept {
    constexpr std::string_view digits = "0123456789abcdef";
    std::array<char, 40> out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = digits[state_[i / 8] >> (28 - 4 * (i % 8)) & 0xFU];
    return out;
  }

 private:
  std::array<std::uint32_t, 5> state_{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
};

constexpr std::array<char, 40> sha1_hex(std::string_view text) noexcept {
  Sha1 sum;
  std::string_view rest = text;
  for (; rest.size() >= 64; rest.remove_prefix(64)) sum.add_block(rest.substr(0, 64));
  // The end: the rest, a bit 1, zeros, and the length in bits, in one block or two.
  std::array<char, 128> end{};
  for (std::size_t i = 0; i < rest.size(); ++i) end[i] = rest[i];
  end[rest.size()] = static_cast<char>(0x80);
  const std::size_t size = rest.size() < 56 ? 64 : 128;
  const std::uint64_t bits = std::uint64_t{text.size()} * 8;
  for (std::size_t i = 0; i < 8; ++i) end[size - 1 - i] = static_cast<char>(bits >> (8 * i) & 0xFFU);
  for (std::size_t at = 0; at < size; at += 64) sum.add_block({end.data() + at, 64});
  return sum.hex();
}

}  // namespace detail

/// The digest of a file's bytes, as `pvesm` and its API show it: 40 lower-case hex digits.
constexpr std::string config_digest(std::string_view text) {
  const auto hex = detail::sha1_hex(text);
  return {hex.begin(), hex.end()};
}

static_assert(std::string_view{detail::sha1_hex("").data(), 40} == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
static_assert(std::string_view{detail::sha1_hex("abc").data(), 40} == "a9993e364706816aba3e25717850c26c9cd0d89d");

}  // namespace stowage
