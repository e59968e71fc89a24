#include <stowage/core/secret.hpp>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

using namespace stowage;

namespace {

template <class T>
concept printable = requires(std::string& out, const T& value) { out += value; };
template <class T>
concept comparable = requires(const T& a, const T& b) { a == b; };

static_assert(!printable<Secret> && !comparable<Secret> && !std::is_convertible_v<std::string, Secret>);

/// The bytes of a Secret's own storage, after it was destroyed there.
template <class Use>
std::string remains(Use use) {
  alignas(Secret) std::array<char, sizeof(Secret)> room{};
  auto* secret = ::new (static_cast<void*>(room.data())) Secret{};
  use(*secret);
  std::destroy_at(secret);
  return {room.data(), room.size()};
}

const std::string short_text = "hunter2secret";  // lies in the string itself

}  // namespace

TEST_CASE("a secret is what was put in") {
  CHECK(Secret{"key"}.reveal() == "key");
  CHECK(Secret{}.empty());
  CHECK_FALSE(Secret{"key"}.empty());
}

TEST_CASE("copies are equal, and what was moved from is empty") {
  for (const std::string& text : {short_text, std::string(1000, 'x')}) {
    Secret first{text};
    Secret copy = first;
    Secret moved = std::move(first);
    CHECK(first.empty());  // NOLINT(bugprone-use-after-move): that is the point
    CHECK(copy.reveal() == text);
    CHECK(moved.reveal() == text);
    Secret other{"other"};
    other = std::move(moved);
    CHECK(moved.empty());  // NOLINT(bugprone-use-after-move)
    CHECK(other.reveal() == text);
    other = copy;
    CHECK(other.reveal() == text);
    other = Secret{};
    CHECK(other.empty());
  }
}

TEST_CASE("a secret is wiped when it goes") {
  const auto holds = [](const std::string& memory) { return memory.find(short_text.substr(1, 6)) != memory.npos; };
  CHECK_FALSE(holds(remains([](Secret& s) { s = Secret{short_text}; })));
  CHECK_FALSE(holds(remains([](Secret& s) {
    s = Secret{short_text};
    s = Secret{};
  })));
  CHECK_FALSE(holds(remains([](Secret& s) {
    s = Secret{short_text};
    const Secret taken = std::move(s);
  })));
  CHECK_FALSE(holds(remains([](Secret& s) {
    s = Secret{short_text};
    s = Secret{std::string(1000, 'x')};  // what is in the string itself makes room for a pointer
  })));
}
