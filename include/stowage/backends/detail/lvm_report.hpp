#pragma once
// What `lvs --rows` says: one line for each thing that we ask, and in it a cell for each logical volume. Pure
// functions.

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/text.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// The columns of `lvs -o`, in the order of `read_lvm_volume`. No name or tag can hold the separator: LVM allows
/// [A-Za-z0-9+_.-] in names, and also /=!:&# in tags.
inline constexpr std::array<std::string_view, 23> lvm_columns{
    "vg_name",      "lv_name",          "lv_uuid",          "lv_size",         "lv_attr",        "pool_lv",
    "origin",       "data_percent",     "lv_time",          "lv_tags",         "vg_uuid",        "vg_extent_size",
    "vg_free",      "metadata_percent", "lv_metadata_size", "thin_id",         "transaction_id", "chunk_size",
    "lv_when_full", "discards",         "seg_monitor",      "kernel_discards", "lv_check_needed"};
/// So many of them tell of volumes. The others are for their pool and for verbs that change something; for them LVM
/// looks at every segment, asks dmeventd, and asks the kernel once more.
inline constexpr std::size_t lvm_listing_columns = 11;
inline constexpr char lvm_separator = '|';

/// A share in hundredths of a percent, as exact as LVM tells it.
struct LvmPercent {
  unsigned hundredths = 0;

  /// Rounded down.
  [[nodiscard]] constexpr Bytes of(Bytes whole) const noexcept {
    return Bytes{whole.count / 10000 * hundredths + whole.count % 10000 * hundredths / 10000};
  }
  friend constexpr auto operator<=>(LvmPercent, LvmPercent) = default;
};

/// One logical volume, of any kind. A listing leaves out what stands after `vg_uuid`.
struct LvmVolume {
  std::string vg;
  std::string name;
  bool hidden = false;  ///< LVM's own, or a snapshot that waits to be merged
  std::string uuid;
  Bytes size{};
  std::string attr;
  std::string pool;
  std::string origin;
  std::optional<LvmPercent> data;     ///< known while it is active
  std::optional<std::int64_t> ctime;  ///< seconds since 1970
  std::vector<std::string> tags;
  std::string vg_uuid;  ///< the last that a listing has
  Bytes extent{};
  Bytes vg_free{};
  std::optional<LvmPercent> metadata;
  Bytes metadata_size{};
  std::uint64_t thin_id = 0;
  std::optional<std::uint64_t> transaction;
  Bytes chunk{};
  std::string when_full;
  std::string discards;
  std::string monitor;
  std::string kernel_discards;
  std::string check_needed;

  // lv_attr, see lvs(8)
  [[nodiscard]] bool is_pool() const noexcept { return flag(0) == 't'; }
  /// O and S: a merge waits for the next activation.
  [[nodiscard]] bool is_thin() const noexcept {
    return !pool.empty() && (flag(0) == 'V' || flag(0) == 'O' || flag(0) == 'S');
  }
  [[nodiscard]] bool is_merging() const noexcept { return flag(0) == 'S'; }
  [[nodiscard]] bool read_only() const noexcept { return flag(1) == 'r'; }
  [[nodiscard]] bool active() const noexcept { return flag(4) == 'a'; }
  [[nodiscard]] bool open() const noexcept { return flag(5) == 'o'; }
  [[nodiscard]] char health() const noexcept { return flag(8); }
  /// Of a pool, and of a volume in it: what it newly gives out reads as zeros.
  [[nodiscard]] bool zeroes() const noexcept { return flag(7) == 'z'; }
  [[nodiscard]] bool skips_activation() const noexcept { return flag(9) == 'k'; }

  /// What stands behind `key` in its tag, `stowage.of=vm-1-x` for one.
  [[nodiscard]] std::optional<std::string> tag(std::string_view key) const {
    for (const std::string& tag : tags) {
      if (tag.starts_with(key)) return tag.substr(key.size());
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] char flag(std::size_t at) const noexcept { return at < attr.size() ? attr[at] : '-'; }
};

constexpr std::string_view lvm_trim(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

inline std::vector<std::string_view> lvm_split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(lvm_trim(text.substr(0, end)));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class Integer>
std::optional<Integer> lvm_number(std::string_view text) noexcept {
  Integer number{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// "33.33", as LVM writes it; nothing for what is empty or no percentage.
inline std::optional<LvmPercent> lvm_percent(std::string_view text) noexcept {
  const std::size_t point = text.find('.');
  const auto whole = lvm_number<unsigned>(text.substr(0, point));
  std::string_view rest = point == text.npos ? std::string_view{} : text.substr(point + 1);
  if (!whole || *whole > 100 || !all_of(rest, is_digit)) return std::nullopt;
  unsigned cents = 0;
  for (std::size_t at = 0; at < 2; ++at) cents = cents * 10 + (at < rest.size() ? unsigned(rest[at] - '0') : 0U);
  return LvmPercent{*whole * 100 + cents};
}

/// A name as `lvs -a` writes it: hidden volumes stand in brackets.
constexpr std::string_view lvm_bare_name(std::string_view name) noexcept {
  return name.starts_with('[') && name.ends_with(']') && name.size() > 2 ? name.substr(1, name.size() - 2) : name;
}

/// What `lvs` says of one volume, a cell for each column: all of them, or those of a listing.
using LvmCells = std::array<std::string_view, lvm_columns.size()>;

/// Understands a volume's cells. Errors: corrupt, with them.
inline Result<void> read_lvm_volume(const LvmCells& field, bool listing, LvmVolume& volume) {
  const auto bad = [&](const std::string& why) {
    std::string cells;
    for (const std::string_view cell : field) cells.append(cells.empty() ? "" : " | ").append(cell);
    return fail(Errc::corrupt, "lvs tells of a volume what cannot be understood, " + why + ": '" + cells + "'");
  };
  const auto size = lvm_number<std::uint64_t>(field[3]);
  const auto extent = lvm_number<std::uint64_t>(field[11]);
  if (!size || (!listing && extent.value_or(0) == 0)) return bad("sizes are no numbers");
  if (field[4].size() < 6) return bad("the attributes are too short");
  const auto bytes = [](std::string_view text) { return Bytes{lvm_number<std::uint64_t>(text).value_or(0)}; };
  volume.vg = field[0];
  volume.name = lvm_bare_name(field[1]);
  volume.hidden = volume.name.size() != field[1].size();
  volume.uuid = field[2];
  volume.size = Bytes{*size};
  volume.attr = field[4];
  volume.pool = lvm_bare_name(field[5]);
  volume.origin = lvm_bare_name(field[6]);
  volume.data = lvm_percent(field[7]);
  volume.ctime = lvm_number<std::int64_t>(field[8]);
  if (!field[9].empty()) {
    for (const std::string_view tag : lvm_split(field[9], ',')) {
      if (!tag.empty()) volume.tags.emplace_back(tag);
    }
  }
  volume.vg_uuid = field[10];
  if (listing) return {};
  volume.extent = Bytes{*extent};
  volume.vg_free = bytes(field[12]);
  volume.metadata = lvm_percent(field[13]);
  volume.metadata_size = bytes(field[14]);
  volume.thin_id = lvm_number<std::uint64_t>(field[15]).value_or(0);
  volume.transaction = lvm_number<std::uint64_t>(field[16]);
  volume.chunk = bytes(field[17]);
  volume.when_full = field[18];
  volume.discards = field[19];
  volume.monitor = field[20];
  volume.kernel_discards = field[21];
  volume.check_needed = field[22];
  return {};
}

/// All logical volumes that one `lvs` told of, in its order.
struct LvmReport {
  std::vector<LvmVolume> volumes;

  [[nodiscard]] const LvmVolume* find(std::string_view name) const noexcept {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const LvmVolume& v) { return v.name == name; });
    return found == volumes.end() ? nullptr : &*found;
  }
  [[nodiscard]] const LvmVolume* find_uuid(std::string_view uuid) const noexcept {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const LvmVolume& v) { return v.uuid == uuid; });
    return found == volumes.end() ? nullptr : &*found;
  }
};

/// The lines of a report, cut into the cells of one volume after the other.
class LvmTable {
 public:
  /// Errors: corrupt (not as many lines as columns were asked for).
  static Result<LvmTable> of(std::string_view text) {
    LvmTable table;
    while (!text.empty()) {
      if (table.count_ == table.lines_.size()) return fail(bad("it has more columns than were asked for", text));
      const std::size_t end = std::min(text.find('\n'), text.size());
      table.lines_[table.count_++] = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (table.count_ == 0 || table.listing() || table.count_ == table.lines_.size()) return table;
    return fail(bad("it has not the columns that were asked for", table.lines_[0]));
  }

  [[nodiscard]] bool listing() const noexcept { return count_ == lvm_listing_columns; }
  /// There is another volume.
  [[nodiscard]] bool more() const noexcept { return more_ && count_ > 0; }

  /// Its cells. Pre: `more()`. Errors: corrupt (the lines have not all as many of them).
  Result<void> next(LvmCells& cells) {
    bool last = false;
    for (std::size_t column = 0; column < count_; ++column) {
      std::string_view& line = lines_[column];
      const std::size_t end = line.find(lvm_separator);
      if (column > 0 && last != (end == line.npos)) return fail(bad("its lines differ in their volumes", line));
      last = end == line.npos;
      cells[column] = lvm_trim(line.substr(0, end));
      line.remove_prefix(last ? line.size() : end + 1);
    }
    more_ = !last;
    return {};
  }

 private:
  static Error bad(const std::string& why, std::string_view where) {
    constexpr std::size_t enough = 200;
    return {Errc::corrupt, "lvs wrote a report that cannot be understood, " + why + ": '" +
                               std::string{lvm_trim(where.substr(0, enough))} + "'"};
  }

  LvmCells lines_;
  std::size_t count_ = 0;
  bool more_ = true;
};

/// Takes the output of `lvs --rows` apart, which is sorted by name. What has no name is no volume; a volume of several
/// segments is told of once. Errors: corrupt.
inline Result<LvmReport> parse_lvm_report(std::string_view text) {
  LvmReport report;
  if (lvm_trim(text).empty()) return report;
  auto table = LvmTable::of(text);
  if (!table) return fail(std::move(table.error()));
  std::vector<LvmVolume>& volumes = report.volumes;
  const std::string_view names = text.substr(0, text.find('\n'));
  volumes.reserve(static_cast<std::size_t>(std::count(names.begin(), names.end(), lvm_separator)) + 1);
  LvmCells cells;
  while (table->more()) {
    if (auto cut = table->next(cells); !cut) return fail(std::move(cut.error()));
    LvmVolume& volume = volumes.emplace_back();
    if (auto read = read_lvm_volume(cells, table->listing(), volume); !read) return fail(std::move(read.error()));
    const bool nameless = volume.vg.empty() || volume.name.empty();
    const bool again = volumes.size() > 1 && volumes[volumes.size() - 2].uuid == volume.uuid;
    if (nameless || again) volumes.pop_back();
  }
  return report;
}

}  // namespace stowage::detail
