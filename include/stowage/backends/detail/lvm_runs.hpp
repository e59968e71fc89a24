#pragma once
// Imports and streams are runs of several calls. A policy and its copies share them: as long as one is there, the
// volume's lock is held, by which others see that somebody is at it.

#include <map>
#include <memory>
#include <mutex>
#include <stowage/backends/detail/lvm_lock.hpp>
#include <stowage/backends/detail/lvm_report.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/intent/runs.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// A run, with what is known of its volume.
struct LvmRun {
  LvmLock lock;
  Run run;
  LvmVolume lv;            ///< under its private name, if it has one
  std::string record;      ///< the text that stands on it
  Bytes unzeroed_chunk{};  ///< as in `LvmOpened`
  Bytes zeroed_chunk{};
};

/// Those of a policy and its copies, by the name of the volume. Threads: may be called from several.
class LvmRuns {
 public:
  /// Null when there is none.
  [[nodiscard]] std::shared_ptr<LvmRun> find(const std::string& volume) {
    const std::lock_guard guard{mutex_};
    const auto found = runs_.find(volume);
    return found == runs_.end() ? nullptr : found->second;
  }
  void put(const std::string& volume, LvmRun run) {
    const std::lock_guard guard{mutex_};
    runs_.insert_or_assign(volume, std::make_shared<LvmRun>(std::move(run)));
  }
  /// The run ends here, and its lock goes to the caller. Null when there is none.
  [[nodiscard]] std::shared_ptr<LvmRun> take(const std::string& volume) {
    const std::lock_guard guard{mutex_};
    const auto found = runs_.find(volume);
    if (found == runs_.end()) return nullptr;
    auto run = std::move(found->second);
    runs_.erase(found);
    return run;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<LvmRun>> runs_;
};

}  // namespace stowage::detail
