#pragma once
// A stream of a snapshot as the destination of a copy: what is written becomes records, in the order of the ranges.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/increment/format.hpp>
#include <stowage/io/extents.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <stowage/transfer/stream_queues.hpp>
#include <stowage/transfer/zeros.hpp>

namespace stowage::detail {

/// What the records are of.
struct RecordPlan {
  Bytes size{};                      ///< of the volume
  std::span<const Extent> ranges{};  ///< all that will be written, in order
  bool zeros = false;                ///< they are told; else who receives the stream takes them for granted
  std::uint64_t checksum = 0;        ///< of the header
};

/// Each request becomes one record. It holds all runs that the chunks of a copy may have: those that wait for another
/// chunk's turn must not keep that one out.
template <ByteSink Sink>
class RecordQueue : public SinkQueue<Sink> {
 public:
  /// `depth`: of the copy.
  RecordQueue(Sink& sink, std::size_t depth, const RecordPlan& plan)
      : SinkQueue<Sink>{sink, plan.size, depth * (stream_most_data / zero_granule + 1)}, plan_{plan} {
    go_to_next_range();
  }

  [[nodiscard]] Submitted submit(const IoRequest& request) {
    return request.buffers.size() > 1 ? Submitted::invalid : StreamRequests::submit(request);
  }
  [[nodiscard]] Result<std::size_t> reap(std::span<IoCompletion> out) {
    auto reaped = StreamRequests::reap(out, [&](const IoRequest& request, std::uint64_t length) -> Result<bool> {
      if (request.op == IoOp::write) {
        return record(RecordKind::data, request.offset,
                      {static_cast<const std::byte*>(request.buffers.front().iov_base), length}, length);
      }
      if (request.op == IoOp::flush || !plan_.zeros) return true;
      return record(RecordKind::zeros, request.offset, {}, length);
    });
    go_to_next_range();
    return reaped;
  }

  /// The record behind all others.
  [[nodiscard]] std::array<std::byte, RecordHead::size> end() const noexcept {
    return record_bytes({RecordKind::end, plan_.size.count, count_}, {}, plan_.checksum);
  }

 private:
  /// True: it is written as a whole.
  Result<bool> record(RecordKind kind, Bytes offset, std::span<const std::byte> data, std::uint64_t length) {
    if (written_ == 0) head_ = record_bytes({kind, offset.count, length}, data, plan_.checksum);
    while (written_ < head_.size() + data.size()) {
      const auto some = this->put(written_ < head_.size() ? std::span<const std::byte>{head_}.subspan(written_)
                                                          : data.subspan(written_ - head_.size()));
      if (!some) return fail(some.error());
      if (*some == 0) return false;
      written_ += *some;
    }
    written_ = 0;
    plan_.checksum = get_number<std::uint64_t>(head_, 24);
    ++count_;
    return true;
  }
  void go_to_next_range() noexcept {
    while (!plan_.ranges.empty() && end_of(plan_.ranges.front()).count <= this->at()) {
      plan_.ranges = plan_.ranges.subspan(1);
    }
    if (!plan_.ranges.empty() && this->at() < plan_.ranges.front().offset.count) {
      this->skip_to(plan_.ranges.front().offset.count);
    }
  }

  RecordPlan plan_;  // the ranges that are left, and the checksum of what was written last
  std::array<std::byte, RecordHead::size> head_{};
  std::size_t written_ = 0;  // of the record whose turn it is
  std::uint64_t count_ = 0;
};

}  // namespace stowage::detail
