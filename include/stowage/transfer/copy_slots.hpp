#pragma once
// The buffers of a copy, and the rows in which they wait.

#include <sys/uio.h>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <stowage/transfer/copy_plan.hpp>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A buffer, and what is being done with it.
struct CopySlot {
  struct Run {
    ::iovec memory{};
    std::uint64_t at = 0;
  };
  std::span<std::byte> memory{};
  CopyPiece piece{};
  ::iovec reading{};
  std::vector<Run> runs{};        // those of the piece that were handed over to be written
  std::uint64_t handed_over = 0;  // bytes of the piece
  std::uint64_t length = 0;       // of the piece, with what fills up its last block
  std::size_t outstanding = 0;
  CopySlot* next = nullptr;
};

/// Slots in a row.
class CopyRow {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] CopySlot& front() const noexcept { return *first_; }
  void push(CopySlot& slot) noexcept {
    slot.next = nullptr;
    (empty() ? first_ : last_->next) = &slot;
    last_ = &slot;
  }
  void push_front(CopySlot& slot) noexcept {
    slot.next = first_;
    if (empty()) last_ = &slot;
    first_ = &slot;
  }
  CopySlot& pop() noexcept { return *std::exchange(first_, first_->next); }

 private:
  CopySlot* first_ = nullptr;
  CopySlot* last_ = nullptr;
};

/// All slots of a copy: one piece of memory, which takes no more than what was used of it.
class CopySlots {
 public:
  /// `most_runs`: so many may one slot be written in.
  CopySlots(std::size_t count, std::size_t chunk, std::size_t most_runs)
      : memory_{static_cast<std::byte*>(std::aligned_alloc(page, (chunk * count + page - 1) / page * page))},
        slots_(count) {
    if (!memory_) return;
    for (std::size_t i = 0; i < count; ++i) {
      slots_[i].memory = {memory_.get() + i * chunk, chunk};
      slots_[i].runs.reserve(most_runs);
      idle.push(slots_[i]);
    }
  }

  /// There was enough memory.
  explicit operator bool() const noexcept { return memory_ != nullptr; }
  [[nodiscard]] std::uint64_t index_of(const CopySlot& slot) const noexcept {
    return static_cast<std::uint64_t>(&slot - slots_.data());
  }
  [[nodiscard]] CopySlot& operator[](std::uint64_t index) noexcept { return slots_[index]; }

  CopyRow idle;

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }  // NOLINT(cppcoreguidelines-no-malloc)
  };
  static constexpr std::size_t page = 4096;  // O_DIRECT wants memory that lies on blocks

  std::unique_ptr<std::byte, Free> memory_;
  std::vector<CopySlot> slots_;
};

}  // namespace stowage::detail
