#include <stowage/core/handle.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <utility>

using namespace stowage;

namespace {

struct Thing {
  int closed = 0;
};
int close_thing(Thing* thing) { return ++thing->closed; }

using ThingHandle = Handle<Thing, &close_thing>;
static_assert(sizeof(ThingHandle) == sizeof(void*));

int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

}  // namespace

TEST_CASE("a handle closes once, whoever owns it last") {
  Thing thing;
  {
    ThingHandle first{&thing};
    const ThingHandle second = std::move(first);
    CHECK(thing.closed == 0);
  }
  CHECK(thing.closed == 1);
  { const ThingHandle none; }
  CHECK(thing.closed == 1);
}

TEST_CASE("a descriptor is closed when its owner goes") {
  const int number = open_null();
  REQUIRE(number >= 0);
  {
    const Fd fd{number};
    CHECK(fd);
    CHECK(fd.get() == number);
    CHECK(is_open(number));
  }
  CHECK_FALSE(is_open(number));
}

TEST_CASE("a descriptor moves, and the one it replaces is closed") {
  Fd first{open_null()};
  Fd second{open_null()};
  const int kept = first.get();
  const int replaced = second.get();
  second = std::move(first);
  CHECK(second.get() == kept);
  CHECK_FALSE(first);  // NOLINT(bugprone-use-after-move): that is the point
  CHECK(is_open(kept));
  CHECK_FALSE(is_open(replaced));
  Fd& same = second;
  second = std::move(same);
  CHECK(is_open(kept));
  second.reset();
  second.reset();
  CHECK_FALSE(is_open(kept));
}

TEST_CASE("no descriptor is no descriptor") {
  const Fd none;
  CHECK_FALSE(none);
  CHECK(none.get() == -1);
  const Fd zero{::dup(0)};
  CHECK(zero);
}
