#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <stowage/core/handle.hpp>
#include <stowage/io/kernel_extents.hpp>
#include <string>
#include <vector>

using namespace stowage;

namespace {

/// A file in memory, whose file system knows its holes.
Fd file_of(Bytes size) {
  Fd file{::memfd_create("extents", MFD_CLOEXEC)};
  REQUIRE(file);
  REQUIRE(::ftruncate(file.get(), static_cast<::off_t>(size.count)) == 0);
  return file;
}
void put(const Fd& file, Bytes at, const std::string& data) {
  REQUIRE(::pwrite(file.get(), data.data(), data.size(), static_cast<::off_t>(at.count)) ==
          static_cast<::ssize_t>(data.size()));
}
std::vector<Extent> extents(const Fd& file) {
  auto found = file_extents(file.get());
  REQUIRE(found);
  return *std::move(found);
}

}  // namespace

TEST_CASE("extents: a file's data and holes, from its begin to its end", "[io]") {
  CHECK(extents(file_of(Bytes{})).empty());
  CHECK((extents(file_of(1_MiB)) == std::vector<Extent>{{Bytes{}, 1_MiB, false}}));

  const Fd file = file_of(Bytes{(1 << 20) + 100});
  put(file, 256_KiB, "data");
  CHECK((extents(file) == std::vector<Extent>{{Bytes{}, 256_KiB, false},
                                              {256_KiB, 4_KiB, true},
                                              {260_KiB, Bytes{764 * 1024 + 100}, false}}));
  put(file, Bytes{}, std::string(8192, 'x'));
  put(file, 1_MiB, "the end");
  CHECK((extents(file) == std::vector<Extent>{{Bytes{}, 8_KiB, true},
                                              {8_KiB, 248_KiB, false},
                                              {256_KiB, 4_KiB, true},
                                              {260_KiB, 764_KiB, false},
                                              {1_MiB, 100_B, true}}));
}

TEST_CASE("extents: what has no size has none", "[io]") {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Fd reader{ends[0]};
  const Fd writer{ends[1]};
  const auto found = file_extents(reader.get());
  REQUIRE_FALSE(found);
  CHECK(found.error().native() == std::errc::invalid_seek);
  CHECK_FALSE(file_extents(-1));
}
