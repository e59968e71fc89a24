#pragma once
// Laws of volumes that are being filled, and of cleaning up after those who died.

#include <stowage/testing/laws/bench.hpp>

namespace stowage::testing::laws {

template <class F>
void an_import_is_incomplete_until_its_end(Bench<F>& bench) {
  const VolumeName volume = must(bench.storage().begin_import({.vmid = bench.guest, .size = bench.size}));
  CHECK(volume.str() == "vm-990000101-disk-0");
  CHECK(must(bench.storage().info(volume)).incomplete());
  REQUIRE(bench.volumes().size() == 1);
  CHECK(bench.volumes()[0].incomplete());
  bench.fill(volume, 1);
  must(bench.storage().end_import(volume));
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  CHECK_FALSE(bench.volumes()[0].incomplete());
  CHECK(bench.holds(volume, 1));
}

template <class F>
void an_import_needs_what_create_needs(Bench<F>& bench) {
  refused(bench.storage().begin_import({.vmid = bench.guest, .size = Bytes{}}), Errc::invalid_argument);
  const VolumeName volume = bench.make();
  refused(bench.storage().begin_import({.vmid = bench.guest, .size = bench.size, .name = volume}),
          Errc::already_exists);
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  refused(bench.storage().end_import(bench.missing()), Errc::not_found);
}

template <class F>
void an_abandoned_import_is_found_and_recovered_once(Bench<F>& bench) {
  const VolumeName good = bench.make();
  bench.fill(good, 1);
  const VolumeName volume = must(bench.storage().begin_import({.vmid = bench.guest, .size = bench.size}));
  const auto names = [&](const auto& rows) {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const auto& row) { return row.object.find(volume.str()) != std::string::npos; });
  };
  must(bench.storage().abandon_import(volume));
  must(bench.storage().abandon_import(volume));
  CHECK(names(must(bench.storage().check())));
  CHECK(bench.lists(volume));  // check changes nothing
  CHECK(names(must(bench.storage().recover({.dry_run = true})).done));
  CHECK(must(bench.storage().info(volume)).incomplete());  // nor does a dry run
  CHECK(must(bench.storage().recover(good)).empty());
  CHECK(must(bench.storage().info(volume)).incomplete());
  CHECK(names(must(bench.storage().recover(volume)).done));
  const auto after = bench.storage().info(volume);
  CHECK((after ? !after->incomplete() : after.error().code() == Errc::not_found));
  CHECK(must(bench.storage().recover()).empty());
  CHECK_FALSE(names(must(bench.storage().check())));
  CHECK(bench.holds(good, 1));
}

/// Whoever recovers: also its own program, and when nobody has the volume open just now.
template <class F>
void an_import_is_busy_until_it_ends_or_is_abandoned(Bench<F>& bench) {
  const VolumeName volume = must(bench.storage().begin_import({.vmid = bench.guest, .size = bench.size}));
  const auto busy = [&] {
    const Recovery one = must(bench.storage().recover(volume));
    const Recovery all = must(bench.storage().recover());
    for (const Recovery& found : {one, all}) {
      CHECK((found.done.empty() && found.left.empty()));
      if (found.busy.size() != 1) return false;
      CHECK(found.busy[0].object.find(volume.str()) != std::string::npos);
      CHECK(found.busy[0].verb == "import");
      CHECK_FALSE(found.busy[0].holder.empty());
    }
    return true;
  };
  CHECK(busy());
  bench.fill(volume, 1);
  CHECK(busy());
  auto device = must(bench.storage().open_volume(volume, Access::read_write));
  CHECK(busy());
  must(bench.storage().end_import(volume));
  CHECK(must(bench.storage().recover()).empty());
  must(device.close());
  CHECK(must(bench.storage().recover()).empty());
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  must(bench.storage().abandon_import(volume));
  CHECK_FALSE(must(bench.storage().info(volume)).incomplete());
  CHECK(bench.holds(volume, 1));
  refused(bench.storage().abandon_import(bench.missing()), Errc::not_found);
}

template <class F>
void an_incomplete_volume_can_be_removed(Bench<F>& bench) {
  const VolumeName volume = must(bench.storage().begin_import({.vmid = bench.guest, .size = bench.size}));
  must(bench.storage().remove(volume));
  CHECK(bench.volumes().empty());
}

}  // namespace stowage::testing::laws
