// A word for each crossing, and none for what trembles on the threshold.

#include <stowage/watch.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <stowage/storage.hpp>
#include <stowage/tasks.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <thread>
#include <vector>

using namespace stowage;
using namespace std::chrono_literals;

namespace {

Status with(std::uint64_t used, std::uint64_t metadata = 0) {
  return {.active = true,
          .total = Bytes{1000},
          .used = Bytes{used},
          .metadata_used = Bytes{metadata},
          .metadata_total = Bytes{100}};
}

std::string words(StatusWatch& watch, const Result<Status>& status) {
  std::string text;
  for (const Crossing& c : watch.look(status)) {
    text += std::string{name(c.threshold.gauge)} + (c.above ? ">" : "<") +
            std::to_string(static_cast<int>(c.threshold.percent)) + " ";
  }
  return text;
}

}  // namespace

TEST_CASE("StatusWatch: once for each crossing, with hysteresis") {
  StatusWatch watch{{{.percent = 80}, {.percent = 95, .hysteresis = 0.5}}};
  CHECK(words(watch, with(799)).empty());
  CHECK(words(watch, with(800)) == "used>80 ");
  CHECK(words(watch, with(830)).empty());
  CHECK(words(watch, with(799)).empty());  // within the hysteresis
  CHECK(words(watch, with(781)).empty());
  CHECK(words(watch, with(800)).empty());
  CHECK(words(watch, with(780)) == "used<80 ");
  CHECK(words(watch, with(790)).empty());
  CHECK(words(watch, with(990)) == "used>80 used>95 ");
  CHECK(words(watch, with(945)) == "used<95 ");
  CHECK(words(watch, with(0)) == "used<80 ");
}

TEST_CASE("StatusWatch: metadata and what is promised have thresholds of their own") {
  StatusWatch watch{{{.gauge = Gauge::metadata, .percent = 50}, {.gauge = Gauge::provisioned, .percent = 100}}};
  CHECK(words(watch, with(999, 49)).empty());
  CHECK(words(watch, with(999, 50)) == "metadata>50 ");
  Status promised = with(0, 50);
  promised.provisioned = Bytes{2000};
  CHECK(words(watch, promised) == "provisioned>100 ");
  const auto crossed = StatusWatch{{{.gauge = Gauge::provisioned, .percent = 100}}}.look(promised);
  REQUIRE(crossed.size() == 1);
  CHECK(crossed[0].percent == 200);
}

TEST_CASE("StatusWatch: what is not told stays, and a storage that goes away is told") {
  StatusWatch watch{{{.percent = 80}, {.gauge = Gauge::down, .percent = 100}}};
  CHECK(words(watch, with(900)) == "used>80 ");
  CHECK(words(watch, fail(Errc::unavailable, "gone")) == "down>100 ");
  CHECK(words(watch, Status{.active = false}).empty());  // as it was
  CHECK(words(watch, Status{.active = true, .total = Bytes{0}, .used = Bytes{0}}) == "down<100 ");
  CHECK(words(watch, with(0)) == "used<80 ");
}

TEST_CASE("watch: asks until it is told to stop") {
  testing::MemoryBackend memory{{.capacity = 1_MiB}};
  Storage storage{*StorageId::parse("st"), memory};
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_MiB});
  REQUIRE(disk);
  std::atomic<int> full{0};
  std::atomic<int> down{0};
  std::atomic<int> words{0};
  auto task = start([&](const Work& work) {
    const auto on = [&](const Crossing& crossing) {
      (crossing.threshold.gauge == Gauge::down ? down : full) = crossing.above ? 1 : 0;
      ++words;
    };
    return watch(storage, StatusWatch{{{.percent = 50}, {.gauge = Gauge::down}}}, 1ms, work.stop, on);
  });
  REQUIRE(task);
  const auto becomes = [](const std::atomic<int>& what, int value) {
    for (int tries = 0; what != value && tries < 10'000; ++tries) std::this_thread::sleep_for(1ms);
    return what == value;
  };
  {
    auto device = storage.open_volume(*disk, Access::read_write);
    REQUIRE(device);
    REQUIRE(device->write_at(Bytes{}, std::vector<std::byte>((768_KiB).count, std::byte{1})));
    CHECK(becomes(full, 1));
    REQUIRE(device->discard(Bytes{}, 1_MiB));
    CHECK(becomes(full, 0));
  }
  memory.set_offline(true);
  CHECK(becomes(down, 1));
  std::this_thread::sleep_for(20ms);
  CHECK(words == 3);
  task->cancel();
  CHECK(task->wait().error().code() == Errc::cancelled);
}

TEST_CASE("watch: told to stop, it does not wait for its next turn") {
  const Storage storage{*StorageId::parse("st"), testing::MemoryBackend{}};
  auto task =
      start([&](const Work& work) { return watch(storage, StatusWatch{{}}, 1h, work.stop, [](const Crossing&) {}); });
  REQUIRE(task);
  std::this_thread::sleep_for(10ms);
  task->cancel();
  const auto ended = task->wait_for(10s);
  REQUIRE(ended);
  CHECK(ended->error().code() == Errc::cancelled);
}
