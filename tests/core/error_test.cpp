#include <stowage/core/error.hpp>

#include <array>
#include <catch2/catch.hpp>
#include <set>
#include <string>

using namespace stowage;

namespace {

constexpr std::array all{
    Errc::invalid_argument,  Errc::parse_failed,   Errc::not_found,     Errc::already_exists,   Errc::not_supported,
    Errc::wrong_state,       Errc::in_use,         Errc::conflict,      Errc::identity_changed, Errc::no_space,
    Errc::permission_denied, Errc::unavailable,    Errc::timed_out,     Errc::cancelled,        Errc::outcome_unknown,
    Errc::corrupt,           Errc::command_failed, Errc::backend_failed};

}  // namespace

TEST_CASE("every Errc has a word of its own") {
  std::set<std::string_view> words;
  for (const Errc code : all) words.insert(name(code));
  CHECK(words.size() == all.size());
  CHECK_FALSE(words.contains("unknown"));
  CHECK(name(Errc::outcome_unknown) == "outcome_unknown");
  CHECK(name(static_cast<Errc>(0)) == "unknown");
}

TEST_CASE("what may succeed a little later is retryable, and nothing else") {
  for (const Errc code : all) {
    const bool later =
        code == Errc::timed_out || code == Errc::unavailable || code == Errc::in_use || code == Errc::conflict;
    CHECK(retryable(code) == later);
  }
}

TEST_CASE("an error keeps what each layer knows") {
  const Error error = Error{Errc::not_found, "no image 'x'", native_errno(-2)}.during("listing").about("ceph:x").advise(
      "look elsewhere");
  CHECK(error.code() == Errc::not_found);
  CHECK(error.native() == std::errc::no_such_file_or_directory);
  CHECK(error.detail() == "listing: no image 'x'");
  CHECK(error.object() == "ceph:x");
  CHECK(error.message() == "ceph:x: listing: no image 'x' (look elsewhere)");
}

TEST_CASE("the message leaves out what is empty") {
  CHECK(Error{Errc::corrupt, "bad"}.message() == "bad");
  CHECK(Error{Errc::corrupt, "bad"}.about("st").message() == "st: bad");
  CHECK(Error{Errc::corrupt, "bad"}.advise("stop").message() == "bad (stop)");
}

TEST_CASE("who is closest to the object names it") {
  CHECK(Error{Errc::corrupt, "bad"}.about("ceph:vm-1-disk-0").about("ceph").object() == "ceph:vm-1-disk-0");
}

TEST_CASE("an error knows where it was made, and fail() is not that place") {
  const unsigned line = __LINE__ + 1;
  const Result<void> result = fail(Errc::no_space, "full");
  REQUIRE_FALSE(result);
  CHECK(result.error().where().line == line);
  CHECK(std::string_view{result.error().where().file}.ends_with("error_test.cpp"));
}

TEST_CASE("an error may be put back where it was") {
  Error error{Errc::corrupt, std::string(100, 'x')};
  error = std::move(error).during("reading").about(std::string(100, 'o')).advise(std::string(100, 'h'));
  CHECK(error.detail() == "reading: " + std::string(100, 'x'));
  CHECK(error.object() == std::string(100, 'o'));
  CHECK(error.hint() == std::string(100, 'h'));
}

TEST_CASE("an errno is taken with either sign") {
  CHECK(native_errno(28) == native_errno(-28));
  CHECK_FALSE(native_errno(0));
}
