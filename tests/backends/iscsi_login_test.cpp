// What a login of IscsiDirect is made of: ISIDs, and which portal group it came to.

#include <catch2/catch.hpp>

#include <cerrno>
#include <cstring>
#include <set>
#include <stowage/backends/detail/iscsi_connector.hpp>
#include <stowage/backends/detail/iscsi_place.hpp>
#include <string>

using namespace stowage::detail;

namespace {

/// A Login Response with this text.
std::string login_response(const std::string& text) {
  std::string bytes(48, '\0');
  bytes[0] = 0x23;
  bytes[6] = static_cast<char>(text.size() >> 8U);
  bytes[7] = static_cast<char>(text.size() & 0xffU);
  return bytes + text;
}

std::string text(std::initializer_list<const char*> pairs) {
  std::string all;
  for (const char* pair : pairs) (all += pair) += '\0';
  return all;
}

}  // namespace

TEST_CASE("an ISID is one of its own, with random numbers and without") {
  const auto none = [](void*, std::size_t) noexcept -> ::ssize_t {
    errno = EAGAIN;
    return -1;
  };
  std::set<std::uint32_t> all;
  for (int n = 0; n < 1000; ++n) all.insert(make_isid(none));
  CHECK(all.size() == 1000);
  const auto few = [](void* into, std::size_t) noexcept -> ::ssize_t {
    std::memset(into, 0, 1);
    return 1;
  };
  CHECK(make_isid(few) != make_isid(few));
  const auto seven = [](void* into, std::size_t size) noexcept {
    std::memset(into, 7, size);
    return static_cast<::ssize_t>(size);
  };
  CHECK(make_isid(seven) == 0x07070707);
  CHECK(random_isid() != random_isid());
}

TEST_CASE("the portal group is read from a login response") {
  CHECK(portal_group_of(login_response(text({"TargetPortalGroupTag=1"}))) == 1);
  CHECK(portal_group_of(login_response(text({"AuthMethod=CHAP", "TargetPortalGroupTag=0x1F", "A=b"}))) == 31);
  CHECK(portal_group_of(login_response(text({"TargetPortalGroupTag=65535"})) + "more") == 65535);
  for (const char* pair : {"TargetPortalGroupTag=65536", "TargetPortalGroupTag=", "TargetPortalGroupTag=1x",
                           "TargetPortalGroupTag=-1", "TargetPortalGroupTag=0x", "MyTargetPortalGroupTag=1", "A=b"}) {
    CAPTURE(pair);
    CHECK_FALSE(portal_group_of(login_response(text({pair}))));
  }
  const std::string whole = login_response(text({"TargetPortalGroupTag=12"}));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(portal_group_of(std::string_view{whole}.substr(0, length)));
  }
  std::string other = whole;
  other[0] = 0x24;
  CHECK_FALSE(portal_group_of(other));
}

TEST_CASE("a login ends the old session in the same portal group only") {
  const IscsiPlace one{0, "127.0.0.1:1", 1};
  CHECK(IscsiPlace{1, "127.0.0.1:2", 1}.reinstates(one));
  CHECK_FALSE(IscsiPlace{1, "127.0.0.1:2", 2}.reinstates(one));
  CHECK_FALSE(IscsiPlace{0, "127.0.0.1:1", 2}.reinstates(one));
  // a target that does not say
  CHECK(IscsiPlace{0, "127.0.0.1:1", {}}.reinstates(one));
  CHECK_FALSE(IscsiPlace{1, "127.0.0.1:2", {}}.reinstates(one));
  CHECK(IscsiPlace{0, "127.0.0.1:1", {}}.reinstates({0, "127.0.0.1:1", {}}));
}
