#pragma once
// What targets say of themselves and their LUNs, read out of raw bytes. The bytes come from the network: nothing in
// them is believed before it was checked against the length of what really arrived. Pure functions, no libiscsi.

#include <cstdint>
#include <limits>
#include <optional>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/backends/detail/scsi_identity.hpp>
#include <stowage/core/bytes.hpp>
#include <string>
#include <vector>

namespace stowage::detail {

/// REPORT LUNS.
struct ReportedLuns {
  std::vector<std::uint16_t> wire;  ///< as the target wrote them, without those that 16 bits do not hold
  std::size_t length = 0;           ///< of the whole answer, were there room for it
};

inline ReportedLuns parse_report_luns(ScsiBytes answer) {
  ReportedLuns luns;
  if (answer.size() < 8) return luns;
  luns.length = big_endian(answer, 0, 4) + 8;
  const std::size_t end = luns.length < answer.size() ? luns.length : answer.size();
  for (std::size_t at = 8; at + 8 <= end; at += 8) {
    const auto wire = static_cast<std::uint16_t>(big_endian(answer, at, 2));
    const bool one_level = big_endian(answer, at + 2, 6) == 0;
    if (one_level && iscsi_lun_number(wire)) luns.wire.push_back(wire);
  }
  return luns;
}

/// READ CAPACITY(16).
struct Capacity {
  Bytes size{};
  Bytes block{};
  bool thin = false;         ///< LBPME: blocks can be given back
  bool reads_zeros = false;  ///< LBPRZ: what was given back reads as zeros
};

/// Errors: corrupt, when the numbers cannot be.
inline Result<Capacity> parse_capacity(ScsiBytes answer) {
  const std::uint64_t last = big_endian(answer, 0, 8);
  const std::uint64_t block = big_endian(answer, 8, 4);
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  if (answer.size() < 12 || block == 0 || last >= most / block) {
    return fail(Errc::corrupt, "the target says that the last block is " + std::to_string(last) + " and a block has " +
                                   std::to_string(block) + " bytes");
  }
  return Capacity{Bytes{(last + 1) * block}, Bytes{block}, bit_set(answer, 14, 7), bit_set(answer, 14, 6)};
}

/// Pages 0xb0 and 0xb2: how large a request may be, and which ones give space back. Zero: the target sets no limit, or
/// did not say.
struct BlockLimits {
  std::uint32_t granularity = 0;  ///< all in blocks
  std::uint32_t optimal_transfer = 0;
  std::uint32_t max_transfer = 0;
  std::uint32_t max_unmap = 0;
  std::uint64_t max_write_same = 0;
  bool unmap = false;                 ///< LBPU, and a range of at least one block
  bool write_same_unmaps = false;     ///< LBPWS
  bool unmapped_reads_zeros = false;  ///< LBPRZ
};

inline BlockLimits parse_block_limits(ScsiBytes page_b0, ScsiBytes page_b2) noexcept {
  BlockLimits limits;
  if (const auto body = vpd_body(page_b0, 0xb0)) {
    limits.granularity = static_cast<std::uint32_t>(big_endian(*body, 2, 2));
    limits.max_transfer = static_cast<std::uint32_t>(big_endian(*body, 4, 4));
    limits.optimal_transfer = static_cast<std::uint32_t>(big_endian(*body, 8, 4));
    limits.max_unmap = static_cast<std::uint32_t>(big_endian(*body, 16, 4));
    limits.max_write_same = big_endian(*body, 32, 8);
  }
  if (const auto body = vpd_body(page_b2, 0xb2)) {
    limits.unmap = bit_set(*body, 1, 7) && limits.max_unmap != 0;
    limits.write_same_unmaps = bit_set(*body, 1, 6);
    limits.unmapped_reads_zeros = (big_endian(*body, 1, 1) >> 2U & 7U) == 1;
  }
  return limits;
}

/// A descriptor of GET LBA STATUS: some blocks, and whether they have storage of their own.
struct LbaRange {
  std::uint64_t block = 0;
  std::uint32_t blocks = 0;
  bool mapped = true;
};

/// GET LBA STATUS. What is neither deallocated nor anchored is mapped, as far as anybody here can tell.
inline std::vector<LbaRange> parse_lba_status(ScsiBytes answer) {
  std::vector<LbaRange> ranges;
  for (std::size_t at = 8; at + 16 <= answer.size(); at += 16) {
    if (at + 12 > big_endian(answer, 0, 4)) break;  // the length says how much follows its own four bytes
    const auto status = static_cast<unsigned>(big_endian(answer, at + 12, 1)) & 0xfU;
    ranges.push_back({big_endian(answer, at, 8), static_cast<std::uint32_t>(big_endian(answer, at + 8, 4)),
                      status != 1 && status != 2});
  }
  return ranges;
}

/// MODE SENSE(6): the write-protect bit of the head.
inline bool is_write_protected(ScsiBytes answer) noexcept { return bit_set(answer, 2, 7); }

}  // namespace stowage::detail
