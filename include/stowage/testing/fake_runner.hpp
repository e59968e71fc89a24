#pragma once
// Programs that do not run: a script of what is asked and what is answered.

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stowage/core/error.hpp>
#include <stowage/process/command.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::testing {

/// A `CommandRunner` for tests. Its copies share one script: keep one beside the policy that is tested.
///
///     FakeRunner runner;
///     runner.expect({"/sbin/lvs", "vg"}, CommandOutput{.exit_code = 5, .err = "Volume group not found"});
///     auto pool = BasicLvmThin<FakeRunner>::open(id, config, {}, runner);
///     CHECK(runner.left() == 0);
///
/// A command that nobody foresaw is an exception (std::logic_error, with the command): code that takes errors in its
/// stride could swallow an error.
/// Threads: all of it may be called from several threads at once.
class FakeRunner {
 public:
  using Argv = std::vector<std::string>;
  /// What a tool says to a command.
  using Answer = std::function<Result<CommandOutput>(const Command&)>;

  /// `argv` will be run once, after what was expected before and before what is expected later.
  FakeRunner& expect(Argv argv, Result<CommandOutput> answer = CommandOutput{}) {
    const std::lock_guard lock{state_->mutex};
    state_->script.push_back({std::move(argv), [answer = std::move(answer)](const Command&) { return answer; }});
    return *this;
  }

  /// `argv` may be run at any time and any number of times, as far as it is not expected just then.
  FakeRunner& always(Argv argv, Result<CommandOutput> answer = CommandOutput{}) {
    return always(std::move(argv), [answer = std::move(answer)](const Command&) { return answer; });
  }
  /// The same, with an answer that is made up at the time.
  FakeRunner& always(Argv argv, Answer answer) {
    const std::lock_guard lock{state_->mutex};
    state_->standing.insert(state_->standing.begin(), {std::move(argv), std::move(answer)});
    return *this;
  }
  /// Every command of this program, whatever its arguments: for a tool that is played by the test.
  FakeRunner& play(std::string program, Answer answer) {
    const std::lock_guard lock{state_->mutex};
    state_->players.push_back({{std::move(program)}, std::move(answer)});
    return *this;
  }

  /// What was expected and did not run.
  [[nodiscard]] std::size_t left() const {
    const std::lock_guard lock{state_->mutex};
    return state_->script.size();
  }
  /// The commands that ran, oldest first.
  [[nodiscard]] std::vector<Command> log() const {
    const std::lock_guard lock{state_->mutex};
    return state_->log;
  }
  void clear_log() {
    const std::lock_guard lock{state_->mutex};
    state_->log.clear();
  }

  [[nodiscard]] Result<CommandOutput> run(const Command& command) const { return answer_for(command)(command); }

 private:
  struct Line {
    Argv argv;
    Answer answer;
  };
  struct State {
    std::mutex mutex;
    std::list<Line> script;
    std::vector<Line> standing;  // newest first: a later one replaces an earlier one
    std::vector<Line> players;
    std::vector<Command> log;
  };

  [[nodiscard]] Answer answer_for(const Command& command) const {
    const std::lock_guard lock{state_->mutex};
    state_->log.push_back(command);
    if (!state_->script.empty() && state_->script.front().argv == command.argv) {
      Answer answer = std::move(state_->script.front().answer);
      state_->script.pop_front();
      return answer;
    }
    for (const Line& line : state_->standing) {
      if (line.argv == command.argv) return line.answer;
    }
    for (const Line& line : state_->players) {
      if (!command.argv.empty() && line.argv.front() == command.argv.front()) return line.answer;
    }
    std::string text = "nobody foresaw the command:" + words(command.argv);
    if (!state_->script.empty()) text += "\nthe next one was to be:    " + words(state_->script.front().argv);
    throw std::logic_error{text};
  }

  static std::string words(const Argv& argv) {
    std::string text;
    for (const std::string& word : argv) text += " '" + word + "'";
    return text;
  }

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

static_assert(CommandRunner<FakeRunner>);

}  // namespace stowage::testing
