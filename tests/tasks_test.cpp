// Verbs off the caller's thread: results, cancelling, descriptors, and what becomes of a task that nobody waits for.

#include <stowage/tasks.hpp>

#include <catch2/catch.hpp>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/stream.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace stowage;
using namespace std::chrono_literals;
using testing::MemoryBackend;

namespace {

using Memory = Storage<MemoryBackend>;

const StorageId id = *StorageId::parse("st");

bool readable(int fd) {
  ::pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}
/// It becomes readable in time.
bool becomes_readable(int fd) {
  ::pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 10'000) == 1;
}

/// Waits until it is asked to stop.
Result<int> until_stopped(const Work& work) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock{mutex};
  stopped.wait(lock, work.stop, [] { return false; });
  return fail(Errc::cancelled, "stopped");
}

/// A stream without end, slow enough that it is stopped in the middle.
struct Endless {
  std::atomic<std::uint64_t>* given;
  std::optional<Bytes> size() const { return std::nullopt; }
  Result<std::size_t> read(std::span<std::byte> into) {
    std::this_thread::sleep_for(1ms);
    const std::size_t size = std::min<std::size_t>(into.size(), 4096);
    std::fill_n(into.begin(), size, std::byte{1});
    *given += size;
    return size;
  }
};

}  // namespace

TEST_CASE("Task: the result of a verb, once") {
  Memory storage{id, MemoryBackend{}};
  auto task = start([&] { return storage.create({.vmid = VmId{100}, .size = 1_MiB}); });
  REQUIRE(task);
  const auto name = task->wait();
  REQUIRE(name);
  CHECK(name->str() == "vm-100-disk-0");
  CHECK(task->done());
  CHECK(task->wait().error().code() == Errc::wrong_state);

  auto failing = start([&] { return storage.info(*VolumeName::parse("vm-1-x")); });
  REQUIRE(failing);
  CHECK(failing->wait().error().message() == "st:vm-1-x: no volume 'vm-1-x'");
}

TEST_CASE("Task: a result that can only be moved") {
  Memory storage{id, MemoryBackend{}};
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_MiB});
  auto task = start([&] { return storage.open_volume(*disk, Access::read_write); });
  REQUIRE(task);
  auto device = task->wait();
  REQUIRE(device);
  CHECK(device->size() == 1_MiB);
}

TEST_CASE("Task: progress and the end of a long verb") {
  Memory storage{id, MemoryBackend{}};
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_MiB});
  auto task = start([&](const Work& work) { return storage.flatten(*disk, work); });
  REQUIRE(task);
  CHECK(task->wait());
  CHECK(task->progress().done == (1_MiB).count);
  CHECK(task->progress().total == (1_MiB).count);
}

TEST_CASE("Task: the descriptor is readable when there is a result, and stays so") {
  std::atomic<bool> go{false};
  auto task = start([&]() -> Result<int> {
    while (!go) std::this_thread::sleep_for(1ms);
    return 7;
  });
  REQUIRE(task);
  CHECK_FALSE(readable(task->fd()));
  CHECK_FALSE(task->done());
  CHECK_FALSE(task->wait_for(10ms));
  go = true;
  CHECK(becomes_readable(task->fd()));
  CHECK(task->done());
  CHECK(task->wait() == 7);
  CHECK(readable(task->fd()));
}

TEST_CASE("Task: cancelled in the middle, an import is undone") {
  const MemoryBackend memory;
  Memory storage{id, memory};
  std::atomic<std::uint64_t> given{0};
  auto task = start([&](const Work& work) {
    Endless source{&given};
    return import_volume(storage, *VolumeName::parse("vm-100-disk-0"), source,
                         ImportOptions{.format = StreamFormat::raw, .size = 1_GiB, .chunk = 8_KiB, .work = work});
  });
  REQUIRE(task);
  while (given < 65536) std::this_thread::sleep_for(1ms);
  CHECK(storage.list()->front().incomplete());
  task->cancel();
  CHECK(becomes_readable(task->fd()));
  const auto imported = task->wait();
  REQUIRE_FALSE(imported);
  CHECK(imported.error().code() == Errc::cancelled);
  CHECK(task->progress().done > 0);
  CHECK(task->progress().total == (1_GiB).count);
  CHECK(storage.list()->empty());
}

TEST_CASE("Task: dropped while it runs, it is stopped and waited for") {
  std::atomic<bool> ended{false};
  {
    auto task = start([&](const Work& work) {
      auto result = until_stopped(work);
      std::this_thread::sleep_for(20ms);
      ended = true;
      return result;
    });
    REQUIRE(task);
  }
  CHECK(ended);

  // Replaced by another one, likewise.
  ended = false;
  auto task = start([&](const Work& work) {
    auto result = until_stopped(work);
    ended = true;
    return result;
  });
  REQUIRE(task);
  task = start([](const Work&) -> Result<int> { return 1; });
  CHECK(ended);
  CHECK(task->wait() == 1);
}

TEST_CASE("Task: detached, it goes on with what it owns") {
  const auto go = std::make_shared<std::atomic<bool>>(false);
  const auto stopped = std::make_shared<std::atomic<bool>>(false);
  std::weak_ptr<std::atomic<bool>> alive = stopped;
  {
    auto task = start([go, stopped](const Work& work) -> Result<int> {
      while (!*go) std::this_thread::sleep_for(1ms);
      *stopped = work.stop.stop_requested();
      return 1;
    });
    REQUIRE(task);
    std::move(*task).detach();
  }
  CHECK(go.use_count() == 2);
  *go = true;
  for (int tries = 0; go.use_count() == 2 && tries < 10'000; ++tries) std::this_thread::sleep_for(1ms);
  CHECK(go.use_count() == 1);
  CHECK_FALSE(*stopped);
}

TEST_CASE("Task: the callback comes first, in the task's thread, and may take the result") {
  std::thread::id where;
  std::string seen;
  auto task = start([]() -> Result<std::string> { return "made"; },
                    [&](Result<std::string>& result) {
                      where = std::this_thread::get_id();
                      std::this_thread::sleep_for(20ms);
                      seen = std::exchange(*result, "told");
                    });
  REQUIRE(task);
  CHECK(task->wait() == "told");
  CHECK(seen == "made");
  CHECK(where != std::this_thread::get_id());
}

TEST_CASE("Task: an exception of the verb is an error") {
  auto task = start([]() -> Result<void> { throw std::runtime_error{"disk on fire"}; });
  REQUIRE(task);
  const auto result = task->wait();
  REQUIRE_FALSE(result);
  CHECK(result.error().code() == Errc::outcome_unknown);
  CHECK(result.error().detail() == "the task ended with an exception: disk on fire");
  auto odd = start([]() -> Result<void> { throw 7; });  // NOLINT(hicpp-exception-baseclass)
  CHECK(odd->wait().error().code() == Errc::outcome_unknown);
}

TEST_CASE("Task: hundreds at once, and nothing is left of them") {
  const MemoryBackend memory;
  Memory storage{id, memory};
  std::atomic<int> told{0};
  const int before = ::eventfd(0, EFD_CLOEXEC);
  ::close(before);
  {
    std::vector<Task<VolumeName>> tasks;
    for (unsigned i = 0; i < 400; ++i) {
      auto task = start([&storage, i] { return storage.create({.vmid = VmId{100 + i % 4}, .size = 4_KiB}); },
                        [&](const Result<VolumeName>&) { ++told; });
      REQUIRE(task);
      tasks.push_back(*std::move(task));
    }
    for (auto& task : tasks) CHECK(task.wait());
  }
  CHECK(told == 400);
  CHECK(storage.list()->size() == 400);
  const int after = ::eventfd(0, EFD_CLOEXEC);
  ::close(after);
  CHECK(after == before);
}

TEST_CASE("Task: hundreds that are dropped in every state") {
  std::atomic<int> running{0};
  for (int i = 0; i < 300; ++i) {
    auto task = start([&](const Work& work) {
      ++running;
      auto result = until_stopped(work);
      --running;
      return result;
    });
    REQUIRE(task);
    if (i % 3 == 0) task->cancel();
    if (i % 7 == 0) std::this_thread::yield();
  }
  CHECK(running == 0);
}

TEST_CASE("Task: no descriptor is an error") {
  ::rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
  const ::rlimit none{0, old.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto task = start([]() -> Result<int> { return 1; });
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
  REQUIRE_FALSE(task);
  CHECK(task.error().code() == Errc::unavailable);
}

TEST_CASE("ask_all: the answers in order, and one that hangs costs the others nothing") {
  struct Hanging {
    std::shared_ptr<std::atomic<bool>> stopped;
    int number;
  };
  const auto stopped = std::make_shared<std::atomic<bool>>(false);
  const std::vector<Hanging> items{{stopped, 0}, {stopped, 1}, {stopped, 2}};
  const auto begin = std::chrono::steady_clock::now();
  const auto answers = ask_all(items, 200ms, [](const Hanging& item, const Work& work) -> Result<int> {
    if (item.number != 1) return item.number;
    auto result = until_stopped(work);
    *item.stopped = true;
    return result;
  });
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(took >= 200ms);
  CHECK(took < 5s);
  REQUIRE(answers.size() == 3);
  CHECK(answers[0] == 0);
  CHECK(answers[1].error().code() == Errc::timed_out);
  CHECK(answers[2] == 2);
  for (int tries = 0; !*stopped && tries < 10'000; ++tries) std::this_thread::sleep_for(1ms);
  CHECK(*stopped);  // it was asked to
}

TEST_CASE("ask_all: without a limit it waits for the last, and nobody is nobody") {
  const auto slow = ask_all(std::vector<int>{50, 0}, std::nullopt, [](int pause) -> Result<int> {
    std::this_thread::sleep_for(std::chrono::milliseconds{pause});
    return pause;
  });
  REQUIRE(slow.size() == 2);
  CHECK(slow[0] == 50);
  CHECK(ask_all(std::vector<int>{}, 1s, [](int i) -> Result<int> { return i; }).empty());
}
