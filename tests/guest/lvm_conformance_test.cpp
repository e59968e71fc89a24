// LvmThin keeps the laws on a real thin pool. A group of laws a test, for each has a limit in the guest.

#include <stowage/testing/conformance.hpp>

#include <optional>
#include <string>

#include "support/lvm_lab.hpp"

using namespace stowage;

namespace {

struct LvmFixture {
  using Backend = LvmThin;

  Storage<Backend>& storage() { return storage_; }
  std::string add_foreign() const {
    testing::sh("lvcreate -qq -y -V 4M -n data-1 --thinpool " + lab.spec("pool"));
    return "data-1";
  }

  /// The laws of removing look at `remove`; here one command does for all that a law has made.
  void empty() const { testing::sh("lvremove -qq -y --select 'pool_lv=pool' " + lab.vg()); }

  testing::LvmLab lab;
  Storage<Backend> storage_ = lab.storage();
};

template <class F>
void check_increments(F& fixture) {
  if constexpr (IncrementBackend<typename F::Backend>) {
    testing::detail::check_laws(fixture, testing::detail::laws_of_increments<F>());
  } else {
    FAIL("it does not track changes");
  }
}

}  // namespace

TEST_CASE("LvmThin keeps the laws of increments") {
  LvmFixture fixture;
  check_increments(fixture);
}

TEST_CASE("LvmThin keeps the laws of all storages") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_all<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of data") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_data<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of provisioning") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_provision<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of growing and renaming") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_resize<LvmFixture>());
  testing::detail::check_laws(fixture, testing::detail::laws_of_rename<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of snapshots") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_snapshots<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of templates") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_templates<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of clones") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_clones<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of clones of snapshots") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_clones_of_snapshots<LvmFixture>());
}

TEST_CASE("LvmThin keeps the laws of imports") {
  LvmFixture fixture;
  testing::detail::check_laws(fixture, testing::detail::laws_of_imports<LvmFixture>());
}
