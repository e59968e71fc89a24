#pragma once
// The one descriptor by which the owner of a queue learns that a session, or a thread that makes one, has something.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stowage/backends/detail/iscsi_lane.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/io/queue.hpp>

namespace stowage::detail {

/// With one session that is its socket, which saves a system call, or the eventfd of its thread while it is away; with
/// several, an epoll of them all.
class IscsiWatch {
 public:
  /// Errors: backend_failed (no descriptor is left).
  Result<void> open(std::size_t sessions) {
    wake_ = Fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (sessions > 1) epoll_ = Fd{::epoll_create1(EPOLL_CLOEXEC)};
    if (!wake_ || (sessions > 1 && !epoll_)) {
      return fail(Errc::backend_failed, "no descriptor for a queue", native_errno(errno));
    }
    if (epoll_) control(EPOLL_CTL_ADD, wake_.get(), EPOLLIN);
    return {};
  }

  /// What the threads of lanes write to.
  [[nodiscard]] int wake() const noexcept { return wake_.get(); }
  void drain_wake() const noexcept {
    std::uint64_t count = 0;
    static_cast<void>(::read(wake_.get(), &count, sizeof count));
  }

  /// What to poll for; `only` is the lane, if there is one.
  [[nodiscard]] Readiness ready(const IscsiLane& only) const noexcept {
    if (epoll_) return {epoll_.get(), POLLIN};
    if (only.state() != IscsiLane::State::up) return {wake_.get(), POLLIN};
    const ::pollfd socket = only.socket();
    return {socket.fd, socket.events};
  }

  void add(IscsiLane& lane) const noexcept { set(lane, EPOLL_CTL_ADD, EPOLLIN); }
  /// Before a lane goes away with its session; a session that is lost has gone by itself.
  void remove(IscsiLane& lane) const noexcept { set(lane, EPOLL_CTL_DEL, 0); }
  /// After each write: a socket that is full is waited for.
  void update(IscsiLane& lane) const noexcept {
    const std::uint32_t events = (lane.socket().events & POLLOUT) != 0 ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (events != lane.watched) set(lane, EPOLL_CTL_MOD, events);
  }

  /// Calls `each(lane)` for those that may have something to read.
  template <class Lanes, class Each>
  void for_readable(const Lanes& lanes, Each each) const {
    if (!epoll_) return each(*lanes.front());
    std::array<::epoll_event, 17> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) {
      for (const auto& lane : lanes) {
        const bool up = lane->state() == IscsiLane::State::up;
        if (!up || lane->socket().fd != events[static_cast<std::size_t>(i)].data.fd) continue;
        each(*lane);
        break;
      }
    }
  }

 private:
  void set(IscsiLane& lane, int how, std::uint32_t events) const noexcept {
    if (!epoll_) return;
    lane.watched = events;
    control(how, lane.socket().fd, events);
  }
  void control(int how, int fd, std::uint32_t events) const noexcept {
    ::epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    static_cast<void>(::epoll_ctl(epoll_.get(), how, fd, &event));
  }

  Fd wake_;
  Fd epoll_;
};

}  // namespace stowage::detail
