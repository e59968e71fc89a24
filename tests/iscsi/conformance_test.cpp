// IscsiDirect keeps the laws on real targets: plain, with CHAP one way and both ways, with sectors of 4 KiB, two
// targets of one portal, a second portal, IPv6. The shared target's LUNs are thin, and its last one is write-protected.

#include <stowage/testing/conformance.hpp>

#include "iscsi/proxy.hpp"
#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

struct SanFixture {
  using Backend = IscsiDirect;
  San storage_;
  std::vector<ExistingVolume> luns;

  San& storage() { return storage_; }
  std::vector<ExistingVolume> existing() { return luns; }
};

ExistingVolume lun(int number, bool read_only = false) {
  return {volume_name("lun" + std::to_string(number)), Bytes{static_cast<std::uint64_t>(number) << 26U}, read_only};
}

const std::string last_portal(const Server& server) {
  const std::string& all = server["PORTALS"];
  return all.substr(all.rfind(' ') + 1);
}

}  // namespace

TEST_CASE("IscsiDirect keeps the laws on thin LUNs, of which one is write-protected") {
  const Server server = Server::shared("iscsi");
  SanFixture fixture{san(server), {lun(1), lun(2), lun(3), lun(4, true)}};
  check_conformance(fixture);
}

TEST_CASE("IscsiDirect keeps the laws on the second target, through IPv6") {
  const Server server = Server::shared("iscsi");
  SanFixture fixture{san(last_portal(server), server["IQN2"]), {lun(1), lun(2), lun(3), lun(4, true)}};
  check_conformance(fixture);
}

TEST_CASE("IscsiDirect keeps the laws through a second portal, when the first is mute") {
  const Server server = Server::shared("iscsi");
  const MutePortal mute;
  SanFixture fixture{san(mute.portal(), server["IQN1"], {.more_portals = {server["PORTAL"]}, .timeout = 2s}),
                     {lun(1), lun(2), lun(3), lun(4, true)}};
  check_conformance(fixture);
}

TEST_CASE("IscsiDirect keeps the laws with CHAP") {
  const Server server = Server::shared("iscsi-chap");
  const PrivFolder priv;
  priv.chap("user=stowage\npassword=initiator-pw1\n");
  SanFixture fixture{san(server, {.priv = priv.str()}), {lun(1), lun(2), lun(3)}};
  check_conformance(fixture);
}

TEST_CASE("IscsiDirect keeps the laws with mutual CHAP") {
  const Server server = Server::shared("iscsi-mutual");
  const PrivFolder priv;
  priv.chap("user=stowage\npassword=initiator-pw1\nuser_in=target\npassword_in=target-pw-123\n");
  SanFixture fixture{san(server, {.priv = priv.str()}), {lun(1), lun(2), lun(3)}};
  check_conformance(fixture);
}

TEST_CASE("IscsiDirect keeps the laws with sectors of 4 KiB") {
  const Server server = Server::shared("iscsi-4k");
  SanFixture fixture{san(server), {lun(1), lun(2), lun(3)}};
  CHECK(must(fixture.storage().open_volume(volume_name("lun1"), Access::read_only)).block_size() == 4_KiB);
  check_conformance(fixture);
}
