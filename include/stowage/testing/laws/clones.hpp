#pragma once
// Laws of templates and linked clones.

#include <set>
#include <stowage/testing/laws/snapshots.hpp>
#include <thread>

namespace stowage::testing::laws {

/// A template with bytes 1.
template <class F>
VolumeName make_base(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  return must(bench.storage().make_template(volume));
}

template <class F>
void a_template_has_a_base_name_and_the_same_bytes(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  CHECK(base.str() == "base-990000101-disk-0");
  refused(bench.storage().info(volume_name("vm-990000101-disk-0")), Errc::not_found);
  REQUIRE(bench.volumes().size() == 1);
  CHECK(bench.volumes()[0].name == base);
  CHECK(bench.holds(base, 1));
}

template <class F>
void a_template_takes_its_number(Bench<F>& bench) {
  static_cast<void>(make_base(bench));
  CHECK(bench.make().str() == "vm-990000101-disk-1");
}

template <class F>
void a_template_is_not_changed_any_more(Bench<F>& bench) {
  using B = typename F::Backend;
  const VolumeName base = make_base(bench);
  auto& storage = bench.storage();
  refused(storage.open_volume(base, Access::read_write), Errc::wrong_state);
  CHECK(refusal_of(storage.make_template(base), Errc::wrong_state).object() == bench.object(base));
  if constexpr (supports<B, Capability::resize>) refused(storage.resize(base, bench.size + 4_MiB), Errc::wrong_state);
  if constexpr (supports<B, Capability::rename>) {
    refused(storage.rename(base, {.vmid = bench.other_guest, .name = {}}), Errc::wrong_state);
  }
  if constexpr (supports<B, Capability::snapshot>) {
    refused(storage.snapshot(base, snapshot_name("s1")), Errc::wrong_state);
    refused(storage.rollback(base, snapshot_name("s1")), Errc::wrong_state);
    refused(storage.remove_snapshot(base, snapshot_name("s1")), Errc::wrong_state);
  }
  CHECK(bench.holds(base, 1));
  CHECK(must(storage.info(base)).size.count == bench.size.count);
}

template <class F>
void what_has_snapshots_or_a_writer_cannot_become_a_template(Bench<F>& bench) {
  refused(bench.storage().make_template(bench.missing()), Errc::not_found);
  const VolumeName open = bench.make();
  {
    auto device = must(bench.storage().open_volume(open, Access::read_write));
    must(device.write_at(bench.place, Bench<F>::data(1)));
    refused(bench.storage().make_template(open), Errc::in_use);
  }
  CHECK(bench.holds(open, 1));
  if constexpr (supports<typename F::Backend, Capability::snapshot>) {
    const Story<F> story{bench};
    refused(bench.storage().make_template(story.volume), Errc::wrong_state);
    CHECK(bench.holds(story.volume, 3));
    CHECK(bench.holds(story.volume, story.first, 1));
  }
}

template <class F>
void only_a_template_can_be_cloned_and_it_must_be_there(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  const CloneSpec spec{.vmid = bench.other_guest};
  CHECK(refusal_of(bench.storage().clone(volume, spec), Errc::wrong_state).object() == bench.object(volume));
  const VolumeName missing = volume_name("base-990000101-missing");
  CHECK(refusal_of(bench.storage().clone(missing, spec), Errc::not_found).object() == bench.object(missing));
  CHECK(bench.volumes(bench.other_guest).empty());
}

template <class F>
void a_linked_clone_shares_bytes_and_names_its_base(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  const VolumeInfo info = must(bench.storage().info(clone));
  CHECK(info.name == clone);
  CHECK(info.size.count == bench.size.count);
  CHECK(info.vmid == bench.other_guest);
  CHECK(bench.lists(clone));
  CHECK(bench.holds(clone, 1));
  if (features_of<typename F::Backend>.type == StorageType::lvmthin) {  // LVM does not tell what a volume was made from
    CHECK(clone.str() == "vm-990000102-disk-0");
    return;
  }
  CHECK(clone.str() == "base-990000101-disk-0/vm-990000102-disk-0");
  CHECK(info.base == base);
  REQUIRE(info.parent);
  CHECK(info.parent->image == base.str());
  // the short name is the same volume
  const VolumeName alone = volume_name("vm-990000102-disk-0");
  CHECK(must(bench.storage().info(alone)).name == clone);
  CHECK(bench.holds(alone, 1));
}

template <class F>
void writes_to_a_clone_do_not_reach_its_base_or_its_siblings(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  const VolumeName sibling = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  bench.fill(clone, 2);
  CHECK(bench.holds(clone, 2));
  CHECK(bench.holds(base, 1));
  CHECK(bench.holds(sibling, 1));
  must(bench.storage().remove(clone));
  CHECK(bench.holds(sibling, 1));
}

template <class F>
void a_clone_can_do_what_a_volume_can(Bench<F>& bench) {
  using B = typename F::Backend;
  const VolumeName base = make_base(bench);
  VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  if constexpr (supports<B, Capability::snapshot>) {
    must(bench.storage().snapshot(clone, snapshot_name("s1")));
    bench.fill(clone, 2);
    CHECK(bench.holds(clone, snapshot_name("s1"), 1));
    must(bench.storage().rollback(clone, snapshot_name("s1")));
    CHECK(bench.holds(clone, 1));
    must(bench.storage().remove_snapshot(clone, snapshot_name("s1")));
  }
  if constexpr (supports<B, Capability::rename>) {
    const VolumeName wanted = volume_name("vm-990000101-renamed");
    clone = must(bench.storage().rename(clone, {.vmid = bench.guest, .name = wanted}));
    CHECK(clone == linked_name(features_of<B>.type, base, wanted));
  }
  if constexpr (supports<B, Capability::resize>) {
    CHECK(must(bench.storage().resize(clone, bench.size + 4_MiB)) >= bench.size + 4_MiB);
  }
  CHECK(bench.holds(clone, 1));
  CHECK(bench.holds(base, 1));
}

template <class F>
void a_clone_can_become_a_template_itself(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  bench.fill(clone, 2);
  const VolumeName second = must(bench.storage().make_template(clone));
  const VolumeName own = volume_name("base-990000102-disk-0");
  CHECK(second == linked_name(features_of<typename F::Backend>.type, base, own));
  CHECK(bench.lists(second));
  const VolumeName grandchild = must(bench.storage().clone(second, {.vmid = bench.other_guest}));
  CHECK(grandchild == linked_name(features_of<typename F::Backend>.type, own, volume_name("vm-990000102-disk-1")));
  CHECK(bench.holds(grandchild, 2));
}

/// Where names show the base.
template <class F>
void a_clone_with_another_base_in_its_name_becomes_no_template(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  if (clone.str().find('/') == std::string::npos) return;
  for (const char* wrong : {"base-990000101-disk-9/vm-990000102-disk-0", "base-990000109-x/vm-990000102-disk-0"}) {
    const Error error = refusal_of(bench.storage().make_template(volume_name(wrong)), Errc::wrong_state);
    CHECK(error.message().find(clone.str()) != std::string::npos);
  }
  CHECK(bench.lists(clone));
  const VolumeName plain = bench.make();
  refused(bench.storage().make_template(volume_name(base.str() + "/" + plain.str())), Errc::wrong_state);
  CHECK(bench.lists(plain));
  static_cast<void>(must(bench.storage().make_template(clone)));
}

template <class F>
void a_clone_to_a_taken_name_is_already_exists(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName volume = bench.make();
  bench.fill(volume, 2);
  const CloneSpec spec{.vmid = bench.guest, .name = volume};
  CHECK(refusal_of(bench.storage().clone(base, spec), Errc::already_exists).object() == bench.object(volume));
  refused(bench.storage().clone(base, {.vmid = bench.other_guest, .name = volume}), Errc::parse_failed);
  CHECK(bench.holds(volume, 2));
}

template <class F>
void eight_clones_at_once_get_eight_names(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  std::vector<Result<VolumeName>> made(8, fail(Errc::backend_failed, "not run"));
  {
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (auto& result : made) {
      threads.emplace_back([&] { result = bench.storage().clone(base, {.vmid = bench.other_guest}); });
    }
  }
  std::set<std::string> names;
  for (auto& result : made) names.insert(must(std::move(result)).str());
  CHECK(names.size() == made.size());
  CHECK(bench.volumes(bench.other_guest).size() == made.size());
}

/// Where the storage tells which clones a template has. (On LVM they do not depend on it.)
template <class F>
void a_template_with_clones_cannot_be_removed(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  if (!must(bench.storage().info(clone)).base) return;
  for (const bool snapshots : {false, true}) {
    const Error error =
        refusal_of(bench.storage().remove(base, {.snapshots = snapshots, .trash = false}), Errc::in_use);
    CHECK(error.message().find("vm-990000102-disk-0") != std::string::npos);
    CHECK(bench.holds(base, 1));
    CHECK(bench.holds(clone, 1));
  }
  const VolumeName next =
      must(bench.storage().clone(base, {.vmid = bench.other_guest}));  // it still works as a template
  must(bench.storage().remove(next));
  must(bench.storage().remove(clone));
  must(bench.storage().remove(base));
  CHECK(bench.volumes().empty());
}

template <class F>
void a_clone_of_a_snapshot_has_its_bytes_and_a_plain_name(Bench<F>& bench) {
  const Story<F> story{bench};
  const VolumeName clone = must(bench.storage().clone(story.volume, story.first, {.vmid = bench.other_guest}));
  CHECK(clone.str() == "vm-990000102-disk-0");
  CHECK(must(bench.storage().info(clone)).name == clone);
  CHECK_FALSE(must(bench.storage().info(clone)).base);
  CHECK(bench.holds(clone, 1));
  bench.fill(clone, 4);
  CHECK(bench.holds(story.volume, story.first, 1));
  CHECK(bench.holds(story.volume, 3));
  refused(bench.storage().clone(story.volume, snapshot_name("missing"), {.vmid = bench.other_guest}), Errc::not_found);
  CHECK(bench.volumes(bench.other_guest).size() == 1);
}

/// Some refuse, some keep what the clone needs out of sight; the clone is good in any case.
template <class F>
void a_snapshot_with_clones_is_kept_or_goes_without_harm(Bench<F>& bench) {
  const Story<F> story{bench};
  const VolumeName clone = must(bench.storage().clone(story.volume, story.first, {.vmid = bench.other_guest}));
  const auto removed = bench.storage().remove_snapshot(story.volume, story.first);
  if (removed) {
    CHECK(names_of_snapshots(bench, story.volume) == std::vector<std::string>{"second"});
  } else {
    CHECK(refusal_of(removed, Errc::in_use).message().find(clone.str()) != std::string::npos);
    CHECK(bench.holds(story.volume, story.first, 1));
  }
  CHECK(bench.holds(clone, 1));
  if (const auto gone = bench.storage().remove(story.volume, {.snapshots = true, .trash = false}); !gone) {
    refused(gone, Errc::in_use);
    CHECK(bench.holds(story.volume, 3));
    CHECK(bench.holds(story.volume, story.second, 2));  // nothing was destroyed
  }
  CHECK(bench.holds(clone, 1));
}

template <class F>
void flattening_makes_a_clone_independent(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  refused(bench.storage().flatten(bench.missing()), Errc::not_found);
  must(bench.storage().flatten(clone));
  const VolumeName alone = volume_name("vm-990000102-disk-0");
  const VolumeInfo info = must(bench.storage().info(alone));
  CHECK(info.name == alone);
  CHECK_FALSE(info.base);
  CHECK_FALSE(info.parent);
  CHECK_FALSE(info.incomplete());
  must(bench.storage().remove(base));
  CHECK(bench.holds(alone, 1));
}

template <class F>
void flattening_can_be_stopped(Bench<F>& bench) {
  const VolumeName base = make_base(bench);
  const VolumeName clone = must(bench.storage().clone(base, {.vmid = bench.other_guest}));
  std::stop_source stop;
  stop.request_stop();
  refused(bench.storage().flatten(clone, {.stop = stop.get_token(), .progress = {}}), Errc::cancelled);
  CHECK(bench.holds(clone, 1));
  must(bench.storage().flatten(clone));  // again, to the end
  CHECK_FALSE(must(bench.storage().info(volume_name("vm-990000102-disk-0"))).base);
}

}  // namespace stowage::testing::laws
