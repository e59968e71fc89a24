#pragma once
// Owners of what C libraries and the kernel hand out.

#include <unistd.h>
#include <memory>
#include <utility>

namespace stowage {

namespace detail {
template <auto Close>
struct Closer {
  template <class T>
  void operator()(T* p) const noexcept {
    static_cast<void>(Close(p));
  }
};
}  // namespace detail

/// A C handle that is closed by `Close`. One pointer wide: `Handle<void, &::rbd_close>`.
template <class T, auto Close>
using Handle = std::unique_ptr<T, detail::Closer<Close>>;

/// A file descriptor that is closed when its owner goes.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_{fd} {}
  Fd(Fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  void reset() noexcept {
    if (fd_ >= 0) static_cast<void>(::close(std::exchange(fd_, -1)));
  }

 private:
  int fd_ = -1;
};

}  // namespace stowage
