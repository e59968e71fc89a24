#pragma once
// What a volume tells of the streams that it is received from and sent as, in tags: how far one has come, and which
// content its snapshots have.

#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_hold.hpp>
#include <stowage/backends/detail/lvm_import.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
#include <stowage/backends/detail/lvm_record.hpp>
#include <stowage/backends/detail/lvm_use.hpp>
#include <stowage/backends/detail/receipt_text.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage::detail {

/// On a snapshot: the identity of its content, if that is older than the snapshot: it came with a stream, or a rollback
/// has put a copy in its place.
inline constexpr std::string_view lvm_content_tag = "stowage.content=";
inline std::string lvm_content(const LvmVolume& snapshot) {
  return snapshot.tag(lvm_content_tag).value_or("lvm-" + snapshot.uuid);
}

template <CommandRunner Runner>
Result<std::string> lvm_snapshot_identity(const LvmTools<Runner>& tools, const VolumeName& volume,
                                          const SnapshotName& snapshot) {
  return lvm_find(tools, volume, snapshot).map([](const LvmFound& found) { return lvm_content(*found.lv); });
}

/// Of a record, `DONE`, `TARGET` and `BASE` after the name of the volume. Nothing: it is no stream's.
inline Result<std::optional<Receipt>> lvm_receipt_of(const std::optional<LvmIntent>& intent) {
  if (!intent || intent->verb != "receive") return std::nullopt;
  std::vector<std::string> arguments = lvm_intent_arguments(intent->record);
  if (intent->record.format == IntentFormat::current && !arguments.empty()) arguments.erase(arguments.begin());
  std::string text;
  for (const std::string& argument : arguments) text += (text.empty() ? "" : "/") + argument;
  return parse_receipt(text).map([](Receipt receipt) { return std::optional{std::move(receipt)}; });
}

inline std::vector<std::string> lvm_receipt_arguments(const std::string& volume, const Receipt& receipt) {
  std::vector<std::string> arguments{volume, std::to_string(receipt.done.count), receipt.target};
  if (receipt.base) arguments.push_back(receipt.base->str());
  return arguments;
}

template <CommandRunner Runner>
Result<std::optional<Receipt>> lvm_receipt(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  return lvm_receipt_of(lvm_intent_of(found->view, volume.str()));
}

/// Makes what stands on a volume, whose lock is held, a run of this policy: an import, a stream, or nothing yet.
template <CommandRunner Runner>
Result<void> lvm_begin_stream(const LvmTools<Runner>& tools, const VolumeName& volume, LvmHeld held,
                              const Receipt& receipt) {
  auto run = Run::begin("receive", tools.spec(volume.str()));
  if (!run) return fail(std::move(run.error()));
  const auto intent = lvm_intent_of(held.view, volume.str());
  const bool bound = intent && intent->record.format == IntentFormat::current;
  auto record = lvm_record("receive", run->nonce(), bound ? intent->record.bound : lvm_bound(*held.lv),
                           lvm_receipt_arguments(volume.str(), receipt));
  if (!record) return fail(std::move(record.error()));
  LvmVolume lv = *held.lv;
  auto noted = lvm_write_record(tools, lv, *record, "noting that '" + tools.spec(volume.str()) + "' receives a stream");
  if (!noted) return noted;
  tools.runs().put(volume.str(), {std::move(held.lock), *std::move(run), std::move(lv), *std::move(record),
                                  lvm_chunk(held.view, false), lvm_chunk(held.view, true)});
  return {};
}

/// A stream that was not received to its end goes on, and is this policy's from now on.
/// Nothing changes where there is none. Errors: not_found, in_use (by whom).
template <CommandRunner Runner>
Result<void> lvm_resume_receipt(const LvmTools<Runner>& tools, const VolumeName& volume) {
  if (tools.runs().find(volume.str()) != nullptr) return {};
  auto lock = lvm_lock(tools, volume);
  if (!lock) return fail(std::move(lock.error()));
  auto found = lvm_find(tools, volume);
  if (!found) return fail(std::move(found.error()));
  const auto intent = lvm_intent_of(found->view, volume.str());
  const auto receipt = lvm_receipt_of(intent);
  if (!receipt) return fail(receipt.error());
  if (!*receipt) return {};
  auto admitted = admit(Verb::receive, intent->record.arguments, intent->record, lvm_liveness(*intent));
  if (!admitted) return fail(std::move(admitted.error()));
  return lvm_begin_stream(tools, volume, {*std::move(lock), std::move(found->view), found->lv}, **receipt);
}

template <CommandRunner Runner>
Result<void> lvm_set_receipt(const LvmTools<Runner>& tools, const VolumeName& volume, const Receipt& receipt) {
  if (const auto run = tools.runs().find(volume.str())) {
    auto record = lvm_record("receive", run->run.nonce(), parse_intent(run->record).bound,
                             lvm_receipt_arguments(volume.str(), receipt));
    if (!record) return fail(std::move(record.error()));
    if (*record == run->record) return {};
    return lvm_write_record(tools, run->lv, *record, "noting how far '" + tools.spec(volume.str()) + "' has come")
        .map([&] { run->record = *std::move(record); });
  }
  const auto found = lvm_receipt(tools, volume);
  if (!found) return fail(found.error());
  if (*found && (*found)->target == receipt.target && (*found)->base == receipt.base) {
    return lvm_resume_receipt(tools, volume).and_then([&] { return lvm_set_receipt(tools, volume, receipt); });
  }
  auto held = lvm_hold(tools, volume, Verb::receive);
  if (!held) return fail(std::move(held.error()));
  return lvm_begin_stream(tools, volume, *std::move(held), receipt);
}

/// The snapshot may have been taken before: then it is the stream's, see `IncrementBackend`.
template <CommandRunner Runner>
Result<void> lvm_end_receipt(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                             const std::string& identity) {
  if (auto ours = lvm_resume_receipt(tools, volume); !ours) return ours;
  const auto run = tools.runs().find(volume.str());
  if (run == nullptr) {  // it has no receipt
    const auto held = lvm_hold(tools, volume, Verb::snapshot);
    if (!held) return fail(held.error());
    auto taken = lvm_new_snapshot(tools, held->lv->name, volume, snapshot, {lvm_tag(lvm_content_tag, identity)});
    return !taken && taken.error().code() == Errc::already_exists ? Result<void>{} : taken;
  }
  auto taken = lvm_new_snapshot(tools, run->lv.name, volume, snapshot, {lvm_tag(lvm_content_tag, identity)});
  if (!taken && taken.error().code() != Errc::already_exists) return taken;
  auto ended = lvm_name_filled(tools, run->lv, volume.str());
  if (ended) static_cast<void>(tools.runs().take(volume.str()));
  return ended;
}

/// Before the content of `snapshot` comes in the place of what a stream had written: from here on only that snapshot
/// makes the volume whole, and no stream goes on. `lv` has the new record then.
template <CommandRunner Runner>
Result<void> lvm_void_receipt(const LvmTools<Runner>& tools, const LvmView& view, LvmVolume& lv,
                              const SnapshotName& snapshot) {
  const auto receipt = lvm_receipt_of(lvm_intent_in(view, lv));
  if (!receipt) return fail(receipt.error());
  if (!*receipt) return {};
  auto record = lvm_record("receive", lv, lvm_receipt_arguments(lv.name, {.target = "rollback", .base = snapshot}));
  if (!record) return fail(std::move(record.error()));
  return lvm_write_record(tools, lv, *record, "beginning to roll '" + tools.spec(lv.name) + "' back");
}

}  // namespace stowage::detail
