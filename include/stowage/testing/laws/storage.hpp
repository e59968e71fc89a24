#pragma once
// Laws of every storage.

#include <stowage/testing/laws/bench.hpp>

namespace stowage::testing::laws {

template <class F>
void features_are_the_row_of_the_backend(Bench<F>& bench) {
  CHECK(&bench.storage().features() == &features_of<typename F::Backend>);
}

template <class F>
void status_tells_numbers_that_fit_together(Bench<F>& bench) {
  const Status status = must(bench.storage().status());
  CHECK(status.active);
  if (status.total && status.used) CHECK(status.used->count <= status.total->count);
  if (status.total && status.available) CHECK(status.available->count <= status.total->count);
}

template <class F>
void activation_can_be_repeated(Bench<F>& bench) {
  for (int again = 0; again < 2; ++again) must(bench.storage().activate());
  for (int again = 0; again < 2; ++again) must(bench.storage().deactivate());
  must(bench.storage().activate());
  CHECK(must(bench.storage().status()).active);
}

template <class F>
void activation_of_a_volume_can_be_repeated(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  for (int again = 0; again < 2; ++again) must(bench.storage().activate(volume));
  for (int again = 0; again < 2; ++again) must(bench.storage().deactivate(volume));
  CHECK(must(bench.storage().info(volume)).name == volume);
}

template <class F>
void the_list_is_sorted_and_has_no_name_twice(Bench<F>& bench) {
  static_cast<void>(bench.writable());
  const auto all = must(bench.storage().list());
  REQUIRE_FALSE(all.empty());
  CHECK(std::adjacent_find(all.begin(), all.end(),
                           [](const VolumeInfo& a, const VolumeInfo& b) { return a.name >= b.name; }) == all.end());
}

template <class F>
void info_is_the_row_of_the_list(Bench<F>& bench) {
  static_cast<void>(bench.writable());
  for (const VolumeInfo& row : must(bench.storage().list())) {
    const VolumeInfo info = must(bench.storage().info(row.name));
    CHECK(info.name.str() == row.name.str());
    CHECK(info.size.count == row.size.count);
    CHECK(info.format == row.format);
    CHECK((info.vmid == row.vmid && info.base == row.base && info.parent == row.parent));
    CHECK((info.ctime == row.ctime || !row.ctime || !info.ctime));
    CHECK((info.intent == row.intent && info.pending == row.pending));
    CHECK((info.identity == row.identity || row.identity.empty()));
    CHECK_FALSE(info.identity.empty());
  }
}

template <class F>
void a_filter_for_another_guest_gives_nothing(Bench<F>& bench) {
  static_cast<void>(bench.writable());
  CHECK(bench.volumes(VmId{990'000'999}).empty());
}

template <class F>
void what_is_missing_is_not_found(Bench<F>& bench) {
  auto& storage = bench.storage();
  const VolumeName volume = bench.missing();
  refused(storage.info(volume), Errc::not_found);
  refused(storage.activate(volume), Errc::not_found);
  refused(storage.open_volume(volume, Access::read_only), Errc::not_found);
  refused(storage.open_volume(volume, Access::read_write), Errc::not_found);
}

template <class F>
void an_error_names_storage_and_volume(Bench<F>& bench) {
  const VolumeName volume = bench.missing();
  CHECK(refusal_of(bench.storage().info(volume), Errc::not_found).object() == bench.object(volume));
}

template <class F>
void a_name_that_the_type_does_not_have_is_parse_failed(Bench<F>& bench) {
  auto& storage = bench.storage();
  for (const char* text :
       {"x", "disk", "vm-1", "lun", "lunx", "lun16384", "../etc/passwd", "vm-1-a@b", "0.0.1.", "a b"}) {
    const VolumeName volume = volume_name(text);
    CHECK(refusal_of(storage.info(volume), Errc::parse_failed).object() == bench.object(volume));
    refused(storage.path(volume), Errc::parse_failed);
    refused(storage.blockdev(volume), Errc::parse_failed);
    refused(storage.activate(volume), Errc::parse_failed);
    refused(storage.open_volume(volume, Access::read_write), Errc::parse_failed);
  }
}

template <class F>
void blockdev_is_one_json_object_with_a_driver(Bench<F>& bench) {
  const std::string json = must(bench.storage().blockdev(bench.writable())).to_json();
  CAPTURE(json);
  CHECK(json.starts_with("{\"driver\":\""));
  CHECK(is_json_object(json));
}

/// A storage with CHAP refuses, as the path would hold the password.
template <class F>
void path_is_not_empty(Bench<F>& bench) {
  const auto path = bench.storage().path(bench.writable());
  if (path) {
    CHECK_FALSE(path->empty());
  } else {
    refused(path, Errc::permission_denied);
  }
}

/// Containers need it, whatever the storage is configured for.
template <class F>
void the_kernels_device_has_a_path_or_is_not_supported(Bench<F>& bench) {
  auto& storage = bench.storage();
  const VolumeName volume = bench.writable();
  const auto path = storage.path(volume, {.kernel = true});
  const auto node = storage.blockdev(volume, {.kernel = true});
  if (path) {
    CHECK(path->starts_with('/'));
    CHECK(must(node).to_json().starts_with("{\"driver\":\"host_device\""));
  } else {
    for (const Errc code : {path.error().code(), node.error().code()}) CHECK(name(code) == name(Errc::not_supported));
    refused(storage.activate(volume, {.kernel = true}), Errc::not_supported);
  }
}

template <class F>
void existing_volumes_are_listed_with_exact_sizes(Bench<F>& bench) {
  const auto all = must(bench.storage().list());
  for (const ExistingVolume& volume : bench.fixture().existing()) {
    CAPTURE(volume.name.str());
    const auto row = std::find_if(all.begin(), all.end(), [&](const VolumeInfo& i) { return i.name == volume.name; });
    REQUIRE(row != all.end());
    CHECK(row->size.count == volume.size.count);
    auto device = must(bench.storage().open_volume(volume.name, Access::read_only));
    CHECK(device.size().count == volume.size.count);
  }
}

template <class F>
void a_read_only_volume_can_be_read_and_not_written(Bench<F>& bench) {
  for (const ExistingVolume& volume : bench.fixture().existing()) {
    if (!volume.read_only) continue;
    CAPTURE(volume.name.str());
    const auto before = bench.read(must(bench.storage().open_volume(volume.name, Access::read_only)), Bytes{});
    auto device = bench.storage().open_volume(volume.name, Access::read_write);
    if (device) {  // some learn it only from the first write
      refused(device->write_at(Bytes{}, Bench<F>::data(1)), Errc::permission_denied);
    } else {
      refused(device, Errc::permission_denied);
    }
    CHECK(bench.read(must(bench.storage().open_volume(volume.name, Access::read_only)), Bytes{}) == before);
  }
}

template <class F>
void check_finds_nothing_in_a_good_storage_and_recover_does_nothing(Bench<F>& bench) {
  const VolumeName volume = bench.writable();
  bench.fill(volume, 1);
  static_cast<void>(must(bench.storage().recover()));
  for (const Finding& finding : must(bench.storage().check()))
    CHECK(finding.object.find(volume.str()) == std::string::npos);
  CHECK(must(bench.storage().recover()).empty());
  CHECK(must(bench.storage().recover(volume)).empty());
  refused(bench.storage().recover({.then = RecoverOptions::Then::keep}), Errc::invalid_argument);
  CHECK(bench.holds(volume, 1));
}

}  // namespace stowage::testing::laws
