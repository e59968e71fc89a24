#pragma once
// Everything: the four backends, a storage of any of their types, and storage.cfg. It needs the C libraries
// of all of them; a program that knows its storages includes their headers instead.

#include <stowage/any_storage.hpp>
#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/backends/rbd.hpp>
#include <stowage/config/datacenter.hpp>
#include <stowage/config/lock.hpp>
#include <stowage/config/read.hpp>
#include <stowage/config/store.hpp>
#include <stowage/stowage.hpp>
#include <stowage/transfer/stream.hpp>
#include <utility>

namespace stowage {

/// A storage of any type that this library has.
using AnyStorage = BasicAnyStorage<LvmThin, OpenIscsi, IscsiDirect, Rbd>;

/// Opens a storage by its id in a storage.cfg. Of one on /etc/pve, verbs that change which volumes there are take turns
/// with `pvesm`, unless `options` say other locks.
/// Errors: those of `StorageConfigFile::config_for` (not there, broken, disabled, on other nodes) and of
/// `Storage::open`.
[[nodiscard]] inline Result<AnyStorage> open_storage(const StorageConfigFile& config, const StorageId& id,
                                                     OpenOptions options = {}) {
  const auto own = config.config_for(id, local_node_name());
  if (!own) return fail(own.error());
  if (!options.locks) options.locks = storage_locks(config.path());
  return AnyStorage::open(id, *own, std::move(options));
}

}  // namespace stowage
