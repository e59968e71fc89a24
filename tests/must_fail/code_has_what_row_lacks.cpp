// expect-error: B has member functions of capability C, but its feature row does not list it
// expect-error: B has member functions of capability C, but its feature row does not list it
// expect-error: B has member functions of capability C, but its feature row does not list it
#include "policy.hpp"

struct Empty : Floor<Empty> {
  static constexpr Features features = row_of({});
};
static_assert(audited<Empty>);

struct Resizes : Empty {
  static Result<Resizes> open(const StorageId&, const Config&, const OpenOptions&) { return Resizes{}; }
  Result<Bytes> resize(const VolumeName&, Bytes size) { return size; }
};

struct HalfASnapshot : Empty {
  static Result<HalfASnapshot> open(const StorageId&, const Config&, const OpenOptions&) { return HalfASnapshot{}; }
  Result<void> rollback(const VolumeName&, const SnapshotName&, const Work&) { return {}; }
};

struct Removes : Empty {
  static Result<Removes> open(const StorageId&, const Config&, const OpenOptions&) { return Removes{}; }
  Result<void> remove(const VolumeName&, const RemoveOptions&, const Work&) { return {}; }
};

#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
static_assert(audited<Resizes>);
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
static_assert(audited<HalfASnapshot>);
#elif defined(STOWAGE_MUST_FAIL)
static_assert(audited<Removes>);
#endif
