#pragma once
// The verbs of making a volume that somebody else fills: of a storage of one type, and of any.

#include <stowage/backend.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/detail/facade.hpp>
#include <stowage/volume.hpp>

namespace stowage {

/// Part of `Storage<B>`, which is `Self`.
template <class B, class Self>
class ImportVerbs {
 public:
  /// Makes a volume that is `incomplete` until `end_import`: for the ones who fill it (`import_volume`).
  Result<VolumeName> begin_import(const CreateSpec& spec)
    requires supports<B, Capability::import>
  {
    return self().make(spec, [&](const VolumeName& v) { return self().backend_.begin_import(v, spec); });
  }
  this_storage_type_cannot_be_imported_to begin_import(const CreateSpec&) = delete;

  /// The volume is whole from now on.
  Result<void> end_import(const VolumeName& volume)
    requires supports<B, Capability::import>
  {
    return self().on(volume, [&](const VolumeName& v) { return self().backend_.end_import(v); });
  }
  this_storage_type_cannot_be_imported_to end_import(const VolumeName&) = delete;

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

/// Part of `BasicAnyStorage`, which is `Self`.
template <class Self>
class AnyImportVerbs {
 public:
  Result<VolumeName> begin_import(const CreateSpec& spec) {
    return Self::template call<VolumeName, Capability::import>(self(), [&](auto& s) { return s.begin_import(spec); });
  }
  Result<void> end_import(const VolumeName& volume) {
    return Self::template call<void, Capability::import>(self(), [&](auto& s) { return s.end_import(volume); });
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

}  // namespace stowage
