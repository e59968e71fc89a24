// A volume is copied by four coroutines of Asio, in the event loop of a program that does other things too.

#include <stowage/asio.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/memory_backend.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/use_awaitable.hpp>
#include <cstdio>
#include <vector>

using namespace stowage;

template <IoQueue Q>
asio::awaitable<void> copy_every_fourth(AsioQueue<Q>& from, AsioQueue<Q>& to, Bytes at, Bytes end, int& failures) {
  std::vector<std::byte> memory(65536);
  const iovec buffer{memory.data(), memory.size()};
  for (; at < end; at += Bytes{4 * memory.size()}) {
    const IoRequest read{.op = IoOp::read, .offset = at, .buffers = {&buffer, 1}};
    const IoRequest write{.op = IoOp::write, .offset = at, .buffers = {&buffer, 1}};
    Result<void> done = co_await from.async_io(read, asio::use_awaitable);
    if (done) done = co_await to.async_io(write, asio::use_awaitable);
    if (!done) ++failures;
  }
}

int main() {
  auto storage = Storage<testing::MemoryBackend>{*StorageId::parse("memory"), testing::MemoryBackend{}};
  const auto open = [&] {
    const auto volume = storage.create({.vmid = VmId{100}, .size = 8_MiB});
    return storage.open_volume(volume.value(), Access::read_write).value();
  };
  auto source = open();
  auto destination = open();
  bool good = source.write_at(3_MiB, std::vector<std::byte>(1 << 20, std::byte{7})).has_value();

  auto reads = source.queue(4).value();
  auto writes = destination.queue(4).value();
  int failures = 0;
  asio::io_context loop;
  AsioQueue from{loop.get_executor(), reads};
  AsioQueue to{loop.get_executor(), writes};
  for (const Bytes at : {0_KiB, 64_KiB, 128_KiB, 192_KiB}) {
    asio::co_spawn(loop, copy_every_fourth(from, to, at, 8_MiB, failures), asio::detached);
  }
  loop.run();  // here: also the sockets of the manager

  std::vector<std::byte> last(4096);
  good = good && failures == 0 && destination.read_at(4_MiB - 4_KiB, last) && last.back() == std::byte{7};
  std::printf("%s\n", good ? "copied" : "not copied");
  return good ? 0 : 1;
}
