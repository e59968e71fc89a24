#include <stowage/core/net.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>
#include <string>

#include "support/vectors.hpp"

using namespace stowage;

TEST_CASE("portals are those of the reference") {
  for (const auto& row : testing::vectors("portal")) {
    const std::string text = testing::text(row, "portal");
    CAPTURE(text);
    const auto portal = Portal::parse(text);
    REQUIRE(portal.has_value() == !row.contains("error"));
    if (portal) {
      CHECK(portal->host() == testing::text(row, "host"));
      CHECK(portal->port_text() == testing::text(row, "port"));
      CHECK(portal->str() == text);
    } else {
      CHECK(portal.error().code() == Errc::parse_failed);
      CHECK(portal.error().detail().find("'" + text + "'") != std::string::npos);
    }
  }
}

TEST_CASE("IPv6 portals in every spelling") {
  struct Row {
    const char* text;
    const char* host;
    const char* port;
    const char* bracketed;
  };
  for (const Row& row :
       {Row{"fd00::1", "fd00::1", "", "[fd00::1]"}, Row{"[fd00::1]", "fd00::1", "", "[fd00::1]"},
        Row{"[fd00::1]:3260", "fd00::1", "3260", "[fd00::1]:3260"},
        Row{"fd00::1.3260", "fd00::1", "3260", "[fd00::1]:3260"},
        Row{"2001:db8::1:3260", "2001:db8::1:3260", "", "[2001:db8::1:3260]"}, Row{"::", "::", "", "[::]"},
        Row{"::ffff:10.0.0.1", "::ffff:10.0.0.1", "", "[::ffff:10.0.0.1]"},
        Row{"::ffff:10.0.0.1.3260", "::ffff:10.0.0.1", "3260", "[::ffff:10.0.0.1]:3260"}}) {
    CAPTURE(row.text);
    const auto portal = Portal::parse(row.text);
    REQUIRE(portal);
    CHECK(portal->is_ipv6());
    CHECK(portal->host() == row.host);
    CHECK(portal->port_text() == row.port);
    CHECK(portal->bracketed() == row.bracketed);
  }
  for (const char* text : {"[fd00::1", "fd00::1]", "[]", "[]:1", "[fd00::1]:", "[fd00::1]:x", "fd00::1%eth0",
                           "fd00:::1", "1:2:3:4:5:6:7:8:9", "fd00::1.", "fd00::12345", ":3260", "::1 ", "[[::1]]"}) {
    CAPTURE(text);
    CHECK_FALSE(Portal::parse(text));
  }
  CHECK_FALSE(Portal::parse(std::string_view{"::1\0x", 5}));
  CHECK_FALSE(Portal::parse(std::string(100, ':')));
}

TEST_CASE("names and IPv4 addresses keep the port if one was written") {
  CHECK(Portal::parse("nas.example:3260")->bracketed() == "nas.example:3260");
  CHECK(Portal::parse("10.0.0.1")->bracketed() == "10.0.0.1");
  CHECK_FALSE(Portal::parse("10.0.0.1")->is_ipv6());
  CHECK(Portal::parse("[nas]:1")->host() == "nas");
}

TEST_CASE("the range of the port is checked when it is used") {
  CHECK(Portal::parse("nas")->port_or(3260).value() == 3260);
  CHECK(Portal::parse("nas:1")->port_or(3260).value() == 1);
  CHECK(Portal::parse("nas:65535")->port_or(3260).value() == 65535);
  CHECK(Portal::parse("nas:003260")->port_or(1).value() == 3260);
  for (const char* text : {"nas:0", "nas:65536", "nas:99999", "nas:99999999999999999999999999"}) {
    CAPTURE(text);
    const auto port = Portal::parse(text)->port_or(3260);
    REQUIRE_FALSE(port);
    CHECK(port.error().code() == Errc::invalid_argument);
    CHECK(port.error().detail().find(text) != std::string::npos);
  }
}

TEST_CASE("a portal that parses is read back from its brackets") {
  CHECK(rc::check([] {
    const auto text = *rc::gen::container<std::string>(rc::gen::elementOf(std::string{"0123456789abcf:.[]-%x"}));
    if (const auto portal = Portal::parse(text)) {
      const auto again = Portal::parse(portal->bracketed());
      RC_ASSERT(again.has_value());
      RC_ASSERT(again->host() == portal->host());
      RC_ASSERT(again->port_text() == portal->port_text());
    }
  }));
}

TEST_CASE("target names are any text, and those of RFC 7143 are known") {
  for (const auto& row : testing::vectors("iqn")) {
    const std::string text = testing::text(row, "target");
    CAPTURE(text);
    const auto iqn = Iqn::parse(text);
    REQUIRE(iqn.has_value() == row["reference_accepts"].get<bool>());
    if (iqn) CHECK(is_rfc_name(*iqn) == row["rfc_name"].get<bool>());
  }
  for (const char* text : {"iqn.2001-04.com.example:x", "iqn.1992-12.c", "naa.0123456789abcdef", "eui.0123456789ABCDEF",
                           "iqn.2001-04.com.example:\xc3\xa4"}) {
    CAPTURE(text);
    CHECK(is_rfc_name(*Iqn::parse(text)));
  }
  for (const char* text :
       {"iqn.", "iqn.2001-04", "iqn.2001-04.", "iqn.2001-00.com", "iqn.201-04.com.x", "iqn.2001_04.com",
        "iqn.2001-04.com.example x", "IQN.2001-04.com", "eui.0123456789ABCDEG", "naa.0123", "eui", "x"}) {
    CAPTURE(text);
    CHECK_FALSE(is_rfc_name(*Iqn::parse(text)));
  }
}
