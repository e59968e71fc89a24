#pragma once
// The verbs of making a volume that somebody else fills: of a storage of one type, and of any.

#include <stowage/backend.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/detail/facade.hpp>
#include <stowage/volume.hpp>

namespace stowage {

namespace detail {

/// A policy whose unfinished volumes have no owner has nothing to release.
template <class B>
Result<void> release(B& backend, const VolumeName& volume) {
  if constexpr (requires { backend.release(volume); }) {
    return backend.release(volume);
  } else {
    return {};
  }
}

}  // namespace detail

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

  /// The volume is whole from now on. Call it while the volume is still open: nobody can take it in between.
  Result<void> end_import(const VolumeName& volume)
    requires supports<B, Capability::import>
  {
    return self().on(volume, [&](const VolumeName& v) { return self().backend_.end_import(v); });
  }
  this_storage_type_cannot_be_imported_to end_import(const VolumeName&) = delete;

  /// Gives up an import that was begun here, or a stream that was being received. Until then `recover`, anybody's,
  /// finds it busy; from now on the volume is unfinished and nobody's: `recover` undoes it, `remove` removes it, the
  /// same stream goes on. Nothing changes where nothing was begun. Errors: not_found.
  Result<void> abandon_import(const VolumeName& volume)
    requires supports<B, Capability::import>
  {
    return self().on(volume, [&](const VolumeName& v) { return detail::release(self().backend_, v); });
  }
  this_storage_type_cannot_be_imported_to abandon_import(const VolumeName&) = delete;

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
  Result<void> abandon_import(const VolumeName& volume) {
    return Self::template call<void, Capability::import>(self(), [&](auto& s) { return s.abandon_import(volume); });
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

}  // namespace stowage
