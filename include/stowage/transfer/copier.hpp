#pragma once
// The machine behind `copy`: reads ahead on one queue, writes on another, in a fixed number of buffers.

#include <poll.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/io/kernel_error.hpp>
#include <stowage/io/queue.hpp>
#include <stowage/transfer/copy_options.hpp>
#include <stowage/transfer/copy_plan.hpp>
#include <stowage/transfer/copy_slots.hpp>
#include <stowage/transfer/rate_limit.hpp>
#include <stowage/transfer/zeros.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// How far apart requests of a copy should lie, to be done side by side on both sides. Zero: it makes no difference, or
/// a stream is to be moved in its order.
template <IoQueue Source, IoQueue Destination>
std::uint64_t copy_stripe(const Source& source, const Destination& destination) noexcept {
  constexpr bool in_order = requires { Source::in_order; } || requires { Destination::in_order; };
  return in_order ? 0 : std::max(stripe_of(source), stripe_of(destination)).count;
}

/// One copy. Both queues are its own while it runs, and idle when it ends, however it does.
template <IoQueue Source, IoQueue Destination>
class Copier {
 public:
  using Clock = RateLimit::Clock;

  /// Pre: `chunk` is a multiple of both block sizes, and the destination is large enough.
  Copier(Source& source, Destination& destination, std::span<const Extent> extents, std::uint64_t chunk,
         const CopyOptions& options)
      : source_{source},
        destination_{destination},
        options_{options},
        chunk_{chunk},
        order_{{{source.size().count, chunk, source.block_size().count, std::max(chunk, most_hole / chunk * chunk),
                 options.only_extents},
                extents},
               copy_stripe(source, destination),
               look_ahead(copy_stripe(source, destination) / chunk, options.queue_depth)},
        limit_{options.rate_limit},
        granule_{zero_unit(destination.block_size(), chunk, options)},
        slots_{options.queue_depth, chunk, chunk / granule_ + 1} {
    if (options.verify) sums_.resize((source.size().count + chunk - 1) / chunk);
  }

  Result<Copied> run() {
    if (!slots_) return fail(Errc::invalid_argument, "no memory for the buffers of a copy");
    const Clock::time_point begin = Clock::now();
    copied_.size = source_.size();
    state_.total = Bytes{order_.total()};
    while (!problem_ && (piece_ || (piece_ = order_.next()) || busy_ > 0)) turn();
    if (!problem_) flush();
    if (!problem_ && options_.verify) verify();
    drain();
    if (problem_) return fail(*std::move(problem_));
    copied_.elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
    return copied_;
  }

 private:
  using Slot = CopySlot;
  static constexpr std::uint64_t most_hole = 32 << 20U;  // in one request, so that it is done before its deadline
  static constexpr std::uint64_t flush_token = ~std::uint64_t{0};

  /// What is looked at for zeros at once, and written or not as a whole.
  static std::uint64_t zero_unit(Bytes block, std::uint64_t chunk, const CopyOptions& options) noexcept {
    if (options.fresh && options.fresh_block != Bytes{}) return options.fresh_block.count;
    return std::min<std::uint64_t>(chunk, std::max<std::uint64_t>(zero_granule, block.count));
  }

  /// So many pieces that each request in flight can have a stripe for itself.
  static std::size_t look_ahead(std::uint64_t pieces_of_stripe, std::size_t depth) noexcept {
    constexpr std::size_t most = 4096;
    return std::min<std::size_t>(std::max<std::uint64_t>(pieces_of_stripe, 1) * depth, most);
  }

  void turn() {
    if (options_.stop.stop_requested()) return give_up(Error{Errc::cancelled, "stopped before the end"});
    begin_pieces();
    read_some();
    write_some();
    if (problem_) return;
    std::size_t count = reap(source_, [&](const IoCompletion& done) { was_read(done); });
    count += reap(destination_, [&](const IoCompletion& done) { was_written(done); });
    if (count == 0 && !problem_) sleep(piece_ && !slots_.idle.empty() ? limit_.next() : Clock::time_point::max());
  }

  /// Takes buffers for the next pieces, as far as there are some.
  void begin_pieces() {
    const Clock::time_point now = Clock::now();
    unsigned skips = 0;
    while (to_read_.empty() && (piece_ || (piece_ = order_.next())) && limit_.allows(now)) {
      if (piece_->hole() && options_.fresh) {
        const CopyPiece hole = *std::exchange(piece_, std::nullopt);
        pass_over(hole.length);
        advance(hole.length);
        if (++skips == 1024) return;  // holes may go on for long, and others wait
        continue;
      }
      if (slots_.idle.empty()) return;
      Slot& slot = slots_.idle.pop();
      slot.piece = *std::exchange(piece_, std::nullopt);
      slot.length = std::min(round_up(Bytes{slot.piece.length}, destination_.block_size()).count,
                             destination_.size().count - slot.piece.at);
      slot.handed_over = 0;
      slot.outstanding = 0;
      slot.runs.clear();
      ++busy_;
      if (slot.piece.hole()) {
        to_write_.push(slot);
      } else {
        limit_.begin(now, slot.piece.data_end - slot.piece.data_begin);
        to_read_.push(slot);
        read_some();
      }
    }
  }

  void read_some() {
    while (!to_read_.empty()) {
      Slot& slot = to_read_.front();
      const CopyPiece& piece = slot.piece;
      const std::uint64_t length = piece.data_end - piece.data_begin;
      slot.reading = {slot.memory.data() + (piece.data_begin - piece.at), length};
      const IoRequest request{.op = IoOp::read,
                              .offset = Bytes{piece.data_begin},
                              .buffers = {&slot.reading, 1},
                              .token = slots_.index_of(slot)};
      const Submitted submitted = source_.submit(request);
      if (submitted == Submitted::queue_full) return;
      if (submitted == Submitted::invalid) return refuse("the source does not take a read", piece.data_begin, length);
      static_cast<void>(to_read_.pop());
    }
  }

  void was_read(const IoCompletion& done) {
    Slot& slot = slots_[done.token];
    const CopyPiece& piece = slot.piece;
    if (done.result < 0)
      return give_up(queue_error(source_, done.result, "reading the source", Bytes{piece.data_begin}));
    // What was not read, and what fills up the last block, are zeros.
    std::fill_n(slot.memory.begin(), piece.data_begin - piece.at, std::byte{});
    const auto tail = static_cast<std::ptrdiff_t>(piece.data_end - piece.at);
    std::fill(slot.memory.begin() + tail, slot.memory.begin() + static_cast<std::ptrdiff_t>(slot.length), std::byte{});
    if (options_.verify && !is_zero(slot.memory.first(slot.length))) {
      sums_[piece.at / chunk_] = copy_checksum(slot.memory.first(slot.length));
    }
    to_write_.push(slot);
  }

  void write_some() {
    while (!to_write_.empty() && !problem_) {
      Slot& slot = to_write_.front();
      if (!hand_over(slot)) return;
      static_cast<void>(to_write_.pop());
      if (slot.outstanding == 0) finish(slot);
    }
  }

  /// Submits what of the slot is not yet submitted, data and zeros in turn. False: the queue is full, or there is a
  /// problem.
  bool hand_over(Slot& slot) {
    while (slot.handed_over < slot.length) {
      const auto rest = slot.memory.subspan(slot.piece.hole() ? 0 : slot.handed_over);
      const std::uint64_t left = slot.length - slot.handed_over;
      const ZeroRun run = slot.piece.hole() ? ZeroRun{left, true}
                          : options_.sparse ? next_zero_run(rest.first(left), granule_)
                                            : ZeroRun{left, false};
      if (!run.zero || !options_.fresh) {
        const Submitted submitted = submit(slot, run, rest.data());
        if (submitted == Submitted::queue_full) return false;
        if (submitted == Submitted::invalid) {
          refuse("the destination does not take a change", slot.piece.at + slot.handed_over, run.length);
          return false;
        }
        ++slot.outstanding;
      }
      if (run.zero) {
        pass_over(run.length);
      } else {
        copied_.written += Bytes{run.length};
      }
      slot.handed_over += run.length;
    }
    return true;
  }

  Submitted submit(Slot& slot, const ZeroRun& run, std::byte* memory) {
    const std::uint64_t at = slot.piece.at + slot.handed_over;
    slot.runs.push_back({{memory, run.length}, at});
    IoRequest request{.op = IoOp::write_zeroes, .offset = Bytes{at}, .length = Bytes{run.length}};
    if (!run.zero) request = {.op = IoOp::write, .offset = Bytes{at}, .buffers = {&slot.runs.back().memory, 1}};
    request.token = slots_.index_of(slot) | (slot.runs.size() - 1) << 32U;
    const Submitted submitted = destination_.submit(request);
    if (submitted != Submitted::yes) slot.runs.pop_back();
    return submitted;
  }

  void was_written(const IoCompletion& done) {
    Slot& slot = slots_[done.token & 0xffffffffU];
    --slot.outstanding;
    if (done.result < 0) {
      const std::uint64_t at = slot.runs[done.token >> 32U].at;
      return give_up(queue_error(destination_, done.result, "writing to the destination", Bytes{at}));
    }
    if (slot.outstanding == 0 && slot.handed_over == slot.length) finish(slot);
  }

  void finish(Slot& slot) {
    --busy_;
    slots_.idle.push_front(slot);  // the processor still has it in its cache
    advance(slot.piece.length);
  }

  void flush() {
    if (destination_.submit({.op = IoOp::flush, .token = flush_token}) != Submitted::yes) {
      return refuse("the destination does not take a flush", 0, 0);
    }
    while (destination_.in_flight() > 0) {
      const std::size_t count = reap(destination_, [&](const IoCompletion& done) {
        if (done.result < 0) give_up(queue_error(destination_, done.result, "flushing the destination", Bytes{}));
      });
      if (count == 0) sleep();
    }
  }

  /// Reads it all back: zeros, or what the checksum says.
  void verify() {
    CopyPlan plan{{source_.size().count, chunk_, destination_.block_size().count, chunk_}, {}};
    const auto compare = [&](const IoCompletion& done) {
      Slot& slot = slots_[done.token];
      --busy_;
      slots_.idle.push(slot);
      if (done.result < 0) {
        return give_up(queue_error(destination_, done.result, "reading back the destination", Bytes{slot.piece.at}));
      }
      const auto seen = slot.memory.first(slot.length);
      const std::uint64_t sum = sums_[slot.piece.at / chunk_];
      if (sum == 0 ? is_zero(seen) : copy_checksum(seen) == sum) return;
      give_up(Error{Errc::corrupt, "the destination does not hold what was written to it, between " +
                                       std::to_string(slot.piece.at) + " and " +
                                       std::to_string(slot.piece.at + slot.length)}
                  .advise("somebody else writes to it, or the storage loses writes"));
    };
    for (piece_ = plan.next(); !problem_ && (piece_ || busy_ > 0);) {
      if (options_.stop.stop_requested()) return give_up(Error{Errc::cancelled, "stopped before it was verified"});
      while (piece_ && !slots_.idle.empty()) {
        Slot& slot = slots_.idle.front();
        slot.piece = *piece_;
        slot.length = std::min(round_up(Bytes{slot.piece.length}, destination_.block_size()).count,
                               destination_.size().count - slot.piece.at);
        slot.reading = {slot.memory.data(), slot.length};
        const Submitted submitted = destination_.submit({.op = IoOp::read,
                                                         .offset = Bytes{slot.piece.at},
                                                         .buffers = {&slot.reading, 1},
                                                         .token = slots_.index_of(slot)});
        if (submitted == Submitted::queue_full) break;
        if (submitted == Submitted::invalid)
          return refuse("the destination cannot be read", slot.piece.at, slot.length);
        static_cast<void>(slots_.idle.pop());
        ++busy_;
        piece_ = plan.next();
      }
      if (reap(destination_, compare) == 0) sleep();
    }
  }

  /// Nothing of ours is in flight afterwards: the buffers may go.
  void drain() {
    if (problem_) {
      call_off(source_);
      call_off(destination_);
    }
    while (source_.in_flight() > 0 || destination_.in_flight() > 0) {
      std::size_t count = reap(source_, [](const IoCompletion&) {});
      count += reap(destination_, [](const IoCompletion&) {});
      if (count == 0) sleep();
    }
  }

  template <IoQueue Q>
  static void call_off(Q& queue) noexcept {
    if constexpr (requires { queue.cancel(); }) queue.cancel();
  }

  template <IoQueue Q, class Each>
  std::size_t reap(Q& queue, Each each) {
    if (queue.in_flight() == 0) return 0;
    std::array<IoCompletion, 64> done{};
    auto count = queue.reap(done);
    if (!count) return give_up(std::move(count.error())), 0;
    for (std::size_t i = 0; i < *count; ++i) each(done[i]);
    return *count;
  }

  /// Until a queue has something, or it is `until`, or time to look whether we are to stop.
  void sleep(Clock::time_point until = Clock::time_point::max()) const {
    constexpr std::chrono::milliseconds stop_check{100};
    std::chrono::milliseconds wait = stop_check;
    std::array<::pollfd, 2> polls{};
    const auto add = [&](::pollfd& poll, const auto& queue) {
      poll.fd = -1;
      if (queue.in_flight() == 0) return;
      const Readiness ready = queue.ready();
      poll = {ready.fd, ready.events, 0};
      wait = std::min(wait, ready.tick);
    };
    add(polls[0], source_);
    add(polls[1], destination_);
    const Clock::time_point now = Clock::now();
    if (until < now + wait) wait = std::max(std::chrono::ceil<std::chrono::milliseconds>(until - now), wait.zero());
    static_cast<void>(::poll(polls.data(), polls.size(), static_cast<int>(wait.count())));
  }

  void pass_over(std::uint64_t bytes) noexcept { copied_.skipped += Bytes{bytes}; }

  void advance(std::uint64_t bytes) {
    state_.done += Bytes{bytes};
    if (options_.progress.report == nullptr) return;
    const std::chrono::duration<double> window = Clock::now() - window_begin_;
    if (window.count() >= 1) {
      const std::uint64_t moved = copied_.written.count - window_written_;
      state_.per_second = Bytes{static_cast<std::uint64_t>(static_cast<double>(moved) / window.count())};
      window_begin_ = Clock::now();
      window_written_ = copied_.written.count;
    }
    state_.skipped = copied_.skipped;
    options_.progress.report(options_.progress.user, state_);
  }

  void refuse(const char* what, std::uint64_t at, std::uint64_t length) {
    give_up(Error{Errc::invalid_argument,
                  std::string{what} + " of " + std::to_string(length) + " bytes at " + std::to_string(at)}
                .advise("was it opened to be written?"));
  }
  void give_up(Error error) {
    if (!problem_) problem_ = std::move(error);
  }

  Source& source_;
  Destination& destination_;
  const CopyOptions& options_;
  std::uint64_t chunk_;
  CopyOrder order_;
  std::optional<CopyPiece> piece_;  // the next one
  RateLimit limit_;
  std::uint64_t granule_;  // zeros are looked for in pieces of that size
  CopySlots slots_;
  CopyRow to_read_;
  CopyRow to_write_;
  std::size_t busy_ = 0;             // slots that are not idle
  std::vector<std::uint64_t> sums_;  // of each chunk; zero: it has only zeros
  CopyState state_;
  Clock::time_point window_begin_ = Clock::now();
  std::uint64_t window_written_ = 0;
  Copied copied_;
  std::optional<Error> problem_;
};

}  // namespace stowage::detail
