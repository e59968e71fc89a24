// The CHAP file of both iSCSI backends.

#include <catch2/catch.hpp>

#include <stowage/backends/detail/chap_file.hpp>
#include <string>

using namespace stowage;
using namespace stowage::detail;

TEST_CASE("a CHAP file") {
  const auto one = parse_iscsi_chap("user=me\npassword=twelve letters=\n");
  REQUIRE(one.has_value());
  CHECK(one->user == "me");
  CHECK(one->password.reveal() == "twelve letters=");
  CHECK_FALSE(one->mutual());

  const auto both = parse_iscsi_chap("# made by hand\r\n\npassword_in=b\r\nuser=me\r\nuser_in=you\r\npassword=a");
  REQUIRE(both.has_value());
  CHECK(both->mutual());
  CHECK(both->user_in == "you");
  CHECK(both->password_in.reveal() == "b");
  CHECK(both->password.reveal() == "a");
}

TEST_CASE("a bad CHAP file is refused, and its secrets are not told") {
  for (const std::string text :
       {"", "user=me", "password=s3cret", "user=me\ns3cret\npassword=s3cret", "user=me\npassword=", "s3cret=1",
        "user=me\npassword=s3cret\npasword_in=s3cret", "user=me\nuser=me\npassword=s3cret",
        "user=me\npassword=s3cret\npassword=s3cret", "user=me\npassword=s3cret\nuser_in=x",
        "user=me\npassword=s3cret\npassword_in=s3cret", "user=me\npassword=s3cret\tx", "User=me\npassword=s3cret",
        " user=me\npassword=s3cret"}) {
    CAPTURE(text);
    const auto chap = parse_iscsi_chap(text);
    REQUIRE_FALSE(chap.has_value());
    CHECK(chap.error().code() == Errc::parse_failed);
    CHECK(chap.error().message().find("s3cret") == std::string::npos);
  }
  CHECK_FALSE(parse_iscsi_chap("user=me\npassword=" + std::string(256, 'x')).has_value());
  CHECK_FALSE(parse_iscsi_chap(std::string{"user=me\npassword=a\0b", 20}).has_value());
}
