// The script of commands that stands in for real programs.

#include <catch2/catch.hpp>

#include <stowage/testing/fake_runner.hpp>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace stowage;
using testing::FakeRunner;

namespace {

Result<CommandOutput> run(const FakeRunner& runner, std::vector<std::string> argv) {
  return runner.run(Command{.argv = std::move(argv)});
}

}  // namespace

TEST_CASE("FakeRunner: what is expected is answered once, in order") {
  FakeRunner runner;
  runner.expect({"/sbin/lvs", "a"}, CommandOutput{.exit_code = 5, .out = "o", .err = "e"})
      .expect({"/sbin/lvs", "b"}, fail(Errc::timed_out, "slow"))
      .expect({"/sbin/lvs", "c"});
  CHECK(runner.left() == 3);
  const auto first = run(runner, {"/sbin/lvs", "a"});
  REQUIRE(first);
  CHECK(first->exit_code == 5);
  CHECK(first->out == "o");
  CHECK(first->err == "e");
  const auto second = run(runner, {"/sbin/lvs", "b"});
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Errc::timed_out);
  const auto third = run(runner, {"/sbin/lvs", "c"});
  REQUIRE(third);
  CHECK(third->exit_code == 0);
  CHECK(runner.left() == 0);
}

TEST_CASE("FakeRunner: a command that nobody foresaw is an exception with its words") {
  FakeRunner runner;
  runner.expect({"/sbin/lvs", "a"}).expect({"/sbin/lvs", "b"});
  CHECK_THROWS_WITH(run(runner, {"/sbin/lvs", "b"}), Catch::Contains("'/sbin/lvs' 'b'") && Catch::Contains("'a'"));
  CHECK_THROWS_AS(run(runner, {"/sbin/lvs"}), std::logic_error);
  CHECK_THROWS_AS(run(runner, {"/sbin/lvs", "a", ""}), std::logic_error);
  CHECK(runner.left() == 2);
  CHECK(run(runner, {"/sbin/lvs", "a"}));
  CHECK_THROWS_AS(run(runner, {"/sbin/lvs", "a"}), std::logic_error);
  CHECK(runner.log().size() == 5);
}

TEST_CASE("FakeRunner: standing answers, and a tool that is played") {
  FakeRunner runner;
  const FakeRunner copy = runner;
  runner.always({"/sbin/vgs"}, CommandOutput{.out = "old"})
      .always({"/sbin/vgs"}, CommandOutput{.out = "new"})
      .play("/sbin/dmsetup", [](const Command& command) { return CommandOutput{.out = command.argv.back()}; });
  for (int round = 0; round < 3; ++round) CHECK(run(copy, {"/sbin/vgs"})->out == "new");
  CHECK(run(copy, {"/sbin/dmsetup", "info", "x"})->out == "x");
  runner.expect({"/sbin/vgs"}, CommandOutput{.out = "once"});
  CHECK(run(copy, {"/sbin/vgs"})->out == "once");
  CHECK(run(copy, {"/sbin/vgs"})->out == "new");
  CHECK(runner.log().size() == 6);
  CHECK(runner.log().front().argv == FakeRunner::Argv{"/sbin/vgs"});
  runner.clear_log();
  CHECK(copy.log().empty());
}

TEST_CASE("FakeRunner: answers may run commands themselves, from several threads") {
  FakeRunner runner;
  runner.always({"/bin/inner"}).play("/bin/outer", [&](const Command&) { return run(runner, {"/bin/inner"}); });
  std::vector<std::thread> threads;
  for (int at = 0; at < 4; ++at) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) static_cast<void>(run(runner, {"/bin/outer"}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runner.log().size() == 800);
}
