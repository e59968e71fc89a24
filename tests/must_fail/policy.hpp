#pragma once
// A policy with an empty row, on which the proofs of `audited` are tried.

#include <stowage/backend.hpp>

using namespace stowage;

struct Config {
  CommonConfig common{};
};

/// What every policy has, and nothing else. `B` is the policy that is made of it.
template <class B>
struct Floor {
  using Config = ::Config;
  static Result<B> open(const StorageId&, const Config&, const OpenOptions&) { return B{}; }
  const Config& config() const { return config_; }
  Result<void> activate() { return {}; }
  Result<void> deactivate() { return {}; }
  Result<void> activate(const VolumeName&, const UseOptions&) { return {}; }
  Result<void> deactivate(const VolumeName&) { return {}; }
  Result<Status> status() const { return Status{}; }
  Result<std::vector<VolumeInfo>> list(const ListFilter&) const { return std::vector<VolumeInfo>{}; }
  Result<VolumeInfo> info(const VolumeName& v) const { return VolumeInfo{.name = v}; }
  Result<std::string> path(const VolumeName& v, const UseOptions&) const { return v.str(); }
  Result<Blockdev> blockdev(const VolumeName& v, const UseOptions&) const {
    return Blockdev{HostDeviceNode{v.str()}, std::nullopt};
  }

 private:
  Config config_;
};

/// The row of a type that can `can`.
constexpr Features row_of(std::initializer_list<Cells::Cell> can) {
  return {StorageType::other, "own", {Content::images}, {Format::raw}, false, Cells(can)};
}
