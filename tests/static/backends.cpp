// The real backends: row and code agree, and the facade offers just what the row has.

#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

using namespace stowage;

namespace {

static_assert(audited<Rbd> && audited<IscsiDirect>);
static_assert(ProvisionBackend<Rbd> && ResizeBackend<Rbd> && RenameBackend<Rbd> && SnapshotBackend<Rbd> &&
              CloneBackend<Rbd> && TemplateBackend<Rbd> && FlattenBackend<Rbd> && CopyBackend<Rbd> &&
              WriteBackend<Rbd> && ImportBackend<Rbd>);
static_assert(CopyBackend<IscsiDirect> && WriteBackend<IscsiDirect> && !ProvisionBackend<IscsiDirect> &&
              !SnapshotBackend<IscsiDirect> && !CloneBackend<IscsiDirect> && !ImportBackend<IscsiDirect>);
static_assert(std::is_same_v<Storage<Rbd>::Config, RbdConfig>);
static_assert(std::is_same_v<Storage<IscsiDirect>::Config, IscsiDirectConfig>);

template <class S>
concept can_clone = requires(S& storage, const VolumeName& v, const CloneSpec& to) { storage.clone(v, to); };
template <class S>
concept can_flatten = requires(S& storage, const VolumeName& v) { storage.flatten(v); };
template <class S>
concept can_open = requires(S& storage, const VolumeName& v) { storage.open_volume(v, Access::read_write); };
static_assert(can_clone<Storage<Rbd>> && can_flatten<Storage<Rbd>> && can_open<Storage<Rbd>>);
static_assert(!can_clone<Storage<IscsiDirect>> && !can_flatten<Storage<IscsiDirect>> && can_open<Storage<IscsiDirect>>);

}  // namespace
