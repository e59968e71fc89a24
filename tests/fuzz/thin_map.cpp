// Any bytes as what thin_dump or thin_delta wrote: they are refused, or a map that goes up and stays in the volume; and
// it does not matter in which pieces they come. The first byte chooses the tool. By hand, for long:
// fuzz_thin_map -max_total_time=600 SCRATCH tests/fuzz/corpus/thin_map

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stowage/backends/detail/lvm_extents_text.hpp>
#include <string_view>
#include <vector>

using namespace stowage;

namespace {

constexpr Bytes volume = 64_MiB + 4_KiB;

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

template <class Reader>
Result<std::vector<Extent>> read(std::string_view text, const Reader& reader, std::size_t piece) {
  detail::LvmMapText<Reader> whole{reader};
  for (std::size_t at = 0; at < text.size(); at += piece) whole(text.substr(at, piece));
  return whole.finish();
}

template <class Reader>
void check(std::string_view text, const Reader& reader, bool covers_all) {
  const auto map = read(text, reader, 65536);
  const auto again = read(text, reader, 3);
  must(map.has_value() == again.has_value() && (!map || *map == *again), "pieces change nothing");
  if (!map) {
    must(map.error().code() == Errc::corrupt, "what cannot be read is corrupt");
    return;
  }
  Bytes end{};
  for (const Extent& one : *map) {
    must(one.length > Bytes{} && one.offset >= end, "extents go up");
    must(!covers_all || one.offset == end, "and leave nothing out");
    end = one.offset + one.length;
  }
  must(covers_all ? end == volume : end <= volume, "to the volume's end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::vector<char> text(data + 1, data + size);
  const std::string_view view{text.data(), text.size()};
  if (data[0] % 2 == 0) {
    check(view, detail::LvmDumpReader{1, volume}, true);
  } else {
    check(view, detail::LvmDeltaReader{2, 1, volume}, false);
  }
  return 0;
}
