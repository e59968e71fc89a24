// status, check: about a storage, or all of them side by side

#include "command.hpp"
#include "failure.hpp"
#include "json_output.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace stowctl {

using namespace stowage;

namespace {

struct OneStorage {
  std::string storage;
};

std::string status_word(const ConfigStorage& storage, const Result<Status>& status) {
  if (is_disabled(storage)) return "disabled";
  if (status) return status->active ? "active" : "inactive";
  const Errc code = status.error().code();
  return code == Errc::timed_out || code == Errc::unavailable ? "inactive" : "error";
}

Json status_json(const ConfigStorage& storage, const std::string& word, const Result<Status>& status) {
  const Status known = status ? *status : Status{};
  Json json{{"storage", storage.id.str()},
            {"type", storage.type},
            {"status", word},
            {"total", or_null(number(known.total))},
            {"used", or_null(number(known.used))},
            {"available", or_null(number(known.available))},
            {"content", join(storage.content, ",")},
            {"shared", storage.shared}};
  if (known.metadata_used) json["metadata_used"] = known.metadata_used->count;
  if (known.metadata_total) json["metadata_total"] = known.metadata_total->count;
  if (known.provisioned) json["provisioned"] = known.provisioned->count;
  if (known.queues) json["when_full"] = *known.queues ? "queue" : "error";
  if (known.monitored) json["monitored"] = *known.monitored;
  json["health"] = known.health;
  json["error"] = status || word == "disabled" ? Json(nullptr) : to_json(status.error());
  return json;
}

/// A line of pvesm's table. What is not known is `-`.
std::string status_line(std::size_t width, const ConfigStorage& storage, const std::string& word,
                        const Status& status) {
  const auto kib = [&](const std::optional<Bytes>& size) {
    if (word == "disabled") return std::string{"0"};
    return size ? std::to_string(size->count / 1024) : "-";
  };
  std::array<char, 16> percent{};
  if (word == "disabled") {
    std::snprintf(percent.data(), percent.size(), "N/A");
  } else if (status.total && status.used) {
    const double total = static_cast<double>(status.total->count);
    std::snprintf(percent.data(), percent.size(), "%.2f%%",
                  total > 0 ? 100 * static_cast<double>(status.used->count) / total : 0.0);
  } else {
    percent[0] = '-';
  }
  std::array<char, 128> columns{};
  std::snprintf(columns.data(), columns.size(), " %11s %10s %15s %15s %15s %8s", storage.type.c_str(), word.c_str(),
                kib(status.total).c_str(), kib(status.used).c_str(), kib(status.available).c_str(), percent.data());
  return storage.id.str() + std::string(width - storage.id.str().size(), ' ') + columns.data();
}

Result<Answer> show_status(Context& context, const OneStorage& which) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  const auto storages = chosen(*file, which.storage);
  if (!storages) return fail(storages.error());
  const auto answers = context.ask(*file, *storages, true, [](const AnyStorage& storage) { return storage.status(); });
  std::size_t width = 5;
  for (const ConfigStorage& s : *storages) width = std::max(width, s.id.str().size() + 1);
  std::array<char, 128> header{};
  std::snprintf(header.data(), header.size(), " %11s %10s %15s %15s %15s %8s", "Type", "Status", "Total (KiB)",
                "Used (KiB)", "Available (KiB)", "%");
  Answer answer{"Name" + std::string(width - 4, ' ') + header.data(), Json::array()};
  for (std::size_t i = 0; i < storages->size(); ++i) {
    const ConfigStorage& storage = (*storages)[i];
    const std::string word = status_word(storage, answers[i]);
    answer.json.push_back(status_json(storage, word, answers[i]));
    answer.text += "\n" + status_line(width, storage, word, answers[i] ? *answers[i] : Status{});
    if (!answers[i] && word != "disabled") context.warn(answers[i].error().message());
    if (answers[i]) {
      for (const std::string& health : answers[i]->health) context.warn(storage.id.str() + ": " + health);
    }
  }
  return answer;
}

/// What all usable storages report, as rows. One that fails does not hide the others, but sets the exit status.
Result<Answer> check_storages(Context& context, const OneStorage& which) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  auto storages = chosen(*file, which.storage);
  if (!storages) return fail(storages.error());
  if (which.storage.empty()) std::erase_if(*storages, is_disabled);
  const auto answers = context.ask(*file, *storages, true, [](const AnyStorage& storage) { return storage.check(); });
  if (!which.storage.empty() && !answers.front()) return fail(answers.front().error());
  Answer answer{{}, Json::array()};
  for (std::size_t i = 0; i < storages->size(); ++i) {
    if (!answers[i]) {
      print_error(answers[i].error(), context.options().json);
      if (answer.exit_status == 0) answer.exit_status = exit_status(answers[i].error().code());
      continue;
    }
    for (const Finding& f : *answers[i]) {
      const std::string& id = (*storages)[i].id.str();
      answer.text += (answer.text.empty() ? "" : "\n") + id + ": " + f.object + ": " + f.problem;
      if (!f.advice.empty()) answer.text += " (" + f.advice + ")";
      answer.json.push_back({{"storage", id}, {"object", f.object}, {"problem", f.problem}, {"advice", f.advice}});
    }
  }
  return answer;
}

void one_storage(CLI::App& app, OneStorage& which) { app.add_option("ID", which.storage, "only this storage"); }

}  // namespace

void add_status_commands(Commands commands) {
  commands.add<OneStorage>("status", "how the storages are doing, all asked at once", one_storage, show_status);
  commands.add<OneStorage>("check", "unfinished work and what else an administrator should know", one_storage,
                           check_storages);
}

}  // namespace stowctl
