#pragma once
// An open image, read and written.

#include <rbd/librbd.h>
#include <algorithm>
#include <cstddef>
#include <span>
#include <stop_token>
#include <stowage/backends/detail/rbd_extents.hpp>
#include <stowage/backends/detail/rbd_image.hpp>
#include <stowage/backends/detail/rbd_run.hpp>
#include <stowage/backends/detail/rbd_verb_run.hpp>
#include <stowage/io/device.hpp>
#include <stowage/io/rbd_queue.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage {

/// An open image or snapshot of an rbd storage.
///
/// Open for writing, it holds the image's exclusive lock: another client that opens the image is refused, here with
/// `in_use`. Every write that was acknowledged has reached the OSDs. `discard` frees whole 64 KiB; the rest of the
/// range keeps its bytes.
class RbdDevice {
 public:
  RbdDevice(detail::RbdPoolPtr pool, detail::RbdImage image, std::string spec, Bytes size, bool writable) noexcept
      : pool_{std::move(pool)}, image_{std::move(image)}, spec_{std::move(spec)}, size_{size}, writable_{writable} {}
  RbdDevice(RbdDevice&&) noexcept = default;
  RbdDevice& operator=(RbdDevice&& other) noexcept {
    if (this != &other) {
      static_cast<void>(close());
      pool_ = std::move(other.pool_);
      image_ = std::move(other.image_);
      spec_ = std::move(other.spec_);
      size_ = other.size_;
      writable_ = other.writable_;
    }
    return *this;
  }
  ~RbdDevice() { static_cast<void>(close()); }

  /// As it was when it was opened.
  [[nodiscard]] Bytes size() const noexcept { return size_; }
  /// Sectors, unless somebody made an image that has no whole number of them.
  [[nodiscard]] Bytes block_size() const noexcept { return Bytes{size_.count % 512 == 0 ? 512U : 1U}; }

  /// What of it lies in one object is optimal.
  [[nodiscard]] IoSizes io_sizes() const noexcept {
    return {.smallest = Bytes{}, .optimal = image_ ? detail::rbd_stripe(image_.get()) : Bytes{}};
  }

  Result<void> read_at(Bytes at, std::span<std::byte> buffer) {
    if (auto good = check(at, buffer.size()); !good) return good;
    while (!buffer.empty()) {
      const std::size_t length = std::min(buffer.size(), chunk);
      const auto got = ::rbd_read(image_.get(), at.count, length, reinterpret_cast<char*>(buffer.data()));
      if (got < 0) return fail(error(static_cast<int>(got), "reading", at));
      if (got == 0) return fail(Errc::conflict, "'" + spec_ + "' became smaller while it was open");
      buffer = buffer.subspan(static_cast<std::size_t>(got));
      at += Bytes{static_cast<std::uint64_t>(got)};
    }
    return {};
  }

  Result<void> write_at(Bytes at, std::span<const std::byte> data) {
    if (auto good = check_writable(at, data.size()); !good) return good;
    return each_chunk(at, data.size(), "writing", [&](std::uint64_t offset, std::size_t length) {
      return ::rbd_write(image_.get(), offset, length,
                         reinterpret_cast<const char*>(data.data() + (offset - at.count)));
    });
  }

  Result<void> discard(Bytes at, Bytes length) {
    if (auto good = check_writable(at, length.count); !good) return good;
    return each_chunk(at, length.count, "discarding", [&](std::uint64_t offset, std::size_t n) {
      return ::ssize_t{::rbd_discard(image_.get(), offset, n)};
    });
  }

  Result<void> write_zeroes(Bytes at, Bytes length) {
    if (auto good = check_writable(at, length.count); !good) return good;
    return each_chunk(at, length.count, "writing zeroes", [&](std::uint64_t offset, std::size_t n) {
      return ::rbd_write_zeroes(image_.get(), offset, n, 0, 0);
    });
  }

  Result<void> flush() {
    if (!image_) return closed();
    if (!writable_) return {};
    if (const int code = ::rbd_flush(image_.get()); code < 0) return fail(error(code, "flushing", Bytes{}));
    return {};
  }

  /// The handle goes in any case; a close that hangs is left to a thread of its own.
  Result<void> close() {
    if (!image_) return {};
    const bool writable = writable_;
    const detail::RbdPoolPtr pool = pool_;
    return detail::rbd_run_always(
        pool, "closing '" + spec_ + "'", {},
        [image = std::move(image_), spec = spec_, writable](detail::RbdProgress&) mutable -> Result<void> {
          Result<void> flushed;
          if (writable) flushed = detail::rbd_changed(::rbd_flush(image.get()), "flushing '" + spec + "'");
          const int code = image.close();
          if (!flushed) return flushed;
          return detail::rbd_changed(code, "closing '" + spec + "'");
        });
  }

  /// Errors: invalid_argument (closed, or a depth below 1 or above 4096). The device stays open as long as the queue.
  [[nodiscard]] Result<RbdQueue> queue(std::size_t depth) const {
    if (!image_) return closed();
    return RbdQueue::over(image_.get(), size_, writable_ ? Access::read_write : Access::read_only, depth);
  }

  /// Where it has data, see `MappedDevice`. What was written since it was opened is in it, if it was flushed.
  /// Errors: cancelled, by `stop` or `OpenOptions::stop`.
  /// Blocks: while each object is asked, where the image has no fast-diff.
  [[nodiscard]] Result<std::vector<Extent>> extents(const std::stop_token& stop = {}) const {
    if (!image_) return closed();
    return detail::rbd_extents(image_.get(), size_, spec_, {pool_->options.stop, stop});
  }

  /// What may differ from a snapshot, see `TracksChanges`. What was written since it was opened is in it, if it was
  /// flushed. Errors, and how long it blocks: as `extents`.
  [[nodiscard]] Result<std::vector<Extent>> changes_since(const SnapshotName& snapshot,
                                                          const std::stop_token& stop = {}) const {
    if (!image_) return closed();
    return detail::rbd_changes(image_.get(), size_, snapshot.str(), spec_, {pool_->options.stop, stop});
  }

  /// The image of librbd. Null once it is closed.
  [[nodiscard]] ::rbd_image_t native() const noexcept { return image_.get(); }

 private:
  // librbd's discard takes and gives 32-bit lengths.
  static constexpr std::size_t chunk = std::size_t{1} << 30U;

  [[nodiscard]] static tl::unexpected<Error> closed() { return fail(Errc::invalid_argument, "the device is closed"); }

  [[nodiscard]] Result<void> check(Bytes at, std::uint64_t length) const {
    if (!image_) return closed();
    return detail::check_range(size_, block_size(), at, length);
  }

  [[nodiscard]] Result<void> check_writable(Bytes at, std::uint64_t length) const {
    if (image_ && !writable_) return fail(Errc::wrong_state, "'" + spec_ + "' was opened to read");
    return check(at, length);
  }

  template <class Call>
  Result<void> each_chunk(Bytes at, std::uint64_t length, const char* doing, Call call) {
    for (std::uint64_t done = 0; done < length;) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(length - done, chunk));
      const auto code = call(at.count + done, n);
      if (code < 0) return fail(error(static_cast<int>(code), doing, at + Bytes{done}));
      done += n;
    }
    return {};
  }

  Error error(int code, const char* doing, Bytes at) const {
    if (code == -ESHUTDOWN) pool_->cluster->retire();
    const std::string what = std::string{doing} + " '" + spec_ + "' at " + std::to_string(at.count);
    const bool reading = doing[0] == 'r';
    return reading ? detail::rbd_error(code, what) : detail::rbd_change_error(code, what);
  }

  detail::RbdPoolPtr pool_;
  detail::RbdImage image_;  // goes before the pool
  std::string spec_;
  Bytes size_;
  bool writable_ = false;
};

static_assert(QueuedDevice<RbdDevice> && SizedDevice<RbdDevice> && MappedDevice<RbdDevice> && TracksChanges<RbdDevice>);

namespace detail {

inline Result<RbdDevice> rbd_open_device(const RbdPoolPtr& pool, const VolumeName& volume, const std::string& snapshot,
                                         Access access) {
  const bool writable = access == Access::read_write && snapshot.empty();
  return rbd_run(pool, "opening", {},
                 [pool, name = volume.str(), snapshot, writable](RbdProgress& progress) -> Result<RbdDevice> {
                   progress.look();  // who opens late closes again
                   auto image = writable ? rbd_edit(*pool, name) : rbd_look(*pool, name, snapshot);
                   if (!image) return fail(std::move(image.error()));
                   if (snapshot.empty() && !writable) {
                     auto entered = rbd_enter(*pool, image->get(), name, Verb::open_to_read);
                     if (!entered) return fail(std::move(entered.error()));
                   }
                   if (writable) {
                     if (auto owned = rbd_own(*pool, image->get(), name); !owned) return fail(std::move(owned.error()));
                     // Asked while it is ours: a verb that begins now finds us.
                     auto entered = rbd_enter(*pool, image->get(), name, Verb::open_to_write);
                     if (!entered) return fail(std::move(entered.error()));
                   }
                   std::uint64_t size = 0;
                   if (const int code = ::rbd_get_size(image->get(), &size); code < 0) {
                     return fail(rbd_error(code, "asking for the size"));
                   }
                   return RbdDevice{pool, *std::move(image), pool->spec(name, snapshot), Bytes{size}, writable};
                 });
}

}  // namespace detail
}  // namespace stowage
