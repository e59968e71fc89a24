// OpenIscsi keeps the laws on real targets: tgtd, and the kernel's own.

#include <stowage/testing/conformance.hpp>

#include "support/open_iscsi_lab.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

struct SanFixture {
  using Backend = OpenIscsi;
  KernelSan& san;
  std::vector<ExistingVolume> luns{};

  Storage<OpenIscsi>& storage() { return *san; }
  std::vector<ExistingVolume> existing() { return luns; }

  /// LUN n has n times 16 MiB.
  void lun(int number, bool read_only = false) {
    luns.push_back({san.volume(number), Bytes{static_cast<std::uint64_t>(number) << 24U}, read_only});
  }
};

}  // namespace

TEST_CASE("OpenIscsi keeps the laws on tgtd, with a write-protected LUN") {
  const Server target = Server::own_target("laws", "--luns 2 --size 16 --thin --ro");
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  SanFixture fixture{san};
  fixture.lun(1);
  fixture.lun(2, true);
  check_conformance(fixture);
}

TEST_CASE("OpenIscsi keeps the laws on the kernel's own target") {
  const KernelTarget target{"laws", "--luns 2 --size 16"};
  KernelSan san{target["PORTAL"], target["IQN1"]};
  must(san->activate());
  SanFixture fixture{san};
  fixture.lun(1);
  fixture.lun(2);
  check_conformance(fixture);
}
