// expect-error: the feature row lists capability C, but B lacks its member functions or they have another signature
// expect-error: the feature row lists capability C, but B lacks its member functions or they have another signature
// expect-error: the feature row lists capability C, but B lacks its member functions or they have another signature
#include "policy.hpp"

struct Whole : Floor<Whole> {
  static constexpr Features features = row_of({{Capability::resize, {State::current}}});
  Result<Bytes> resize(const VolumeName&, Bytes size) { return size; }
};
static_assert(audited<Whole>);

struct Nothing : Floor<Nothing> {
  static constexpr Features features = row_of({{Capability::resize, {State::current}}});
};

struct OtherSignature : Floor<OtherSignature> {
  static constexpr Features features = row_of({{Capability::resize, {State::current}}});
  Result<void> resize(const VolumeName&, Bytes) { return {}; }
};

struct Half : Floor<Half> {  // takes snapshots, and has no way back
  static constexpr Features features = row_of({{Capability::snapshot, {State::current}}});
  Result<void> snapshot(const VolumeName&, const SnapshotName&) { return {}; }
};

#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
static_assert(audited<Nothing>);
#elif defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 2
static_assert(audited<OtherSignature>);
#elif defined(STOWAGE_MUST_FAIL)
static_assert(audited<Half>);
#endif
