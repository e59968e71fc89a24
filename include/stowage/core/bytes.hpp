#pragma once
// Sizes and offsets.

#include <array>
#include <compare>
#include <cstdint>
#include <limits>
#include <stowage/core/error.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>

namespace stowage {

/// A size or offset in bytes. Integers do not convert to it: write `4_GiB` or `Bytes{n}`.
struct Bytes {
  std::uint64_t count;

  constexpr explicit Bytes(std::uint64_t bytes = 0) noexcept : count{bytes} {}

  /// `4G`, `512M`, `1.5T`, `17k`: powers of 1024 with K, M, G, T or P in either case, fractions rounded up to a
  /// whole byte. A bare number is KiB, as it is for `pvesm`; bytes are written `4096B`.
  /// Errors: parse_failed, also when the size does not fit 64 bits.
  [[nodiscard]] static Result<Bytes> parse(std::string_view text, SourceLoc at = SourceLoc::here());

  friend constexpr auto operator<=>(Bytes, Bytes) = default;
  friend constexpr Bytes operator+(Bytes a, Bytes b) noexcept { return Bytes{a.count + b.count}; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) noexcept { return Bytes{a.count - b.count}; }
  constexpr Bytes& operator+=(Bytes other) noexcept {
    count += other.count;
    return *this;
  }
};

inline namespace literals {
constexpr Bytes operator""_B(unsigned long long n) noexcept { return Bytes{n}; }
constexpr Bytes operator""_KiB(unsigned long long n) noexcept { return Bytes{n << 10}; }
constexpr Bytes operator""_MiB(unsigned long long n) noexcept { return Bytes{n << 20}; }
constexpr Bytes operator""_GiB(unsigned long long n) noexcept { return Bytes{n << 30}; }
constexpr Bytes operator""_TiB(unsigned long long n) noexcept { return Bytes{n << 40}; }
}  // namespace literals

/// The least multiple of `unit` that holds `size`. Pre: the result fits 64 bits, and `unit` is not zero.
constexpr Bytes round_up(Bytes size, Bytes unit) noexcept {
  return Bytes{(size.count / unit.count + (size.count % unit.count != 0 ? 1 : 0)) * unit.count};
}

/// Exactly this size, in the largest unit that divides it: "4G", "1536M", "513B". `Bytes::parse` reads it back.
inline std::string to_string(Bytes size) {
  constexpr std::string_view units = "BKMGTP";
  std::size_t unit = 0;
  while (size.count != 0 && size.count % 1024 == 0 && unit + 1 < units.size()) {
    size.count /= 1024;
    ++unit;
  }
  return std::to_string(size.count) + units[unit];
}

inline Result<Bytes> Bytes::parse(std::string_view text, SourceLoc at) {
  const auto bad = [&](std::string_view why) {
    return fail(Errc::parse_failed, "not a size: " + detail::quoted(text) + ", " + std::string{why}, {}, at);
  };
  unsigned shift = 10;
  std::string_view number = text;
  if (!number.empty() && detail::is_alpha(number.back())) {
    constexpr std::string_view upper = "BKMGTP";
    constexpr std::string_view lower = "bkmgtp";
    const char suffix = number.back();
    const std::size_t found = upper.find(suffix) != upper.npos ? upper.find(suffix) : lower.find(suffix);
    if (found == upper.npos) return bad("the unit is one of K, M, G, T, P or B");
    shift = static_cast<unsigned>(found) * 10;
    number.remove_suffix(1);
  }
  const std::size_t dot = number.find('.');
  const std::string_view whole = number.substr(0, dot);
  const std::string_view fraction = dot == number.npos ? std::string_view{} : number.substr(dot + 1);
  if (!detail::all_digits(whole) || (dot != number.npos && !detail::all_digits(fraction))) {
    return bad("write for example 4G, 512M or 1.5T");
  }
  constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t value = 0;
  for (const char c : whole) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (value > (most - digit) / 10) return bad("more than 64 bits hold");
    value = value * 10 + digit;
  }
  if (value > (most >> shift)) return bad("more than 64 bits hold");
  value <<= shift;
  // The fraction times 2^shift, in long multiplication by halves: exact for any number of digits that matter.
  if (fraction.size() > 18) return bad("more than 18 digits after the point");
  std::uint64_t numerator = 0;
  std::uint64_t denominator = 1;
  for (const char c : fraction) {
    numerator = numerator * 10 + static_cast<std::uint64_t>(c - '0');
    denominator *= 10;
  }
  std::uint64_t part = 0;
  for (unsigned bit = 0; bit < shift; ++bit) {  // numerator < denominator <= 10^18, so doubling never overflows
    numerator *= 2;
    part <<= 1;
    if (numerator >= denominator) {
      numerator -= denominator;
      part |= 1;
    }
  }
  if (numerator != 0) ++part;
  if (value > most - part) return bad("more than 64 bits hold");
  return Bytes{value + part};
}

}  // namespace stowage
