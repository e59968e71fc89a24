// Blocks that say where they belong and which write they came with, through everything that moves them: rollback,
// linked and full clones, export, import, and a chain of streams.

#include <catch2/catch.hpp>

#include <algorithm>
#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <stowage/transfer/stream.hpp>
#include <utility>

#include "support/queue_model.hpp"
#include "support/rbd_lab.hpp"
#include "support/streams.hpp"

using namespace stowage;
using testing::CollectedBytes;
using testing::GivenBytes;
using testing::guest;
using testing::must;
using testing::QueueModel;
using testing::RbdLab;
using testing::Server;
using testing::snapshot_name;
using testing::volume_name;

namespace {

template <class Device>
void verify_device(QueueModel& model, Device device) {
  model.verify([&](Bytes at, std::span<std::byte> piece) { return device.read_at(at, piece); });
}

}  // namespace

TEST_CASE("every block is where it belongs and of its time after rollback, clones, export, import and streams") {
  RbdLab lab;
  RbdLab other{Server::shared("ceph"), RbdLab::Where::name_space, "other"};
  auto storage = lab.storage("here");
  auto there = other.storage("there");
  const VolumeName volume = must(storage.create({.vmid = guest, .size = 16_MiB}));
  const auto read = [](Storage<Rbd>& from, const VolumeName& name) {
    return must(from.open_volume(name, Access::read_only));
  };
  QueueModel now{0_B, 16_MiB, true, 77};
  const auto change = [&] {
    auto device = must(storage.open_volume(volume, Access::read_write));
    {
      auto queue = must(device.queue(16));
      now.storm(queue, {.requests = 400});
      now.verify_through(queue);  // so that it is known what the discards have become
    }
    must(device.close());
  };
  std::vector<std::pair<SnapshotName, QueueModel>> then;
  const auto keep = [&](const char* name) {
    must(storage.snapshot(volume, snapshot_name(name)));
    then.emplace_back(snapshot_name(name), now);
  };
  change();
  keep("s0");
  change();
  keep("s1");
  change();
  keep("s2");
  change();
  for (auto& [snapshot, model] : then) verify_device(model, must(storage.open_volume(volume, snapshot)));

  must(storage.rollback(volume, snapshot_name("s1")));
  now = then[1].second;
  now.reseed(78);
  verify_device(now, read(storage, volume));
  change();
  keep("s3");
  for (auto& [snapshot, model] : then) {
    CAPTURE(snapshot.str());
    verify_device(model, must(storage.open_volume(volume, snapshot)));
    const VolumeName linked = must(storage.clone(volume, snapshot, {.vmid = guest}));
    verify_device(model, read(storage, linked));
    auto old = must(storage.open_volume(volume, snapshot));
    verify_device(model, read(there, must(full_clone(old, there, {.vmid = guest}, {.verify = true}))));

    CollectedBytes out;
    must(export_volume(storage, volume, snapshot, out));
    REQUIRE(out.data.size() == (16 << 20) + 8);
    model.verify([&](Bytes at, std::span<std::byte> piece) -> Result<void> {
      std::copy_n(out.data.begin() + 8 + static_cast<std::ptrdiff_t>(at.count), piece.size(), piece.begin());
      return {};
    });
    GivenBytes in{out.data};
    const Imported made = must(import_volume(there, volume_name("vm-990000101-in-" + snapshot.str()), in));
    verify_device(model, read(there, made.volume));
  }

  // s2 is not of this line any more.
  const VolumeName received = volume_name("vm-990000101-stream");
  for (const std::size_t step : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    CAPTURE(step);
    SendOptions options;
    if (step > 0) options.since = then[step == 3 ? 1 : 0].first;
    CollectedBytes out;
    must(send_snapshot(storage, volume, then[step].first, out, options));
    GivenBytes in{out.data};
    must(receive_snapshot(there, received, in));
    verify_device(then[step].second, read(there, received));
    for (const std::size_t before : {std::size_t{0}, std::size_t{1}}) {
      if (before >= step) continue;
      verify_device(then[before].second, must(there.open_volume(received, then[before].first)));
    }
  }
}
