#pragma once
// What each storage type can do: the one table from which the facade's constraints, `stowctl features`, the
// README and the tests are derived. Needs nothing but the standard library, and no backend's header.

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string_view>

namespace stowage {

/// A set of enumerators of `E`. Everything is public so that it stays a structural type.
template <class E>
struct FlagSet {
  unsigned bits = 0;

  constexpr FlagSet() = default;
  constexpr FlagSet(std::initializer_list<E> flags) {
    for (const E flag : flags) insert(flag);
  }

  constexpr void insert(E flag) noexcept { bits |= 1U << static_cast<unsigned>(flag); }
  [[nodiscard]] constexpr bool has(E flag) const noexcept { return ((bits >> static_cast<unsigned>(flag)) & 1U) != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits == 0; }
  friend constexpr bool operator==(FlagSet, FlagSet) = default;
};

/// The storage types of storage.cfg that stowage implements; `other` is a user's own backend.
enum class StorageType { lvmthin, iscsi, iscsidirect, rbd, other };

/// What a volume is for (storage.cfg, `content`). `none` says that the LUNs serve something else, LVM for example.
enum class Content { images, rootdir, none, count_ };

/// How the bytes of a volume are laid out.
enum class Format { raw, count_ };

/// The states of a volume on which a capability may act: as it is now, a template, or one of its snapshots.
enum class State { current, base, snapshot, count_ };

/// What a storage may be able to do. DESIGN: the verbs are those of `Storage`.
enum class Capability {
  provision,      ///< create, remove
  resize,         ///< resize (grow only)
  rename,         ///< rename
  snapshot,       ///< snapshot, snapshots, rollback, remove_snapshot
  clone,          ///< clone (linked)
  make_template,  ///< make_template
  flatten,        ///< flatten
  copy,           ///< open_volume, export_volume
  sparse_init,    ///< a new volume reads as zeros
  write,          ///< open_volume for writing
  import,         ///< import_volume
  replicate,      ///< none of the types
  count_
};

namespace detail {
template <class E>
inline constexpr std::size_t count_of = static_cast<std::size_t>(E::count_);

inline constexpr std::array<std::string_view, count_of<Capability>> capability_names{
    "provision", "resize", "rename",     "snapshot", "clone",  "template",
    "flatten",   "copy",   "sparseinit", "write",    "import", "replicate"};
inline constexpr std::array<std::string_view, count_of<Content>> content_names{"images", "rootdir", "none"};
inline constexpr std::array<std::string_view, count_of<Format>> format_names{"raw"};
inline constexpr std::array<std::string_view, count_of<State>> state_names{"current", "base", "snapshot"};
}  // namespace detail

/// The names that storage.cfg, `pvesm` and the JSON of `stowctl` use.
constexpr std::string_view name(Capability c) noexcept { return detail::capability_names[static_cast<std::size_t>(c)]; }
constexpr std::string_view name(Content c) noexcept { return detail::content_names[static_cast<std::size_t>(c)]; }
constexpr std::string_view name(Format f) noexcept { return detail::format_names[static_cast<std::size_t>(f)]; }
constexpr std::string_view name(State s) noexcept { return detail::state_names[static_cast<std::size_t>(s)]; }

/// For each capability, the states of a volume on which it acts. No state: the type cannot.
struct Cells {
  struct Cell {
    Capability what;
    FlagSet<State> where;
  };

  // Plain bits: g++ 12 rejects a constexpr table of FlagSet arrays ("not a constant expression").
  std::array<unsigned, detail::count_of<Capability>> bits{};

  constexpr Cells() = default;
  constexpr Cells(std::initializer_list<Cell> cells) {
    for (const Cell& cell : cells) bits[static_cast<std::size_t>(cell.what)] = cell.where.bits;
  }
  [[nodiscard]] constexpr FlagSet<State> states(Capability c) const noexcept {
    FlagSet<State> set;
    set.bits = bits[static_cast<std::size_t>(c)];
    return set;
  }
  [[nodiscard]] constexpr bool has(Capability c) const noexcept { return !states(c).empty(); }
  [[nodiscard]] constexpr bool has(Capability c, State s) const noexcept { return states(c).has(s); }
};

/// One row of the table.
struct Features {
  StorageType type = StorageType::other;
  std::string_view name;  ///< as in storage.cfg
  FlagSet<Content> content;
  FlagSet<Format> formats;
  bool shared = false;  ///< the same volumes are there on every host
  Cells can;
};

// The rows of Proxmox VE's manual (chapter "Storage", tables of the backends), with cells by state.
inline constexpr Features lvm_thin_row{StorageType::lvmthin,
                                       "lvmthin",
                                       {Content::images, Content::rootdir},
                                       {Format::raw},
                                       false,
                                       {{Capability::provision, {State::current, State::base}},
                                        {Capability::resize, {State::current}},
                                        {Capability::rename, {State::current}},
                                        {Capability::snapshot, {State::current}},
                                        {Capability::clone, {State::base, State::snapshot}},
                                        {Capability::make_template, {State::current}},
                                        {Capability::copy, {State::current, State::base, State::snapshot}},
                                        {Capability::sparse_init, {State::current, State::base}},
                                        {Capability::write, {State::current}},
                                        {Capability::import, {State::current, State::base}}}};

inline constexpr Features open_iscsi_row{
    StorageType::iscsi, "iscsi", {Content::images, Content::none},
    {Format::raw},      true,    {{Capability::copy, {State::current}}, {Capability::write, {State::current}}}};

inline constexpr Features iscsi_direct_row{
    StorageType::iscsidirect,
    "iscsidirect",
    {Content::images},
    {Format::raw},
    true,
    {{Capability::copy, {State::current}}, {Capability::write, {State::current}}}};

inline constexpr Features rbd_row{StorageType::rbd,
                                  "rbd",
                                  {Content::images, Content::rootdir},
                                  {Format::raw},
                                  true,
                                  {{Capability::provision, {State::current, State::base}},
                                   {Capability::resize, {State::current}},
                                   {Capability::rename, {State::current}},
                                   {Capability::snapshot, {State::current, State::snapshot}},
                                   {Capability::clone, {State::base, State::snapshot}},
                                   {Capability::make_template, {State::current}},
                                   {Capability::flatten, {State::current}},
                                   {Capability::copy, {State::current, State::base, State::snapshot}},
                                   {Capability::sparse_init, {State::current, State::base}},
                                   {Capability::write, {State::current}},
                                   {Capability::import, {State::current, State::base}}}};

/// All rows, in the order of the documentation.
inline constexpr std::array<const Features*, 4> feature_table{&lvm_thin_row, &open_iscsi_row, &iscsi_direct_row,
                                                              &rbd_row};

/// The row of the type that storage.cfg calls `name`; null when stowage has no such type.
constexpr const Features* find_features(std::string_view name) noexcept {
  for (const Features* row : feature_table) {
    if (row->name == name) return row;
  }
  return nullptr;
}

// Named here, defined in their own headers: the questions below need no C library.
template <class Runner>
class BasicLvmThin;
template <class Runner>
class BasicOpenIscsi;
class IscsiDirect;
class Rbd;

/// The row of backend `B`. A user's own backend brings it as a static member `features`.
template <class B>
inline constexpr const Features& features_of = B::features;
template <class Runner>
inline constexpr const Features& features_of<BasicLvmThin<Runner>> = lvm_thin_row;
template <class Runner>
inline constexpr const Features& features_of<BasicOpenIscsi<Runner>> = open_iscsi_row;
template <>
inline constexpr const Features& features_of<IscsiDirect> = iscsi_direct_row;
template <>
inline constexpr const Features& features_of<Rbd> = rbd_row;

/// `static_assert(stowage::supports<Rbd, Capability::clone>)`: the type has capability `C` in some state.
template <class B, Capability C>
concept supports = features_of<B>.can.has(C);

/// Capability `C` acts on volumes of backend `B` that are in state `S`.
template <class B, Capability C, State S>
concept supports_in = features_of<B>.can.has(C, S);

template <class B, Content C>
concept supports_content = features_of<B>.content.has(C);

template <class B, Format F>
concept supports_format = features_of<B>.formats.has(F);

/// The volumes of `B` are the same ones on every host that has the storage.
template <class B>
concept is_shared = features_of<B>.shared;

static_assert(supports<Rbd, Capability::clone> && !supports_in<Rbd, Capability::clone, State::current>);
static_assert(!supports<IscsiDirect, Capability::snapshot> && !supports_content<IscsiDirect, Content::rootdir>);

}  // namespace stowage
