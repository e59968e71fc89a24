#pragma once
// How a thin pool is doing, and whether it may take more.

#include <cstdint>
#include <optional>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// A thin pool, as `LvmThin::scan` finds it and `LvmThin::pool` tells of its own.
struct ThinPool {
  std::string vg;
  std::string name;
  bool active = false;
  Bytes size{};
  std::optional<Bytes> used{};  ///< known while it is active, as all that is optional here
  Bytes metadata_size{};
  std::optional<Bytes> metadata_used{};
  Bytes provisioned{};              ///< the sum of the sizes of its volumes and snapshots
  Bytes chunk{};                    ///< what it allocates at a time
  Bytes vg_free{};                  ///< by which it can still be extended
  std::optional<bool> queues{};     ///< when it is full, writers wait (60 s, as the kernel is set up); else they fail
  std::optional<bool> monitored{};  ///< dmeventd looks after it, and extends it where lvm.conf says so
  bool zeroes = true;               ///< what is newly allocated reads as zeros
  std::optional<std::uint64_t> transaction{};         ///< of LVM's metadata
  std::optional<std::uint64_t> kernel_transaction{};  ///< the pool's own, which is the same. `scan` does not ask for it
  std::vector<std::string> health{};                  ///< what LVM finds wrong with it
};

namespace detail {

inline std::vector<std::string> lvm_pool_health(const LvmVolume& pool) {
  std::vector<std::string> health;
  switch (pool.health()) {
    case 'D':
      health.push_back(std::string{"out_of_data: the pool has no room for data left, "} +
                       (pool.when_full == "error" ? "writers fail" : "writers wait, and fail after a while") +
                       "; extend it");
      break;
    case 'M':
      health.emplace_back("metadata_read_only: the pool's metadata is full or damaged; nothing can be changed");
      break;
    case 'F': health.emplace_back("failed: the pool does no I/O any more; see lvmthin(7)"); break;
    case 'p': health.emplace_back("partial: a disk of the volume group is missing"); break;
    default: break;
  }
  if (!pool.check_needed.empty() && pool.check_needed != "unknown") {
    health.emplace_back("needs_check: deactivate the pool and check its metadata; see lvmthin(7)");
  }
  return health;
}

inline ThinPool lvm_thin_pool(const LvmReport& report, const LvmVolume& pool) {
  ThinPool thin{.vg = pool.vg, .name = pool.name, .active = pool.active(), .size = pool.size};
  if (pool.data) thin.used = pool.data->of(pool.size);
  thin.metadata_size = pool.metadata_size;
  if (pool.metadata) thin.metadata_used = pool.metadata->of(pool.metadata_size);
  for (const LvmVolume& lv : report.volumes) {
    if (lv.is_thin() && lv.pool == pool.name && lv.vg == pool.vg) thin.provisioned += lv.size;
  }
  thin.chunk = pool.chunk;
  thin.vg_free = pool.vg_free;
  if (!pool.when_full.empty()) thin.queues = pool.when_full == "queue";
  if (pool.active() && !pool.monitor.empty()) thin.monitored = pool.monitor == "monitored";
  thin.zeroes = pool.zeroes();
  thin.transaction = pool.transaction;
  thin.health = lvm_pool_health(pool);
  return thin;
}

inline std::vector<ThinPool> lvm_thin_pools(const LvmReport& report) {
  std::vector<ThinPool> pools;
  for (const LvmVolume& lv : report.volumes) {
    if (lv.is_pool() && !lv.hidden) pools.push_back(lvm_thin_pool(report, lv));
  }
  return pools;
}

/// Of what the kernel says of a pool: "7 12/1024 0/16384 - rw ...".
inline std::optional<std::uint64_t> lvm_transaction_in(const LvmKernelWords& words) {
  if (words.type != "thin-pool") return std::nullopt;
  const std::string_view status = words.status;
  return lvm_number<std::uint64_t>(status.substr(0, status.find(' ')));
}

/// What is wrong when the kernel and LVM count a pool's changes differently, with both numbers; else empty.
inline std::string lvm_transaction_trouble(const ThinPool& pool) {
  if (!pool.kernel_transaction || !pool.transaction || *pool.kernel_transaction == *pool.transaction) return {};
  return "transaction_id_mismatch, the pool has " + std::to_string(*pool.kernel_transaction) + ", LVM expects " +
         std::to_string(*pool.transaction);
}
inline constexpr std::string_view lvm_transaction_advice =
    "change nothing; save the metadata, and see lvmthin(7), 'Metadata check and repair'";

inline Status lvm_pool_status(const ThinPool& pool) {
  Status status;
  status.active = pool.active;
  status.total = pool.size;
  status.used = pool.used;
  if (pool.used) status.available = pool.size - *pool.used;
  status.metadata_used = pool.metadata_used;
  status.metadata_total = pool.metadata_size;
  status.provisioned = pool.provisioned;
  status.queues = pool.queues;
  status.monitored = pool.monitored;
  status.health = pool.health;
  if (std::string trouble = lvm_transaction_trouble(pool); !trouble.empty()) {
    status.health.push_back(trouble.append(": ").append(lvm_transaction_advice));
  }
  // What was promised and cannot be kept is worth a word only if nobody looks after it.
  if (pool.provisioned > pool.size && pool.monitored == false) {
    status.health.push_back("overcommitted: " + to_string(pool.provisioned) + " of " + to_string(pool.size) +
                            " are promised, and dmeventd does not watch the pool; when it is full, writers " +
                            (pool.queues.value_or(true) ? "wait and then fail" : "fail"));
  }
  return status;
}

/// The transaction id that the kernel has for an active pool. Costs no process.
template <CommandRunner Runner>
std::optional<std::uint64_t> lvm_kernel_transaction(const LvmTools<Runner>& tools) {
  const auto words = lvm_kernel_words(lvm_mapper_name(tools.vg(), tools.config().thinpool) + "-tpool");
  return words ? lvm_transaction_in(*words) : std::nullopt;
}

/// Our pool, and the report that tells of it.
struct LvmFoundPool {
  LvmFound found;
  ThinPool thin;
};

template <CommandRunner Runner>
Result<LvmFoundPool> lvm_look_at_pool(const LvmTools<Runner>& tools) {
  const auto before = lvm_kernel_transaction(tools);
  auto found = lvm_find_pool(tools);
  if (!found) return fail(std::move(found.error()));
  ThinPool thin = lvm_thin_pool(found->view.report(), *found->lv);
  // When the kernel has another number now, somebody changes the pool, and LVM's may be of either moment.
  if (before == lvm_kernel_transaction(tools)) thin.kernel_transaction = before;
  return LvmFoundPool{*std::move(found), std::move(thin)};
}

/// LVM and the pool agree on the number of its changes; else LVM refuses each change that the pool takes part in, and
/// would do so after the first half of a verb. Costs no process where they agree. Errors: corrupt, with both numbers.
template <CommandRunner Runner>
Result<void> lvm_check_transaction(const LvmTools<Runner>& tools, const LvmView& view) {
  const auto pool = view.pool();
  const auto kernel = lvm_kernel_transaction(tools);
  if (!pool || !kernel || !(*pool)->transaction || *kernel == *(*pool)->transaction) return {};
  const auto again = lvm_look_at_pool(tools);  // somebody may just have changed the pool
  if (!again) return fail(again.error());
  std::string trouble = lvm_transaction_trouble(again->thin);
  if (trouble.empty()) return {};
  return fail(Error{Errc::corrupt, std::move(trouble)}.advise(std::string{lvm_transaction_advice}));
}

template <CommandRunner Runner>
Result<ThinPool> lvm_own_pool(const LvmTools<Runner>& tools) {
  return lvm_look_at_pool(tools).map([](LvmFoundPool&& pool) { return std::move(pool.thin); });
}

/// One number against its limit. Errors: no_space, with both.
inline Result<void> lvm_below(std::string_view what, Bytes would_be, Bytes whole, unsigned percent) {
  if (percent == 0 || whole.count == 0) return {};
  // would_be * 100 >= whole * percent, without overflow
  const Bytes most = LvmPercent{percent * 100}.of(whole);
  if (would_be < most) return {};
  const auto share =
      static_cast<std::uint64_t>(100.0 * static_cast<double>(would_be.count) / static_cast<double>(whole.count));
  return fail(Error{Errc::no_space, std::string{what} + " would be at " + std::to_string(share) + " % (" +
                                        to_string(would_be) + " of " + to_string(whole) + "), the limit is " +
                                        std::to_string(percent) + " %"}
                  .advise("extend the pool, remove something, or raise the limit"));
}

inline bool lvm_limited(const ThinLimits& limits) noexcept {
  return limits.data != 0 || limits.metadata != 0 || limits.provisioned != 0;
}

/// The pool may take a volume or snapshot of `more` bytes, `filled` of which are written to it at once, as far as
/// anybody knows. Costs no process when no limit is set. Errors: no_space; unavailable, when the pool is inactive, so
/// that nobody knows.
template <CommandRunner Runner>
Result<void> lvm_admit(const LvmTools<Runner>& tools, Bytes more, Bytes filled = Bytes{}) {
  const ThinLimits& limits = tools.options().limits;
  if (!lvm_limited(limits)) return {};
  const auto pool = lvm_own_pool(tools);
  if (!pool) return fail(pool.error());
  if (!pool->used || !pool->metadata_used) {
    return fail(
        Error{Errc::unavailable, "the thin pool '" + pool->name + "' is inactive, so nobody knows how full it is"}
            .advise("activate the storage"));
  }
  if (auto good = lvm_below("the pool's data", *pool->used + filled, pool->size, limits.data); !good) return good;
  if (auto good = lvm_below("the pool's metadata", *pool->metadata_used, pool->metadata_size, limits.metadata); !good) {
    return good;
  }
  if (limits.provisioned == 0) return {};
  const Bytes sum = pool->provisioned + more;
  // up to the limit is fine here
  return lvm_below("what the pool has promised", sum.count == 0 ? sum : sum - Bytes{1}, pool->size, limits.provisioned);
}

/// What LVM refused for want of room, with the pool's numbers, which are asked for only then. LVM says the same of a
/// pool that it disagrees with, which is another matter (corrupt).
template <CommandRunner Runner>
Error lvm_with_numbers(const LvmTools<Runner>& tools, Error error) {
  if (error.code() != Errc::no_space) return error;
  const auto pool = lvm_own_pool(tools);
  if (!pool || !pool->used || !pool->metadata_used) return error;
  const std::string trouble = lvm_transaction_trouble(*pool);
  if (!trouble.empty()) {
    return Error{Errc::corrupt, error.detail() + "; " + trouble, error.native()}.advise(
        std::string{lvm_transaction_advice});
  }
  return Error{Errc::no_space,
               error.detail() + " (data " + to_string(*pool->used) + " of " + to_string(pool->size) + ", metadata " +
                   to_string(*pool->metadata_used) + " of " + to_string(pool->metadata_size) + ")",
               error.native()}
      .advise("extend the pool: lvextend");
}

/// What an administrator should know of the pool itself.
inline std::vector<Finding> lvm_check_pool(const ThinPool& pool) {
  std::vector<Finding> findings;
  const std::string object = pool.vg + "/" + pool.name;
  for (const std::string& problem : lvm_pool_status(pool).health) {
    const std::size_t colon = problem.find(':');
    findings.push_back({object, problem.substr(0, colon), std::string{lvm_trim(problem.substr(colon + 1))}});
  }
  if (!pool.zeroes) {
    findings.push_back({object, "new blocks are not zeroed: a volume may show what was removed before",
                        "lvchange --zero y " + object});
  }
  return findings;
}

}  // namespace detail
}  // namespace stowage
