#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>

// Taking the address makes the program link what the backend needs, without a cluster at hand.
int main() {
  const auto open = &stowage::Storage<stowage::Rbd>::open;
  return open != nullptr ? 0 : 1;
}
