// A write that was sent and whose session is then lost, at a target that ends the old session when the same one is
// logged in again: the kernel's own.

#include "iscsi/proxy.hpp"
#include "iscsi/san.hpp"
#include "support/guest_lab.hpp"
#include "support/queue_model.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {
constexpr std::uint8_t write_16 = 0x8a;
}  // namespace

TEST_CASE("IscsiDirect: a lost write cannot arrive at LIO after it was repeated") {
  const KernelTarget target{"lost", "--luns 1 --size 16"};
  Proxy proxy{target["PORTAL"]};
  auto device = must(san(proxy.portal(), target["IQN1"]).open_volume(volume_name("lun1"), Access::read_write));
  const std::vector<std::byte> first(4096, std::byte{'A'});
  const std::vector<std::byte> second(4096, std::byte{'B'});
  SECTION("by a device") {
    proxy.delay(write_16);
    CHECK(device.write_at(Bytes{}, first));
    CHECK(device.write_at(Bytes{}, second));
  }
  for (const std::size_t sessions : {1U, 2U}) {
    DYNAMIC_SECTION("by a queue with " << sessions << " sessions") {
      auto queue = must(device.queue(8, sessions));
      const PageBuffer a{8192, std::byte{'A'}};
      const PageBuffer b{8192, std::byte{'B'}};
      const ::iovec all_a = a.iov();
      const ::iovec all_b = b.iov();
      proxy.delay(write_16);
      CHECK(perform(queue, write_request(Bytes{}, {&all_a, 1})) == 8192);
      CHECK(perform(queue, write_request(Bytes{}, {&all_b, 1})) == 8192);
    }
  }
  REQUIRE(proxy.delayed());
  CHECK_FALSE(proxy.release());
  auto other = must(san(target["PORTAL"], target["IQN1"]).open_volume(volume_name("lun1"), Access::read_only));
  const bool holds_second = read_back(other, Bytes{}, 4096) == second;
  CHECK(holds_second);
}

TEST_CASE("IscsiDirect: a lost write is repeated by another portal of LIO, if that is of the same group") {
  const bool same = GENERATE(true, false);
  CAPTURE(same);
  const KernelTarget target{"lost-groups", std::string{"--luns 1 --size 16 "} + (same ? "--portals 2" : "--groups 2")};
  const std::string& portals = target["PORTALS"];
  Proxy home{portals.substr(0, portals.find(' '))};
  auto device = must(san(home.portal(), target["IQN1"], {.more_portals = {portals.substr(portals.find(' ') + 1)}})
                         .open_volume(volume_name("lun1"), Access::read_write));
  const std::vector<std::byte> data(4096, std::byte{'A'});
  home.refuse_logins();
  home.delay(write_16);
  if (same) {
    must(device.write_at(Bytes{}, data));
  } else {
    refused(device.write_at(Bytes{}, data), Errc::outcome_unknown);
  }
  REQUIRE(home.delayed());
  CHECK(home.release() == !same);  // without the same group, the old session lives on
  must(device.write_at(Bytes{}, data));
}
