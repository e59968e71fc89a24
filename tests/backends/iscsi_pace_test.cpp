#include <catch2/catch.hpp>

#include <stowage/backends/detail/iscsi_pace.hpp>

using namespace stowage::detail;
using namespace std::chrono_literals;

namespace {

/// How long it rests once it has seen `count` answers at a time, with `in_flight` requests, for a while.
std::chrono::nanoseconds settled(std::size_t count, std::size_t in_flight) {
  IscsiPace pace;
  for (int n = 0; n < 100; ++n) {
    REQUIRE(pace.rests(in_flight));
    pace.answered(count, in_flight - count);
  }
  return pace.moment();
}

}  // namespace

TEST_CASE("a queue of LUNs with few requests in flight does not wait for a second answer", "[iscsi]") {
  IscsiPace pace;
  for (const std::size_t in_flight : {1U, 8U, 15U}) CHECK_FALSE(pace.rests(in_flight));
  CHECK(pace.rests(IscsiPace::many));
}

TEST_CASE("with many, it rests once, and then sleeps until something comes", "[iscsi]") {
  IscsiPace pace;
  REQUIRE(pace.rests(32));
  CHECK_FALSE(pace.rests(32));
  pace.answered(0, 32);  // looked, and found nothing
  CHECK_FALSE(pace.rests(32));
  pace.answered(3, 29);
  CHECK(pace.rests(32));
}

TEST_CASE("it rests for an eighth of what is in flight, within bounds", "[iscsi]") {
  CHECK(settled(2, 128) == 160us);  // too few at a time: as long as it may
  CHECK(settled(64, 128) == 10us);  // too many
  CHECK(settled(20, 128) == 20us);  // as it began
}

TEST_CASE("of a target that gives its answers one by one, it waits for few", "[iscsi]") {
  IscsiPace pace;
  int rests = 0;
  for (int n = 0; n < 1000; ++n) {
    rests += pace.rests(32) ? 1 : 0;
    pace.answered(1, 31);
  }
  CHECK(rests < 30);
  CHECK(rests > 10);  // it goes on looking whether the target has become faster
  while (!pace.rests(32)) pace.answered(1, 31);
  pace.answered(8, 24);
  CHECK(pace.rests(32));  // it has
}
