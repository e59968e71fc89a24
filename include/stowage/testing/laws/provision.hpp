#pragma once
// Laws of storages that make and remove volumes, and of growing and renaming them.

#include <atomic>
#include <set>
#include <stowage/testing/laws/bench.hpp>
#include <thread>

namespace stowage::testing::laws {

template <class F>
void create_then_list_shows_it(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  const auto volumes = bench.volumes();
  REQUIRE(volumes.size() == 1);
  CHECK(volumes[0].name.str() == volume.str());
  CHECK(volumes[0].size.count == bench.size.count);
  CHECK(volumes[0].vmid == bench.guest);
  CHECK(volumes[0].format == Format::raw);
  CHECK_FALSE(volumes[0].incomplete());
  CHECK_FALSE(volumes[0].base);
  CHECK_FALSE(volumes[0].parent);
  CHECK(bench.lists(volume));
}

template <class F>
void sizes_are_rounded_up_and_told(Bench<F>& bench) {
  const Bytes odd = bench.size + 1_B;
  const VolumeName volume = must(bench.storage().create({.vmid = bench.guest, .size = odd}));
  const Bytes told = must(bench.storage().info(volume)).size;
  CHECK(told >= odd);
  CHECK(told < odd + 64_MiB);
  CHECK(must(bench.storage().open_volume(volume, Access::read_only)).size().count == told.count);
  const VolumeName same = must(bench.storage().create({.vmid = bench.guest, .size = told}));
  CHECK(must(bench.storage().info(same)).size.count == told.count);
}

template <class F>
void a_taken_name_is_already_exists_and_its_volume_stays(Bench<F>& bench) {
  const VolumeName volume = volume_name("vm-990000101-cloudinit");
  const CreateSpec spec{.vmid = bench.guest, .size = bench.size, .name = volume};
  CHECK(must(bench.storage().create(spec)) == volume);
  bench.fill(volume, 1);
  CHECK(refusal_of(bench.storage().create(spec), Errc::already_exists).object() == bench.object(volume));
  CHECK(bench.holds(volume, 1));
}

template <class F>
void automatic_names_take_the_smallest_free_number(Bench<F>& bench) {
  for (const char* expected : {"vm-990000101-disk-0", "vm-990000101-disk-1", "vm-990000101-disk-2"}) {
    CHECK(bench.make().str() == expected);
  }
  must(bench.storage().remove(volume_name("vm-990000101-disk-1")));
  CHECK(bench.make().str() == "vm-990000101-disk-1");
  CHECK(bench.make().str() == "vm-990000101-disk-3");
}

template <class F>
void names_of_other_kinds_take_no_number(Bench<F>& bench) {
  for (const char* text : {"vm-990000101-cloudinit", "vm-990000101-state-s1", "vm-990000101-fleece-0"}) {
    const VolumeName wanted = volume_name(text);
    CHECK(must(bench.storage().create({.vmid = bench.guest, .size = bench.size, .name = wanted})) == wanted);
  }
  CHECK(bench.make().str() == "vm-990000101-disk-0");
}

template <class F>
void guests_have_their_own_numbers_and_lists(Bench<F>& bench) {
  const VolumeName mine = bench.make();
  const VolumeName other = must(bench.storage().create({.vmid = bench.other_guest, .size = bench.size}));
  CHECK(other.str() == "vm-990000102-disk-0");
  REQUIRE(bench.volumes(bench.other_guest).size() == 1);
  CHECK(bench.volumes(bench.other_guest)[0].name == other);
  CHECK(bench.lists(mine));
}

template <class F>
void eight_threads_get_eight_names(Bench<F>& bench) {
  std::vector<Result<VolumeName>> made(8, fail(Errc::backend_failed, "not run"));
  {
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (auto& result : made) {
      threads.emplace_back([&] { result = bench.storage().create({.vmid = bench.guest, .size = bench.size}); });
    }
  }
  std::set<std::string> names;
  for (auto& result : made) names.insert(must(std::move(result)).str());
  CHECK(names.size() == made.size());
  CHECK(names.contains("vm-990000101-disk-7"));  // no number was skipped
  CHECK(bench.volumes().size() == made.size());
}

template <class F>
void impossible_sizes_are_invalid(Bench<F>& bench) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    refused(bench.storage().create({.vmid = bench.guest, .size = Bytes{size}}), Errc::invalid_argument);
  }
  CHECK(bench.volumes().empty());
}

template <class F>
void a_name_that_is_not_of_the_guest_is_parse_failed(Bench<F>& bench) {
  for (const char* text : {"vm-990000102-disk-0", "base-990000101-disk-0", "vm-990000101-", "vm-990000101-a b",
                           "vm-990000101-a/b", "vm-990000101-a@b", "vm-99000010-disk-0", "disk"}) {
    CAPTURE(text);
    refused(bench.storage().create({.vmid = bench.guest, .size = bench.size, .name = volume_name(text)}),
            Errc::parse_failed);
  }
  CHECK(bench.volumes().empty());
}

template <class F>
void content_that_the_type_does_not_hold_is_not_supported(Bench<F>& bench) {
  for (const Content content : {Content::rootdir, Content::none}) {
    if (content != Content::none && features_of<typename F::Backend>.content.has(content)) continue;
    refused(bench.storage().create({.vmid = bench.guest, .size = bench.size, .content = content}), Errc::not_supported);
  }
  CHECK(bench.volumes().empty());
}

template <class F>
void a_new_volume_reads_as_zeros(Bench<F>& bench) {
  const VolumeName first = bench.make();
  bench.fill(first, 1);
  must(bench.storage().remove(first));
  const VolumeName second = bench.make();  // likely on the same space, certainly under the same name
  CHECK(all_zero(bench.read(must(bench.storage().open_volume(second, Access::read_only)), bench.place)));
  CHECK(all_zero(bench.read(must(bench.storage().open_volume(second, Access::read_only)), Bytes{})));
}

template <class F>
void what_was_removed_is_gone(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  must(bench.storage().remove(volume));
  CHECK(bench.volumes().empty());
  refused(bench.storage().info(volume), Errc::not_found);
  CHECK(refusal_of(bench.storage().remove(volume), Errc::not_found).object() == bench.object(volume));
}

template <class F>
void what_is_open_for_writing_cannot_be_removed(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  {
    auto device = must(bench.storage().open_volume(volume, Access::read_write));
    must(device.write_at(bench.place, Bench<F>::data(2)));
    refused(bench.storage().remove(volume), Errc::in_use);
    must(device.close());
  }
  CHECK(bench.holds(volume, 2));
  must(bench.storage().remove(volume));
}

template <class F>
void what_is_not_ours_is_left_out_and_left_alone(Bench<F>& bench) {
  const std::string foreign = bench.fixture().add_foreign();
  const VolumeName volume = bench.make();
  for (const VolumeInfo& info : must(bench.storage().list())) CHECK(info.name.str() != foreign);
  refused(bench.storage().remove(volume_name(foreign)), Errc::parse_failed);
  must(bench.storage().remove(volume));
}

template <class F>
void growing_keeps_the_data_and_adds_zeros(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  const Bytes grown = must(bench.storage().resize(volume, bench.size + 4_MiB + 1_B));
  CHECK(grown >= bench.size + 4_MiB + 1_B);
  CHECK(must(bench.storage().info(volume)).size.count == grown.count);
  CHECK(bench.holds(volume, 1));
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  CHECK(device.size().count == grown.count);
  std::vector<std::byte> added(4 << 20, std::byte{1});
  must(device.read_at(bench.size, added));
  CHECK(all_zero(added));
  must(device.write_at(bench.size, pattern(2, 4 << 20)));
}

template <class F>
void shrinking_is_refused_and_changes_nothing(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  refused(bench.storage().resize(volume, 4_MiB), Errc::invalid_argument);
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    refused(bench.storage().resize(volume, Bytes{size}), Errc::invalid_argument);
  }
  CHECK(must(bench.storage().info(volume)).size.count == bench.size.count);
  CHECK(bench.holds(volume, 1));
}

template <class F>
void growing_to_the_size_it_has_is_fine(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  CHECK(must(bench.storage().resize(volume, bench.size)).count == bench.size.count);
  refused(bench.storage().resize(bench.missing(), bench.size), Errc::not_found);
}

template <class F>
void renaming_keeps_data_and_identity(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  const std::string identity = must(bench.storage().info(volume)).identity;
  const VolumeName wanted = volume_name("vm-990000101-other");
  CHECK(must(bench.storage().rename(volume, {.vmid = {}, .name = wanted})) == wanted);
  refused(bench.storage().info(volume), Errc::not_found);
  CHECK(must(bench.storage().info(wanted)).identity == identity);
  CHECK(bench.holds(wanted, 1));
}

template <class F>
void renaming_to_another_guest_takes_its_next_number(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  bench.fill(volume, 1);
  static_cast<void>(must(bench.storage().create({.vmid = bench.other_guest, .size = bench.size})));
  const VolumeName moved = must(bench.storage().rename(volume, {.vmid = bench.other_guest, .name = {}}));
  CHECK(moved.str() == "vm-990000102-disk-1");
  CHECK(must(bench.storage().info(moved)).vmid == bench.other_guest);
  CHECK(bench.holds(moved, 1));
  CHECK(bench.volumes().empty());
}

template <class F>
void renaming_to_a_taken_name_is_refused(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  const VolumeName other = bench.make();
  bench.fill(volume, 1);
  bench.fill(other, 2);
  CHECK(refusal_of(bench.storage().rename(volume, {.vmid = {}, .name = other}), Errc::already_exists).object() ==
        bench.object(other));
  CHECK((bench.holds(volume, 1) && bench.holds(other, 2)));
}

template <class F>
void renaming_needs_a_volume_and_a_goal(Bench<F>& bench) {
  const VolumeName wanted = volume_name("vm-990000101-other");
  CHECK(refusal_of(bench.storage().rename(bench.missing(), {.vmid = {}, .name = wanted}), Errc::not_found).object() ==
        bench.object(bench.missing()));
  const VolumeName volume = bench.make();
  refused(bench.storage().rename(volume, {}), Errc::invalid_argument);
  refused(bench.storage().rename(volume, {.vmid = bench.other_guest, .name = wanted}), Errc::parse_failed);
  CHECK(bench.lists(volume));
}

template <class F>
void what_is_open_for_writing_cannot_be_renamed(Bench<F>& bench) {
  const VolumeName volume = bench.make();
  {
    auto device = must(bench.storage().open_volume(volume, Access::read_write));
    must(device.write_at(bench.place, Bench<F>::data(1)));
    refused(bench.storage().rename(volume, {.vmid = bench.other_guest, .name = {}}), Errc::in_use);
  }
  CHECK(bench.holds(volume, 1));
}

}  // namespace stowage::testing::laws
