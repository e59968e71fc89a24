#pragma once
// What may be changed in storage.cfg, and how: the rules of adding, setting and removing a storage. Texts go in and
// come out; no file is touched here.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stowage/config/edit.hpp>
#include <stowage/config/properties.hpp>
#include <stowage/config/storage_cfg.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// A storage that is to be. An empty value is as good as none.
struct AddStorage {
  std::string type;
  StorageId id;
  std::vector<ConfigSetting> settings{};
};

/// What is to be different in a storage.
struct SetStorage {
  StorageId id;
  std::vector<ConfigSetting> settings{};  ///< an empty value removes the property
  std::vector<std::string> remove{};      ///< properties that go
  std::string digest{};                   ///< of the file as the caller saw it; empty: any
};

/// A storage that goes from the configuration. Its volumes stay where they are.
struct RemoveStorage {
  StorageId id;
  std::string digest{};  ///< as above
};

/// What a change makes of the file.
struct ConfigChange {
  std::string text;  ///< the whole file
  std::string diff;  ///< what differs, as `diff -U0` shows it; empty when nothing does
  std::string type;  ///< the storage's
  bool is_new = false;
  std::optional<ConfigStorage> before{};  ///< the storage as it was; nothing for a new one, and a broken one
  std::optional<ConfigStorage> after{};   ///< the storage as it is then; nothing when it was removed
  std::vector<std::string> notes{};       ///< what the caller should hear of
};

namespace detail {

/// Errors: conflict.
inline Result<void> check_config_digest(const StorageConfigFile& file, const std::string& digest) {
  if (digest.empty() || digest == file.digest()) return {};
  return fail(
      Error{Errc::conflict, "the configuration has changed since digest " + digest + ", it is now " + file.digest()}
          .advise("look at it again"));
}

/// No line of the section was meant as the header of another one, which would be changed or lost with it.
/// Errors: wrong_state.
inline Result<void> check_section_ends(const ConfigDocument& document, const ConfigSection& section) {
  for (std::size_t number = section.line + 1; number <= section.last_line; ++number) {
    if (document.lines()[number - 1].kind != ConfigLineKind::ignored || !split_header(document.line(number))) continue;
    return fail(Error{Errc::wrong_state, "line " + std::to_string(number) +
                                             " looks like the header of another storage, but counts as a line of "
                                             "this one"}
                    .about(section.id)
                    .advise("put an empty line before it"));
  }
  return {};
}

/// The section of this id that counts: the last one, also when it is broken.
/// Errors: not_found; not_supported (a type whose properties are not known here); those of `check_section_ends`.
inline Result<const ConfigSection*> section_to_change(const ConfigDocument& document, const StorageId& id) {
  const ConfigSection* found = nullptr;
  for (const ConfigSection& s : document.sections()) {
    const bool counts = found == nullptr || find_config_type(s.type) != nullptr || is_one_of(foreign_types, s.type);
    if (s.id == id.str() && counts) found = &s;
  }
  if (found == nullptr) return fail(Error{Errc::not_found, "no such storage in the configuration"}.about(id.str()));
  if (find_config_type(found->type) == nullptr) {
    return fail(
        Error{Errc::not_supported, "its type is " + found->type + ", which stowage does not do"}.about(id.str()));
  }
  return check_section_ends(document, *found).map([&] { return found; });
}

/// The value as it will stand in the file: lists sorted, with commas; content that the type does not hold left out,
/// with a note. Empty: the property will not be there. Errors: parse_failed; invalid_argument.
inline Result<std::string> config_value(const ConfigType& type, const ConfigRule& rule, const std::string& text,
                                        std::vector<std::string>& notes) {
  const auto bad = [&](Errc code, std::string why) { return fail(code, std::move(why)); };
  const bool removes = text.empty() && !rule.required && rule.value != ConfigValue::boolean &&
                       rule.value != ConfigValue::content && rule.value != ConfigValue::monitors;
  if (removes) return std::string{};
  if (auto good = check_config_value(rule.value, text); !good) return fail(std::move(good.error()));
  if (text.find_first_of(std::string_view{"\n\r\0", 3}) != text.npos) {
    return bad(Errc::parse_failed, "a line feed cannot be part of a value");
  }
  if (trim_back(trim_front(text)).size() != text.size()) {
    return bad(Errc::parse_failed, "blanks at the ends of a value would be lost: '" + text + "'");
  }
  if (rule.value != ConfigValue::content && rule.value != ConfigValue::nodes) return text;

  std::vector<std::string> items = split_config_list(text);
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  if (rule.value == ConfigValue::content) {
    const bool none = std::find(items.begin(), items.end(), "none") != items.end();
    if (none && items.size() > 1) return bad(Errc::invalid_argument, "'none' beside something else: '" + text + "'");
    std::erase_if(items, [&](const std::string& item) {
      const bool drop = !type.holds(item);
      if (drop && item != "none") notes.push_back("type " + std::string{type.name} + " does not hold '" + item + "'");
      return drop;
    });
    if (items.empty() && !type.holds("none")) {
      return bad(Errc::invalid_argument, "nothing that type " + std::string{type.name} + " holds: '" + text + "'");
    }
    if (items.empty()) return std::string{"none"};
  }
  if (items.empty()) return bad(Errc::parse_failed, "names no node: '" + text + "'");
  std::string joined;
  for (const std::string& item : items) joined += (joined.empty() ? "" : ",") + item;
  return joined;
}

/// The settings with their rules, checked and in the form of the file, and no property twice.
inline Result<std::vector<ConfigSetting>> config_values(const ConfigType& type, const StorageId& id,
                                                        const std::vector<ConfigSetting>& settings,
                                                        std::vector<std::string>& notes) {
  std::vector<ConfigSetting> out;
  for (const ConfigSetting& s : settings) {
    const auto named = [&](Error error) { return fail(std::move(error).during("'" + s.key + "'").about(id.str())); };
    const ConfigRule* rule = type.rule(s.key);
    if (rule == nullptr) {
      return named({Errc::invalid_argument, "type " + std::string{type.name} + " has no such property"});
    }
    if (std::any_of(out.begin(), out.end(), [&](const ConfigSetting& o) { return o.key == s.key; })) {
      return named({Errc::invalid_argument, "given twice"});
    }
    auto value = config_value(type, *rule, s.value, notes);
    if (!value) return named(std::move(value.error()));
    out.push_back({s.key, *std::move(value)});
  }
  return out;
}

/// The section after the edit, read again: it must be a good one, and say what it was meant to say. `index` and `line`
/// are its place in the file.
/// Errors: parse_failed, when something else in the section keeps it from being used.
inline Result<ConfigStorage> read_back(std::string section, std::size_t index, std::size_t line, const StorageId& id,
                                       const std::vector<ConfigSetting>& meant) {
  // Behind so many empty lines the numbers in an error are those of the file.
  const StorageConfigFile file = StorageConfigFile::parse(section.insert(0, line - 1, '\n'));
  const ConfigStorage* storage = file.find(id);
  if (storage == nullptr) return fail(file.config_for(id, {}).error());
  for (const ConfigSetting& s : meant) {
    const std::string* value = storage->setting(s.key);
    if (s.value == (value != nullptr ? *value : "")) continue;
    if (s.key == "disable" && s.value == "0" && value == nullptr) continue;
    return fail(Error{Errc::backend_failed, "'" + s.key + "' would not be read back as it was given"}.about(id.str()));
  }
  ConfigStorage found = *storage;
  found.section = index;
  return found;
}

inline Result<void> check_base(const StorageConfigFile& file, const StorageId& id, const std::string& volume) {
  const auto base = VolumeId::parse(volume);
  if (!base) return fail(base.error());
  const ConfigStorage* storage = file.find(base->storage);
  if (storage == nullptr) {
    return fail(Error{Errc::not_found, "there is no base storage '" + base->storage.str() + "'"}.about(id.str()));
  }
  if (storage->type != "iscsi") {
    return fail(Error{Errc::invalid_argument, "a base is a LUN of a storage of type iscsi; '" + base->storage.str() +
                                                  "' has type " + storage->type}
                    .about(id.str()));
  }
  return {};
}

}  // namespace detail

/// The file with a new section at its end.
/// Errors: already_exists; invalid_argument (no such type or property, something required is missing); parse_failed (a
/// value); not_found (the base of an `lvm`); not_supported (a type of Proxmox VE that is not known here).
inline Result<ConfigChange> apply(const StorageConfigFile& file, const AddStorage& wanted) {
  const auto refuse = [&](Errc code, std::string why) {
    return fail(Error{code, std::move(why)}.about(wanted.id.str()));
  };
  const ConfigType* type = find_config_type(wanted.type);
  if (type == nullptr && detail::is_one_of(detail::foreign_types, wanted.type)) {
    return refuse(Errc::not_supported, "type " + wanted.type + " is none that stowage does");
  }
  if (type == nullptr) return refuse(Errc::invalid_argument, "no such storage type: '" + wanted.type + "'");
  if (wanted.id.str() == "local") {
    return refuse(Errc::already_exists, "the storage 'local' is always the directory /var/lib/vz");
  }
  for (const ConfigSection& s : file.document().sections()) {
    if (s.id == wanted.id.str()) {
      return refuse(Errc::already_exists, "there is a storage of this name, in line " + std::to_string(s.line));
    }
  }
  ConfigChange change{.text = {}, .diff = {}, .type = wanted.type, .is_new = true};
  auto settings = detail::config_values(*type, wanted.id, wanted.settings, change.notes);
  if (!settings) return fail(std::move(settings.error()));
  std::erase_if(*settings,
                [](const ConfigSetting& s) { return s.value.empty() || (s.key == "disable" && s.value == "0"); });

  // As Proxmox VE writes it: `disable` alone, then what is required, then the rest, each sorted.
  const auto rank = [&](const ConfigSetting& s) {
    return s.key == "disable" ? 0 : type->rule(s.key)->required ? 1 : 2;
  };
  std::sort(settings->begin(), settings->end(), [&](const ConfigSetting& a, const ConfigSetting& b) {
    return std::pair{rank(a), std::string_view{a.key}} < std::pair{rank(b), std::string_view{b.key}};
  });
  std::vector<ConfigProperty> properties;
  for (const ConfigSetting& s : *settings) {
    properties.push_back({s.key, s.key == "disable" ? std::nullopt : std::optional{s.value}, 0});
    if (s.key != "base") continue;
    if (auto base = detail::check_base(file, wanted.id, s.value); !base) return fail(std::move(base.error()));
  }
  for (const ConfigRule& rule : type->rules) {
    const auto is_it = [&](const ConfigSetting& s) { return s.key == rule.key; };
    if (!rule.required || std::any_of(settings->begin(), settings->end(), is_it)) continue;
    return refuse(Errc::invalid_argument, "type " + wanted.type + " needs '" + std::string{rule.key} + "'");
  }
  ConfigEdit edit{file.document()};
  edit.append(wanted.type, wanted.id.str(), properties);
  change.text = edit.text();
  change.diff = edit.diff();
  const ConfigDocument& document = file.document();
  auto after = detail::read_back(change.text.substr(document.text().size()), document.sections().size(),
                                 document.lines().size() + 1, wanted.id, *settings);
  if (!after) return fail(std::move(after.error()));
  change.after = *std::move(after);
  return change;
}

/// The file with a section that is different in what was asked for.
/// Errors: not_found; conflict (the digest); invalid_argument (no such property, a fixed one, required and to be
/// deleted, set and deleted); parse_failed (a value, or the section is broken, and stays so); not_supported (another
/// type's); wrong_state (the header of another section is among its lines).
inline Result<ConfigChange> apply(const StorageConfigFile& file, const SetStorage& wanted) {
  const auto refuse = [&](const std::string& key, std::string_view why) {
    return fail(Error{Errc::invalid_argument, "'" + key + "': " + std::string{why}}.about(wanted.id.str()));
  };
  if (auto same = detail::check_config_digest(file, wanted.digest); !same) return fail(std::move(same.error()));
  const auto section = detail::section_to_change(file.document(), wanted.id);
  if (!section) return fail(section.error());
  const ConfigType& type = *find_config_type((*section)->type);
  ConfigChange change{.text = {}, .diff = {}, .type = (*section)->type};
  if (const ConfigStorage* before = file.find(wanted.id)) change.before = *before;

  for (const ConfigSetting& s : wanted.settings) {
    const ConfigRule* rule = type.rule(s.key);
    if (rule != nullptr && rule->fixed) return refuse(s.key, "fixed when the storage is made");
  }
  auto settings = detail::config_values(type, wanted.id, wanted.settings, change.notes);
  if (!settings) return fail(std::move(settings.error()));
  ConfigEdit edit{file.document()};
  for (const std::string& key : wanted.remove) {
    const ConfigRule* rule = type.rule(key);
    if (rule == nullptr) return refuse(key, "type " + change.type + " has no such property");
    if (rule->required) return refuse(key, "required, so it cannot be deleted");
    if (rule->fixed) return refuse(key, "fixed when the storage is made");
    for (const ConfigSetting& s : wanted.settings) {
      if (s.key == key) return refuse(key, "to be set and to be deleted");
    }
    edit.remove(**section, key);
  }
  std::vector<ConfigSetting> meant;
  for (const ConfigSetting& s : *settings) {
    if (const std::string* now = change.before ? change.before->setting(s.key) : nullptr) {
      std::vector<std::string> told_already;
      if (*now == s.value || detail::config_value(type, *type.rule(s.key), *now, told_already) == s.value) continue;
    }
    if (s.value.empty() || (s.key == "disable" && s.value == "0")) {
      edit.remove(**section, s.key);
    } else {
      edit.set(**section, s.key, s.key == "disable" ? std::nullopt : std::optional<std::string_view>{s.value});
    }
    meant.push_back(s);
  }
  const auto index = static_cast<std::size_t>(*section - file.document().sections().data());
  auto after = detail::read_back(edit.text(**section), index, (*section)->line, wanted.id, meant);
  if (!after) return fail(std::move(after.error()));
  change.after = *std::move(after);
  change.text = edit.text();
  change.diff = edit.diff();
  return change;
}

/// The file without a storage: its section, and earlier ones of the same name, which counted for nothing.
/// Errors: not_found; conflict (the digest); in_use (it is the base of others, which are named); not_supported (another
/// type's); wrong_state (the header of another section is among its lines).
inline Result<ConfigChange> apply(const StorageConfigFile& file, const RemoveStorage& wanted) {
  if (auto same = detail::check_config_digest(file, wanted.digest); !same) return fail(std::move(same.error()));
  const ConfigDocument& document = file.document();
  const auto section = detail::section_to_change(document, wanted.id);
  if (!section) return fail(section.error());
  ConfigChange change{.text = {}, .diff = {}, .type = (*section)->type};
  if (const ConfigStorage* before = file.find(wanted.id)) change.before = *before;
  std::string users;
  ConfigEdit edit{document};
  for (const ConfigSection& s : document.sections()) {
    if (s.id == wanted.id.str()) {
      if (find_config_type(s.type) == nullptr) {
        return fail(Error{Errc::wrong_state, "there is another storage of this name, of type " + s.type + ", in line " +
                                                 std::to_string(s.line)}
                        .about(wanted.id.str())
                        .advise("rename or remove it by hand"));
      }
      if (auto ends = detail::check_section_ends(document, s); !ends) return fail(std::move(ends.error()));
      edit.remove(s);
      continue;
    }
    for (const ConfigProperty& p : s.properties) {
      if (p.key == "base" && p.value && p.value->starts_with(wanted.id.str() + ":")) {
        users += (users.empty() ? "'" : ", '") + s.id + "'";
      }
    }
  }
  if (!users.empty()) {
    return fail(
        Error{Errc::in_use, "it is the base of storage " + users}.about(wanted.id.str()).advise("remove that first"));
  }
  change.text = edit.text();
  change.diff = edit.diff();
  return change;
}

}  // namespace stowage
