// recover: finishes or undoes what a verb left unfinished, on all storages, on one, or on one volume

#include "command.hpp"
#include "failure.hpp"

#include <algorithm>
#include <optional>

namespace stowctl {

using namespace stowage;

namespace {

struct WhatToRecover {
  std::string where;
  bool fence = false;
  bool finish = false;
  bool keep = false;
  bool adopt = false;

  [[nodiscard]] RecoverOptions options(bool dry_run) const {
    using Then = RecoverOptions::Then;
    const Then then = finish ? Then::finish : keep ? Then::keep : adopt ? Then::adopt : Then::none;
    return {.fence = fence, .then = then, .dry_run = dry_run};
  }
};

/// The storages, and the volume if it is one.
struct RecoveryPlace {
  std::vector<ConfigStorage> storages;
  std::optional<VolumeName> volume{};
};

Result<RecoveryPlace> find_recovery_place(const StorageConfigFile& file, const WhatToRecover& what) {
  RecoveryPlace place;
  std::string storage = what.where;
  if (storage.find(':') != storage.npos) {
    const auto id = VolumeId::parse(storage);
    if (!id) return fail(id.error());
    storage = id->storage.str();
    place.volume = id->volume;
  }
  if (!place.volume && (what.finish || what.keep || what.adopt)) {
    return fail(Errc::invalid_argument, "--finish, --keep and --adopt are about one volume: name it");
  }
  auto storages = chosen(file, storage);
  if (!storages) return fail(std::move(storages.error()));
  place.storages = *std::move(storages);
  if (storage.empty()) std::erase_if(place.storages, is_disabled);
  return place;
}

Result<void> confirm_recovery(const Context& context, const WhatToRecover& what) {
  if (context.options().dry_run) return {};
  std::string question;
  if (what.fence) question = "Lock out the clients that hold unfinished volumes? They lose all their images.";
  if (what.finish) question = "Finish it, and lose what was written to " + what.where + " since?";
  if (what.keep) question = "Keep " + what.where + " as it is, and forget the unfinished verb?";
  if (what.adopt) question = "Take over the record on " + what.where + "? A program that wrote it may still run.";
  return question.empty() ? Result<void>{} : context.confirm(question);
}

/// Adds what one storage answered.
void add_recovery(Answer& answer, const std::string& id, const Recovery& recovery) {
  const auto line = [&](const std::string& object, const std::string& text) {
    answer.text += (answer.text.empty() ? "" : "\n") + id + ": " + object + ": " + text;
  };
  const auto by = [](const std::string& holder) { return holder.empty() ? "" : ", held by " + holder; };
  const auto verb = [](const std::string& name) { return name.empty() ? "" : ": " + name; };
  for (const Recovered& r : recovery.done) {
    line(r.object, r.action);
    answer.json["done"].push_back({{"storage", id}, {"object", r.object}, {"action", r.action}});
  }
  for (const RecoveryBusy& r : recovery.busy) {
    line(r.object, "busy" + verb(r.verb) + by(r.holder));
    answer.json["busy"].push_back({{"storage", id}, {"object", r.object}, {"verb", r.verb}, {"holder", r.holder}});
  }
  for (const RecoveryLeft& r : recovery.left) {
    line(r.object, "left" + verb(r.verb) + ": " + r.reason + by(r.holder));
    answer.json["left"].push_back({{"storage", id},
                                   {"object", r.object},
                                   {"verb", r.verb},
                                   {"reason", r.reason},
                                   {"holder", r.holder},
                                   {"code", name(r.code)}});
  }
}

Result<Answer> recover_storages(Context& context, const WhatToRecover& what) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  const auto place = find_recovery_place(*file, what);
  if (!place) return fail(place.error());
  if (auto sure = confirm_recovery(context, what); !sure) return fail(std::move(sure.error()));
  if (!context.options().dry_run) context.begin_change();
  const auto ask = [volume = place->volume, options = what.options(context.options().dry_run),
                    stop = context.stop()](AnyStorage& storage) {
    const Work work{.stop = stop};
    return volume ? storage.recover(*volume, options, work) : storage.recover(options, work);
  };
  const auto answers = context.ask(*file, place->storages, false, ask);
  if (!what.where.empty() && !answers.front()) return fail(answers.front().error());
  Answer answer{{}, Json{{"done", Json::array()}, {"busy", Json::array()}, {"left", Json::array()}}};
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (answers[i]) {
      add_recovery(answer, place->storages[i].id.str(), *answers[i]);
      continue;
    }
    print_error(answers[i].error(), context.options().json);
    if (answer.exit_status == 0) answer.exit_status = exit_status(answers[i].error().code());
  }
  if (!answer.json["left"].empty()) answer.exit_status = exit_status(Errc::in_use);
  return answer;
}

void what_to_recover(CLI::App& app, WhatToRecover& what) {
  app.add_option("ID-or-VOLID", what.where, "only this storage, or this volume");
  app.add_flag("--fence", what.fence, "lock out clients that hold unfinished volumes, and take over what they run");
  auto* finish = app.add_flag("--finish", what.finish, "finish the verb, although the volume was written to since");
  auto* keep = app.add_flag("--keep", what.keep, "keep what the volume holds now, and forget the verb");
  auto* adopt = app.add_flag("--adopt", what.adopt, "take over a record that an older or newer version wrote");
  finish->excludes(keep)->excludes(adopt);
  keep->excludes(adopt);
}

}  // namespace

void add_recover_commands(Commands commands) {
  commands.add<WhatToRecover>("recover", "finish or undo unfinished work", what_to_recover, recover_storages);
}

}  // namespace stowctl
