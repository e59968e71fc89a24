#pragma once
// A volume group with a thin pool on a scratch disk of the guest, and LVM's own tools beside it.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>

#include <chrono>
#include <string>

#include "support/guest_lab.hpp"

namespace stowage::testing {

inline const VmId guest{990'000'101};

class LvmLab {
 public:
  /// `pool`: what `lvcreate` is told of the pool's size, `-L 512M` for one.
  explicit LvmLab(const std::string& pool = "-L 1G", int disk = 1) : disk_{fresh_disk(disk)} {
    config.vgname = "lab" + std::to_string(disk);
    config.thinpool = "pool";
    sh("pvcreate -qq -y " + disk_ + " && vgcreate -qq -y " + config.vgname + " " + disk_);
    sh("lvcreate -qq -y --type thin-pool -n pool " + pool + " " + config.vgname);
  }
  LvmLab(const LvmLab&) = delete;
  LvmLab& operator=(const LvmLab&) = delete;
  ~LvmLab() { ask("vgremove -qq -f -y " + config.vgname + "; pvremove -qq -y -ff " + disk_); }

  /// Every call opens anew.
  Storage<LvmThin> storage(const std::string& id = "st") const {
    return must(Storage<LvmThin>::open(must(StorageId::parse(id)), config, options));
  }

  const std::string& disk() const { return disk_; }
  const std::string& vg() const { return config.vgname; }
  std::string spec(const std::string& name) const { return config.vgname + "/" + name; }
  std::string device(const std::string& name) const { return "/dev/" + spec(name); }

  /// One column of `lvs`, without blanks.
  std::string lvs(const std::string& name, const std::string& column) const {
    std::string said = sh("lvs --noheadings -o " + column + " " + spec(name) + " 2>/dev/null | tr -d ' '");
    said.pop_back();
    return said;
  }
  /// All names, sorted, separated by blanks, the pool's too.
  std::string names() const {
    return sh("lvs --noheadings -o lv_name " + vg() + " 2>/dev/null | tr -d ' ' | sort | tr '\\n' ' '");
  }

  LvmThinConfig config;
  OpenOptions options;

 private:
  std::string disk_;
};

/// How long `work` took.
template <class F>
std::chrono::milliseconds elapsed(F work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
}

}  // namespace stowage::testing
