#pragma once
// A stream of a snapshot (send.hpp) becomes a volume, or brings one that has its base up to date. A volume on the way
// there is `incomplete`: it has a receipt of how far it has come, by which the same stream can be taken up again, and
// which `recover` undoes.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/increment/format.hpp>
#include <stowage/increment/reader.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/increment/whole_blocks.hpp>
#include <stowage/increment/write_behind.hpp>
#include <stowage/names.hpp>
#include <stowage/transfer/descriptors.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <stowage/transfer/rate_limit.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <thread>
#include <utility>

namespace stowage {

struct ReceiveOptions {
  bool rollback = false;              ///< first back to the base, whatever was written since
  Content content = Content::images;  ///< of a volume that is made
  std::size_t queue_depth = 16;       ///< requests in flight, and buffers of 1 MiB
  Bytes receipt_every = 256_MiB;      ///< of the stream: so much at most is received again after an interruption
  Bytes rate_limit{};                 ///< bytes of data a second; zero: as fast as it goes
  Work work{};
};

/// What `receive_snapshot` did.
struct Received {
  SnapshotName snapshot;  ///< which the volume has now
  Bytes size{};           ///< of the stream's volume; ours may be larger
  Bytes data{};           ///< bytes that were written
  Bytes zeros{};
  Bytes skipped{};  ///< what was there already
};

namespace detail {

template <class Storage, class Backend, ByteSource Source>
class Receiver {
 public:
  Receiver(Storage& storage, Backend& backend, VolumeName volume, Source& source, const ReceiveOptions& options)
      : storage_{storage}, backend_{backend}, volume_{std::move(volume)}, reader_{source}, options_{options} {}

  Result<Received> run() {
    const auto begun = begin();
    if (!begun) {
      if (marked_) static_cast<void>(storage_.abandon_import(volume_));
      return fail(begun.error());
    }
    Received received{.snapshot = header_->target.name, .size = header_->size};
    auto device = open();
    Result<void> done = device ? write(*device, received) : fail(std::move(device.error()));
    if (done) done = backend_.end_receipt(volume_, *device, header_->target.name, header_->target.identity);
    if (done) {
      static_cast<void>(device->close());  // all is durable, and others may use it already
      return received;
    }
    if (device) static_cast<void>(device->close());
    return fail(given_up(std::move(done.error())));
  }

 private:
  using Device = typename Backend::Device;

  /// All that can be known before anything is written.
  Result<void> begin() {
    const auto parts = parse_volume_name(storage_.features().type, volume_);
    if (!parts) return fail(parts.error());
    if (parts->is_base) return fail(Errc::wrong_state, "a template has no snapshots: nothing can be received there");
    if (parts->base) volume_ = *VolumeName::parse(parts->name);
    auto header = reader_.header();
    if (!header) return fail(std::move(header.error()));
    header_ = *std::move(header);
    if (auto good = check_new_snapshot_name(header_->target.name); !good) return good;
    auto receipt = backend_.receipt(volume_);
    if (!receipt && receipt.error().code() == Errc::not_found && !header_->base) return make(*parts);
    if (!receipt) return fail(std::move(receipt.error()));
    return header_->base ? begin_on_base(*receipt) : resume(*receipt);
  }

  Result<void> make(const VolumeParts& parts) {
    const auto owner = parts.owner();
    if (!owner) return fail(Errc::invalid_argument, "the owner's number is too large");
    if (auto whole = from_its_begin(); !whole) return whole;
    const CreateSpec spec{
        .vmid = *owner, .size = volume_size_for(header_->size), .name = volume_, .content = options_.content};
    return storage_.begin_import(spec).map([&](const VolumeName&) { made_ = true; });
  }

  Result<void> begin_on_base(const std::optional<Receipt>& receipt) {
    const auto identity = backend_.snapshot_identity(volume_, header_->base->name);
    if (!identity) return fail(identity.error());
    if (*identity != header_->base->identity) {
      return fail(Error{Errc::identity_changed, "its snapshot '" + header_->base->name.str() +
                                                    "' is not the one that the stream begins at: it is " + *identity +
                                                    ", and the stream begins at " + header_->base->identity});
    }
    if (!options_.rollback) return resume(receipt);
    if (auto free = without_target(); !free) return free;
    if (auto whole = from_its_begin(); !whole) return whole;
    return storage_.rollback(volume_, header_->base->name, {options_.work.stop, {}});
  }

  /// Goes on with the same stream, or begins on a volume that is whole.
  Result<void> resume(const std::optional<Receipt>& receipt) {
    const auto info = backend_.info(volume_);
    if (!info) return fail(info.error());
    if (!receipt && info->incomplete()) {
      return fail(Error{Errc::wrong_state, "it is in the middle of: " + info->intent}.advise("recover finishes it"));
    }
    if (!receipt && !header_->base) {
      return fail(Error{Errc::already_exists, "there is such a volume, and the stream is of a whole one"});
    }
    if (receipt) {
      const bool same_base = header_->base ? receipt->base == header_->base->name : !receipt->base;
      if (receipt->target != header_->target.identity || !same_base) {
        return fail(Error{Errc::wrong_state, "it is in the middle of receiving " + receipt->target +
                                                 ", and the stream brings " + header_->target.identity}
                        .advise("receive that to its end, or recover undoes it"));
      }
      before_ = receipt->done;
      has_receipt_ = true;
    }
    if (auto whole = from_its_begin(); !whole) return whole;
    if (before_ == header_->size) return {};  // then a snapshot of that name is ours
    if (auto free = without_target(); !free) return free;
    unchanged_needed_ = !receipt;
    return {};
  }

  Result<void> without_target() const {
    const auto snapshots = backend_.snapshots(volume_);
    if (!snapshots) return fail(snapshots.error());
    for (const SnapshotInfo& snapshot : *snapshots) {
      if (snapshot.name != header_->target.name) continue;
      const auto identity = backend_.snapshot_identity(volume_, snapshot.name);
      const bool same = identity && *identity == header_->target.identity;
      return fail(Error{Errc::already_exists, "it has a snapshot '" + snapshot.name.str() + "' already" +
                                                  (same ? ", which is the one that the stream brings" : "")});
    }
    return {};
  }

  /// The stream has what the volume lacks. Errors: conflict.
  [[nodiscard]] Result<void> from_its_begin() const {
    if (header_->begin <= before_) return {};
    return fail(Error{Errc::conflict, "the stream begins at " + std::to_string(header_->begin.count) +
                                          ", and the volume has it only up to " + std::to_string(before_.count)}
                    .advise("send it from there"));
  }

  /// The volume, as large as it will be, and marked.
  Result<Device> open() {
    if (has_receipt_) {
      if (auto taken = take_over(); !taken) return fail(std::move(taken.error()));
    }
    auto device = storage_.open_volume(volume_, Access::read_write);
    if (!device) return device;
    if (unchanged_needed_) {
      const auto changes = changes_of(*device, header_->base->name, options_.work.stop);
      if (!changes) return fail(changes.error());
      if (!changes->empty()) {
        return fail(Error{Errc::conflict, "it was written to since snapshot '" + header_->base->name.str() +
                                              "', first at " + std::to_string(changes->front().offset.count)}
                        .advise("to lose what was written, let it first be rolled back"));
      }
    }
    if (auto marked = mark(*device, before_); !marked) return fail(std::move(marked.error()));
    if (device->size() >= header_->size) return device;
    if (auto closed = device->close(); !closed) return fail(std::move(closed.error()));
    if (auto grown = storage_.resize(volume_, header_->size); !grown) return fail(std::move(grown.error()));
    return storage_.open_volume(volume_, Access::read_write);
  }

  /// What another run, which gave up or died, has received. Errors: in_use (it goes on).
  Result<void> take_over() {
    if constexpr (requires { backend_.resume_receipt(volume_); }) {
      if (auto resumed = backend_.resume_receipt(volume_); !resumed) return resumed;
    }
    marked_ = true;
    return {};
  }

  Result<void> mark(Device& device, Bytes done) {
    Receipt receipt{.target = header_->target.identity, .done = done};
    if (header_->base) receipt.base = header_->base->name;
    return backend_.set_receipt(volume_, device, receipt).map([&] {
      before_ = done;
      marked_ = true;
    });
  }

  Result<void> write(Device& device, Received& received) {
    auto queue = device.queue(options_.queue_depth);
    if (!queue) return fail(std::move(queue.error()));
    WholeBlocks blocks{device, header_->base ? device.size() : before_};
    WriteBehind writes{*queue, options_.queue_depth, options_.work.stop};
    RateLimit limit{options_.rate_limit};
    const Bytes had = before_;
    for (Bytes since_receipt{};;) {
      auto room = writes.room();
      if (!room) return fail(std::move(room.error()));
      if (auto turn = wait_for(limit); !turn) return turn;
      const auto record = reader_.next(*room);
      if (!record) return fail(record.error());
      if (record->kind == StreamRecord::Kind::end) break;
      options_.work.progress(record->end().count, header_->size.count);
      if (record->end() <= had) {
        received.skipped += record->length;
        continue;
      }
      auto put = blocks.prepare(record->offset, record->end()).and_then([&] {
        return submit(writes, device, *record, *room);
      });
      if (!put) return put;
      const bool is_data = record->kind == StreamRecord::Kind::data;
      (is_data ? received.data : received.zeros) += record->length;
      if (!is_data) continue;
      limit.begin(RateLimit::Clock::now(), record->length.count);
      since_receipt += record->length;
      if (since_receipt < options_.receipt_every) continue;
      since_receipt = Bytes{};
      auto kept = writes.flush().and_then([&] { return mark(device, record->end()); });
      if (!kept) return kept;
    }
    return writes.flush().and_then([&] { return mark(device, header_->size); });
  }

  /// Our blocks may be larger than the volume of the stream has: the rest of the last one is zeros.
  template <class Writes>
  Result<void> submit(Writes& writes, Device& device, const StreamRecord& record, std::span<std::byte> room) {
    const Bytes length = round_up(record.length, device.block_size());
    if (record.kind == StreamRecord::Kind::zeros) return writes.zeros(record.offset, length);
    std::fill(room.begin() + static_cast<std::ptrdiff_t>(record.length.count),
              room.begin() + static_cast<std::ptrdiff_t>(length.count), std::byte{});
    return writes.data(record.offset, room.first(length.count));
  }

  Result<void> wait_for(const RateLimit& limit) const {
    for (auto now = RateLimit::Clock::now(); !limit.allows(now); now = RateLimit::Clock::now()) {
      if (options_.work.stop.stop_requested()) return fail(Errc::cancelled, "stopped before the end of the stream");
      constexpr RateLimit::Clock::duration nap = std::chrono::milliseconds{100};
      std::this_thread::sleep_for(std::min(limit.next() - now, nap));
    }
    return {};
  }

  /// A volume that was made and has nothing yet is removed again; else it keeps its receipt, and is nobody's.
  Error given_up(Error error) {
    if (made_ && before_ == Bytes{}) return take_back(storage_, volume_, std::move(error));
    if (marked_ || made_) static_cast<void>(storage_.abandon_import(volume_));
    if (!marked_) return error;
    return std::move(error).advise("the volume is incomplete: receive the same stream again, all of it or from " +
                                   std::to_string(before_.count) + " on, or recover undoes it");
  }

  Storage& storage_;
  Backend& backend_;
  VolumeName volume_;
  StreamReader<Source> reader_;
  const ReceiveOptions& options_;
  std::optional<StreamHeader> header_{};
  Bytes before_{};  // what the receipt says
  bool has_receipt_ = false;
  bool made_ = false;
  bool marked_ = false;
  bool unchanged_needed_ = false;
};

}  // namespace detail

/// Receives a stream that `send_snapshot` has sent, of a storage of any type. `storage` is a `Storage` or a
/// `BasicAnyStorage`.
///
/// One without a base makes `volume`. One with a base is for a volume that has that very snapshot, under the same name,
/// and to which nothing was written since; it grows, if the sender's has. At the end the volume has the stream's
/// snapshot, by which the next stream will know it; from there it can also be sent back, or on.
///
/// When it fails, or the program dies, the volume is `incomplete` and has a receipt: the same stream goes on where that
/// says, whether all of it is sent again or what is missing (`SendOptions::begin`). What others write to the volume in
/// between is not noticed. A volume that was made and has no receipt of any data yet is removed again.
///
/// Errors: corrupt (the stream; nothing of a damaged record is written); not_supported (a newer version of the format;
/// a type that does not track changes); already_exists (the volume, the snapshot); not_found (the volume, the base);
/// identity_changed (the base is another); conflict (it was written to, or the stream begins behind the receipt);
/// wrong_state (a template; another verb or stream is unfinished); parse_failed (a name that no new snapshot of ours
/// may have); in_use, no_space, cancelled, those of the source.
/// Blocks: until the end of the stream. Memory: `queue_depth` MiB.
template <class Storage, ByteSource Source>
Result<Received> receive_snapshot(Storage& storage, const VolumeName& volume, Source& source,
                                  const ReceiveOptions& options = {}) {
  return detail::with_increments<Received>(storage, [&](auto& concrete, auto& backend) {
    return detail::Receiver{concrete, backend, volume, source, options}.run().map_error(
        [&](Error&& error) { return std::move(error).about(concrete.id().str() + ":" + volume.str()); });
  });
}

}  // namespace stowage
