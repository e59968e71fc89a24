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
/// new one is made, the LUN is asked who it is, and what was in flight is sent again. The same after a UNIT ATTENTION.
/// A target that says BUSY or TASK SET FULL is asked again. `discard` gives space back where the LUN can, and does
/// nothing elsewhere. Large requests are cut to what the LUN takes.
///
/// A change that was sent and got no answer may still be on its way to the LUN when its session is lost. It must not
/// arrive after later changes that were acknowledged. So only its own session repeats it, after a new login with the
/// same initiator name and ISID: a target has to end the old session and its commands before it accepts that (session
/// reinstatement, RFC 7143, 6.3.5). Reads, flushes and what was not sent yet move to the other sessions. When the new
/// login does not succeed in time, or succeeds only in another portal group of the target, where it ends nothing, the
/// change is not repeated: -EINPROGRESS. Later changes of the same range then wait until the lost session is logged in
/// again, or is in another portal group; after that, an old change can still arrive as long as the target keeps the old
/// session.
///
/// LIO reinstates sessions. tgt (1.0.85) does not: it keeps the old session beside the new one until the old connection
/// ends, and still carries out what arrives on it. There a change can arrive once more after it was repeated, and
/// replace what was written meanwhile, if the network or the target delayed it for that long. No task management
/// function prevents that: ABORT TASK SET covers its own session only, and LOGICAL UNIT RESET covers what has arrived,
/// makes one later command of each session fail, and aborts the commands of other initiators.
///
/// | result | meaning |
/// |---|---|
/// | -ETIMEDOUT, -ENOLINK, -ENODEV, -EACCES | no answer in time; no connection; no such LUN; not let in: nothing was done |
/// | -EINPROGRESS | the same, or only another portal group is left, and a change was sent: the range has its old or its new content, write it again |
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
