// The run-time face: the same verbs (tests/testing/conformance_test.cpp runs the laws through it), and the same
// refusals in words.

#include <stowage/any_storage.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/transfer/copy.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "support/lun_backend.hpp"

using namespace stowage;
using testing::LunBackend;
using testing::MemoryBackend;
using AnyOfTwo = BasicAnyStorage<MemoryBackend, LunBackend>;
static_assert(QueuedDevice<AnyOfTwo::Device>);

namespace {

const StorageId id = *StorageId::parse("st");
const VolumeName lun = *VolumeName::parse("lun1");
const SnapshotName snap = *SnapshotName::parse("s1");
const CreateSpec spec{.vmid = VmId{100}, .size = 1_MiB};

template <class T>
void refuses(const Result<T>& result, std::string_view sentence) {
  REQUIRE_FALSE(result);
  CHECK(result.error().code() == Errc::not_supported);
  CHECK(result.error().object() == "st");
  CHECK(result.error().detail() == "type iscsidirect: " + std::string{sentence});
}

/// The name of a type, with spaces for underscores: what the compiler says of the deleted twin.
template <class Sentence>
std::string words() {
  std::string text = __PRETTY_FUNCTION__;
  text = text.substr(text.find("this_storage_type"));
  text = text.substr(0, text.find_first_of("];"));
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

}  // namespace

TEST_CASE("a refusal at run time is the sentence of the compiler") {
  CHECK(words<this_storage_type_cannot_allocate_or_free_volumes>() == refusal(Capability::provision));
  CHECK(words<this_storage_type_cannot_resize_volumes>() == refusal(Capability::resize));
  CHECK(words<this_storage_type_cannot_rename_volumes>() == refusal(Capability::rename));
  CHECK(words<this_storage_type_has_no_snapshots>() == refusal(Capability::snapshot));
  CHECK(words<this_storage_type_has_no_linked_clones>() == refusal(Capability::clone));
  CHECK(words<this_storage_type_has_no_templates>() == refusal(Capability::make_template));
  CHECK(words<this_storage_type_cannot_flatten_volumes>() == refusal(Capability::flatten));
  CHECK(words<this_storage_type_cannot_open_snapshots>() == refusal(Capability::copy));
  CHECK(words<this_storage_type_cannot_be_imported_to>() == refusal(Capability::import));
}

TEST_CASE("each verb that the type lacks is refused") {
  AnyOfTwo any{Storage{id, LunBackend{}}};
  refuses(any.create(spec), "this storage type cannot allocate or free volumes");
  refuses(any.remove(lun), "this storage type cannot allocate or free volumes");
  refuses(any.resize(lun, 1_GiB), "this storage type cannot resize volumes");
  refuses(any.rename(lun, {}), "this storage type cannot rename volumes");
  refuses(any.snapshot(lun, snap), "this storage type has no snapshots");
  refuses(any.snapshots(lun), "this storage type has no snapshots");
  refuses(any.rollback(lun, snap), "this storage type has no snapshots");
  refuses(any.rollback(lun, snap, {.when_open = WhenOpen::at_next_activation}), "this storage type has no snapshots");
  refuses(any.remove_snapshot(lun, snap), "this storage type has no snapshots");
  refuses(any.activate(lun, snap), "this storage type has no snapshots");
  refuses(any.deactivate(lun, snap), "this storage type has no snapshots");
  refuses(any.path(lun, snap), "this storage type has no snapshots");
  refuses(any.blockdev(lun, snap), "this storage type has no snapshots");
  refuses(any.clone(lun, {.vmid = VmId{100}}), "this storage type has no linked clones");
  refuses(any.clone(lun, snap, {.vmid = VmId{100}}), "this storage type has no linked clones");
  refuses(any.make_template(lun), "this storage type has no templates");
  refuses(any.flatten(lun), "this storage type cannot flatten volumes");
  refuses(any.open_volume(lun, snap), "this storage type cannot open snapshots");
  refuses(any.begin_import(spec), "this storage type cannot be imported to");
  refuses(any.end_import(lun), "this storage type cannot be imported to");
  refuses(any.abandon_import(lun), "this storage type cannot be imported to");
}

TEST_CASE("what the type can goes through") {
  AnyOfTwo any{Storage{id, LunBackend{}}};
  CHECK(any.features().name == "iscsidirect");
  CHECK(any.id() == id);
  CHECK(any.config().content.has(Content::images));
  CHECK(any.snapshot_method() == SnapshotMethod::storage);
  CHECK(any.list()->size() == 2);
  CHECK(any.path(lun) == "iscsi://10.0.0.1/iqn.a:1/1");
  auto device = any.open_volume(lun, Access::read_write);
  REQUIRE(device);
  CHECK(device->size() == 16_MiB);
  CHECK(device->block_size() == 512_B);
  CHECK(device->flush());
  CHECK(device->close());
}

TEST_CASE("two backends may have the same kind of device") {
  struct Twin : LunBackend {
    static Result<Twin> open(const StorageId&, const Config&, const OpenOptions&) { return Twin{}; }
  };
  BasicAnyStorage<LunBackend, Twin> any{Storage{id, Twin{}}};
  auto device = any.open_volume(lun, Access::read_only);
  REQUIRE(device);
  CHECK(device->size() == 16_MiB);
}

TEST_CASE("a type that is in the configuration but not in the program") {
  for (const AnyConfig& config : {AnyConfig{RbdConfig{}}, AnyConfig{LvmThinConfig{"vg", "pool"}}}) {
    const auto opened = AnyOfTwo::open(id, config);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code() == Errc::not_supported);
    CHECK(opened.error().message() ==
          "st: type " + std::string{features_for(config).name} + " is not compiled into this program");
  }
}

TEST_CASE("a verb keeps its error") {
  AnyOfTwo any{Storage{id, MemoryBackend{}}};
  const auto missing = any.info(*VolumeName::parse("vm-1-x"));
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code() == Errc::not_found);
  CHECK(missing.error().object() == "st:vm-1-x");
}

TEST_CASE("an open volume of any storage can be copied, and is data as a whole where nothing else is known") {
  AnyOfTwo any{Storage{id, MemoryBackend{}}};
  const auto volume = any.create(spec);
  const auto other = any.create(spec);
  REQUIRE((volume && other));
  auto source = any.open_volume(*volume, Access::read_write);
  auto destination = any.open_volume(*other, Access::read_write);
  REQUIRE((source && destination));
  const std::vector<std::byte> data(4096, std::byte{7});
  REQUIRE(source->write_at(64_KiB, data));
  const auto extents = source->extents();
  REQUIRE(extents);
  CHECK((*extents == std::vector<Extent>{{Bytes{}, 1_MiB, true}}));
  const auto copied = copy(*source, *destination, {.fresh = true, .verify = true});
  REQUIRE(copied);
  CHECK(copied->written == 64_KiB);
  std::vector<std::byte> seen(4096);
  REQUIRE(destination->read_at(64_KiB, seen));
  CHECK(seen == data);
}

static_assert(!std::is_constructible_v<AnyOfTwo, int>);
