// What the table forbids cannot be called, and generic code can ask. (tests/must_fail shows the words.)

#include <stowage/storage.hpp>

#include <stowage/testing/memory_backend.hpp>

#include "support/lun_backend.hpp"

using namespace stowage;

namespace {

template <class S>
concept can_create = requires(S& storage, const CreateSpec& spec) { storage.create(spec); };
template <class S>
concept can_remove = requires(S& storage, const VolumeName& v) { storage.remove(v); };
template <class S>
concept can_resize = requires(S& storage, const VolumeName& v) { storage.resize(v, 1_GiB); };
template <class S>
concept can_rename = requires(S& storage, const VolumeName& v, const RenameSpec& to) { storage.rename(v, to); };
template <class S>
concept can_snapshot = requires(S& storage, const VolumeName& v, const SnapshotName& s) { storage.snapshot(v, s); };
template <class S>
concept can_list_snapshots = requires(const S& storage, const VolumeName& v) { storage.snapshots(v); };
template <class S>
concept can_rollback = requires(S& storage, const VolumeName& v, const SnapshotName& s) { storage.rollback(v, s); };
template <class S>
concept can_remove_snapshot =
    requires(S& storage, const VolumeName& v, const SnapshotName& s) { storage.remove_snapshot(v, s); };
template <class S>
concept can_clone = requires(S& storage, const VolumeName& v, const CloneSpec& to) { storage.clone(v, to); };
template <class S>
concept can_clone_snapshot =
    requires(S& storage, const VolumeName& v, const SnapshotName& s, const CloneSpec& to) { storage.clone(v, s, to); };
template <class S>
concept can_make_template = requires(S& storage, const VolumeName& v) { storage.make_template(v); };
template <class S>
concept can_flatten = requires(S& storage, const VolumeName& v) { storage.flatten(v); };
template <class S>
concept can_open = requires(S& storage, const VolumeName& v) { storage.open_volume(v, Access::read_write); };
template <class S>
concept can_open_snapshot =
    requires(S& storage, const VolumeName& v, const SnapshotName& s) { storage.open_volume(v, s); };
template <class S>
concept can_tell_snapshot_path = requires(const S& storage, const VolumeName& v, const SnapshotName& s) {
  storage.path(v, s);
  storage.blockdev(v, s);
};
template <class S>
concept can_activate_snapshot = requires(S& storage, const VolumeName& v, const SnapshotName& s) {
  storage.activate(v, s);
  storage.deactivate(v, s);
};
template <class S>
concept can_import = requires(S& storage, const VolumeName& v, const CreateSpec& spec) {
  storage.begin_import(spec);
  storage.end_import(v);
};

using All = Storage<testing::MemoryBackend>;
using Luns = Storage<testing::LunBackend>;

static_assert(can_create<All> && !can_create<Luns>);
static_assert(can_remove<All> && !can_remove<Luns>);
static_assert(can_resize<All> && !can_resize<Luns>);
static_assert(can_rename<All> && !can_rename<Luns>);
static_assert(can_snapshot<All> && !can_snapshot<Luns>);
static_assert(can_list_snapshots<All> && !can_list_snapshots<Luns>);
static_assert(can_rollback<All> && !can_rollback<Luns>);
static_assert(can_remove_snapshot<All> && !can_remove_snapshot<Luns>);
static_assert(can_clone<All> && !can_clone<Luns>);
static_assert(can_clone_snapshot<All> && !can_clone_snapshot<Luns>);
static_assert(can_make_template<All> && !can_make_template<Luns>);
static_assert(can_flatten<All> && !can_flatten<Luns>);
static_assert(can_open<All> && can_open<Luns>);
static_assert(can_open_snapshot<All> && !can_open_snapshot<Luns>);
static_assert(can_tell_snapshot_path<All> && !can_tell_snapshot_path<Luns>);
static_assert(can_activate_snapshot<All> && !can_activate_snapshot<Luns>);
static_assert(can_import<All> && !can_import<Luns>);

// The concepts that generic code takes.
static_assert(SnapshotBackend<testing::MemoryBackend> && !SnapshotBackend<testing::LunBackend>);
static_assert(ProvisionBackend<testing::MemoryBackend> && !ProvisionBackend<testing::LunBackend>);
static_assert(CopyBackend<testing::LunBackend> && WriteBackend<testing::LunBackend>);
static_assert(!CloneBackend<testing::LunBackend> && !TemplateBackend<testing::LunBackend> &&
              !FlattenBackend<testing::LunBackend> && !ResizeBackend<testing::LunBackend> &&
              !RenameBackend<testing::LunBackend> && !ImportBackend<testing::LunBackend>);

// No verb takes an integer for a size, or one kind of name for another.
template <class S>
concept takes_integers = requires(S& storage, const VolumeName& v) { storage.resize(v, 1024); };
template <class S>
concept takes_texts = requires(S& storage) { storage.info("vm-100-disk-0"); };
template <class S>
concept takes_any_name = requires(S& storage, const SnapshotName& s) { storage.info(s); };
static_assert(!takes_integers<All> && !takes_texts<All> && !takes_any_name<All>);

}  // namespace
