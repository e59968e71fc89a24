#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/storage.hpp>

// Taking the address makes the program link what the backend needs, without a target at hand.
int main() {
  const auto open = &stowage::Storage<stowage::IscsiDirect>::open;
  return open != nullptr ? 0 : 1;
}
