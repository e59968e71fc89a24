// Two long verbs at once, in an event loop that stays responsive: their descriptors stand in poll() beside all that a
// manager waits for. The storage is one in memory.
#include <poll.h>
#include <array>
#include <cstddef>
#include <cstdio>
#include <stowage/stowage.hpp>
#include <stowage/tasks.hpp>
#include <stowage/testing/memory_backend.hpp>

using namespace stowage;

// [two_tasks]
template <class B>
Result<void> flatten_both(Storage<B>& storage, const VolumeName& one, const VolumeName& other) {
  const auto flatten = [&](const VolumeName& disk) {
    return start([&storage, disk](const Work& work) { return storage.flatten(disk, work); });
  };
  std::array tasks{flatten(one), flatten(other)};
  for (const auto& task : tasks) {
    if (!task) return fail(task.error());  // tasks that go out of scope are stopped, and waited for
  }
  std::array<pollfd, 2> events{pollfd{tasks[0]->fd(), POLLIN, 0}, pollfd{tasks[1]->fd(), POLLIN, 0}};
  while (!tasks[0]->done() || !tasks[1]->done()) {
    poll(events.data(), events.size(), 1000);  // here: also the sockets of the manager
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      std::printf("%zu of 2: %zu of %zu\n", i + 1, tasks[i]->progress().done, tasks[i]->progress().total);
      if (tasks[i]->done()) events[i].fd = -1;  // poll leaves it out
    }
  }
  return tasks[0]->wait().and_then([&] { return tasks[1]->wait(); });
}
// [two_tasks]

Result<void> clone_and_flatten(Storage<testing::MemoryBackend>& storage) {
  const auto disk = storage.create({.vmid = VmId{100}, .size = 1_GiB});
  const auto golden = *SnapshotName::parse("golden");
  if (!disk) return fail(disk.error());
  if (auto taken = storage.snapshot(*disk, golden); !taken) return taken;
  const auto one = storage.clone(*disk, golden, {.vmid = VmId{101}});
  const auto other = storage.clone(*disk, golden, {.vmid = VmId{102}});
  if (!one) return fail(one.error());
  if (!other) return fail(other.error());
  return flatten_both(storage, *one, *other);
}

int main() {
  Storage storage{*StorageId::parse("memory"), testing::MemoryBackend{}};
  const auto done = clone_and_flatten(storage);
  if (!done) std::printf("%s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
