// The table of DESIGN.md, cell by cell, written down a second time; and the questions that features.hpp answers
// without any backend's header.

#include <stowage/features.hpp>

using namespace stowage;
using enum Capability;

namespace {

using LvmThin = BasicLvmThin<int>;
using OpenIscsi = BasicOpenIscsi<int>;

constexpr bool c = true, b = true, s = true, no = false;

template <class B, Capability C>
constexpr bool cells(bool current, bool base, bool snapshot) {
  return supports_in<B, C, State::current> == current && supports_in<B, C, State::base> == base &&
         supports_in<B, C, State::snapshot> == snapshot && supports<B, C> == (current || base || snapshot);
}

static_assert(cells<LvmThin, provision>(c, b, no) && cells<Rbd, provision>(c, b, no));
static_assert(cells<LvmThin, resize>(c, no, no) && cells<Rbd, resize>(c, no, no));
static_assert(cells<LvmThin, rename>(c, no, no) && cells<Rbd, rename>(c, no, no));
static_assert(cells<LvmThin, snapshot>(c, no, no) && cells<Rbd, snapshot>(c, no, s));
static_assert(cells<LvmThin, clone>(no, b, s) && cells<Rbd, clone>(no, b, s));
static_assert(cells<LvmThin, make_template>(c, no, no) && cells<Rbd, make_template>(c, no, no));
static_assert(cells<LvmThin, flatten>(no, no, no) && cells<Rbd, flatten>(c, no, no));
static_assert(cells<LvmThin, copy>(c, b, s) && cells<Rbd, copy>(c, b, s));
static_assert(cells<LvmThin, sparse_init>(c, b, no) && cells<Rbd, sparse_init>(c, b, no));
static_assert(cells<LvmThin, write>(c, no, no) && cells<Rbd, write>(c, no, no));
static_assert(cells<LvmThin, import>(c, b, no) && cells<Rbd, import>(c, b, no));
static_assert(cells<LvmThin, replicate>(no, no, no) && cells<Rbd, replicate>(no, no, no));

/// The LUNs of a target can be read and written, whichever initiator it is.
template <class B>
constexpr bool only_copy_and_write() {
  return cells<B, provision>(no, no, no) && cells<B, resize>(no, no, no) && cells<B, rename>(no, no, no) &&
         cells<B, snapshot>(no, no, no) && cells<B, clone>(no, no, no) && cells<B, make_template>(no, no, no) &&
         cells<B, flatten>(no, no, no) && cells<B, copy>(c, no, no) && cells<B, sparse_init>(no, no, no) &&
         cells<B, write>(c, no, no) && cells<B, import>(no, no, no) && cells<B, replicate>(no, no, no);
}
static_assert(only_copy_and_write<OpenIscsi>() && only_copy_and_write<IscsiDirect>());
static_assert(static_cast<unsigned>(Capability::count_) == 12, "a new capability needs a line here");

template <class B>
constexpr bool holds(bool images, bool rootdir, bool none) {
  return supports_content<B, Content::images> == images && supports_content<B, Content::rootdir> == rootdir &&
         supports_content<B, Content::none> == none && supports_format<B, Format::raw>;
}
static_assert(holds<LvmThin>(true, true, false) && !is_shared<LvmThin>);
static_assert(holds<OpenIscsi>(true, false, true) && is_shared<OpenIscsi>);
static_assert(holds<IscsiDirect>(true, false, false) && is_shared<IscsiDirect>);
static_assert(holds<Rbd>(true, true, false) && is_shared<Rbd>);
static_assert(static_cast<unsigned>(Content::count_) == 3 && static_cast<unsigned>(Format::count_) == 1);

static_assert(features_of<LvmThin>.name == "lvmthin" && features_of<LvmThin>.type == StorageType::lvmthin);
static_assert(features_of<OpenIscsi>.name == "iscsi" && features_of<OpenIscsi>.type == StorageType::iscsi);
static_assert(features_of<IscsiDirect>.name == "iscsidirect" &&
              features_of<IscsiDirect>.type == StorageType::iscsidirect);
static_assert(features_of<Rbd>.name == "rbd" && features_of<Rbd>.type == StorageType::rbd);
static_assert(&features_of<LvmThin> == &features_of<BasicLvmThin<char>>, "whatever runs its commands");

// A user's own backend brings its row, and may refer to one of ours.
struct Own {
  static constexpr Features features{.type = StorageType::other,
                                     .name = "own",
                                     .content = {Content::images},
                                     .formats = {Format::raw},
                                     .shared = false,
                                     .can = {{Capability::resize, {State::current}}}};
};
static_assert(cells<Own, resize>(c, no, no) && cells<Own, clone>(no, no, no) && !is_shared<Own>);

constexpr bool every_row_is_found() {
  for (const Features* row : feature_table) {
    if (find_features(row->name) != row) return false;
  }
  return feature_table.size() == 4;
}
static_assert(every_row_is_found() && find_features("dir") == nullptr);

// A constraint can be written with a row as a value.
template <FlagSet<State> Where>
struct Structural {};
static_assert(sizeof(Structural<FlagSet<State>{State::base}>) == 1);

}  // namespace
