#pragma once
// A storage whose type is known only when the program runs. Includes no backend: the caller names those it has.

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <stop_token>
#include <stowage/io/extents.hpp>
#include <stowage/storage.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace stowage {

/// What a type without the capability says at run time: the sentence that the compiler says of `Storage<B>`.
constexpr std::string_view refusal(Capability capability) noexcept {
  switch (capability) {
    case Capability::provision: return "this storage type cannot allocate or free volumes";
    case Capability::resize: return "this storage type cannot resize volumes";
    case Capability::rename: return "this storage type cannot rename volumes";
    case Capability::snapshot: return "this storage type has no snapshots";
    case Capability::clone: return "this storage type has no linked clones";
    case Capability::make_template: return "this storage type has no templates";
    case Capability::flatten: return "this storage type cannot flatten volumes";
    case Capability::import: return "this storage type cannot be imported to";
    case Capability::copy: return "this storage type cannot open snapshots";
    default: return "this storage type cannot do that";
  }
}

namespace detail {

/// A variant in which each type stands once: two backends may have the same kind of device.
template <class Variant, class... Ts>
struct DistinctVariant {
  using type = Variant;
};
template <class... Known, class T, class... Ts>
struct DistinctVariant<std::variant<Known...>, T, Ts...>
    : std::conditional_t<(std::same_as<T, Known> || ...), DistinctVariant<std::variant<Known...>, Ts...>,
                         DistinctVariant<std::variant<Known..., T>, Ts...>> {};

}  // namespace detail

/// A queue on an open volume of any of the backends `Bs`.
template <class... Bs>
class BasicAnyQueue {
 public:
  template <class Q>
    requires(std::same_as<Result<Q>, decltype(std::declval<typename Bs::Device&>().queue(1))> || ...)
  explicit BasicAnyQueue(Q queue) : queue_{std::move(queue)} {}

  Submitted submit(const IoRequest& request) {
    return std::visit([&](auto& q) { return q.submit(request); }, queue_);
  }
  Result<std::size_t> reap(std::span<IoCompletion> out) {
    return std::visit([&](auto& q) { return q.reap(out); }, queue_);
  }
  [[nodiscard]] Readiness ready() const {
    return std::visit([](const auto& q) { return q.ready(); }, queue_);
  }
  [[nodiscard]] std::size_t in_flight() const {
    return std::visit([](const auto& q) { return q.in_flight(); }, queue_);
  }
  [[nodiscard]] std::size_t depth() const {
    return std::visit([](const auto& q) { return q.depth(); }, queue_);
  }
  [[nodiscard]] Bytes block_size() const {
    return std::visit([](const auto& q) { return q.block_size(); }, queue_);
  }
  [[nodiscard]] Bytes size() const {
    return std::visit([](const auto& q) { return q.size(); }, queue_);
  }
  [[nodiscard]] Bytes stripe() const noexcept {
    return std::visit([](const auto& q) { return stripe_of(q); }, queue_);
  }

  /// What the queue has to say of its connection, if it is of that kind; else null.
  [[nodiscard]] const Error* trouble() const {
    return std::visit(
        [](const auto& q) -> const Error* {
          if constexpr (requires { q.trouble(); }) {
            return q.trouble();
          } else {
            return nullptr;
          }
        },
        queue_);
  }

 private:
  typename detail::DistinctVariant<std::variant<>, typename decltype(std::declval<typename Bs::Device&>().queue(
                                                       1))::value_type...>::type queue_;
};

/// An open volume of any of the backends `Bs`.
template <class... Bs>
class BasicAnyDevice {
 public:
  template <class Device>
    requires(std::same_as<Device, typename Bs::Device> || ...)
  explicit BasicAnyDevice(Device device) : device_{std::move(device)} {}

  [[nodiscard]] Bytes size() const {
    return std::visit([](const auto& d) { return d.size(); }, device_);
  }
  [[nodiscard]] Bytes block_size() const {
    return std::visit([](const auto& d) { return d.block_size(); }, device_);
  }
  [[nodiscard]] IoSizes io_sizes() const {
    return std::visit(
        []<class D>(const D& d) {
          if constexpr (SizedDevice<D>) {
            return d.io_sizes();
          } else {
            return IoSizes{};
          }
        },
        device_);
  }
  /// See `UnzeroedDevice`.
  [[nodiscard]] Bytes unzeroed_block() const {
    return std::visit([](const auto& d) { return detail::unzeroed_block_of(d); }, device_);
  }
  Result<void> read_at(Bytes at, std::span<std::byte> buffer) {
    return std::visit([&](auto& d) { return d.read_at(at, buffer); }, device_);
  }
  Result<void> write_at(Bytes at, std::span<const std::byte> data) {
    return std::visit([&](auto& d) { return d.write_at(at, data); }, device_);
  }
  Result<void> discard(Bytes at, Bytes length) {
    return std::visit([&](auto& d) { return d.discard(at, length); }, device_);
  }
  Result<void> write_zeroes(Bytes at, Bytes length) {
    return std::visit([&](auto& d) { return d.write_zeroes(at, length); }, device_);
  }
  Result<void> flush() {
    return std::visit([](auto& d) { return d.flush(); }, device_);
  }
  Result<void> close() {
    return std::visit([](auto& d) { return d.close(); }, device_);
  }
  /// Errors: invalid_argument (closed, or a depth below 1 or above 4096).
  [[nodiscard]] Result<BasicAnyQueue<Bs...>> queue(std::size_t depth)
    requires(QueuedDevice<typename Bs::Device> && ...)
  {
    return std::visit(
        [&](auto& d) {
          return d.queue(depth).map([](auto&& q) { return BasicAnyQueue<Bs...>{std::forward<decltype(q)>(q)}; });
        },
        device_);
  }
  /// Where it has data, see `MappedDevice`; all of it, where that is not known.
  [[nodiscard]] Result<std::vector<Extent>> extents(const std::stop_token& stop = {}) {
    return std::visit(
        [&]<class D>(D& d) -> Result<std::vector<Extent>> {
          if constexpr (MappedDevice<D>) {
            return detail::extents_of(d, stop);
          } else {
            return std::vector<Extent>{{Bytes{}, d.size(), true}};
          }
        },
        device_);
  }
  /// What may differ from a snapshot, see `TracksChanges`. Errors: also not_supported, where that is not known.
  [[nodiscard]] Result<std::vector<Extent>> changes_since(const SnapshotName& snapshot,
                                                          const std::stop_token& stop = {}) {
    return std::visit(
        [&]<class D>(D& d) -> Result<std::vector<Extent>> {
          if constexpr (TracksChanges<D>) {
            return detail::changes_of(d, snapshot, stop);
          } else {
            return fail(Errc::not_supported, "this storage type does not know what has changed since a snapshot");
          }
        },
        device_);
  }

 private:
  typename detail::DistinctVariant<std::variant<>, typename Bs::Device...>::type device_;
};

/// One of `Storage<Bs>...`, with the same verbs. What the table forbids is `not_supported` here.
template <class... Bs>
class BasicAnyStorage : public AnyImportVerbs<BasicAnyStorage<Bs...>>, public AnyRecoverVerbs<BasicAnyStorage<Bs...>> {
 public:
  using Device = BasicAnyDevice<Bs...>;

  template <class B>
    requires(std::same_as<B, Bs> || ...)
  explicit BasicAnyStorage(Storage<B> storage) : storage_{std::move(storage)} {}

  /// Errors: those of `Storage::open`; not_supported, when the type is not among `Bs`.
  [[nodiscard]] static Result<BasicAnyStorage> open(StorageId id, const AnyConfig& config, OpenOptions options = {}) {
    std::optional<Result<BasicAnyStorage>> opened;
    const auto try_open = [&]<class B>(std::type_identity<B>) {
      return std::visit(
          [&]<class C>(const C& own) {
            // A user's own backend has a configuration that storage.cfg does not know.
            if constexpr (std::same_as<C, typename B::Config>) {
              opened =
                  Storage<B>::open(id, own, options).map([](Storage<B>&& s) { return BasicAnyStorage{std::move(s)}; });
            }
            return opened.has_value();
          },
          config);
    };
    if ((try_open(std::type_identity<Bs>{}) || ...)) return *std::move(opened);
    return fail(Error{Errc::not_supported,
                      "type " + std::string{features_for(config).name} + " is not compiled into this program"}
                    .about(id.str()));
  }

  [[nodiscard]] const Features& features() const noexcept {
    return std::visit([](const auto& s) -> const Features& { return s.features(); }, storage_);
  }
  [[nodiscard]] const StorageId& id() const noexcept {
    return std::visit([](const auto& s) -> const StorageId& { return s.id(); }, storage_);
  }
  [[nodiscard]] const CommonConfig& config() const noexcept {
    return std::visit([](const auto& s) -> const CommonConfig& { return s.config().common; }, storage_);
  }
  /// Calls `verb` with the storage as the type that it is, for what only some types have.
  template <class Verb>
  auto visit(Verb verb) {
    return std::visit(std::move(verb), storage_);
  }

  [[nodiscard]] SnapshotMethod snapshot_method() const noexcept {
    return std::visit([](const auto& s) { return s.snapshot_method(); }, storage_);
  }

  Result<void> activate() {
    return std::visit([](auto& s) { return s.activate(); }, storage_);
  }
  Result<void> deactivate() {
    return std::visit([](auto& s) { return s.deactivate(); }, storage_);
  }
  Result<void> activate(const VolumeName& volume, const UseOptions& use = {}) {
    return std::visit([&](auto& s) { return s.activate(volume, use); }, storage_);
  }
  Result<void> deactivate(const VolumeName& volume) {
    return std::visit([&](auto& s) { return s.deactivate(volume); }, storage_);
  }
  Result<void> activate(const VolumeName& volume, const SnapshotName& snapshot, const UseOptions& use = {}) {
    return call<void, Capability::snapshot>(*this, [&](auto& s) { return s.activate(volume, snapshot, use); });
  }
  Result<void> deactivate(const VolumeName& volume, const SnapshotName& snapshot) {
    return call<void, Capability::snapshot>(*this, [&](auto& s) { return s.deactivate(volume, snapshot); });
  }
  [[nodiscard]] Result<Status> status() const {
    return std::visit([](const auto& s) { return s.status(); }, storage_);
  }
  [[nodiscard]] Result<std::vector<VolumeInfo>> list(const ListFilter& filter = {}) const {
    return std::visit([&](const auto& s) { return s.list(filter); }, storage_);
  }
  [[nodiscard]] Result<VolumeInfo> info(const VolumeName& volume) const {
    return std::visit([&](const auto& s) { return s.info(volume); }, storage_);
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const UseOptions& use = {}) const {
    return std::visit([&](const auto& s) { return s.path(volume, use); }, storage_);
  }
  [[nodiscard]] Result<std::string> path(const VolumeName& volume, const SnapshotName& snapshot,
                                         const UseOptions& use = {}) const {
    return call<std::string, Capability::snapshot>(*this, [&](const auto& s) { return s.path(volume, snapshot, use); });
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const UseOptions& use = {}) const {
    return std::visit([&](const auto& s) { return s.blockdev(volume, use); }, storage_);
  }
  [[nodiscard]] Result<Blockdev> blockdev(const VolumeName& volume, const SnapshotName& snapshot,
                                          const UseOptions& use = {}) const {
    return call<Blockdev, Capability::snapshot>(*this,
                                                [&](const auto& s) { return s.blockdev(volume, snapshot, use); });
  }
  Result<VolumeName> create(const CreateSpec& spec) {
    return call<VolumeName, Capability::provision>(*this, [&](auto& s) { return s.create(spec); });
  }
  Result<void> remove(const VolumeName& volume, const RemoveOptions& options = {}, const Work& work = {}) {
    return call<void, Capability::provision>(*this, [&](auto& s) { return s.remove(volume, options, work); });
  }
  Result<Bytes> resize(const VolumeName& volume, Bytes size) {
    return call<Bytes, Capability::resize>(*this, [&](auto& s) { return s.resize(volume, size); });
  }
  Result<VolumeName> rename(const VolumeName& volume, const RenameSpec& to) {
    return call<VolumeName, Capability::rename>(*this, [&](auto& s) { return s.rename(volume, to); });
  }
  Result<void> snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return call<void, Capability::snapshot>(*this, [&](auto& s) { return s.snapshot(volume, snapshot); });
  }
  [[nodiscard]] Result<std::vector<SnapshotInfo>> snapshots(const VolumeName& volume) const {
    return call<std::vector<SnapshotInfo>, Capability::snapshot>(*this,
                                                                 [&](const auto& s) { return s.snapshots(volume); });
  }
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const Work& work = {}) {
    return call<void, Capability::snapshot>(*this, [&](auto& s) { return s.rollback(volume, snapshot, work); });
  }
  Result<void> rollback(const VolumeName& volume, const SnapshotName& snapshot, const RollbackOptions& options,
                        const Work& work = {}) {
    return call<void, Capability::snapshot>(*this,
                                            [&](auto& s) { return s.rollback(volume, snapshot, options, work); });
  }
  Result<void> remove_snapshot(const VolumeName& volume, const SnapshotName& snapshot) {
    return call<void, Capability::snapshot>(*this, [&](auto& s) { return s.remove_snapshot(volume, snapshot); });
  }
  Result<VolumeName> clone(const VolumeName& volume, const CloneSpec& spec) {
    return call<VolumeName, Capability::clone>(*this, [&](auto& s) { return s.clone(volume, spec); });
  }
  Result<VolumeName> clone(const VolumeName& volume, const SnapshotName& snapshot, const CloneSpec& spec) {
    return call<VolumeName, Capability::clone>(*this, [&](auto& s) { return s.clone(volume, snapshot, spec); });
  }
  Result<VolumeName> make_template(const VolumeName& volume) {
    return call<VolumeName, Capability::make_template>(*this, [&](auto& s) { return s.make_template(volume); });
  }
  Result<void> flatten(const VolumeName& volume, const Work& work = {}) {
    return call<void, Capability::flatten>(*this, [&](auto& s) { return s.flatten(volume, work); });
  }
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, Access access) {
    return std::visit([&](auto& s) { return wrap(s.open_volume(volume, access)); }, storage_);
  }
  [[nodiscard]] Result<Device> open_volume(const VolumeName& volume, const SnapshotName& snapshot) {
    return std::visit(
        [&]<class B>(Storage<B>& s) -> Result<Device> {
          if constexpr (supports_in<B, Capability::copy, State::snapshot>) {
            return wrap(s.open_volume(volume, snapshot));
          } else {
            return refuse(s, Capability::copy);
          }
        },
        storage_);
  }

 private:
  template <class>
  friend class AnyImportVerbs;
  template <class>
  friend class AnyRecoverVerbs;

  template <class T, Capability C, class Self, class Verb>
  static Result<T> call(Self& self, Verb verb) {
    return std::visit(
        [&]<class S>(S& storage) -> Result<T> {
          if constexpr (S::features().can.has(C)) {
            return verb(storage);
          } else {
            return refuse(storage, C);
          }
        },
        self.storage_);
  }

  template <class S>
  static tl::unexpected<Error> refuse(const S& storage, Capability capability) {
    return fail(Error{Errc::not_supported,
                      "type " + std::string{storage.features().name} + ": " + std::string{refusal(capability)}}
                    .about(storage.id().str()));
  }

  template <class D>
  static Result<Device> wrap(Result<D> device) {
    return std::move(device).map([](D&& d) { return Device{std::move(d)}; });
  }

  std::variant<Storage<Bs>...> storage_;
};

}  // namespace stowage
