// The first half of a volume is copied onto its second by four coroutines, over one queue.

#include <stowage/coro.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

#include <sys/uio.h>
#include <chrono>
#include <cstdio>
#include <vector>

using namespace stowage;

template <IoQueue Q>
typename IoLoop<Q>::Task copy_every_fourth(IoLoop<Q>& loop, Bytes at, Bytes half, int& failures) {
  std::vector<std::byte> memory(65536);
  const iovec buffer{memory.data(), memory.size()};
  for (; at < half; at += Bytes{4 * memory.size()}) {
    const IoRequest read{.op = IoOp::read, .offset = at, .buffers = {&buffer, 1}};
    const IoRequest write{.op = IoOp::write, .offset = at + half, .buffers = {&buffer, 1}};
    Result<void> done = co_await loop.io(read);
    if (done) done = co_await loop.io(write);
    if (!done) ++failures;
  }
}

int main() {
  auto storage = Storage<testing::MemoryBackend>{*StorageId::parse("memory"), testing::MemoryBackend{}};
  const auto name = storage.create({.vmid = VmId{100}, .size = 8_MiB});
  auto volume = storage.open_volume(name.value(), Access::read_write).value();
  bool good = volume.write_at(3_MiB, std::vector<std::byte>(1 << 20, std::byte{7})).has_value();

  auto queue = volume.queue(4).value();
  int failures = 0;
  IoLoop loop{queue};
  for (const Bytes at : {0_KiB, 64_KiB, 128_KiB, 192_KiB}) copy_every_fourth(loop, at, 4_MiB, failures);
  good = good && loop.run(std::chrono::seconds{10}).has_value() && failures == 0;

  std::vector<std::byte> last(4096);
  good = good && volume.read_at(8_MiB - 4_KiB, last) && last.back() == std::byte{7};
  std::printf("%s\n", good ? "copied" : "not copied");
  return good ? 0 : 1;
}
