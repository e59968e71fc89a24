#pragma once
// The laws that every backend obeys, as far as its row of the feature table makes them its own. For Catch2 2.13:
//
//     TEST_CASE("MyBackend keeps the laws") {
//       MyFixture fixture;                              // BackendFixture: see laws/bench.hpp
//       stowage::testing::check_conformance(fixture);
//     }

#include <catch2/catch.hpp>

#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/laws/clones.hpp>
#include <stowage/testing/laws/data.hpp>
#include <stowage/testing/laws/imports.hpp>
#include <stowage/testing/laws/increments.hpp>
#include <stowage/testing/laws/provision.hpp>
#include <stowage/testing/laws/snapshots.hpp>
#include <stowage/testing/laws/storage.hpp>
#include <stowage/testing/laws/unfinished.hpp>
#include <utility>

namespace stowage::testing {

namespace detail {

template <class F>
struct Law {
  const char* name;
  void (*holds)(Bench<F>&);
};

template <class F>
std::vector<Law<F>> laws_of_all() {
  using namespace laws;
  std::vector<Law<F>> all{
      {"features are the row of the backend", features_are_the_row_of_the_backend<F>},
      {"status tells numbers that fit together", status_tells_numbers_that_fit_together<F>},
      {"activation can be repeated", activation_can_be_repeated<F>},
      {"activation of a volume can be repeated", activation_of_a_volume_can_be_repeated<F>},
      {"the list is sorted and has no name twice", the_list_is_sorted_and_has_no_name_twice<F>},
      {"info is the row of the list", info_is_the_row_of_the_list<F>},
      {"a filter for another guest gives nothing", a_filter_for_another_guest_gives_nothing<F>},
      {"what is missing is not found", what_is_missing_is_not_found<F>},
      {"an error names storage and volume", an_error_names_storage_and_volume<F>},
      {"a name that the type does not have is parse_failed", a_name_that_the_type_does_not_have_is_parse_failed<F>},
      {"blockdev is one JSON object with a driver", blockdev_is_one_json_object_with_a_driver<F>},
      {"path is not empty", path_is_not_empty<F>},
      {"the kernel's device has a path, or is not_supported", the_kernels_device_has_a_path_or_is_not_supported<F>},
      {"check finds nothing in a good storage, and recover does nothing",
       check_finds_nothing_in_a_good_storage_and_recover_does_nothing<F>},
  };
  if constexpr (requires(F& fixture) { fixture.existing(); }) {
    all.push_back({"existing volumes are listed with exact sizes", existing_volumes_are_listed_with_exact_sizes<F>});
    all.push_back(
        {"a read-only volume can be read and not written", a_read_only_volume_can_be_read_and_not_written<F>});
  }
  return all;
}

template <class F>
std::vector<Law<F>> laws_of_data() {
  using namespace laws;
  return {
      {"an open volume has the size of its row", an_open_volume_has_the_size_of_its_row<F>},
      {"written bytes read back, and their neighbours stay", written_bytes_read_back_and_their_neighbours_stay<F>},
      {"the first and the last block can be written", the_first_and_the_last_block_can_be_written<F>},
      {"megabytes go through in one call", megabytes_go_through_in_one_call<F>},
      {"what was closed is there when it is opened again", what_was_closed_is_there_when_it_is_opened_again<F>},
      {"a range that is not on blocks is invalid", a_range_that_is_not_on_blocks_is_invalid<F>},
      {"a range beyond the end is invalid", a_range_beyond_the_end_is_invalid<F>},
      {"what is open for reading cannot be written", what_is_open_for_reading_cannot_be_written<F>},
      {"written zeroes read as zeros", written_zeroes_read_as_zeros<F>},
      {"discard leaves the neighbours alone", discard_leaves_the_neighbours_alone<F>},
      {"two may read at once", two_may_read_at_once<F>},
      {"a queue moves the bytes of its device", a_queue_moves_the_bytes_of_its_device<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_provision() {
  using namespace laws;
  std::vector<Law<F>> all{
      {"create, then list shows it", create_then_list_shows_it<F>},
      {"sizes are rounded up and told", sizes_are_rounded_up_and_told<F>},
      {"a taken name is already_exists, and its volume stays", a_taken_name_is_already_exists_and_its_volume_stays<F>},
      {"automatic names take the smallest free number", automatic_names_take_the_smallest_free_number<F>},
      {"names of other kinds take no number", names_of_other_kinds_take_no_number<F>},
      {"guests have their own numbers and lists", guests_have_their_own_numbers_and_lists<F>},
      {"eight threads get eight names", eight_threads_get_eight_names<F>},
      {"impossible sizes are invalid", impossible_sizes_are_invalid<F>},
      {"a name that is not of the guest is parse_failed", a_name_that_is_not_of_the_guest_is_parse_failed<F>},
      {"content that the type does not hold is not_supported", content_that_the_type_does_not_hold_is_not_supported<F>},
      {"what was removed is gone", what_was_removed_is_gone<F>},
      {"what is open for writing cannot be removed", what_is_open_for_writing_cannot_be_removed<F>},
  };
  if constexpr (supports<typename F::Backend, Capability::sparse_init>) {
    all.push_back({"a new volume reads as zeros", a_new_volume_reads_as_zeros<F>});
  }
  if constexpr (requires(F& fixture) { fixture.add_foreign(); }) {
    all.push_back({"what is not ours is left out and left alone", what_is_not_ours_is_left_out_and_left_alone<F>});
  }
  return all;
}

template <class F>
std::vector<Law<F>> laws_of_resize() {
  using namespace laws;
  return {
      {"growing keeps the data and adds zeros", growing_keeps_the_data_and_adds_zeros<F>},
      {"shrinking is refused and changes nothing", shrinking_is_refused_and_changes_nothing<F>},
      {"growing to the size it has is fine", growing_to_the_size_it_has_is_fine<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_rename() {
  using namespace laws;
  return {
      {"renaming keeps data and identity", renaming_keeps_data_and_identity<F>},
      {"renaming to another guest takes its next number", renaming_to_another_guest_takes_its_next_number<F>},
      {"renaming to a taken name is refused", renaming_to_a_taken_name_is_refused<F>},
      {"renaming needs a volume and a goal", renaming_needs_a_volume_and_a_goal<F>},
      {"what is open for writing cannot be renamed", what_is_open_for_writing_cannot_be_renamed<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_snapshots() {
  using namespace laws;
  return {
      {"snapshots are listed oldest first", snapshots_are_listed_oldest_first<F>},
      {"a snapshot needs a volume and a new name", a_snapshot_needs_a_volume_and_a_new_name<F>},
      {"bad names of snapshots are parse_failed", bad_names_of_snapshots_are_parse_failed<F>},
      {"a snapshot keeps its bytes", a_snapshot_keeps_its_bytes<F>},
      {"a snapshot cannot be written", a_snapshot_cannot_be_written<F>},
      {"a missing snapshot is not found", a_missing_snapshot_is_not_found<F>},
      {"rollback restores bytes and keeps all snapshots", rollback_restores_bytes_and_keeps_all_snapshots<F>},
      {"what is open for writing cannot be rolled back", what_is_open_for_writing_cannot_be_rolled_back<F>},
      {"what is open is rolled back at its next activation, or that is not_supported",
       what_is_open_is_rolled_back_at_its_next_activation_or_that_is_not_supported<F>},
      {"a snapshot can be taken under a writer", a_snapshot_can_be_taken_under_a_writer<F>},
      {"removing a snapshot leaves the rest", removing_a_snapshot_leaves_the_rest<F>},
      {"snapshots stand in the way of removal", snapshots_stand_in_the_way_of_removal<F>},
      {"snapshots go with their volume when asked to", snapshots_go_with_their_volume_when_asked_to<F>},
      {"a snapshot has a path and blockdev of its own", a_snapshot_has_a_path_and_blockdev_of_its_own<F>},
      {"activation of a snapshot can be repeated", activation_of_a_snapshot_can_be_repeated<F>},
      {"a volume keeps its snapshots when it is renamed or grown",
       a_volume_keeps_its_snapshots_when_it_is_renamed_or_grown<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_templates() {
  using namespace laws;
  return {
      {"a template has a base- name and the same bytes", a_template_has_a_base_name_and_the_same_bytes<F>},
      {"a template takes its number", a_template_takes_its_number<F>},
      {"a template is not changed any more", a_template_is_not_changed_any_more<F>},
      {"what has snapshots or a writer cannot become a template",
       what_has_snapshots_or_a_writer_cannot_become_a_template<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_clones() {
  using namespace laws;
  return {
      {"only a template can be cloned, and it must be there", only_a_template_can_be_cloned_and_it_must_be_there<F>},
      {"a linked clone shares bytes and names its base", a_linked_clone_shares_bytes_and_names_its_base<F>},
      {"writes to a clone do not reach its base or its siblings",
       writes_to_a_clone_do_not_reach_its_base_or_its_siblings<F>},
      {"a clone can do what a volume can", a_clone_can_do_what_a_volume_can<F>},
      {"a clone can become a template itself", a_clone_can_become_a_template_itself<F>},
      {"a clone with another base in its name becomes no template",
       a_clone_with_another_base_in_its_name_becomes_no_template<F>},
      {"a clone to a taken name is already_exists", a_clone_to_a_taken_name_is_already_exists<F>},
      {"eight clones at once get eight names", eight_clones_at_once_get_eight_names<F>},
      {"a template with clones cannot be removed", a_template_with_clones_cannot_be_removed<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_clones_of_snapshots() {
  using namespace laws;
  return {
      {"a clone of a snapshot has its bytes and a plain name", a_clone_of_a_snapshot_has_its_bytes_and_a_plain_name<F>},
      {"a snapshot with clones is kept, or goes without harm", a_snapshot_with_clones_is_kept_or_goes_without_harm<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_flatten() {
  using namespace laws;
  return {
      {"flattening makes a clone independent", flattening_makes_a_clone_independent<F>},
      {"flattening can be stopped", flattening_can_be_stopped<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_imports() {
  using namespace laws;
  return {
      {"an import is incomplete until its end", an_import_is_incomplete_until_its_end<F>},
      {"an import needs what create needs", an_import_needs_what_create_needs<F>},
      {"an import is busy until it ends or is abandoned", an_import_is_busy_until_it_ends_or_is_abandoned<F>},
      {"an abandoned import is found, and recovered once", an_abandoned_import_is_found_and_recovered_once<F>},
      {"an incomplete volume can be removed", an_incomplete_volume_can_be_removed<F>},
  };
}

template <class F>
std::vector<Law<F>> laws_of_increments() {
  using namespace laws;
  std::vector<Law<F>> all{
      {"what was written since a snapshot is known", what_was_written_since_a_snapshot_is_known<F>}};
  if constexpr (requires(F& fixture) { fixture.storage().backend(); }) {
    all.push_back({"a receipt says how far a stream has come", a_receipt_says_how_far_a_stream_has_come<F>});
  }
  return all;
}

template <class F>
std::vector<Law<F>> laws_of_the_unfinished() {
  using namespace laws;
  return {
      {"an unfinished volume refuses verbs by the table, and stays as it is",
       an_unfinished_volume_refuses_verbs_by_the_table_and_stays_as_it_is<F>},
      {"a record of another volume is none", a_record_of_another_volume_is_none<F>},
      {"an unfinished volume of nobody can be removed", an_unfinished_volume_of_nobody_can_be_removed<F>},
      {"a rollback may follow what left the content half changed",
       a_rollback_may_follow_what_left_the_content_half_changed<F>},
      {"recover reports what lives, and settles what is dead", recover_reports_what_lives_and_settles_what_is_dead<F>},
  };
}

/// One law after the other. One that is broken does not hide those behind it.
template <class F>
void check_laws(F& fixture, const std::vector<Law<F>>& laws) {
  Bench<F>{fixture}.sweep();  // what a run that was killed has left
  for (const Law<F>& law : laws) {
    INFO("law: " << law.name);
    try {
      Bench<F> bench{fixture};
      law.holds(bench);
      CHECK(bench.sweep());
    } catch (const Catch::TestFailureException&) {  // a REQUIRE, which Catch has counted
    }
  }
}

}  // namespace detail

/// Checks every law of the fixture's backend, in one pass: a fixture that is dear to set up is set up once. Volumes
/// that exist have at least 8 MiB, and lose what is in them.
template <BackendFixture F>
void check_conformance(F& fixture) {
  using B = typename F::Backend;
  detail::check_laws(fixture, detail::laws_of_all<F>());
  if constexpr (supports<B, Capability::write>) detail::check_laws(fixture, detail::laws_of_data<F>());
  if constexpr (supports<B, Capability::provision>) detail::check_laws(fixture, detail::laws_of_provision<F>());
  if constexpr (supports<B, Capability::resize>) detail::check_laws(fixture, detail::laws_of_resize<F>());
  if constexpr (supports<B, Capability::rename>) detail::check_laws(fixture, detail::laws_of_rename<F>());
  if constexpr (supports<B, Capability::snapshot>) detail::check_laws(fixture, detail::laws_of_snapshots<F>());
  if constexpr (supports<B, Capability::make_template>) detail::check_laws(fixture, detail::laws_of_templates<F>());
  if constexpr (supports<B, Capability::clone>) detail::check_laws(fixture, detail::laws_of_clones<F>());
  if constexpr (supports_in<B, Capability::clone, State::snapshot>) {
    detail::check_laws(fixture, detail::laws_of_clones_of_snapshots<F>());
  }
  if constexpr (supports<B, Capability::flatten>) detail::check_laws(fixture, detail::laws_of_flatten<F>());
  if constexpr (supports<B, Capability::import>) detail::check_laws(fixture, detail::laws_of_imports<F>());
  if constexpr (IncrementBackend<B>) detail::check_laws(fixture, detail::laws_of_increments<F>());
  if constexpr (supports<B, Capability::snapshot> && requires(const VolumeName& v, const Intent& intent) {
                  fixture.leave_unfinished(v, intent);
                  fixture.record_of(v);
                }) {
    detail::check_laws(fixture, detail::laws_of_the_unfinished<F>());
  }
}

}  // namespace stowage::testing
