#pragma once
// What thin_dump and thin_delta write: where a thin volume has blocks, and where two have not the same. Pure functions.
//
// Their XML has one element in a line. Who reads it has to know of all of it: an element that was passed over could be
// data that a copy then leaves out. (0.9 of thin-provisioning-tools, seen; 1.x, whose sources tell of `def` and `ref`.)

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/extents.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// One element: `<same begin="5" length="1"/>`. It looks into the line that it was made of.
class LvmElement {
 public:
  explicit constexpr LvmElement(std::string_view line) noexcept {
    const bool one = line.starts_with('<') && line.ends_with('>') && line.find('<', 1) == line.npos;
    if (!one) return;
    line.remove_prefix(1);
    line.remove_suffix(1);
    closed_ = line.ends_with('/');
    if (closed_) line.remove_suffix(1);
    const std::size_t end = std::min(line.find(' '), line.size());
    name_ = line.substr(0, end);
    attributes_ = line.substr(end);
  }

  /// `same`, or `/diff`; empty when the line is no element.
  [[nodiscard]] constexpr std::string_view name() const noexcept { return name_; }
  /// It has nothing in it, and no end of its own.
  [[nodiscard]] constexpr bool closed() const noexcept { return closed_; }

  [[nodiscard]] std::optional<std::string_view> text(std::string_view attribute) const {
    const std::string begin = " " + std::string{attribute} + "=\"";
    const std::size_t at = attributes_.find(begin);
    if (at == attributes_.npos) return std::nullopt;
    const std::string_view rest = attributes_.substr(at + begin.size());
    const std::size_t end = rest.find('"');
    return end == rest.npos ? std::nullopt : std::optional{rest.substr(0, end)};
  }
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view attribute) const {
    const auto value = text(attribute);
    return value ? lvm_number<std::uint64_t>(*value) : std::nullopt;
  }

 private:
  std::string_view name_;
  std::string_view attributes_;
  bool closed_ = false;
};

/// So many blocks of a thin volume, one behind the other.
struct LvmBlocks {
  std::uint64_t begin = 0;
  std::uint64_t length = 0;
};

/// Turns blocks into bytes, which go up and do not overlap.
class LvmBlockPlace {
 public:
  explicit LvmBlockPlace(Bytes size) noexcept : size_{size} {}

  [[nodiscard]] bool known() const noexcept { return block_ != 0; }
  /// `<superblock ... data_block_size="128" ...>`, in sectors: of 64 KiB to 1 GiB, says the kernel. False: no such
  /// size.
  bool learn(const LvmElement& superblock) {
    const std::uint64_t sectors = superblock.number("data_block_size").value_or(0);
    if (known() || sectors < 128 || sectors > 2'097'152) return false;
    block_ = sectors * 512;
    return true;
  }

  struct Range {
    Bytes begin{};
    Bytes end{};
  };
  /// Cut off at the volume's end: what was made smaller keeps its blocks behind that, and then the range is empty.
  /// Nothing: they do not go up, or are more than can be.
  std::optional<Range> place(LvmBlocks blocks) {
    const std::uint64_t most = (std::uint64_t{1} << 62U) / std::max<std::uint64_t>(block_, 1);
    if (!known() || blocks.begin < next_ || blocks.length == 0) return std::nullopt;
    if (blocks.begin > most || blocks.length > most - blocks.begin) return std::nullopt;
    next_ = blocks.begin + blocks.length;
    return Range{std::min(Bytes{blocks.begin * block_}, size_), std::min(Bytes{next_ * block_}, size_)};
  }

 private:
  Bytes size_;
  std::uint64_t block_ = 0;
  std::uint64_t next_ = 0;
};

inline tl::unexpected<Error> lvm_bad_map(std::string_view tool, std::string_view why, std::string_view line = {}) {
  std::string detail = std::string{tool}.append(" wrote what cannot be understood, ").append(why);
  if (!line.empty()) detail.append(": '").append(line.substr(0, 200)).append("'");
  return fail(Errc::corrupt, std::move(detail));
}

/// `thin_dump --dev-id N --format xml`, line by line. The volume itself is there as a whole, with as many blocks as its
/// own record says: thin_dump ends well without one, too, and a volume without blocks would read as zeros.
class LvmDumpReader {
 public:
  LvmDumpReader(std::uint64_t thin_id, Bytes size) noexcept : thin_id_{thin_id}, place_{size}, size_{size} {}

  /// Errors: corrupt, with the line.
  Result<void> take(std::string_view line) {
    const LvmElement element{line};
    const bool good = ended_ ? false : inside_ == Inside::pool ? pool_has(element) : blocks_are(element);
    if (!good) return lvm_bad_map("thin_dump", "or does not fit", line);
    return {};
  }

  /// From the volume's begin to its end. Errors: corrupt.
  [[nodiscard]] Result<std::vector<Extent>> finish() {
    if (!ended_) return lvm_bad_map("thin_dump", "it ends too early");
    if (!found_) return lvm_bad_map("thin_dump", "it has not the volume " + std::to_string(thin_id_));
    if (counted_ != mapped_) {
      return lvm_bad_map("thin_dump", "the volume should have " + std::to_string(mapped_) + " blocks, and has " +
                                          std::to_string(counted_));
    }
    return map_.take(size_);
  }

 private:
  enum class Inside { pool, shared, volume };

  bool pool_has(const LvmElement& element) {
    if (element.name() == "superblock") return !element.closed() && place_.learn(element);
    if (!place_.known()) return false;
    if (element.name() == "/superblock") return ended_ = true;
    if (element.name() == "def") {
      const auto name = element.text("name");
      if (!name || element.closed()) return false;
      inside_ = Inside::shared;
      shared_now_ = &shared_[std::string{*name}];
      return true;
    }
    const auto blocks = element.number("mapped_blocks");
    if (element.name() != "device" || element.number("dev_id") != thin_id_ || !blocks || found_) return false;
    found_ = true;
    mapped_ = *blocks;
    inside_ = element.closed() ? Inside::pool : Inside::volume;
    return true;
  }

  bool blocks_are(const LvmElement& element) {
    const std::string_view name = element.name();
    if (name == (inside_ == Inside::volume ? "/device" : "/def")) {
      inside_ = Inside::pool;
      return true;
    }
    if (name == "single_mapping") return has(element.number("origin_block"), 1);
    if (name == "range_mapping") return has(element.number("origin_begin"), element.number("length"));
    if (name != "ref" || inside_ != Inside::volume) return false;
    const auto shared = shared_.find(std::string{element.text("name").value_or(std::string_view{})});
    return shared != shared_.end() && std::all_of(shared->second.begin(), shared->second.end(),
                                                  [&](const LvmBlocks& blocks) { return add(blocks); });
  }

  bool has(std::optional<std::uint64_t> begin, std::optional<std::uint64_t> length) {
    if (!begin || !length) return false;
    if (inside_ == Inside::volume) return add({*begin, *length});
    shared_now_->push_back({*begin, *length});
    return true;
  }

  bool add(LvmBlocks blocks) {
    const auto range = place_.place(blocks);
    if (!range) return false;
    counted_ += blocks.length;
    if (range->begin < range->end) map_.add(range->begin, range->end, true);
    return true;
  }

  std::uint64_t thin_id_;
  LvmBlockPlace place_;
  Bytes size_;
  Inside inside_ = Inside::pool;
  bool found_ = false;
  bool ended_ = false;
  std::uint64_t mapped_ = 0;
  std::uint64_t counted_ = 0;
  std::map<std::string, std::vector<LvmBlocks>> shared_;
  std::vector<LvmBlocks>* shared_now_ = nullptr;
  ExtentMap map_;
};

/// `thin_delta --thin1 N --thin2 M`, line by line: what of M is not as it is in N.
class LvmDeltaReader {
 public:
  LvmDeltaReader(std::uint64_t before, std::uint64_t now, Bytes size) noexcept
      : before_{before}, now_{now}, place_{size} {}

  /// Errors: corrupt, with the line.
  Result<void> take(std::string_view line) {
    const LvmElement element{line};
    if (!(inside_ ? differs(element) : outside(element))) return lvm_bad_map("thin_delta", "or does not fit", line);
    return {};
  }

  /// Neighbours of one kind are one extent. Errors: corrupt.
  [[nodiscard]] Result<std::vector<Extent>> finish() {
    if (!compared_ || !ended_) return lvm_bad_map("thin_delta", "it ends too early");
    return std::move(changes_);
  }

 private:
  bool outside(const LvmElement& element) {
    if (ended_) return false;
    if (element.name() == "superblock") return !element.closed() && place_.learn(element);
    if (element.name() == "/superblock") return ended_ = compared_;
    const bool ours = element.number("left") == before_ && element.number("right") == now_;
    if (element.name() != "diff" || !ours || compared_ || !place_.known()) return false;
    compared_ = true;
    inside_ = !element.closed();
    return true;
  }

  bool differs(const LvmElement& element) {
    const std::string_view name = element.name();
    if (name == "/diff") {
      inside_ = false;
      return true;
    }
    const bool same = name == "same";
    const bool gone = name == "left_only";
    if (!same && !gone && name != "right_only" && name != "different") return false;
    const auto begin = element.number("begin");
    const auto length = element.number("length");
    const auto range = begin && length ? place_.place({*begin, *length}) : std::nullopt;
    if (!range) return false;
    if (!same && range->begin < range->end) append(*range, !gone);
    return true;
  }

  void append(LvmBlockPlace::Range range, bool allocated) {
    if (!changes_.empty()) {
      Extent& last = changes_.back();
      if (last.allocated == allocated && last.offset + last.length == range.begin) {
        last.length += range.end - range.begin;
        return;
      }
    }
    changes_.push_back({range.begin, range.end - range.begin, allocated});
  }

  std::uint64_t before_;
  std::uint64_t now_;
  LvmBlockPlace place_;
  bool inside_ = false;
  bool compared_ = false;
  bool ended_ = false;
  std::vector<Extent> changes_;
};

/// Gives a reader the lines of a text that comes in pieces.
template <class Reader>
class LvmMapText {
 public:
  explicit LvmMapText(Reader reader) : reader_{std::move(reader)} {}

  /// Once something was wrong, the rest is passed over.
  void operator()(std::string_view piece) {
    for (std::size_t end = 0; good_ && (end = piece.find('\n')) != piece.npos; piece.remove_prefix(end + 1)) {
      line_.append(piece.substr(0, end));
      take_line();
    }
    line_.append(piece.substr(0, longest_line));
    if (line_.size() > longest_line) take_line();
  }

  /// Errors: corrupt.
  [[nodiscard]] Result<std::vector<Extent>> finish() {
    if (good_) take_line();
    if (!good_) return fail(std::move(good_.error()));
    return reader_.finish();
  }

 private:
  static constexpr std::size_t longest_line = 4096;  // of 100 or so

  void take_line() {
    if (const std::string_view line = lvm_trim(line_); good_ && !line.empty()) good_ = reader_.take(line);
    line_.clear();
  }

  Reader reader_;
  std::string line_;
  Result<void> good_;
};

}  // namespace stowage::detail
