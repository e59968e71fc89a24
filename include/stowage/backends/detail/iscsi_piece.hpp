#pragma once
// Requests of a queue, and the pieces that they are cut into: one SCSI command each.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stowage/backends/detail/iscsi_command.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <utility>
#include <vector>

namespace stowage::detail {

class IscsiLane;

/// A queue of what has a member `next`, which it uses: nothing is allocated, and each is in one of them at most.
template <class T>
class Fifo {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] T* front() const noexcept { return first_; }

  void push(T& item) noexcept {
    item.next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = &item;
    last_ = &item;
  }
  /// Pre: not empty.
  T* pop() noexcept {
    T* const item = first_;
    first_ = item->next;
    if (first_ == nullptr) last_ = nullptr;
    return item;
  }
  /// Takes out those for which `which(item)` says so; it may put them into another queue.
  template <class Which>
  void remove_if(Which which) {
    Fifo rest;
    while (!empty()) {
      T& item = *pop();
      if (!which(item)) rest.push(item);
    }
    *this = rest;
  }
  void remove(const T& item) {
    if (!empty()) remove_if([&](const T& other) { return &other == &item; });
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

/// A request in a queue of LUNs.
struct IscsiRequest {
  IoRequest what{};
  std::uint64_t length = 0;
  std::chrono::steady_clock::time_point deadline{};
  bool finished = true;

  // how far it is cut
  std::uint64_t cut = 0;
  std::size_t buffer = 0;  // the next one of its buffers, and how much of that is gone
  std::size_t used = 0;
  std::size_t outstanding = 0;  // pieces that exist

  int error = 0;            // the first, as -errno
  bool again = false;       // all of it, in another way, when the pieces have come back
  bool in_doubt = false;    // something was sent that changes bytes, and no answer came
  bool unanswered = false;  // failed for want of an answer, rather than by one
  IscsiRequest* next = nullptr;

  void begin(const IoRequest& request, std::uint64_t bytes, std::chrono::steady_clock::time_point until) noexcept {
    *this = {};
    what = request;
    length = bytes;
    deadline = until;
    finished = false;
  }
  void restart() noexcept {
    cut = 0;
    again = false;
  }
  [[nodiscard]] bool pending() const noexcept { return !finished; }
  [[nodiscard]] bool writes() const noexcept { return what.op != IoOp::read && what.op != IoOp::flush; }
  [[nodiscard]] std::int64_t result() const noexcept {
    if (error == 0) return static_cast<std::int64_t>(length);
    // an answer settles it, unless it only says that the LUN cannot be reached any more
    const bool no_answer = unanswered || error == -ENODEV || error == -ENOLINK;
    return no_answer && in_doubt ? -EINPROGRESS : error;
  }
};

/// A part of a request.
struct IscsiPiece : IscsiCommand {
  IscsiRequest* request = nullptr;
  IscsiLane* lane = nullptr;  ///< over which it was sent last, or must be sent
  std::uint32_t nexus = 0;    ///< the lane's, when it was sent last
  void* engine = nullptr;
  bool in_doubt = false;                                            ///< it was sent, and no answer came
  std::vector<::scsi_iovec> places = std::vector<::scsi_iovec>(8);  ///< has room for most scatter lists from the start
  IscsiPiece* next = nullptr;
};

/// Makes pieces of requests, none larger than the LUN takes, of the commands that it knows.
class IscsiCutter {
 public:
  explicit IscsiCutter(OpenedLun lun)
      : lun_{std::move(lun)}, zeros_(std::max<std::size_t>(zeros_at_once, lun_.disk.capacity.block.count)) {}

  [[nodiscard]] const OpenedLun& lun() const noexcept { return lun_; }

  /// No: the request is done as it is. A LUN that cannot give space back need not be told to, and one that was opened
  /// to read has nothing to flush.
  [[nodiscard]] bool has_work(const IscsiRequest& request) const noexcept {
    if (request.what.op == IoOp::discard) return lun_.limits.unmap || lun_.limits.write_same_unmaps;
    return request.what.op != IoOp::flush || lun_.access == Access::read_write;
  }
  [[nodiscard]] bool is_cut(const IscsiRequest& request) const noexcept { return request.cut >= bytes_of(request); }

  /// Makes `piece` the next part. False: it is the last. Pre: not `is_cut`.
  bool cut(IscsiRequest& request, IscsiPiece& piece) {
    switch (request.what.op) {
      case IoOp::read:
      case IoOp::write: transfer(request, piece); break;
      case IoOp::write_zeroes: fill(request, piece); break;
      case IoOp::discard: give_back(request, piece); break;
      case IoOp::flush:
        piece.set(0, long_flush_ ? Cdb::synchronize_cache_16() : Cdb::synchronize_cache());
        request.cut = bytes_of(request);
        break;
    }
    return !is_cut(request);
  }

  /// The LUN does not know the command. Whether the request can be done by another one, from now on.
  bool another_way(const IscsiPiece& piece) noexcept {
    const std::uint8_t opcode = piece.cdb.bytes[0];
    if (piece.request->what.op == IoOp::write_zeroes && opcode == Cdb::write_same(0, 0, false).bytes[0]) {
      write_same_works_ = false;
      return true;
    }
    if (opcode == Cdb::synchronize_cache().bytes[0]) {
      long_flush_ = true;
      return true;
    }
    return false;
  }

 private:
  static constexpr std::size_t zeros_at_once = 64 * 1024;

  /// A flush is of no bytes, and yet one piece.
  [[nodiscard]] static std::uint64_t bytes_of(const IscsiRequest& request) noexcept {
    return std::max<std::uint64_t>(request.length, 1);
  }

  struct Part {
    std::uint64_t bytes;
    std::uint64_t block;
    std::uint32_t blocks;
  };
  Part take(IscsiRequest& request, std::uint64_t most) const noexcept {
    const std::uint64_t block = lun_.disk.capacity.block.count;
    const std::uint64_t at = request.what.offset.count + request.cut;
    const std::uint64_t bytes = std::min(most, request.length - request.cut);
    request.cut += bytes;
    return {bytes, at / block, static_cast<std::uint32_t>(bytes / block)};
  }

  void transfer(IscsiRequest& request, IscsiPiece& piece) {
    const Part part = take(request, lun_.transfer());
    const bool reads = request.what.op == IoOp::read;
    piece.set(0, reads ? Cdb::read(part.block, part.blocks) : Cdb::write(part.block, part.blocks));
    piece.places.clear();
    for (std::uint64_t left = part.bytes; left > 0;) {
      const ::iovec& buffer = request.what.buffers[request.buffer];
      const std::size_t length = std::min<std::uint64_t>(left, buffer.iov_len - request.used);
      if (length > 0) piece.places.push_back({static_cast<std::byte*>(buffer.iov_base) + request.used, length});
      left -= length;
      request.used += length;
      if (request.used < buffer.iov_len) continue;
      ++request.buffer;
      request.used = 0;
    }
    aim(piece, reads ? IscsiCommand::Direction::in : IscsiCommand::Direction::out, part.bytes);
  }

  /// By one block that the LUN repeats, which it need not keep if it then reads zeros anyway; or by zeros from here.
  void fill(IscsiRequest& request, IscsiPiece& piece) {
    const bool sparse = lun_.limits.write_same_unmaps && lun_.limits.unmapped_reads_zeros;
    if (write_same_works_) return write_same(request, piece, sparse);
    const Part part = take(request, lun_.transfer());
    piece.set(0, Cdb::write(part.block, part.blocks));
    piece.places.clear();
    for (std::uint64_t left = part.bytes; left > 0;) {
      piece.places.push_back({zeros_.data(), std::min<std::uint64_t>(left, zeros_.size())});
      left -= piece.places.back().iov_len;
    }
    aim(piece, IscsiCommand::Direction::out, part.bytes);
  }

  void give_back(IscsiRequest& request, IscsiPiece& piece) {
    if (!lun_.limits.unmap) return write_same(request, piece, true);
    const Part part = take(request, lun_.unmap_length());
    piece.set_unmap(0, part.block, part.blocks);
  }

  void write_same(IscsiRequest& request, IscsiPiece& piece, bool sparse) {
    const Part part = take(request, lun_.write_same_length(sparse));
    piece.set(0, Cdb::write_same(part.block, part.blocks, sparse))
        .from(std::span{zeros_}.first(lun_.disk.capacity.block.count));
  }

  static void aim(IscsiPiece& piece, IscsiCommand::Direction direction, std::uint64_t bytes) noexcept {
    piece.direction = direction;
    piece.data = {piece.places.front().iov_base, bytes};
    if (piece.places.size() > 1) piece.scatter = piece.places;
  }

  OpenedLun lun_;
  std::vector<std::byte> zeros_;
  bool write_same_works_ = true;
  bool long_flush_ = false;
};

/// An answer that is not good, as the kernel would say it. Pre: it is neither busy nor a UNIT ATTENTION.
inline int errno_of_answer(const IscsiCommand& command) noexcept {
  if (command.no_such_lun()) return -ENODEV;
  if (command.status == SCSI_STATUS_RESERVATION_CONFLICT) return -EBADE;
  switch (command.sense_key) {
    // invalid operation code, invalid field in it
    case SCSI_SENSE_ILLEGAL_REQUEST:
      return command.sense_code == 0x2000 || command.sense_code == 0x2400 ? -EOPNOTSUPP : -EIO;
    case SCSI_SENSE_DATA_PROTECTION: return command.sense_code == 0x2707 ? -ENOSPC : -EROFS;
    case SCSI_SENSE_NOT_READY: return -ENOLINK;
    default: return -EIO;
  }
}

/// Why there is no session.
inline int errno_of_outage(Errc code) noexcept {
  switch (code) {
    case Errc::identity_changed: return -ESTALE;
    case Errc::not_found: return -ENODEV;
    case Errc::timed_out: return -ETIMEDOUT;
    case Errc::permission_denied: return -EACCES;
    case Errc::unavailable: return -ENOLINK;
    default: return -EIO;
  }
}

}  // namespace stowage::detail
