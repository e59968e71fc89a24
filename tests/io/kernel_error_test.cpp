// What the errno of a completion means is the same for whoever awaits it: coroutines, Asio, copies, streams.

#include <catch2/catch.hpp>

#include <stowage/asio.hpp>
#include <stowage/coro.hpp>
#include <stowage/increment/write_behind.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/memory_backend.hpp>
#include <stowage/testing/serial_queue.hpp>
#include <stowage/transfer/copy.hpp>

#include <asio/io_context.hpp>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/queue_model.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::must;
using testing::PageBuffer;

namespace {

/// A queue of 1 MiB of zeros, whose requests of one kind all end in the same way.
class BrokenQueue {
 public:
  BrokenQueue(IoOp what, int error, const Error* trouble = nullptr) : what_{what}, error_{error}, trouble_{trouble} {}
  Submitted submit(const IoRequest& request) {
    if (done_.size() == depth()) return Submitted::queue_full;
    const std::uint64_t length = stowage::detail::request_length(request, {size(), block_size(), true}).value();
    if (request.op == IoOp::read) {
      for (const ::iovec& buffer : request.buffers) std::memset(buffer.iov_base, 0, buffer.iov_len);
    }
    done_.push_back({request.token, request.op == what_ ? -error_ : static_cast<std::int64_t>(length)});
    return Submitted::yes;
  }
  Result<std::size_t> reap(std::span<IoCompletion> out) {
    std::size_t count = 0;
    for (; count < out.size() && !done_.empty(); done_.pop_back()) out[count++] = done_.back();
    return count;
  }
  Readiness ready() const { return {.tick = 0ms}; }
  std::size_t in_flight() const { return done_.size(); }
  std::size_t depth() const { return 4; }
  Bytes block_size() const { return 512_B; }
  Bytes size() const { return 1_MiB; }
  const Error* trouble() const { return trouble_; }

 private:
  IoOp what_;
  int error_;
  const Error* trouble_;
  std::vector<IoCompletion> done_{};
};

IoRequest request_of(IoOp op, std::span<const ::iovec> buffers) {
  if (op == IoOp::flush) return testing::flush_request();
  if (op == IoOp::read || op == IoOp::write) return {.op = op, .offset = 4_KiB, .buffers = buffers};
  return testing::range_request(op, 4_KiB, 4_KiB);
}

Result<void> through_coroutine(BrokenQueue queue, IoOp op) {
  const PageBuffer memory{4096};
  const ::iovec buffer = memory.iov();
  const IoRequest request = request_of(op, {&buffer, 1});
  std::optional<Result<void>> end;
  IoLoop<BrokenQueue> loop{queue};
  const auto run = [&](IoLoop<BrokenQueue>& with) -> IoLoop<BrokenQueue>::Task { end = co_await with.io(request); };
  run(loop);
  must(loop.run(10s));
  return end.value();
}

Result<void> through_asio(BrokenQueue queue, IoOp op) {
  const PageBuffer memory{4096};
  const ::iovec buffer = memory.iov();
  std::optional<Result<void>> end;
  ::asio::io_context loop;
  AsioQueue<BrokenQueue> operations{loop.get_executor(), queue};
  operations.async_io(request_of(op, {&buffer, 1}), [&](Result<void> result) { end = std::move(result); });
  loop.run_for(10s);
  return end.value();
}

/// Zeros onto what is not known to be zero, or data.
Result<void> through_copy(BrokenQueue queue, IoOp op) {
  BrokenQueue good{IoOp::flush, 0};
  CopyOptions options{.queue_depth = 2, .chunk = 512_B, .sparse = op == IoOp::write_zeroes};
  const auto copied = op == IoOp::read ? copy_queues(queue, good, {}, options) : copy_queues(good, queue, {}, options);
  if (!copied) return fail(copied.error());
  return {};
}

Result<void> through_stream(BrokenQueue queue, IoOp op) {
  stowage::detail::WriteBehind<BrokenQueue> writes{queue, 2, {}};
  const std::span<const std::byte> room = must(writes.room());
  auto good = op == IoOp::write ? writes.data(4_KiB, room.first(512)) : writes.zeros(4_KiB, 4_KiB);
  if (!good) return good;
  return writes.flush();
}

}  // namespace

TEST_CASE("queue errors: one errno means the same for coroutines, Asio, copies and streams") {
  const std::vector<std::pair<int, Errc>> meanings{
      {ESTALE, Errc::identity_changed}, {EINPROGRESS, Errc::outcome_unknown},
      {ESHUTDOWN, Errc::unavailable},   {ENOTCONN, Errc::unavailable},
      {ENOLINK, Errc::unavailable},     {EOPNOTSUPP, Errc::not_supported},
      {ENOSPC, Errc::no_space},         {EDQUOT, Errc::no_space},
      {ETIMEDOUT, Errc::timed_out},     {EBUSY, Errc::in_use},
      {EROFS, Errc::permission_denied}, {EILSEQ, Errc::corrupt},
      {EIO, Errc::backend_failed}};
  for (const auto& [code, meaning] : meanings) {
    for (const IoOp op : {IoOp::read, IoOp::write, IoOp::flush, IoOp::discard, IoOp::write_zeroes}) {
      CAPTURE(code, static_cast<int>(op));
      std::vector<Result<void>> ends{through_coroutine({op, code}, op), through_asio({op, code}, op)};
      if (op != IoOp::discard) ends.push_back(through_copy({op, code}, op));
      if (op != IoOp::discard && op != IoOp::read) ends.push_back(through_stream({op, code}, op));
      for (const Result<void>& end : ends) {
        const Error error = testing::refusal_of(end, meaning);
        CHECK(error.native() == native_errno(code));
        CHECK(error.hint().empty() == (meaning != Errc::outcome_unknown));
      }
    }
  }
}

TEST_CASE("queue errors: they say where, and what has happened to the queue if that is why") {
  const Error trouble{Errc::unavailable, "127.0.0.1:3260 hung up"};
  const auto text = [&](int code) {
    const auto end = through_coroutine({IoOp::write, code, &trouble}, IoOp::write);
    CHECK(through_asio({IoOp::write, code, &trouble}, IoOp::write).error().message() == end.error().message());
    return end.error().detail();
  };
  CHECK(text(EINPROGRESS) == "writing at 4096: sent, but no answer came, 127.0.0.1:3260 hung up");
  CHECK(text(ENOLINK).ends_with(", 127.0.0.1:3260 hung up"));
  CHECK(text(ENOSPC).find("hung up") == std::string::npos);
}

TEST_CASE("queue errors: a change whose outcome a device does not know is none that timed out") {
  struct Silent : testing::MemoryDevice {
    explicit Silent(testing::MemoryDevice device) : MemoryDevice{std::move(device)} {}
    Result<void> write_at(Bytes /*at*/, std::span<const std::byte> /*data*/) {
      return fail(Errc::outcome_unknown, "no answer in time", native_errno(ETIMEDOUT));
    }
  };
  testing::MemoryBackend memory;
  Storage<testing::MemoryBackend> storage{*StorageId::parse("mem"), memory};
  const VolumeName volume = must(storage.create({.vmid = VmId{100}, .size = 1_MiB}));
  auto queue =
      must(testing::SerialQueue<Silent>::over(Silent{must(storage.open_volume(volume, Access::read_write))}, true, 4));
  BrokenQueue zeros{IoOp::flush, 0};
  testing::refused(copy_queues(zeros, queue, {}, {.chunk = 512_B, .sparse = false}), Errc::outcome_unknown);
}
