#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>

// A queue on a file: the component brings liburing.
int main() {
  const auto open = &stowage::Storage<stowage::LvmThin>::open;
  const auto queue = stowage::UringQueue::open("/proc/self/exe", stowage::Access::read_only, 4);
  return open != nullptr && queue ? 0 : 1;
}
