// Strong types do not convert into each other, nor from what they are made of.

#include <stowage/stowage.hpp>

#include <concepts>
#include <string>
#include <type_traits>

using namespace stowage;

namespace {

template <class To, class... Froms>
constexpr bool none_converts = !(std::is_convertible_v<Froms, To> || ...);
template <class To, class... Froms>
constexpr bool made_of_none = !(std::is_constructible_v<To, Froms> || ...);

static_assert(none_converts<Bytes, int, unsigned long, double>);
static_assert(none_converts<VmId, int, unsigned long, Bytes> && made_of_none<VmId, std::string, const char*, Bytes>);
static_assert(made_of_none<VolumeName, std::string, const char*, SnapshotName, StorageId, VmId, Iqn>);
static_assert(made_of_none<SnapshotName, std::string, const char*, VolumeName, StorageId, VmId, Iqn>);
static_assert(made_of_none<StorageId, std::string, const char*, VolumeName, SnapshotName>);
static_assert(made_of_none<Iqn, std::string, const char*, VolumeName>);
static_assert(made_of_none<Portal, std::string, const char*, Iqn>);
static_assert(none_converts<Secret, std::string, const char*> && none_converts<std::string, Secret, VolumeName>);
static_assert(none_converts<std::uint64_t, Bytes, VmId>);
static_assert(none_converts<bool, Fd, Bytes>);

template <class A, class B>
concept comparable = requires(const A& a, const B& b) { a == b; };
template <class A, class B>
concept addable = requires(const A& a, const B& b) { a + b; };
static_assert(comparable<Bytes, Bytes> && !comparable<Bytes, int> && !comparable<Bytes, VmId>);
static_assert(comparable<VolumeName, VolumeName> && !comparable<VolumeName, SnapshotName>);
static_assert(!comparable<VolumeName, std::string> && !comparable<Secret, Secret>);
static_assert(addable<Bytes, Bytes> && !addable<Bytes, int> && !addable<VmId, VmId>);

static_assert(std::totally_ordered<Bytes> && std::totally_ordered<VolumeName> && std::totally_ordered<VolumeId>);
static_assert(!std::is_copy_constructible_v<Fd> && std::is_nothrow_move_constructible_v<Fd>);

// Sizes are computed by the compiler.
static_assert(4_GiB == Bytes{4ULL << 30U} && 1_TiB - 1_B < 1_TiB && 1_MiB + 1_MiB == 2_MiB);
static_assert(round_up(1_B, 4_KiB) == 4_KiB && round_up(4_KiB, 4_KiB) == 4_KiB && round_up(0_B, 1_KiB) == 0_B);
static_assert(name(Errc::not_found) == "not_found" && retryable(Errc::timed_out) && !retryable(Errc::corrupt));

}  // namespace
