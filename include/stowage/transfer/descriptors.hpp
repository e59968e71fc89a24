#pragma once
// Byte streams to and from the outside: what `export_volume` writes to and `import_volume` reads from.

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <stop_token>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/sigpipe.hpp>
#include <string>

namespace stowage {

/// Takes bytes, in order. `write` takes all or fails. One that also has `write_some`, which does not wait, and `fd`, to
/// wait for, keeps nobody from looking after a connection; see `FdSink`.
template <class S>
concept ByteSink = requires(S& sink, std::span<const std::byte> data) {
  { sink.write(data) } -> std::same_as<Result<void>>;
};

/// Gives bytes, in order. `read` gives at least one, or none at the end. `size` is how many are still to come, where
/// that is known.
template <class S>
concept ByteSource = requires(S& source, const S& seen, std::span<std::byte> buffer) {
  { source.read(buffer) } -> std::same_as<Result<std::size_t>>;
  { seen.size() } -> std::same_as<std::optional<Bytes>>;
};

namespace detail {

inline Error stream_error(const char* what, int error) {
  const std::error_code native = native_errno(error);
  const Errc code = error == ENOSPC || error == EDQUOT  ? Errc::no_space
                    : error == EACCES || error == EPERM ? Errc::permission_denied
                                                        : Errc::backend_failed;
  return {code, std::string{what}.append(": ").append(native.message()), native};
}

/// Waits until `fd` is ready, and looks at `stop` now and then: a pipe may stay silent for ever.
inline Result<void> wait_ready(int fd, short events, const std::stop_token& stop) {
  for (;;) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "stopped while waiting for the other end of a stream");
    ::pollfd poll{fd, events, 0};
    const int ready = ::poll(&poll, 1, 100);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail(stream_error("poll", errno));
  }
}

}  // namespace detail

/// Writes to a file, pipe or socket that the caller has opened and will close.
class FdSink {
 public:
  explicit FdSink(int fd, std::stop_token stop = {}) : fd_{fd}, stop_{std::move(stop)} {
    struct ::stat about {};
    if (::fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode))) way_ = Way::whole;
  }

  /// Errors: no_space, permission_denied, cancelled; backend_failed, also when nobody reads the pipe any more.
  Result<void> write(std::span<const std::byte> data) {
    while (!data.empty()) {
      if (auto ready = detail::wait_ready(fd_, POLLOUT, stop_); !ready) return ready;
      const auto put = write_some(data);
      if (!put) return fail(put.error());
      data = data.subspan(*put);
    }
    return {};
  }
  /// As much as goes without waiting; when that is not all, wait until `fd` can be written to. Errors: as `write`.
  Result<std::size_t> write_some(std::span<const std::byte> data) {
    const detail::NoSigpipe quiet;
    for (std::size_t put = 0;;) {
      const ::ssize_t more = put < data.size() ? write_once(data.subspan(put)) : 0;
      if (more > 0) put += static_cast<std::size_t>(more);
      if (more > 0) continue;
      if (more == 0 || errno == EINTR || errno == EAGAIN || put > 0) return put;
      if (errno == EPIPE) return fail(Errc::backend_failed, "the reader of the stream has gone", native_errno(EPIPE));
      return fail(detail::stream_error("writing the stream", errno));
    }
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  /// `whole`: files and disks take all. Pipes and sockets are asked not to block, which they know from Linux 6.4 on;
  /// others get a page whenever they are ready: so much is sure not to block, however the pages of a pipe are filled.
  enum class Way : std::uint8_t { whole, without_waiting, page };

  /// As write(2), but zero for what would have to wait.
  ::ssize_t write_once(std::span<const std::byte> data) noexcept {
    constexpr std::size_t most = std::size_t{1} << 30U;
    if (way_ == Way::whole) return ::write(fd_, data.data(), std::min(data.size(), most));
    if (way_ == Way::without_waiting) {
      const ::iovec all{const_cast<std::byte*>(data.data()), std::min(data.size(), most)};  // NOLINT: it is only read
      const ::ssize_t put = ::pwritev2(fd_, &all, 1, -1, RWF_NOWAIT);
      if (put >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) return put;
      way_ = Way::page;
    }
    ::pollfd poll{fd_, POLLOUT, 0};
    if (::poll(&poll, 1, 0) <= 0) return 0;
    return ::write(fd_, data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
  }

  int fd_;
  Way way_ = Way::without_waiting;
  std::stop_token stop_;
};

/// Reads from a file, pipe or socket that the caller has opened and will close.
class FdSource {
 public:
  explicit FdSource(int fd, std::stop_token stop = {}) : fd_{fd}, stop_{std::move(stop)} {}

  /// Errors: permission_denied, cancelled, backend_failed.
  Result<std::size_t> read(std::span<std::byte> buffer) {
    for (;;) {
      if (auto ready = detail::wait_ready(fd_, POLLIN, stop_); !ready) return fail(std::move(ready.error()));
      const ::ssize_t got = ::read(fd_, buffer.data(), buffer.size());
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR && errno != EAGAIN) return fail(detail::stream_error("reading the stream", errno));
    }
  }

  /// Of a file, or of a block device: from where it stands to its end.
  [[nodiscard]] std::optional<Bytes> size() const {
    struct ::stat about {};
    if (::fstat(fd_, &about) != 0 || (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))) return std::nullopt;
    const ::off_t here = ::lseek(fd_, 0, SEEK_CUR);
    if (here < 0) return std::nullopt;
    const ::off_t end = S_ISREG(about.st_mode) ? about.st_size : ::lseek(fd_, 0, SEEK_END);
    if (S_ISBLK(about.st_mode) && ::lseek(fd_, here, SEEK_SET) < 0) return std::nullopt;
    return end < here ? std::nullopt : std::optional{Bytes{static_cast<std::uint64_t>(end - here)}};
  }

 private:
  int fd_;
  std::stop_token stop_;
};

static_assert(ByteSink<FdSink> && ByteSource<FdSource>);

}  // namespace stowage
