#pragma once
// What the laws of the conformance suite are written with: a storage, volumes that go away again, bytes that can be
// recognised, and two words: `must` succeed, and be `refused`.

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stowage/backend.hpp>
#include <stowage/storage.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace stowage::testing {

/// A volume that the fixture has put there: a LUN, of which stowage can only read and write the bytes.
struct ExistingVolume {
  VolumeName name;
  Bytes size{};
  bool read_only = false;
};

/// What a test gives to `check_conformance`.
///
/// | Expression | Type | Meaning |
/// |---|---|---|
/// | `F::Backend` | a policy | whose row says which laws hold |
/// | `f.storage()` | `Storage<Backend>&`, or a `BasicAnyStorage<...>&` that holds one | open and active |
/// | `f.existing()` | `vector<ExistingVolume>` | volumes that are there; needed where the row has no `provision` |
/// | `f.add_foreign()` | `std::string` | optional: puts something there that is not ours, and tells its name |
/// | `f.empty()` | `void` | optional: removes all volumes at once, where `remove` is dear |
/// | `f.leave_unfinished(v, intent)` and more | | optional: see laws/unfinished.hpp |
template <class F>
concept BackendFixture = Backend<typename F::Backend> && requires(F& f) {
  requires std::is_lvalue_reference_v<decltype(f.storage())>;
} && (supports<typename F::Backend, Capability::provision> || requires(F& f) {
                           { f.existing() } -> std::same_as<std::vector<ExistingVolume>>;
                         });

/// The value; the law is broken if there is none.
template <class T>
T must(Result<T> result) {
  if (!result) FAIL("refused with " << name(result.error().code()) << ": " << result.error().message());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// The law is broken unless it failed with `code`; gives the error.
template <class T>
Error refusal_of(const Result<T>& result, Errc code) {
  if (result) FAIL("succeeded, and should be refused with " << name(code));
  INFO(result.error().message());
  CHECK(name(result.error().code()) == name(code));
  CHECK_FALSE(result.error().detail().empty());
  return result.error();
}

/// The law is broken unless it failed with `code`.
template <class T>
void refused(const Result<T>& result, Errc code) {
  static_cast<void>(refusal_of(result, code));
}

inline VolumeName volume_name(std::string_view text) { return must(VolumeName::parse(text)); }
inline SnapshotName snapshot_name(std::string_view text) { return must(SnapshotName::parse(text)); }

/// Bytes that tell where they come from: no block of them is like another, none is zero.
inline std::vector<std::byte> pattern(std::uint64_t seed, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  for (std::byte& b : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX generator
    b = static_cast<std::byte>((state >> 56U) | 1U);
  }
  return bytes;
}

inline bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; });
}

/// The text is one JSON object: quotes and brackets match, and nothing follows.
inline bool is_json_object(std::string_view text) {
  std::string open;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) < 0x20 || (open.empty() && i > 0)) return false;
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      open += c;
    } else if (c == '}' || c == ']') {
      if (open.back() != (c == '}' ? '{' : '[')) return false;
      open.pop_back();
    }
  }
  return text.starts_with('{') && open.empty() && !quoted;
}

/// A fixture at work. Every law gets a fresh one, makes volumes of `guest` and `other_guest` only, and leaves none.
template <BackendFixture F>
class Bench {
 public:
  using B = typename F::Backend;

  static constexpr VmId guest{990'000'101};
  static constexpr VmId other_guest{990'000'102};
  static constexpr Bytes size = 8_MiB;

  explicit Bench(F& fixture) : fixture_{fixture} {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    if (!clean_) sweep();
  }

  [[nodiscard]] F& fixture() noexcept { return fixture_; }
  [[nodiscard]] auto& storage() { return fixture_.storage(); }

  /// A new, empty volume of `guest`.
  VolumeName make() { return must(storage().create({.vmid = guest, .size = size})); }

  /// A volume to write to: a new one, or the first of those that exist.
  VolumeName writable() {
    if constexpr (supports<B, Capability::provision>) {
      return make();
    } else {
      const std::vector<ExistingVolume> all = fixture_.existing();
      const auto found = std::find_if(all.begin(), all.end(), [](const ExistingVolume& v) { return !v.read_only; });
      if (found == all.end()) FAIL("the fixture has no volume that can be written");
      return found->name;
    }
  }

  /// A volume that is not there, but has a name that its type allows.
  [[nodiscard]] VolumeName missing() const {
    switch (features_of<B>.type) {
      case StorageType::iscsi: return volume_name("0.0.16000.scsi-3deadbeef00000000");
      case StorageType::iscsidirect: return volume_name("lun16001");
      default: return volume_name("vm-990000101-missing");
    }
  }
  [[nodiscard]] std::string object(const VolumeName& volume) { return storage().id().str() + ":" + volume.str(); }

  /// Bytes that only `seed` gives, at a place that lies on blocks of any size and crosses an object of 4 MiB.
  static constexpr Bytes place = 4_MiB - 64_KiB;
  static std::vector<std::byte> data(std::uint64_t seed) { return pattern(seed, 128 * 1024); }

  void fill(const VolumeName& volume, std::uint64_t seed) {
    auto device = must(storage().open_volume(volume, Access::read_write));
    must(device.write_at(place, data(seed)));
    must(device.close());
  }
  [[nodiscard]] bool holds(const VolumeName& volume, std::uint64_t seed) {
    return read(must(storage().open_volume(volume, Access::read_only)), place) == data(seed);
  }
  [[nodiscard]] bool holds(const VolumeName& volume, const SnapshotName& snapshot, std::uint64_t seed) {
    return read(must(storage().open_volume(volume, snapshot)), place) == data(seed);
  }

  /// 128 KiB at `at`.
  template <class Device>
  static std::vector<std::byte> read(Device device, Bytes at) {
    std::vector<std::byte> bytes(128 * 1024, std::byte{0x5a});
    must(device.read_at(at, bytes));
    return bytes;
  }

  [[nodiscard]] std::vector<VolumeInfo> volumes(VmId vmid = guest) {
    return must(storage().list({.vmid = vmid, .content = {}}));
  }
  [[nodiscard]] bool lists(const VolumeName& volume) {
    const std::vector<VolumeInfo> all = must(storage().list());
    return std::any_of(all.begin(), all.end(), [&](const VolumeInfo& info) { return info.name == volume; });
  }

  /// Removes what the law has made; what cannot be removed at once may be when its clones are gone. Says whether
  /// nothing is left.
  bool sweep() {
    clean_ = !supports<B, Capability::provision>;
    if constexpr (requires { fixture_.empty(); }) {
      fixture_.empty();
      clean_ = true;
    } else if constexpr (supports<B, Capability::provision>) {
      for (int round = 0; round < 8 && !clean_; ++round) {
        const auto found = storage().list();
        if (!found) return false;
        clean_ = true;
        for (auto info = found->rbegin(); info != found->rend(); ++info) {
          if (info->vmid != guest && info->vmid != other_guest) continue;
          clean_ = false;
          if (info->incomplete()) static_cast<void>(storage().recover());
          static_cast<void>(storage().remove(info->name, {.snapshots = true, .trash = false}));
        }
      }
    }
    return clean_;
  }

 private:
  F& fixture_;
  bool clean_ = false;
};

}  // namespace stowage::testing
