#pragma once
// A volume that comes to be with its content, or not at all.

#include <algorithm>
#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/features.hpp>
#include <stowage/io/device.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <utility>

namespace stowage {

/// `options` of a copy onto `device`, a new volume of `storage`: zeros are not written where it reads as zeros anyway.
/// The table says that of the type, and the device whether it holds for each block of it (`UnzeroedDevice`).
template <class Storage, class Device>
CopyOptions onto_new(const Storage& storage, const Device& device, CopyOptions options) {
  options.fresh = storage.features().can.has(Capability::sparse_init);
  options.fresh_block = detail::unzeroed_block_of(device);
  return options;
}

namespace detail {

/// How large a volume is made for so many bytes: Proxmox VE rounds up to KiB. (Not where that would overflow: `create`
/// refuses such a size.)
constexpr Bytes volume_size_for(Bytes data) noexcept {
  return data.count > (std::uint64_t{1} << 63U) ? data : round_up(data, 1_KiB);
}

/// What `begin_import` has made is removed again, for want of its content. Gives `error`, with what is to be done if
/// even that fails.
template <class Storage>
Error take_back(Storage& storage, const VolumeName& made, Error error) {
  const auto removed = storage.remove(made);
  if (removed || removed.error().code() == Errc::not_found) return error;
  static_cast<void>(storage.abandon_import(made));
  return std::move(error).advise("the volume " + made.str() +
                                 " is still there, recover or remove it: " + removed.error().detail());
}

/// Zeros in the last block of a new volume that its data reach into, for what lies behind them: see `UnzeroedDevice`.
template <class Device>
Result<void> zero_last_block(Device& device, Bytes size) {
  const Bytes block = unzeroed_block_of(device);
  if (block == Bytes{} || size == Bytes{}) return {};
  const Bytes begin{(size.count - 1) / block.count * block.count};
  return device.write_zeroes(begin, std::min(begin + block, device.size()) - begin);
}

/// From `begin_import` to `end_import`: `fill(device)` gives the volume its content, of `size`. It is whole before it
/// is closed: as long as it is open, nobody takes it for one that is abandoned.
template <class Storage, class Fill>
Result<void> fill_volume(Storage& storage, const VolumeName& made, Bytes size, Fill fill) {
  auto device = storage.open_volume(made, Access::read_write);
  if (!device) return fail(std::move(device.error()));
  if (auto zeroed = zero_last_block(*device, size); !zeroed) return zeroed;
  if (auto filled = fill(*device); !filled) return fail(std::move(filled.error()));
  if (auto flushed = device->flush(); !flushed) return flushed;
  if (auto ended = storage.end_import(made); !ended) return ended;
  static_cast<void>(device->close());  // all is durable, and others may use it already: nothing to take back
  return {};
}

}  // namespace detail

/// Makes a volume of `spec.size`, and has `fill(device)` fill it, which gives a `Result<void>`. Until that has ended
/// well it is `incomplete`; when it fails, the volume is removed again. A `fill` that copies has `onto_new` for it.
/// `storage` is a `Storage` or a
/// `BasicAnyStorage`. Errors: those of `begin_import` and `open_volume`, and of `fill`.
template <class Storage, class Fill>
Result<VolumeName> make_filled_volume(Storage& storage, const CreateSpec& spec, Fill fill) {
  auto made = storage.begin_import(spec);
  if (!made) return made;
  if (auto filled = detail::fill_volume(storage, *made, spec.size, std::move(fill)); !filled) {
    Error error = std::move(filled.error()).about(storage.id().str() + ":" + made->str());
    return fail(detail::take_back(storage, *made, std::move(error)));
  }
  return made;
}

/// Makes a volume on `storage` that has all bytes of `source`, an open volume of any storage, and shares none with it:
/// a full clone. Nobody may write to the source meanwhile: of a running guest's disk, clone a snapshot.
/// Errors: those of `make_filled_volume` and `copy`. Blocks, cost: as `copy`.
template <class Storage, QueuedDevice Source>
Result<VolumeName> full_clone(Source& source, Storage& storage, const CloneSpec& spec, CopyOptions options = {}) {
  return make_filled_volume(
      storage,
      {.vmid = spec.vmid, .size = detail::volume_size_for(source.size()), .name = spec.name, .content = spec.content},
      [&](auto& destination) {
        return copy(source, destination, onto_new(storage, destination, options)).map([](const Copied&) {});
      });
}

}  // namespace stowage
