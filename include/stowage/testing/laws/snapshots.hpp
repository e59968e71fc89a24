#pragma once
// Laws of snapshots.

#include <stowage/testing/laws/bench.hpp>

namespace stowage::testing::laws {

/// A volume that has seen three states: 1 in snapshot "first", 2 in snapshot "second", and 3 now.
template <class F>
struct Story {
  explicit Story(Bench<F>& bench) : volume{bench.make()} {
    bench.fill(volume, 1);
    must(bench.storage().snapshot(volume, first));
    bench.fill(volume, 2);
    must(bench.storage().snapshot(volume, second));
    bench.fill(volume, 3);
  }
  VolumeName volume;
  SnapshotName first = snapshot_name("first");
  SnapshotName second = snapshot_name("second");
};

template <class F>
std::vector<std::string> names_of_snapshots(Bench<F>& bench, const VolumeName& volume) {
  std::vector<std::string> names;
  for (const SnapshotInfo& info : must(bench.storage().snapshots(volume))) names.push_back(info.name.str());
  return names;
}

template <class F>
void snapshots_are_listed_oldest_first(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  CHECK(names_of_snapshots(bench, volume).empty());
  const std::vector<std::string> names{"zulu", "alpha", "mike"};
  for (const std::string& name : names) must(bench.storage().snapshot(volume, snapshot_name(name)));
  CHECK(names_of_snapshots(bench, volume) == names);
  for (const SnapshotInfo& info : must(bench.storage().snapshots(volume))) CHECK(info.size.count == bench.size.count);
  CHECK(bench.volumes().size() == 1);  // a snapshot is no volume
}

template <class F>
void a_snapshot_needs_a_volume_and_a_new_name(Bench<F>& bench) {
  const SnapshotName name = snapshot_name("s1");
  CHECK(refusal_of(bench.storage().snapshot(bench.missing(), name), Errc::not_found).object() ==
        bench.object(bench.missing()));
  refused(bench.storage().snapshots(bench.missing()), Errc::not_found);
  const VolumeName volume = bench.make();
  must(bench.storage().snapshot(volume, name));
  refused(bench.storage().snapshot(volume, name), Errc::already_exists);
  CHECK(names_of_snapshots(bench, volume).size() == 1);
}

template <class F>
void bad_names_of_snapshots_are_parse_failed(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  for (const std::string& text : {std::string{"a"}, std::string{"1abc"}, std::string{"a b"}, std::string{"a@b"},
                                  std::string{"a.b"}, std::string{"__base__"}, std::string(41, 'a')}) {
    refused(bench.storage().snapshot(volume, snapshot_name(text)), Errc::parse_failed);
  }
  CHECK(names_of_snapshots(bench, volume).empty());
  must(bench.storage().snapshot(volume, snapshot_name(std::string(40, 'a'))));
}

template <class F>
void a_snapshot_keeps_its_bytes(Bench<F>& bench) {
  const Story<F> story{bench};
  CHECK(bench.holds(story.volume, story.first, 1));
  CHECK(bench.holds(story.volume, story.second, 2));
  CHECK(bench.holds(story.volume, 3));
}

template <class F>
void a_snapshot_cannot_be_written(Bench<F>& bench) {
  const Story<F> story{bench};
  {
    auto device = must(bench.storage().open_volume(story.volume, story.first));
    CHECK(device.size().count == bench.size.count);
    refused(device.write_at(bench.place, Bench<F>::data(4)), Errc::wrong_state);
    refused(device.write_zeroes(bench.place, 64_KiB), Errc::wrong_state);
    refused(device.discard(bench.place, 64_KiB), Errc::wrong_state);
  }
  CHECK(bench.holds(story.volume, story.first, 1));
}

template <class F>
void a_missing_snapshot_is_not_found(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  const SnapshotName missing = snapshot_name("missing");
  refused(bench.storage().open_volume(volume, missing), Errc::not_found);
  refused(bench.storage().rollback(volume, missing), Errc::not_found);
  refused(bench.storage().remove_snapshot(volume, missing), Errc::not_found);
  refused(bench.storage().rollback(bench.missing(), missing), Errc::not_found);
  refused(bench.storage().remove_snapshot(bench.missing(), missing), Errc::not_found);
  CHECK(bench.holds(volume, 1));
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
}

template <class F>
void rollback_restores_bytes_and_keeps_all_snapshots(Bench<F>& bench) {
  const Story<F> story{bench};
  const std::string identity = must(bench.storage().info(story.volume)).identity;
  for (int again = 0; again < 2; ++again) {
    must(bench.storage().rollback(story.volume, story.first));
    CHECK(bench.holds(story.volume, 1));
    CHECK(bench.holds(story.volume, story.first, 1));
    CHECK(bench.holds(story.volume, story.second, 2));  // newer ones survive
    bench.fill(story.volume, 4);                        // and the snapshot is no longer tied to the volume
    CHECK(bench.holds(story.volume, story.first, 1));
  }
  must(bench.storage().rollback(story.volume, story.second));
  CHECK(bench.holds(story.volume, 2));
  CHECK(names_of_snapshots(bench, story.volume) == std::vector<std::string>{"first", "second"});
  CHECK_FALSE(must(bench.storage().info(story.volume)).incomplete());
  CHECK(must(bench.storage().info(story.volume)).identity == identity);
}

template <class F>
void what_is_open_for_writing_cannot_be_rolled_back(Bench<F>& bench) {
  const Story<F> story{bench};
  {
    auto device = must(bench.storage().open_volume(story.volume, Access::read_write));
    must(device.write_at(bench.place, Bench<F>::data(5)));
    refused(bench.storage().rollback(story.volume, story.first), Errc::in_use);
  }
  CHECK(bench.holds(story.volume, 5));
}

template <class F>
void what_is_open_is_rolled_back_at_its_next_activation_or_that_is_not_supported(Bench<F>& bench) {
  const Story<F> story{bench};
  auto& storage = bench.storage();
  const RollbackOptions later{.when_open = WhenOpen::at_next_activation};
  if constexpr (!DeferredRollbackBackend<typename F::Backend>) {
    refused(storage.rollback(story.volume, story.first, later), Errc::not_supported);
    CHECK(bench.holds(story.volume, 3));
  } else {
    auto device = must(storage.open_volume(story.volume, Access::read_write));
    refused(storage.rollback(story.volume, snapshot_name("missing"), later), Errc::not_found);
    must(storage.rollback(story.volume, story.first, later));
    CHECK(must(storage.info(story.volume)).pending == "rollback");
    CHECK_FALSE(must(storage.info(story.volume)).incomplete());
    CHECK(must(storage.recover()).empty());
    refused(storage.rollback(story.volume, story.second, later), Errc::wrong_state);
    refused(storage.snapshot(story.volume, snapshot_name("third")), Errc::wrong_state);
    refused(storage.resize(story.volume, bench.size + bench.size), Errc::wrong_state);
    std::vector<std::byte> seen = Bench<F>::data(0);
    must(device.read_at(bench.place, seen));
    CHECK(seen == Bench<F>::data(3));
    must(device.close());
    must(storage.deactivate(story.volume));
    must(storage.activate(story.volume));
    CHECK(must(storage.info(story.volume)).pending.empty());
    CHECK(bench.holds(story.volume, 1));
    CHECK(bench.holds(story.volume, story.first, 1));
    CHECK(names_of_snapshots(bench, story.volume) == std::vector<std::string>{"first", "second"});
  }
}

/// Where QEMU takes the snapshot of a running guest itself, nobody asks the storage to.
template <class F>
void a_snapshot_can_be_taken_under_a_writer(Bench<F>& bench) {
  if (bench.storage().snapshot_method() != SnapshotMethod::storage) return;
  const VolumeName volume = bench.make();
  {
    auto device = must(bench.storage().open_volume(volume, Access::read_write));
    must(device.write_at(bench.place, Bench<F>::data(1)));
    must(device.flush());
    must(bench.storage().snapshot(volume, snapshot_name("s1")));
    must(device.write_at(bench.place, Bench<F>::data(2)));
    must(device.close());
  }
  CHECK(bench.holds(volume, snapshot_name("s1"), 1));
  CHECK(bench.holds(volume, 2));
}

template <class F>
void removing_a_snapshot_leaves_the_rest(Bench<F>& bench) {
  const Story<F> story{bench};
  must(bench.storage().remove_snapshot(story.volume, story.first));
  CHECK(names_of_snapshots(bench, story.volume) == std::vector<std::string>{"second"});
  CHECK(bench.holds(story.volume, story.second, 2));
  CHECK(bench.holds(story.volume, 3));
  refused(bench.storage().remove_snapshot(story.volume, story.first), Errc::not_found);
  must(bench.storage().snapshot(story.volume, story.first));  // the name is free again
  CHECK(bench.holds(story.volume, story.first, 3));
}

template <class F>
void snapshots_stand_in_the_way_of_removal(Bench<F>& bench) {
  const Story<F> story{bench};
  const Error error = refusal_of(bench.storage().remove(story.volume), Errc::in_use);
  CHECK(error.message().find("first") != std::string::npos);
  CHECK(bench.holds(story.volume, 3));
  CHECK(bench.holds(story.volume, story.first, 1));
  CHECK(bench.holds(story.volume, story.second, 2));
  CHECK_FALSE(must(bench.storage().info(story.volume)).incomplete());
}

template <class F>
void snapshots_go_with_their_volume_when_asked_to(Bench<F>& bench) {
  const Story<F> story{bench};
  must(bench.storage().remove(story.volume, {.snapshots = true, .trash = false}));
  CHECK(bench.volumes().empty());
  CHECK(bench.make() == story.volume);
  CHECK(names_of_snapshots(bench, story.volume).empty());
}

template <class F>
void a_snapshot_has_a_path_and_blockdev_of_its_own(Bench<F>& bench) {
  const Story<F> story{bench};
  const std::string path = must(bench.storage().path(story.volume, story.first));
  CHECK(path.find("first") != std::string::npos);
  CHECK(path != must(bench.storage().path(story.volume)));
  const std::string json = must(bench.storage().blockdev(story.volume, story.first)).to_json();
  CHECK(is_json_object(json));
  CHECK(json.find("first") != std::string::npos);
}

template <class F>
void activation_of_a_snapshot_can_be_repeated(Bench<F>& bench) {
  const Story<F> story{bench};
  auto& storage = bench.storage();
  for (int again = 0; again < 2; ++again) must(storage.activate(story.volume, story.first));
  CHECK(bench.holds(story.volume, story.first, 1));
  for (int again = 0; again < 2; ++again) must(storage.deactivate(story.volume, story.first));
  must(storage.activate(story.volume, story.second));
  must(storage.deactivate(story.volume));  // which takes its snapshots along
  refused(storage.activate(story.volume, snapshot_name("missing")), Errc::not_found);
  refused(storage.activate(bench.missing(), story.first), Errc::not_found);
  CHECK(bench.holds(story.volume, 3));
}

template <class F>
void a_volume_keeps_its_snapshots_when_it_is_renamed_or_grown(Bench<F>& bench) {
  const Story<F> story{bench};
  VolumeName volume = story.volume;
  if constexpr (supports<typename F::Backend, Capability::rename>) {
    volume = must(bench.storage().rename(volume, {.vmid = bench.other_guest, .name = {}}));
  }
  if constexpr (supports<typename F::Backend, Capability::resize>) {
    static_cast<void>(must(bench.storage().resize(volume, bench.size + 8_MiB)));
  }
  CHECK(names_of_snapshots(bench, volume) == std::vector<std::string>{"first", "second"});
  CHECK(bench.holds(volume, story.first, 1));
  CHECK(must(bench.storage().open_volume(volume, story.first)).size().count == bench.size.count);
  CHECK(bench.holds(volume, 3));
}

}  // namespace stowage::testing::laws
