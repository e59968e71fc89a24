#pragma once
// A volume group with a thin pool on a scratch disk of the guest, and LVM's own tools beside it.

#include <catch2/catch.hpp>

#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>

#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/guest_lab.hpp"

namespace stowage::testing {

inline const VmId guest{990'000'101};
inline const SnapshotName s1 = snapshot_name("s1");
inline const SnapshotName s2 = snapshot_name("s2");

inline bool says(const Error& error, std::string_view text) { return error.message().find(text) != std::string::npos; }

template <class S>
VolumeName make(S& storage, Bytes size = 8_MiB) {
  return must(storage.create({.vmid = guest, .size = size}));
}

/// Writes bytes that only `seed`, 1 to 4, gives.
template <class S>
void fill(S& storage, const VolumeName& volume, std::uint64_t seed, std::size_t size = 1 << 16) {
  auto device = must(storage.open_volume(volume, Access::read_write));
  must(device.write_at(Bytes{0}, pattern(seed, size)));
  must(device.close());
}

/// The seed that it was filled with; else 0.
template <class Device>
std::uint64_t content(Device device) {
  std::vector<std::byte> bytes(1 << 16);
  must(device.read_at(Bytes{0}, bytes));
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    if (bytes == pattern(seed, bytes.size())) return seed;
  }
  return 0;
}

/// Sends a message to a device of device mapper, as `dmsetup message` does. 0, or the errno.
inline int tell_device(const std::string& name, std::string_view message) {
  struct Told {
    ::dm_ioctl head{};
    std::uint64_t sector = 0;  // dm_target_msg
    std::array<char, 64> text{};
  } told;
  REQUIRE(message.size() < told.text.size());
  told.head.version[0] = DM_VERSION_MAJOR;
  told.head.data_size = sizeof told;
  told.head.data_start = offsetof(Told, sector);
  std::strncpy(static_cast<char*>(told.head.name), name.c_str(), sizeof told.head.name - 1);
  std::copy(message.begin(), message.end(), told.text.begin());
  const Fd control{::open("/dev/mapper/control", O_RDWR | O_CLOEXEC)};
  REQUIRE(control);
  return ::ioctl(control.get(), DM_TARGET_MSG, &told) == 0 ? 0 : errno;
}

/// A device of device mapper that works in another way, until this goes.
class ChangedDevice {
 public:
  /// `change` gets the table as it is, "0 8192 linear 254:16 2048", and gives another.
  template <class Change>
  ChangedDevice(std::string name, Change change) : name_{std::move(name)}, table_{sh("dmsetup table " + name_)} {
    table_.pop_back();
    load(change(table_));
  }
  ChangedDevice(const ChangedDevice&) = delete;
  ChangedDevice& operator=(const ChangedDevice&) = delete;
  ~ChangedDevice() { restore(); }

  void restore() {
    if (!table_.empty()) load(std::exchange(table_, {}));
  }

 private:
  void load(const std::string& table) const {
    sh("dmsetup suspend --nolockfs " + name_ + " && dmsetup load " + name_ + " --table '" + table +
       "' && dmsetup resume " + name_);
  }

  std::string name_;
  std::string table_;
};

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
  ~LvmLab() { ask("vgremove -qq -ff -y " + config.vgname + "; pvremove -qq -y -ff " + disk_); }

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
