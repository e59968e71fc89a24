#pragma once
// Templates: read-only volumes with a name of their own.

#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

/// Takes the record of a template that will not be one away. (It had the other flag before, unless pvesm has made it.)
template <CommandRunner Runner>
Result<void> lvm_undo_template(const LvmTools<Runner>& tools, const LvmVolume& lv) {
  std::vector<std::string> arguments = lvm_record_options(lv, std::nullopt);
  arguments.insert(arguments.begin(), "-prw");
  return tools.finish("lvchange", lvm_with(tools, std::move(arguments), {lv.name}),
                      "making '" + tools.spec(lv.name) + "' a volume again");
}

/// Gives a marked volume the name of a template, by which the record is void. `lv` as it is with that. What is refused
/// is undone.
template <CommandRunner Runner>
Result<void> lvm_finish_template(const LvmTools<Runner>& tools, const LvmVolume& lv, const std::string& to) {
  auto renamed = tools.change("lvrename", {tools.vg(), lv.name, to}, "renaming '" + tools.spec(lv.name) + "'");
  if (renamed || renamed.error().code() == Errc::outcome_unknown) return renamed;
  if (auto undone = lvm_undo_template(tools, lv); !undone) {
    return fail(std::move(renamed.error())
                    .advise("it is read-only now, and recover puts that in order: " + undone.error().detail()));
  }
  return renamed;
}

/// Read-only and marked first, renamed last: whoever sees the new name sees a template.
template <CommandRunner Runner>
Result<void> lvm_make_template(const LvmTools<Runner>& tools, const VolumeName& volume, const VolumeName& to) {
  if (auto good = lvm_check_length(to.str()); !good) return good;
  const auto held = lvm_hold(tools, volume, Verb::make_template);
  if (!held) return fail(held.error());
  if (const auto intent = lvm_intent_of(held->view, volume.str()); intent && intent->verb != "template") {
    if (auto rests = lvm_admit_at_rest(held->view, volume.str(), Verb::make_template); !rests) return rests;
  }
  if (const auto snapshots = held->view.snapshots(volume.str()); !snapshots.empty()) {
    return fail(Error{Errc::wrong_state, "it has snapshots, '" + snapshots.front().name + "' for one"}.advise(
        "a template has none: remove them first"));
  }
  if (held->view.report().find(to.str()) != nullptr) {
    return fail(Errc::already_exists, "there is a volume '" + tools.spec(to.str()) + "' already");
  }
  if (auto free = lvm_free(tools, held->view, volume.str()); !free) return free;
  LvmVolume lv = *held->lv;
  auto record = lvm_record("template", lv, {});
  if (!record) return fail(std::move(record.error()));
  if (lv.active()) {
    if (auto done = lvm_deactivate(tools, {volume.str()}); !done) return done;
  }
  std::vector<std::string> arguments = lvm_record_options(lv, *record);
  arguments.insert(arguments.begin(), {"-pr", "-ky"});
  auto marked = tools.change("lvchange", lvm_with(tools, std::move(arguments), {volume.str()}),
                             "making '" + tools.spec(volume.str()) + "' read-only");
  if (!marked) return marked;
  lv.tags = {lvm_tag(lvm_intent_tag, *record)};
  return lvm_finish_template(tools, lv, to.str());
}

}  // namespace stowage::detail
