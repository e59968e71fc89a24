// Opens a Ceph storage, lists its volumes and takes a snapshot of one of them.
//   example_first_program POOL MONITOR PRIV-FOLDER VOLUME
// [first_program]
#include <cstdio>
#include <stowage/backends/rbd.hpp>
#include <stowage/stowage.hpp>

using namespace stowage;

Result<void> first_program(const RbdConfig& config, const OpenOptions& options, const VolumeName& disk) {
  auto ceph = Storage<Rbd>::open(*StorageId::parse("ceph"), config, options);
  if (!ceph) return fail(ceph.error());

  auto volumes = ceph->list();
  if (!volumes) return fail(volumes.error());
  for (const VolumeInfo& v : *volumes) std::printf("%s %s\n", v.name.c_str(), to_string(v.size).c_str());

  return ceph->snapshot(disk, *SnapshotName::parse("before-upgrade"));
}
// [first_program]

#include <stowage/backends/iscsi_direct.hpp>

void refused(Storage<IscsiDirect>& san, const VolumeName& disk) {
  // [refused]
  // san.snapshot(disk, *SnapshotName::parse("before-upgrade"));
  // [refused]
  static_cast<void>(san.path(disk));  // a LUN has a path, but no snapshots
}

int main(int argc, char** argv) {
  if (argc != 5) {
    std::puts("usage: example_first_program POOL MONITOR PRIV-FOLDER VOLUME");
    return 2;
  }
  const auto monitor = Portal::parse(argv[2]);
  const auto disk = VolumeName::parse(argv[4]);
  if (!monitor || !disk) return 2;
  const auto done = first_program({.pool = argv[1], .monhost = {*monitor}}, {.priv = argv[3]}, *disk);
  if (!done) std::printf("%s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
