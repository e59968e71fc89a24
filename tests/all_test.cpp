// A storage by its id in a storage.cfg: who may open it, and what its section and its type forbid.

#include <stowage/all.hpp>

#include <catch2/catch.hpp>

#include <string>

using namespace stowage;

namespace {

const StorageConfigFile& house() {
  static const StorageConfigFile file = StorageConfigFile::parse(
      "lvmthin: thin\n\tvgname stowage-none\n\tthinpool data\n\tcontent images\n\n"
      "lvmthin: here\n\tvgname stowage-none\n\tthinpool data\n\tnodes other," +
      local_node_name() +
      "\n\n"
      "lvmthin: there\n\tvgname stowage-none\n\tthinpool data\n\tnodes not-this-node\n\n"
      "lvmthin: off\n\tvgname stowage-none\n\tthinpool data\n\tdisable\n\n"
      "iscsidirect: san\n\tportal 127.0.0.1:1\n\ttarget iqn.2001-04.com.example:t1\n\n"
      "nfs: share\n\tpath /m\n\tserver s\n\texport /e\n");
  return file;
}

Result<AnyStorage> opened(const char* id) { return open_storage(house(), *StorageId::parse(id)); }

Errc refusal_of(const char* id) {
  const auto storage = opened(id);
  REQUIRE_FALSE(storage);
  CHECK(storage.error().object() == id);
  return storage.error().code();
}

}  // namespace

TEST_CASE("open_storage: the type of the section, on the nodes that it names, unless it is disabled") {
  CHECK(opened("thin")->features().name == "lvmthin");
  CHECK(opened("here"));
  CHECK(opened("san")->features().name == "iscsidirect");
  CHECK(refusal_of("there") == Errc::unavailable);
  CHECK(refusal_of("off") == Errc::wrong_state);
  CHECK(refusal_of("share") == Errc::not_supported);
  CHECK(refusal_of("none-such") == Errc::not_found);
}

TEST_CASE("open_storage: the content of the section counts, and what the type lacks is refused before it is asked") {
  auto thin = opened("thin");
  const auto container = thin->create({.vmid = VmId{100}, .size = 1_GiB, .content = Content::rootdir});
  REQUIRE_FALSE(container);
  CHECK(container.error().code() == Errc::wrong_state);
  CHECK(container.error().message() ==
        "thin: this storage is not configured for content 'rootdir' (add it to 'content' of the storage)");
  auto san = opened("san");
  const auto snapshot = san->snapshot(*VolumeName::parse("lun1"), *SnapshotName::parse("s1"));
  REQUIRE_FALSE(snapshot);
  CHECK(snapshot.error().code() == Errc::not_supported);
  CHECK(snapshot.error().message() == "san: type iscsidirect: this storage type has no snapshots");
}
