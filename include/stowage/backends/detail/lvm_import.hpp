#pragma once
// A volume that somebody fills has a private name, with its record from the first moment, and gets its own name last:
// nobody takes it for whole before. By that name the record is void.

#include <chrono>
#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_open.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_runs.hpp>
#include <stowage/intent/runs.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

/// A uuid as LVM writes it, with dashes, of the 32 characters that device mapper has of it.
inline std::string lvm_dashed_uuid(std::string_view plain) {
  std::string uuid;
  for (std::size_t at = 0; at < plain.size(); ++at) {
    if (at >= 6 && at <= 26 && at % 4 == 2) uuid += '-';
    uuid += plain[at];
  }
  return uuid;
}

/// The uuid of the volume group: of the active pool's device, which costs no process, or else by a report.
template <CommandRunner Runner>
Result<std::string> lvm_group_uuid(const LvmTools<Runner>& tools) {
  constexpr std::string_view begin = "LVM-";
  constexpr std::size_t one = 32;
  const auto pool = lvm_mapped(lvm_mapper_name(tools.vg(), tools.config().thinpool) + "-tpool");
  if (pool && pool->uuid.starts_with(begin) && pool->uuid.size() >= begin.size() + 2 * one) {
    return lvm_dashed_uuid(std::string_view{pool->uuid}.substr(begin.size(), one));
  }
  return lvm_find_pool(tools).map([](const LvmFound& found) { return found.lv->vg_uuid; });
}

template <CommandRunner Runner>
tl::unexpected<Error> lvm_name_taken(const LvmTools<Runner>& tools, const VolumeName& volume) {
  return fail(Errc::already_exists, "there is a volume '" + tools.spec(volume.str()) + "' already");
}

/// Something has the name, or will have it, besides `lv`.
inline bool lvm_is_taken(const LvmView& view, const std::string& volume, const LvmVolume& lv) {
  for (const LvmVolume& other : view.report().volumes) {
    const auto removal = lvm_removal(other);
    const bool same = other.name == volume || lvm_import(other) == volume || (removal && removal->volume == volume);
    if (same && &other != &lv) return true;
  }
  return false;
}

/// Pre: the run has the volume's lock. The report after the creation tells whether the name is free: as long as that is
/// locked, no other import of this host takes it.
template <CommandRunner Runner>
Result<void> lvm_begin_import(const LvmTools<Runner>& tools, const VolumeName& volume, Bytes size) {
  if (auto good = lvm_check_length(volume.str()); !good) return good;
  if (auto room = lvm_admit(tools, size, size); !room) return room;
  auto lock = lvm_lock(tools, volume, std::chrono::milliseconds{0});
  if (!lock && lock.error().code() != Errc::in_use) return fail(std::move(lock.error()));
  if (!lock || lvm_mapped(lvm_mapper_name(tools.vg(), volume.str()))) return lvm_name_taken(tools, volume);
  auto group = lvm_group_uuid(tools);
  if (!group) return fail(std::move(group.error()));
  auto run = Run::begin("import", tools.spec(volume.str()));
  if (!run) return fail(std::move(run.error()));
  const std::string name = std::string{lvm_import_prefix} + run->nonce();
  auto record = lvm_record("import", run->nonce(), *group + "." + run->nonce(), {volume.str()});
  if (!record) return fail(std::move(record.error()));
  auto made = lvm_new_volume(tools, name,
                             {"--addtag", lvm_tag(lvm_intent_tag, *record), "-Wn", "-V",
                              std::to_string(round_up(size, 512_B).count) + "b", "--thinpool", tools.pool()},
                             "creating '" + tools.spec(volume.str()) + "'");
  if (!made) return made;
  const auto view = lvm_view(tools);
  if (!view) return fail(view.error());
  const LvmVolume* lv = view->report().find(name);
  if (lv == nullptr) return fail(Errc::command_failed, "lvcreate found nothing wrong, but '" + name + "' is not there");
  if (lvm_is_taken(*view, volume.str(), *lv)) {
    if (auto removed = tools.finish("lvremove", {tools.spec(name)}, "taking the new volume back"); !removed)
      return removed;
    return lvm_name_taken(tools, volume);
  }
  tools.runs().put(volume.str(), {*std::move(lock), *std::move(run), *lv, *std::move(record), lvm_chunk(*view, false),
                                  lvm_chunk(*view, true)});
  return {};
}

/// What was filled gets its name; then its record, which is void by that, is taken away.
template <CommandRunner Runner>
Result<void> lvm_name_filled(const LvmTools<Runner>& tools, const LvmVolume& lv, const std::string& volume) {
  if (lv.name != volume) {
    auto named = tools.change("lvrename", {tools.vg(), lv.name, volume}, "naming '" + tools.spec(volume) + "'");
    if (!named) return named;
  }
  auto ended = tools.finish("lvchange", lvm_with(tools, lvm_record_options(lv, std::nullopt), {volume}),
                            "ending the import of '" + tools.spec(volume) + "'");
  return lv.name != volume ? Result<void>{} : ended;
}

/// A volume that was being filled is whole. Errors: not_found, wrong_state (it is not being filled).
template <CommandRunner Runner>
Result<void> lvm_end_import(const LvmTools<Runner>& tools, const VolumeName& volume) {
  if (const auto run = tools.runs().find(volume.str())) {
    auto ended = lvm_name_filled(tools, run->lv, volume.str());
    if (ended) static_cast<void>(tools.runs().take(volume.str()));
    return ended;
  }
  const auto held = lvm_hold(tools, volume, Verb::import, {volume.str()});
  if (!held) return fail(held.error());
  const auto intent = lvm_intent_of(held->view, volume.str());
  if (!intent || intent->verb != "import") return fail(Errc::wrong_state, "it is not being filled");
  return lvm_name_filled(tools, *intent->lv, volume.str());
}

/// The run of this policy at the volume, if there is one, ends with nothing done: its record is nobody's.
/// Errors: not_found.
template <CommandRunner Runner>
Result<void> lvm_release(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto run = tools.runs().take(volume.str());
  if (!run) return lvm_find(tools, volume).map([](const LvmFound&) {});
  Intent record = parse_intent(run->record);
  record.owner = {};
  const auto text = intent_text(record);
  if (!text) return fail(text.error());
  return tools.finish("lvchange", lvm_with(tools, lvm_record_options(run->lv, *text), {run->lv.name}),
                      "giving up '" + tools.spec(volume.str()) + "'");
}

/// One command takes the record that stands on a run's volume for another.
template <CommandRunner Runner>
Result<void> lvm_write_record(const LvmTools<Runner>& tools, LvmVolume& lv, const std::string& record,
                              const std::string& doing) {
  auto done = tools.change("lvchange", lvm_with(tools, lvm_record_options(lv, record), {lv.name}), doing);
  if (!done) return done;
  std::erase_if(lv.tags, [](const std::string& tag) { return tag.starts_with(lvm_intent_tag); });
  lv.tags.push_back(lvm_tag(lvm_intent_tag, record));
  return done;
}

/// What is being filled by a run of this policy is opened by what the run knows; everything else by a report.
template <CommandRunner Runner>
Result<LvmOpened> lvm_open_volume(const LvmTools<Runner>& tools, const VolumeName& volume, Access access) {
  if (const auto run = tools.runs().find(volume.str())) {
    return lvm_open(tools, run->lv, access).map([&](KernelDevice&& device) {
      return LvmOpened{std::move(device), run->unzeroed_chunk, run->zeroed_chunk};
    });
  }
  return lvm_find(tools, volume).and_then([&](const LvmFound& found) {
    const Verb verb = access == Access::read_write ? Verb::open_to_write : Verb::open_to_read;
    return lvm_admit_without_lock(tools, found.view, volume, verb).and_then([&] {
      return lvm_open_found(tools, found, access);
    });
  });
}

}  // namespace stowage::detail
