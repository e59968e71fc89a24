#include <catch2/catch.hpp>

#include <chrono>
#include <stop_token>
#include <stowage/core/wait.hpp>
#include <thread>

using namespace std::chrono_literals;
using stowage::detail::wait_until;
using stowage::detail::Waited;
using Clock = std::chrono::steady_clock;

TEST_CASE("a wait ends as soon as it can") {
  const auto begin = Clock::now();
  SECTION("when there is nothing to wait for, whatever the time") {
    CHECK(wait_until([] { return true; }, begin - 1s, {}) == Waited::done);
  }
  SECTION("when the time is over") {
    int asked = 0;
    CHECK(wait_until([&] { return ++asked < 0; }, begin + 50ms, {}) == Waited::timed_out);
    CHECK(Clock::now() - begin >= 50ms);
    CHECK(asked >= 2);
    CHECK(asked <= 9);  // at 0, 1, 3, 7, 15, 31, 50 ms
  }
  SECTION("when it has happened") {
    CHECK(wait_until([&] { return Clock::now() - begin > 5ms; }, begin + 60s, {}) == Waited::done);
    CHECK(Clock::now() - begin < 10s);
  }
  SECTION("when it is stopped before") {
    std::stop_source stop;
    stop.request_stop();
    CHECK(wait_until([] { return false; }, begin + 60s, stop.get_token()) == Waited::stopped);
  }
  SECTION("when it is stopped meanwhile") {
    std::stop_source stop;
    const std::jthread other{[&] {
      std::this_thread::sleep_for(20ms);
      stop.request_stop();
    }};
    CHECK(wait_until([] { return false; }, begin + 60s, stop.get_token()) == Waited::stopped);
  }
  CHECK(Clock::now() - begin < 30s);
}
