#pragma once
// A few threads that make the system calls that io_uring cannot, or all of them where io_uring is forbidden.

#include <pthread.h>
#include <signal.h>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/queue_parts.hpp>
#include <stowage/io/uring_call.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Requests go in through `start` and come back through the mailbox. All that went in came back before it goes.
class UringThreads {
 public:
  UringThreads(int fd, Mailbox<UringOp>& done) noexcept : fd_{fd}, done_{done} {}
  UringThreads(const UringThreads&) = delete;
  UringThreads& operator=(const UringThreads&) = delete;
  ~UringThreads() {
    {
      const std::lock_guard lock{mutex_};
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// Errors: backend_failed (the system has no more threads).
  Result<void> grow(std::size_t count) {
    // The program's signals are none of theirs.
    ::sigset_t all{};
    ::sigset_t before{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<void> grown;
    try {
      threads_.reserve(count);
      while (threads_.size() < count) threads_.emplace_back([this] { run(); });
    } catch (const std::system_error& error) {
      grown = fail(Errc::backend_failed, "no thread for a queue", error.code());
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return grown;
  }

  void start(UringOp* op) {
    op->next = nullptr;
    {
      const std::lock_guard lock{mutex_};
      (last_ == nullptr ? first_ : last_->next) = op;
      last_ = op;
    }
    work_.notify_one();
  }

 private:
  void run() {
    while (UringOp* const op = take()) {
      while (!op->advance(op->call().perform(fd_))) {
      }
      done_.post(op);
    }
  }

  UringOp* take() {
    std::unique_lock lock{mutex_};
    work_.wait(lock, [&] { return first_ != nullptr || stop_; });
    UringOp* const op = first_;
    if (op == nullptr) return nullptr;
    first_ = op->next;
    if (first_ == nullptr) last_ = nullptr;
    return op;
  }

  int fd_;
  Mailbox<UringOp>& done_;
  std::mutex mutex_;
  std::condition_variable work_;
  UringOp* first_ = nullptr;
  UringOp* last_ = nullptr;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace stowage::detail
