// What the compiler answers and proves, without any C library and without any backend's header.
#include <cstdio>
#include <stowage/backend.hpp>
#include <stowage/features.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

using namespace stowage;

// Questions about a type, by name; Rbd and IscsiDirect are incomplete here.
static_assert(supports<Rbd, Capability::clone>);
static_assert(!supports<IscsiDirect, Capability::snapshot>);
static_assert(supports_in<Rbd, Capability::clone, State::snapshot> &&
              !supports_in<Rbd, Capability::clone, State::current>);
static_assert(supports_content<Rbd, Content::rootdir> && !supports_content<IscsiDirect, Content::rootdir>);
static_assert(is_shared<Rbd> && supports_format<Rbd, Format::raw>);
static_assert(find_features("lvmthin")->can.has(Capability::snapshot));

// Generic code says what it needs, and is not callable for a storage that lacks it.
template <SnapshotBackend B>
Result<void> with_snapshot(Storage<B>& storage, const VolumeName& volume, auto risky) {
  const auto snapshot = *SnapshotName::parse("before");
  if (auto taken = storage.snapshot(volume, snapshot); !taken) return taken;
  if (Result<void> done = risky(); !done) {
    static_cast<void>(storage.rollback(volume, snapshot));
    return done;
  }
  return storage.remove_snapshot(volume, snapshot);
}

int main() {
  Storage<testing::MemoryBackend> storage{*StorageId::parse("memory"), testing::MemoryBackend{}};
  const auto volume = storage.create({.vmid = VmId{100}, .size = 64_MiB});
  if (!volume) return 1;
  const auto done = with_snapshot(storage, *volume, [&] { return storage.resize(*volume, 128_MiB).map([](Bytes) {}); });
  std::puts(done ? "grown, and no snapshot left" : done.error().message().c_str());
  return done && storage.snapshots(*volume)->empty() ? 0 : 1;
}
