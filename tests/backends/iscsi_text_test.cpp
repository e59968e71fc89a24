// The texts of IscsiDirect: LUN numbers, QEMU's URL, initiator names, libiscsi's login errors.

#include <catch2/catch.hpp>

#include <stowage/backends/detail/iscsi_text.hpp>
#include <string>

using namespace stowage;
using namespace stowage::detail;

TEST_CASE("LUNs are flat from 256 on") {
  CHECK(iscsi_wire_lun(0) == 0);
  CHECK(iscsi_wire_lun(255) == 255);
  CHECK(iscsi_wire_lun(256) == 0x4100);
  CHECK(iscsi_wire_lun(300) == 0x412c);
  CHECK(iscsi_wire_lun(16383) == 0x7fff);
  for (unsigned number = 0; number <= 16383; ++number) {
    const auto lun = static_cast<std::uint16_t>(number);
    if (iscsi_lun_number(iscsi_wire_lun(lun)) != lun) FAIL("LUN " << number << " does not come back");
  }
  CHECK(iscsi_lun_number(0x4005) == 5);               // flat, though peripheral would do
  CHECK_FALSE(iscsi_lun_number(0x8001).has_value());  // addresses of buses
  CHECK_FALSE(iscsi_lun_number(0xc101).has_value());  // well known LUNs
}

TEST_CASE("digits of a LUN") {
  CHECK(iscsi_lun_from("0").value() == 0);
  CHECK(iscsi_lun_from("007").value() == 7);
  CHECK(iscsi_lun_from("16383").value() == 16383);
  for (const char* text : {"", "16384", "99999999999999999999", "-1", "1x", " 1"}) {
    CAPTURE(text);
    REQUIRE_FALSE(iscsi_lun_from(text).has_value());
    CHECK(iscsi_lun_from(text).error().code() == Errc::invalid_argument);
  }
}

TEST_CASE("the URL has portal and digits as they were written, and large LUNs as QEMU wants them") {
  const Portal portal = *Portal::parse("[2001:db8::1]:3260");
  const Iqn target = *Iqn::parse("iqn.a:1");
  CHECK(iscsi_url(portal, target, "007", 7) == "iscsi://[2001:db8::1]:3260/iqn.a:1/007");
  CHECK(iscsi_url(portal, target, "300", 300) == "iscsi://[2001:db8::1]:3260/iqn.a:1/16684");
}

TEST_CASE("an IPv6 portal has brackets for QEMU, however it was written") {
  const auto url = [](const char* portal) { return iscsi_url(*Portal::parse(portal), *Iqn::parse("iqn.a:1"), "1", 1); };
  CHECK(url("::1") == "iscsi://[::1]/iqn.a:1/1");
  CHECK(url("fd00::1") == "iscsi://[fd00::1]/iqn.a:1/1");
  CHECK(url("fd00::1.3260") == "iscsi://[fd00::1]:3260/iqn.a:1/1");
  for (const char* portal : {"[fd00::1]", "[fd00::1]:860", "10.0.0.1", "10.0.0.1:3260", "nas", "[nas]:3260"}) {
    CHECK(url(portal) == "iscsi://" + std::string{portal} + "/iqn.a:1/1");
  }
}

TEST_CASE("the initiator's name") {
  CHECK(parse_initiator_name("## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:abc\n") ==
        "iqn.1993-08.org.debian:01:abc");
  CHECK(parse_initiator_name("InitiatorName= iqn.a:b \t\r\n") == "iqn.a:b");
  CHECK_FALSE(parse_initiator_name("GenerateName=yes\n#InitiatorName=iqn.a:b\nInitiatorName=\n").has_value());
  CHECK_FALSE(parse_initiator_name("").has_value());
  CHECK(default_initiator_name("Host_1.example") == "iqn.2008-11.org.linux-kvm:host-1.example");
  CHECK(default_initiator_name("") == "iqn.2008-11.org.linux-kvm");
}

TEST_CASE("what libiscsi says of a login") {
  CHECK(iscsi_login_errc("Failed to log in to target. Status: Authentication failure(513)") == Errc::permission_denied);
  CHECK(iscsi_login_errc("Failed to log in to target. Status: Authorization failure(514)") == Errc::permission_denied);
  CHECK(iscsi_login_errc("Failed to log in to target. Status: Target not found(515)") == Errc::not_found);
  CHECK(iscsi_login_errc("Failed to log in to target. Status: Service unavailable(769)") == Errc::unavailable);
  CHECK(iscsi_login_errc("Failed to log in to target. Status: Unsupported version(517)") == Errc::backend_failed);
  CHECK(iscsi_login_errc("Authentication failed. Invalid CHAP_R response from the target") == Errc::permission_denied);
  CHECK(iscsi_login_errc("Failed to log in to target. Wrong CHAP targetname received: x(1)") ==
        Errc::permission_denied);
  CHECK(iscsi_login_errc("iscsi_service: POLLHUP, socket error") == Errc::unavailable);
  CHECK(iscsi_login_errc("") == Errc::unavailable);
  for (const char* text : {"Status: (", "Status: )", "Status: ()", "Status: x(5 13)", "Status: x(123456789012345)"}) {
    CAPTURE(text);
    CHECK_FALSE(iscsi_login_status(text).has_value());
  }
}
