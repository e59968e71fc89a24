#pragma once
// What a volume tells of the streams that it is received from and sent as, in tags: how far one has come, and which
// content its snapshots have.

#include <optional>
#include <stowage/backends/detail/lvm_create.hpp>
#include <stowage/backends/detail/lvm_intent.hpp>
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
inline constexpr std::string_view lvm_receive_intent = "receive/";

inline std::string lvm_content(const LvmVolume& snapshot) {
  return snapshot.tag(lvm_content_tag).value_or("lvm-" + snapshot.uuid);
}

template <CommandRunner Runner>
Result<std::string> lvm_snapshot_identity(const LvmTools<Runner>& tools, const VolumeName& volume,
                                          const SnapshotName& snapshot) {
  return lvm_find(tools, volume, snapshot).map([](const LvmFound& found) { return lvm_content(*found.lv); });
}

inline Result<std::optional<Receipt>> lvm_receipt_of(const LvmVolume& volume) {
  const auto intent = volume.tag(lvm_intent_tag);
  if (!intent || !intent->starts_with(lvm_receive_intent)) return std::nullopt;
  return parse_receipt(std::string_view{*intent}.substr(lvm_receive_intent.size())).map([](Receipt receipt) {
    return std::optional{std::move(receipt)};
  });
}

template <CommandRunner Runner>
Result<std::optional<Receipt>> lvm_receipt(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  return lvm_receipt_of(*found->lv);
}

/// One command takes the old receipt, or the mark of an import, for the new one.
template <CommandRunner Runner>
Result<void> lvm_put_receipt(const LvmTools<Runner>& tools, const LvmVolume& volume, const Receipt& receipt) {
  const std::string text = lvm_tag(lvm_intent_tag, std::string{lvm_receive_intent} + receipt_text(receipt));
  std::vector<std::string> arguments{"--addtag", text, tools.spec(volume.name)};
  if (const auto old = volume.tag(lvm_intent_tag)) {
    const std::string before = lvm_tag(lvm_intent_tag, *old);
    if (before == text) return {};
    arguments.insert(arguments.begin(), {"--deltag", before});
  }
  return tools.change("lvchange", std::move(arguments), "noting how far '" + tools.spec(volume.name) + "' has come");
}

template <CommandRunner Runner>
Result<void> lvm_set_receipt(const LvmTools<Runner>& tools, const VolumeName& volume, const Receipt& receipt) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  return lvm_put_receipt(tools, *found->lv, receipt);
}

template <CommandRunner Runner>
Result<void> lvm_drop_receipt(const LvmTools<Runner>& tools, const VolumeName& volume) {
  const auto found = lvm_find(tools, volume);
  if (!found) return fail(found.error());
  const auto receipt = lvm_receipt_of(*found->lv);
  if (!receipt) return fail(receipt.error());
  if (!*receipt) return {};
  return tools.change("lvchange",
                      {"--deltag", lvm_tag(lvm_intent_tag, *found->lv->tag(lvm_intent_tag)), tools.spec(volume.str())},
                      "ending what '" + tools.spec(volume.str()) + "' received");
}

/// The snapshot may have been taken before: then it is the stream's, see `IncrementBackend`.
template <CommandRunner Runner>
Result<void> lvm_end_receipt(const LvmTools<Runner>& tools, const VolumeName& volume, const SnapshotName& snapshot,
                             const std::string& identity) {
  auto taken = lvm_take_snapshot(tools, volume, snapshot, {lvm_tag(lvm_content_tag, identity)});
  if (!taken && taken.error().code() != Errc::already_exists) return taken;
  return lvm_drop_receipt(tools, volume);
}

/// Before the content of `snapshot` comes in the place of what a stream had written: from here on only that snapshot
/// makes the volume whole, and no stream goes on.
template <CommandRunner Runner>
Result<void> lvm_void_receipt(const LvmTools<Runner>& tools, const LvmVolume& volume, const SnapshotName& snapshot) {
  const auto receipt = lvm_receipt_of(volume);
  if (!receipt) return fail(receipt.error());
  if (!*receipt) return {};
  return lvm_put_receipt(tools, volume, {.target = "rollback", .base = snapshot});
}

}  // namespace stowage::detail
