#pragma once
// Many requests in flight on a LUN.

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_engine.hpp>
#include <stowage/backends/detail/iscsi_lun.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/io/queue.hpp>
#include <string>
#include <utility>

namespace stowage {

/// The queue of an `IscsiDirectDevice`, over one or several sessions of its own.
///
/// A request has the deadline of `OpenOptions::timeout`, and always comes back. Until then: when a session is lost, a
/// new one is made, the LUN is asked who it is, and what was in flight is sent again; all requests here may be, as
/// nobody can have built on one that was not completed (a target ends what an old session began before it lets its
/// successor in, RFC 7143, 6.3.5). The same after a UNIT ATTENTION. A target that says BUSY or TASK SET FULL is asked
/// again. `discard` gives space back where the LUN can, and does nothing elsewhere. Large requests are cut to what the
/// LUN takes.
///
/// | result | meaning |
/// |---|---|
/// | -ETIMEDOUT, -ENOLINK, -ENODEV, -EACCES | no answer in time; no connection; no such LUN; not let in: nothing was done |
/// | -EINPROGRESS | the same, but a change was sent: the range has its old or its new content, write it again |
/// | -ESTALE | the LUN is another one, or has another size: no request is sent any more |
/// | -ENOSPC, -EROFS, -EBADE | the LUN is full; write-protected; reserved by another initiator |
/// | -EOPNOTSUPP, -EIO | the LUN does not know the command; it answered something else |
///
/// Blocks: the destructor, until all requests have come back, which their deadlines see to.
class IscsiQueue {
 public:
  /// Errors: invalid_argument (a depth of 1 to 4096, 1 to 16 sessions); of a login; identity_changed.
  [[nodiscard]] static Result<IscsiQueue> open(std::shared_ptr<const detail::IscsiConnector> connector,
                                               detail::OpenedLun lun, std::size_t depth, std::size_t sessions) {
    if (auto good = detail::check_depth(depth); !good) return fail(std::move(good.error()));
    if (sessions < 1 || sessions > 16) {
      return fail(Errc::invalid_argument, "a queue has 1 to 16 sessions, not " + std::to_string(sessions));
    }
    auto engine = std::make_unique<detail::IscsiEngine>(std::move(connector), std::move(lun), depth);
    return engine->open(sessions).map([&] { return IscsiQueue{std::move(engine)}; });
  }

  Submitted submit(const IoRequest& request) noexcept { return engine_->submit(request); }
  /// Never fails: every request has a result of its own.
  Result<std::size_t> reap(std::span<IoCompletion> out) { return engine_->reap(out); }
  [[nodiscard]] Readiness ready() const noexcept { return engine_->ready(); }
  /// For `wait`. With 16 or more requests in flight on a fast target, up to 0.2 ms longer than until the first of them
  /// is done, so that others are as well.
  void sleep(std::chrono::milliseconds most) { engine_->sleep(most); }

  [[nodiscard]] std::size_t in_flight() const noexcept { return engine_->in_flight(); }
  [[nodiscard]] std::size_t depth() const noexcept { return engine_->depth(); }
  [[nodiscard]] Bytes size() const noexcept { return engine_->target().size; }
  [[nodiscard]] Bytes block_size() const noexcept { return engine_->target().block_size; }

  /// What last happened to a session, in words; null as long as nothing did.
  [[nodiscard]] const Error* trouble() const noexcept { return engine_->trouble(); }

 private:
  explicit IscsiQueue(std::unique_ptr<detail::IscsiEngine> engine) noexcept : engine_{std::move(engine)} {}

  std::unique_ptr<detail::IscsiEngine> engine_;
};

static_assert(IoQueue<IscsiQueue>);

}  // namespace stowage
