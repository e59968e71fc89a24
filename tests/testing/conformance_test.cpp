// MemoryBackend keeps every law: directly, behind BasicAnyStorage, and with other block sizes. A storage of LUNs keeps
// those of its row.

#include <stowage/testing/conformance.hpp>

#include <stowage/any_storage.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <string>
#include <vector>

#include "support/lun_backend.hpp"

using namespace stowage;
using testing::ExistingVolume;
using testing::LunBackend;
using testing::MemoryBackend;

namespace {

const StorageId id = *StorageId::parse("test");

struct MemoryFixture {
  using Backend = MemoryBackend;
  Storage<Backend>& storage() { return storage_; }
  std::string add_foreign() {
    memory.add_foreign("csi-vol-1", 1_GiB);
    return "csi-vol-1";
  }
  void leave_unfinished(const VolumeName& volume, const Intent& intent) {
    testing::must(memory.interrupt(volume, intent));
  }
  [[nodiscard]] std::string record_of(const VolumeName& volume) const { return testing::must(memory.record(volume)); }

  MemoryBackend memory;
  Storage<Backend> storage_{id, memory};
};

struct AnyMemoryFixture {
  using Backend = MemoryBackend;
  auto& storage() { return storage_; }

  BasicAnyStorage<LunBackend, MemoryBackend> storage_{Storage{id, MemoryBackend{}}};
};

struct BigBlocksFixture {
  using Backend = MemoryBackend;
  auto& storage() { return storage_; }

  Storage<Backend> storage_{id,
                            MemoryBackend{{.common = {}, .capacity = 1_GiB, .block_size = 4_KiB, .granule = 4_MiB}}};
};

template <class S>
struct LunFixture {
  using Backend = LunBackend;
  S& storage() { return storage_; }
  std::vector<ExistingVolume> existing() {
    return {{testing::volume_name("lun1"), 16_MiB, false}, {testing::volume_name("lun2"), 16_MiB, true}};
  }

  S storage_{Storage{id, LunBackend{}}};
};

}  // namespace

TEST_CASE("MemoryBackend keeps the laws") {
  MemoryFixture fixture;
  testing::check_conformance(fixture);
}

TEST_CASE("MemoryBackend keeps the laws with blocks of 4 KiB, extents of 4 MiB and images only") {
  BigBlocksFixture fixture;
  testing::check_conformance(fixture);
}

TEST_CASE("MemoryBackend keeps the laws behind BasicAnyStorage") {
  AnyMemoryFixture fixture;
  testing::check_conformance(fixture);
}

TEST_CASE("a storage of LUNs keeps the laws") {
  LunFixture<Storage<LunBackend>> fixture;
  testing::check_conformance(fixture);
}

TEST_CASE("a storage of LUNs keeps the laws behind BasicAnyStorage") {
  LunFixture<BasicAnyStorage<LunBackend, MemoryBackend>> fixture;
  testing::check_conformance(fixture);
}
