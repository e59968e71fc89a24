// watch: a line whenever a storage fills up or goes away, and when it is well again

#include "command.hpp"
#include "failure.hpp"
#include "json_output.hpp"

#include <stowage/watch.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <map>
#include <thread>
#include <utility>

namespace stowctl {

using namespace stowage;

namespace {

struct Watch {
  std::string storage;
  double every = 60;
  double used = 90;
  double metadata = 90;
  std::optional<double> provisioned;

  [[nodiscard]] std::vector<Threshold> thresholds() const {
    std::vector<Threshold> all{{Gauge::down}, {Gauge::used, used}, {Gauge::metadata, metadata}};
    if (provisioned) all.push_back({Gauge::provisioned, *provisioned});
    return all;
  }
};

std::string now_in_utc() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string in_words(const Crossing& crossing, const Result<Status>& status) {
  if (crossing.threshold.gauge == Gauge::down) {
    if (!crossing.above) return "up again";
    return "down: " + (status ? std::string{"it is not active"} : status.error().message());
  }
  std::array<char, 64> numbers{};
  std::snprintf(numbers.data(), numbers.size(), " is at %.2f %%, %s %g %%", crossing.percent,
                crossing.above ? "over" : "no longer over", crossing.threshold.percent);
  return std::string{name(crossing.threshold.gauge)} + numbers.data();
}

/// Errors: backend_failed, when nobody can read it.
Result<void> print(const std::string& storage, const Crossing& crossing, const Result<Status>& status, bool json) {
  const std::string time = now_in_utc();
  std::string line = time + " " + storage + ": " + in_words(crossing, status);
  if (json) {
    line = Json{{"time", time},
                {"storage", storage},
                {"gauge", name(crossing.threshold.gauge)},
                {"above", crossing.above},
                {"percent", crossing.percent},
                {"threshold", crossing.threshold.percent},
                {"error", status ? Json(nullptr) : to_json(status.error())}}
               .dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::fprintf(stdout, "%s\n", line.c_str());
  if (std::fflush(stdout) == 0) return {};
  return fail(Errc::backend_failed, "the line could not be written", native_errno(errno));
}

/// Reads the configuration in every round: it may change meanwhile, and storages come and go. While it cannot be read
/// (/etc/pve is away when its daemon starts anew) the last one is good.
Result<Answer> watch_storages(Context& context, const Watch& wanted) {
  const auto every = std::chrono::milliseconds{static_cast<std::int64_t>(wanted.every * 1000)};
  std::map<std::string, StatusWatch> watches;
  auto file = context.config();
  if (!file) return fail(file.error());
  bool readable = true;
  for (auto next = std::chrono::steady_clock::now();;) {
    auto storages = chosen(*file, wanted.storage);
    if (!storages) return fail(std::move(storages.error()));
    std::erase_if(*storages, is_disabled);
    const auto answers = context.ask(*file, *storages, true, [](const AnyStorage& each) { return each.status(); });
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::string& id = (*storages)[i].id.str();
      auto& watch = watches.try_emplace(id, wanted.thresholds()).first->second;
      for (const Crossing& crossing : watch.look(answers[i])) {
        if (auto printed = print(id, crossing, answers[i], context.options().json); !printed) {
          return fail(std::move(printed.error()));
        }
      }
    }
    next = std::max(next + every, std::chrono::steady_clock::now());
    std::this_thread::sleep_until(next);
    auto now = context.config();
    if (!now && readable) context.warn(now.error().message() + ": goes on with what it said before");
    readable = now.has_value();
    if (now) file = std::move(now);
  }
}

void describe(CLI::App& app, Watch& watch) {
  const CLI::Range percent{0.0, 1e6};
  app.add_option("ID", watch.storage, "only this storage");
  app.add_option("--every", watch.every, "seconds from one look to the next")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_option("--used", watch.used, "percent of the space that are worth a line")
      ->check(percent)
      ->capture_default_str();
  app.add_option("--metadata", watch.metadata, "the same of a pool's metadata")->check(percent)->capture_default_str();
  app.add_option("--provisioned", watch.provisioned, "the same of what all volumes together may grow to")
      ->check(percent);
}

}  // namespace

void add_watch_commands(Commands commands) {
  commands.add<Watch>("watch", "a line whenever a storage fills up or goes away, until Ctrl-C", describe,
                      watch_storages);
}

}  // namespace stowctl
