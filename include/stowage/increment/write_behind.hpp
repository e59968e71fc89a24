#pragma once
// Writes that are not waited for one by one, in a fixed number of buffers.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/increment/format.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/transfer/copy_slots.hpp>
#include <utility>

namespace stowage::detail {

/// Up to `depth` requests in flight on a queue that is nobody else's. After an error nothing more can be written. All
/// that is in flight has come back when it goes.
template <IoQueue Queue>
class WriteBehind {
 public:
  WriteBehind(Queue& queue, std::size_t depth, std::stop_token stop)
      : queue_{queue}, stop_{std::move(stop)}, slots_{depth, stream_most_data, 1} {}
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;
  ~WriteBehind() {
    if constexpr (requires { queue_.cancel(); }) queue_.cancel();
    while (queue_.in_flight() > 0) {
      std::array<IoCompletion, 64> done{};
      const auto count = queue_.reap(done);
      if (!count) return;
      if (*count == 0) poll_for(queue_.ready(), patience);
    }
  }

  /// 1 MiB to be filled, and given to the next `submit`. Waits until one is free.
  /// Errors: those of the writes before; cancelled; invalid_argument (no memory).
  Result<std::span<std::byte>> room() {
    if (!slots_) return fail(Errc::invalid_argument, "no memory for the buffers of a stream");
    while (slots_.idle.empty()) {
      if (auto good = reap(); !good) return fail(std::move(good.error()));
    }
    return slots_.idle.front().memory;
  }
  /// Has the begin of the room written there.
  Result<void> data(Bytes at, std::span<const std::byte> data) { return submit(at, data, Bytes{}); }
  /// Has that range written with zeros, in requests that each end before their deadline. Waits for room for them.
  Result<void> zeros(Bytes at, Bytes length) {
    for (const Bytes end = at + length; at < end;) {
      if (auto free = room(); !free) return fail(std::move(free.error()));
      const Bytes part = std::min(end - at, most_zeros);
      if (auto good = submit(at, {}, part); !good) return good;
      at += part;
    }
    return {};
  }
  /// All that was submitted is durable.
  Result<void> flush() {
    while (queue_.in_flight() > 0) {
      if (auto good = reap(); !good) return good;
    }
    if (queue_.submit({.op = IoOp::flush, .token = flush_token}) != Submitted::yes) {
      return fail(Errc::invalid_argument, "the volume does not take a flush");
    }
    while (queue_.in_flight() > 0) {
      if (auto good = reap(); !good) return good;
    }
    return {};
  }

 private:
  static constexpr std::chrono::milliseconds patience{100};  // then it looks whether it is to stop
  static constexpr std::uint64_t flush_token = ~std::uint64_t{0};
  static constexpr Bytes most_zeros = 32_MiB;  // on rbd it is one message for each 4 MiB

  Result<void> submit(Bytes at, std::span<const std::byte> data, Bytes zeros) {
    CopySlot& slot = slots_.idle.pop();
    slot.reading = {slot.memory.data(), data.size()};
    slot.length = at.count;
    IoRequest request{.op = IoOp::write_zeroes, .offset = at, .length = zeros, .token = slots_.index_of(slot)};
    if (!data.empty()) {
      request = {.op = IoOp::write, .offset = at, .buffers = {&slot.reading, 1}, .token = request.token};
    }
    Submitted submitted = queue_.submit(request);
    for (; submitted == Submitted::queue_full; submitted = queue_.submit(request)) {
      if (auto good = reap(); !good) return good;
    }
    if (submitted == Submitted::invalid) {
      return fail(Errc::invalid_argument, "the volume does not take a write of " +
                                              std::to_string(data.size() + zeros.count) + " bytes at " +
                                              std::to_string(at.count));
    }
    return {};
  }

  /// At least one completion, or some time.
  Result<void> reap() {
    if (stop_.stop_requested()) return fail(Errc::cancelled, "stopped before the end of the stream");
    std::array<IoCompletion, 64> done{};
    const auto count = queue_.reap(done);
    if (!count) return fail(count.error());
    if (*count == 0) poll_for(queue_.ready(), patience);
    Result<void> good;
    for (const IoCompletion& one : std::span{done}.first(*count)) {
      const bool is_flush = one.token == flush_token;
      if (one.result < 0 && good) {
        good = fail(queue_error(queue_, one.result, is_flush ? "flushing the volume" : "writing to the volume",
                                Bytes{is_flush ? 0 : slots_[one.token].length}));
      }
      if (!is_flush) slots_.idle.push_front(slots_[one.token]);
    }
    return good;
  }

  Queue& queue_;
  std::stop_token stop_;
  CopySlots slots_;
};

}  // namespace stowage::detail
