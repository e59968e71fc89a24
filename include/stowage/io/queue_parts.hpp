#pragma once
// What engines are built of: room for the requests in flight, and the way back from a library's threads to the owner.

#include <poll.h>
#include <sys/eventfd.h>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stowage/core/handle.hpp>
#include <utility>

namespace stowage::detail {

/// Room for a fixed number of `T`, made once; a `T` has a member `T* next`.
template <class T>
class Slots {
 public:
  explicit Slots(std::size_t count) : all_{std::make_unique<T[]>(count)}, count_{count} {
    while (count-- > 0) {
      all_[count].next = free_;
      free_ = &all_[count];
    }
  }

  /// Null when all are busy.
  T* take() noexcept {
    if (free_ == nullptr) return nullptr;
    ++busy_;
    return std::exchange(free_, free_->next);
  }
  void give_back(T* slot) noexcept {
    --busy_;
    slot->next = std::exchange(free_, slot);
  }
  [[nodiscard]] std::size_t busy() const noexcept { return busy_; }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  std::unique_ptr<T[]> all_;
  std::size_t count_;
  std::size_t busy_ = 0;
  T* free_ = nullptr;
};

/// Brings slots from any thread to one owner, oldest first, and wakes the owner through a descriptor. No lock.
///
/// Threads: `post` any; all else, and the destructor, the owner's. All that was posted has been received before it
/// goes.
template <class T>
class Mailbox {
 public:
  /// `event`: an eventfd that does not block.
  explicit Mailbox(Fd event) noexcept : event_{std::move(event)} {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() {
    // Who posted into an empty box still writes to the descriptor, perhaps only now: it must not be closed yet.
    while (wakes_due_ > 0) {
      ::pollfd poll{event_.get(), POLLIN, 0};
      ::poll(&poll, 1, -1);
      drain();
    }
  }

  void post(T* slot) noexcept {
    const int event = event_.get();  // read before the box may go
    T* head = head_.load(std::memory_order_relaxed);
    do {
      slot->next = head;
    } while (!head_.compare_exchange_weak(head, slot, std::memory_order_release, std::memory_order_relaxed));
    if (head == nullptr) ::eventfd_write(event, 1);
  }

  /// The next slot, or null.
  T* receive() noexcept {
    if (received_ == nullptr) {
      T* newest = collect();
      if (newest == nullptr && wakes_due_ > 0) {
        drain();  // only now: as long as there is something, the descriptor may stay readable
        newest = collect();
      }
      while (newest != nullptr) {
        T* const older = newest->next;
        newest->next = std::exchange(received_, newest);
        newest = older;
      }
    }
    return received_ == nullptr ? nullptr : std::exchange(received_, received_->next);
  }

  /// Readable when something was posted since `receive` said null.
  [[nodiscard]] int fd() const noexcept { return event_.get(); }
  /// There is more to receive, whatever the descriptor says.
  [[nodiscard]] bool more() const noexcept { return received_ != nullptr; }

 private:
  T* collect() noexcept {
    if (head_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    ++wakes_due_;  // by the one whose slot is the oldest
    return head_.exchange(nullptr, std::memory_order_acquire);
  }
  void drain() noexcept {
    ::eventfd_t wakes = 0;
    if (::eventfd_read(event_.get(), &wakes) == 0) wakes_due_ -= static_cast<std::int64_t>(wakes);
  }

  std::atomic<T*> head_{nullptr};
  T* received_ = nullptr;  // in the order in which they came
  std::int64_t wakes_due_ = 0;
  Fd event_;
};

}  // namespace stowage::detail
