// features, config check, config show

#include "command.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

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
    answer.text += (answer.text.empty() ? "" : "\n\n") + storage.type + ": " + storage.id.str();
    for (const auto& [key, value] : json.items()) {
      if (key == "storage" || key == "type") continue;
      answer.text += "\n\t" + key + " " + (value.is_string() ? value.get<std::string>() : value.dump());
    }
    answer.json["storages"].push_back(json);
  }
  return answer;
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
}

}  // namespace stowctl
