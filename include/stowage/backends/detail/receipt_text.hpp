#pragma once
// A receipt as it stands on a volume, in the metadata of an image or in a tag of LVM.

#include <charconv>
#include <cstdint>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <system_error>

namespace stowage::detail {

/// `DONE/TARGET` or `DONE/TARGET/BASE`.
inline std::string receipt_text(const Receipt& receipt) {
  std::string text = std::to_string(receipt.done.count) + "/" + receipt.target;
  if (receipt.base) text += "/" + receipt.base->str();
  return text;
}

/// Errors: corrupt.
inline Result<Receipt> parse_receipt(std::string_view text) {
  const std::size_t first = text.find('/');
  const std::size_t second = first == text.npos ? text.npos : text.find('/', first + 1);
  const auto bad = [&] { return fail(Errc::corrupt, "not a receipt of a stream: '" + std::string{text} + "'"); };
  std::uint64_t done = 0;
  const std::string_view number = text.substr(0, first);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), done);
  if (first == text.npos || error != std::errc{} || end != number.data() + number.size()) return bad();
  Receipt receipt{.target = std::string{text.substr(first + 1, second - first - 1)}, .done = Bytes{done}};
  if (receipt.target.empty()) return bad();
  if (second == text.npos) return receipt;
  auto base = SnapshotName::parse(text.substr(second + 1));
  if (!base) return bad();
  receipt.base = *std::move(base);
  return receipt;
}

}  // namespace stowage::detail
