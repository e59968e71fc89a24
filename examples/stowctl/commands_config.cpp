// features, config check|show, add, set, remove

#include "command.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

#include <map>
#include <stowage/config/store.hpp>

namespace stowctl {

using namespace stowage;

namespace {

struct OneName {
  std::string name;
};

Result<Answer> show_features(Context&, const OneName& which) {
  using enum TextTable::Align;
  Answer answer{{}, Json::array()};
  TextTable table{
      {{"Type", left}, {"Content", left}, {"Formats", left}, {"Shared", left}, {"Snapshots", left}, {"Clones", left}}};
  const auto yes_no = [](bool yes) { return std::string{yes ? "yes" : "no"}; };
  for (const Features* row : feature_table) {
    if (!which.name.empty() && row->name != which.name) continue;
    answer.json.push_back(to_json(*row));
    table.add({std::string{row->name}, join(names(row->content), ","), join(names(row->formats), ","),
               yes_no(row->shared), yes_no(row->can.has(Capability::snapshot)),
               yes_no(row->can.has(Capability::clone))});
  }
  if (answer.json.empty()) return fail(Error{Errc::not_found, "no such storage type"}.about(which.name));
  answer.text = table.str();
  if (which.name.empty()) return answer;
  const Features& row = *find_features(which.name);
  answer.text += "\n";
  for (unsigned i = 0; i < static_cast<unsigned>(Capability::count_); ++i) {
    const auto capability = static_cast<Capability>(i);
    const std::string states = join(names(row.can.states(capability)), ", ");
    answer.text += "\n" + std::string{name(capability)} + ": " + (states.empty() ? "-" : states);
  }
  return answer;
}

Result<Answer> check_config(Context& context, const NoArguments&) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  Json problems = Json::array();
  std::string text;
  for (const ConfigProblem& p : file->problems()) {
    problems.push_back({{"line", p.line},
                        {"section", p.section.empty() ? Json(nullptr) : Json(p.section)},
                        {"property", p.property.empty() ? Json(nullptr) : Json(p.property)},
                        {"message", p.message},
                        {"done", name(p.remedy)}});
    text += context.options().config + ":" + std::to_string(p.line) + ": ";
    if (!p.section.empty()) text += "section '" + p.section + "': ";
    if (!p.property.empty()) text += "'" + p.property + "': ";
    text += p.message + " (" + std::string{name(p.remedy)} + ")\n";
  }
  text += file->ok() ? "ok, digest " + file->digest() : "not ok: something in the file is ignored";
  return Answer{text, {{"ok", file->ok()}, {"digest", file->digest()}, {"problems", problems}}, file->ok() ? 0 : 2};
}

Json typed(const ConfigStorage& storage) {
  Json json{{"storage", storage.id.str()}, {"type", storage.type}};
  const ConfigType* type = find_config_type(storage.type);
  for (const auto& [key, value] : storage.settings) {
    const ConfigRule* rule = type != nullptr ? type->rule(key) : nullptr;
    if (key == "content" || key == "nodes" || json.contains(key)) continue;
    json[key] = rule != nullptr && rule->value == ConfigValue::boolean ? Json(value == "1") : Json(value);
  }
  json["content"] = join(storage.content, ",");
  if (const std::string* nodes = storage.setting("nodes")) json["nodes"] = join(split_config_list(*nodes), ",");
  json["shared"] = storage.shared;
  return json;
}

/// As `config show` prints it, from its JSON.
std::string section_text(const Json& storage) {
  std::string text = storage.at("type").get<std::string>() + ": " + storage.at("storage").get<std::string>();
  for (const auto& [key, value] : storage.items()) {
    if (key == "storage" || key == "type") continue;
    text += "\n\t" + key + " " + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

Result<Answer> show_config(Context& context, const OneName& which) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  Answer answer{{}, {{"digest", file->digest()}, {"storages", Json::array()}}};
  if (!which.name.empty()) {
    const auto id = StorageId::parse(which.name);
    if (!id) return fail(id.error());
    if (file->find(*id) == nullptr) return fail(file->config_for(*id, {}).error());
  }
  for (const ConfigStorage& storage : file->storages()) {
    if (!which.name.empty() && storage.id.str() != which.name) continue;
    const Json json = typed(storage);
    answer.text += (answer.text.empty() ? "" : "\n\n") + section_text(json);
    answer.json["storages"].push_back(json);
  }
  return answer;
}

/// What `add`, `set` and `remove` get.
struct Change {
  std::string type;
  std::string id;
  std::map<std::string, std::string> settings;  // by property
  std::vector<std::string> remove;
  std::string digest;
  std::string keyring;  // the file that holds it
  std::string chap;
};

/// All properties of all types: which of them a type has, the library knows.
std::vector<const ConfigRule*> all_properties() {
  std::vector<const ConfigRule*> all;
  const auto add = [&](std::span<const ConfigRule> rules) {
    for (const ConfigRule& rule : rules) {
      const auto known = [&](const ConfigRule* other) { return other->key == rule.key; };
      if (std::none_of(all.begin(), all.end(), known)) all.push_back(&rule);
    }
  };
  for (const ConfigType& type : config_types()) add(type.rules);
  add(common_config_rules());
  return all;
}

void describe_properties(CLI::App& app, Change& change) {
  for (const ConfigRule* rule : all_properties()) {
    const std::string key{rule->key};
    if (rule->value == ConfigValue::secret) continue;
    const bool is_switch = rule->value == ConfigValue::boolean;
    const auto store = [&change, key](const CLI::results_t& values) {
      if (values.size() != 1) return false;
      change.settings[key] = values.front();
      return true;
    };
    CLI::Option* option = app.add_option("--" + key, store, "property");
    option->type_name(is_switch ? "[1|0]" : "VALUE");
    if (is_switch) option->expected(0, 1)->default_str("1");
  }
  app.add_option("--keyring", change.keyring, "the file that holds the key of an rbd storage")->type_name("FILE");
  app.add_option("--chap", change.chap, "the file that holds user= and password= of an iSCSI storage")
      ->type_name("FILE");
}
void describe_add(CLI::App& app, Change& change) {
  app.add_option("TYPE", change.type, "lvmthin, iscsi, iscsidirect, rbd or lvm")->required();
  app.add_option("ID", change.id, "its name")->required();
  describe_properties(app, change);
}
void describe_set(CLI::App& app, Change& change) {
  app.add_option("ID", change.id, "the storage")->required();
  describe_properties(app, change);
  app.add_option("--delete", change.remove, "properties that go")->delimiter(',');
  app.add_option("--digest", change.digest, "only if the file still has this digest");
}
void describe_remove(CLI::App& app, Change& change) {
  app.add_option("ID", change.id, "the storage")->required();
  app.add_option("--digest", change.digest, "only if the file still has this digest");
}

/// On the command line a boolean has more names than in the file.
std::string file_value(const std::string& key, const std::string& text) {
  const auto all = all_properties();
  const auto rule = std::find_if(all.begin(), all.end(), [&](const ConfigRule* r) { return r->key == key; });
  if (rule == all.end() || (*rule)->value != ConfigValue::boolean) return text;
  std::string word = text;
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (word == "1" || word == "on" || word == "yes" || word == "true") return "1";
  if (word == "0" || word == "off" || word == "no" || word == "false") return "0";
  return text;
}

std::vector<ConfigSetting> settings_of(const Change& change) {
  std::vector<ConfigSetting> settings;
  for (const auto& [key, value] : change.settings) settings.push_back({key, file_value(key, value)});
  return settings;
}

Result<SecretChange> secret_of(const Change& change) {
  SecretChange secret;
  for (const std::string& path : {change.keyring, change.chap}) {
    if (path.empty()) continue;
    if (secret.text) return fail(Errc::invalid_argument, "--keyring and --chap: no type has both");
    auto text = read_secret_file(path);
    if (!text) return fail(std::move(text.error()));
    secret.text = *std::move(text);
  }
  return secret;
}

/// Does it or says what it would do: the section as it is then.
template <class Wanted>
Result<Answer> commit(Context& context, const Wanted& wanted, const SecretChange& secret) {
  const Options& options = context.options();
  const ConfigStore store{{.config = options.config,
                           .priv = options.priv,
                           .wait = std::chrono::milliseconds{static_cast<std::int64_t>(options.timeout * 1000)},
                           .cluster = options.cluster}};
  if (!options.dry_run) context.begin_change();
  const auto change = options.dry_run ? store.preview(wanted, secret) : store.commit(wanted, secret);
  if (!change) return fail(change.error());
  for (const std::string& note : change->notes) context.warn(wanted.id.str() + ": " + note);
  Answer answer;
  if (options.dry_run) {
    answer.json = {{"dry_run", true}, {"diff", change->diff}};
    answer.text = change->diff.empty() ? "nothing would change in " + options.config : change->diff;
    if (answer.text.ends_with('\n')) answer.text.pop_back();
  } else if (change->after) {
    answer.json = typed(*change->after);
    answer.text = section_text(answer.json);
  } else {
    answer.json = {{"removed", wanted.id.str()}};
    answer.text = "Removed storage '" + wanted.id.str() + "'";
  }
  if (!change->notes.empty()) answer.json["notes"] = change->notes;
  return answer;
}

Result<Answer> add_storage(Context& context, const Change& change) {
  const auto id = StorageId::parse(change.id);
  if (!id) return fail(id.error());
  const auto secret = secret_of(change);
  if (!secret) return fail(secret.error());
  return commit(context, AddStorage{change.type, *id, settings_of(change)}, *secret);
}

Result<Answer> set_storage(Context& context, const Change& change) {
  const auto id = StorageId::parse(change.id);
  if (!id) return fail(id.error());
  if (const auto file = context.config(); !file) return fail(file.error());
  auto secret = secret_of(change);
  if (!secret) return fail(secret.error());
  SetStorage wanted{*id, settings_of(change), change.remove, change.digest};
  secret->remove = std::erase(wanted.remove, "chap") > 0;  // which is no property of the file
  return commit(context, wanted, *secret);
}

Result<Answer> remove_storage(Context& context, const Change& change) {
  const auto id = StorageId::parse(change.id);
  if (!id) return fail(id.error());
  if (const auto file = context.config(); !file) return fail(file.error());
  if (!context.options().dry_run) {
    const std::string question = "Remove storage " + id->str() + " from the configuration? Its volumes stay.";
    if (auto yes = context.confirm(question); !yes) return fail(std::move(yes.error()));
  }
  return commit(context, RemoveStorage{*id, change.digest}, {});
}

}  // namespace

void add_config_commands(Commands commands) {
  commands.add<OneName>(
      "features", "what each storage type can do; needs no configuration",
      [](CLI::App& app, OneName& which) {
        app.add_option("TYPE", which.name, "only this type, with its capabilities");
      },
      show_features);
  const Commands config = commands.group("config", "read storage.cfg");
  Commands{config}.add<NoArguments>(
      "check", "report every problem, with its line", [](CLI::App&, NoArguments&) {}, check_config);
  Commands{config}.add<OneName>(
      "show", "the storages as they are understood",
      [](CLI::App& app, OneName& which) { app.add_option("ID", which.name, "only this storage"); }, show_config);
  commands.add<Change>("add", "a new storage in storage.cfg; contacts no storage", describe_add, add_storage);
  commands.add<Change>("set", "change properties of a storage; contacts no storage", describe_set, set_storage);
  commands.add<Change>("remove", "take a storage out of storage.cfg; its volumes stay", describe_remove,
                       remove_storage);
}

}  // namespace stowctl
