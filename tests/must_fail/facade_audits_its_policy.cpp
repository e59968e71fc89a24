// expect-error: B has member functions of capability C, but its feature row does not list it
// expect-error: (does not satisfy|constraints not satisfied|constraint failure)
#include <stowage/storage.hpp>

#include "policy.hpp"

struct Empty : Floor<Empty> {
  static constexpr Features features = row_of({});
};
[[maybe_unused]] static Storage<Empty>* fine = nullptr;

struct Resizes : Empty {
  static Result<Resizes> open(const StorageId&, const Config&, const OpenOptions&) { return Resizes{}; }
  Result<Bytes> resize(const VolumeName&, Bytes size) { return size; }
};

struct NoPolicy {
  static constexpr Features features = row_of({});
};

#if defined(STOWAGE_MUST_FAIL) && STOWAGE_MUST_FAIL == 1
template class stowage::Storage<Resizes>;
#elif defined(STOWAGE_MUST_FAIL)
template class stowage::Storage<NoPolicy>;
#endif
