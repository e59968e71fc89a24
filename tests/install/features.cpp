#include <stowage/features.hpp>
#include <stowage/stowage.hpp>

static_assert(stowage::supports<stowage::Rbd, stowage::Capability::clone>);
static_assert(!stowage::supports<stowage::IscsiDirect, stowage::Capability::snapshot>);

int main() { return stowage::StorageId::parse("ceph-vms") ? 0 : 1; }
