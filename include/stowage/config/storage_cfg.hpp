#pragma once
// storage.cfg as a whole: which storages there are, what each of them is, and everything that is wrong in the file.

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <stowage/config/digest.hpp>
#include <stowage/config/document.hpp>
#include <stowage/config/properties.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace stowage {

/// One property of a storage as it counts: the first of its name, with a good value. A bare boolean has the value 1.
struct ConfigSetting {
  std::string key;
  std::string value;
};

/// One storage of the file.
struct ConfigStorage {
  StorageId id;
  std::string type;
  std::size_t section = 0;              ///< its place in `document().sections()`
  std::vector<ConfigSetting> settings;  ///< in the order of the file; defaults are not among them
  std::vector<std::string> content;     ///< sorted; the default of the type when the section does not say
  bool shared = false;
  std::optional<AnyConfig> config;  ///< nothing for types that are not ours: they are kept, and not opened

  /// Null: the section does not say.
  [[nodiscard]] const std::string* setting(std::string_view key) const noexcept {
    for (const ConfigSetting& s : settings) {
      if (s.key == key) return &s.value;
    }
    return nullptr;
  }
  [[nodiscard]] bool is_true(std::string_view key) const noexcept {
    const std::string* value = setting(key);
    return value != nullptr && *value == "1";
  }
};

namespace detail {

/// Pre: `storage.settings` holds what the type requires, and every value was checked.
inline std::optional<AnyConfig> typed_config(const ConfigStorage& storage) {
  CommonConfig common{.content = {}, .nodes = {}, .disable = storage.is_true("disable"), .bwlimit = {}};
  for (const Content kind : {Content::images, Content::rootdir, Content::none}) {
    if (std::find(storage.content.begin(), storage.content.end(), name(kind)) != storage.content.end()) {
      common.content.insert(kind);
    }
  }
  if (const std::string* nodes = storage.setting("nodes")) {
    common.nodes = split_config_list(*nodes);
    common.disable = common.disable || common.nodes.empty();  // a list without a name is available nowhere
  }
  const auto text = [&](std::string_view key, std::string_view otherwise = {}) {
    const std::string* value = storage.setting(key);
    return value != nullptr ? *value : std::string{otherwise};
  };
  common.bwlimit = text("bwlimit");
  if (storage.type == "lvmthin") return LvmThinConfig{text("vgname"), text("thinpool"), common};
  if (storage.type == "iscsi")
    return OpenIscsiConfig{*Portal::parse(text("portal")), *Iqn::parse(text("target")), common};
  if (storage.type == "iscsidirect") {
    return IscsiDirectConfig{*Portal::parse(text("portal")), *Iqn::parse(text("target")), {}, common};
  }
  if (storage.type != "rbd") return std::nullopt;
  RbdConfig rbd{.pool = text("pool", "rbd"),
                .data_pool = text("data-pool"),
                .name_space = text("namespace"),
                .monhost = {},
                .username = text("username", "admin"),
                .krbd = storage.is_true("krbd"),
                .common = common};
  for (const std::string& host : split_config_list(text("monhost"))) rbd.monhost.push_back(*Portal::parse(host));
  return rbd;
}

/// What the reference makes of a section `local`: it is the directory /var/lib/vz, whatever the file says.
inline bool is_the_local_directory(const ConfigSection& section) noexcept {
  if (section.type != "dir") return false;
  for (const ConfigProperty& p : section.properties) {
    if (p.key == "path") return p.value == "/var/lib/vz";
  }
  return false;
}

}  // namespace detail

/// A storage.cfg that was read.
class StorageConfigFile {
 public:
  /// Any text can be read: what cannot be used is in `problems()`, and the rest is there.
  /// `path` is where the text was read.
  [[nodiscard]] static StorageConfigFile parse(std::string text, std::string path = {}) {
    StorageConfigFile file;
    file.path_ = std::move(path);
    file.document_ = ConfigDocument::parse(std::move(text));
    file.problems_ = file.document_.problems();
    const std::vector<bool> replaced = file.find_replaced();
    file.storages_.reserve(replaced.size());
    for (std::size_t i = 0; i < replaced.size(); ++i) {
      if (!replaced[i]) file.read(i);
    }
    std::stable_sort(file.problems_.begin(), file.problems_.end(),
                     [](const ConfigProblem& a, const ConfigProblem& b) { return a.line < b.line; });
    return file;
  }

  [[nodiscard]] const ConfigDocument& document() const noexcept { return document_; }
  /// Where it was read; empty for a text.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// SHA-1 of the bytes of the file. Cost: reads them all.
  [[nodiscard]] std::string digest() const { return config_digest(document_.text()); }
  /// The storages that can be used, in the order of the file, and those of types that are not ours.
  [[nodiscard]] const std::vector<ConfigStorage>& storages() const noexcept { return storages_; }
  /// Sorted by line.
  [[nodiscard]] const std::vector<ConfigProblem>& problems() const noexcept { return problems_; }
  /// Nothing in the file was ignored. (Advice does not count.)
  [[nodiscard]] bool ok() const noexcept {
    return std::all_of(problems_.begin(), problems_.end(),
                       [](const ConfigProblem& p) { return p.remedy == ConfigRemedy::noted; });
  }

  /// Null: not in the file, or its section is broken.
  [[nodiscard]] const ConfigStorage* find(const StorageId& id) const noexcept {
    for (const ConfigStorage& s : storages_) {
      if (s.id == id) return &s;
    }
    return nullptr;
  }

  /// The configuration of a storage that is to be opened on `node`.
  /// Errors: not_found; parse_failed (its section is broken, with the reason); not_supported (a type that is not
  /// ours); wrong_state (disabled); unavailable (not on this node).
  [[nodiscard]] Result<AnyConfig> config_for(const StorageId& id, std::string_view node) const {
    const ConfigStorage* storage = find(id);
    if (storage == nullptr) return fail(missing(id));
    if (!storage->config) {
      return fail(
          Error{Errc::not_supported, "its type is " + storage->type + ", which stowage does not do"}.about(id.str()));
    }
    const CommonConfig& common = stowage::common(*storage->config);
    if (common.disable) {
      return fail(Error{Errc::wrong_state, "this storage is disabled"}.about(id.str()).advise(
          "remove 'disable' from its section"));
    }
    if (!common.nodes.empty() && std::find(common.nodes.begin(), common.nodes.end(), node) == common.nodes.end()) {
      return fail(Error{Errc::unavailable, "this storage is not available on node '" + std::string{node} + "'"}
                      .about(id.str())
                      .advise("it is on: " + *storage->setting("nodes")));
    }
    return *storage->config;
  }

 private:
  void report(std::size_t line, const ConfigSection& section, std::string_view property, std::string message,
              ConfigRemedy remedy) {
    problems_.push_back({line, section.id, std::string{property}, std::move(message), remedy});
  }

  /// Of sections of the same name the last one counts, also when it is broken: whoever wrote it did not mean the
  /// earlier one.
  [[nodiscard]] std::vector<bool> find_replaced() {
    const auto& sections = document_.sections();
    std::vector<bool> replaced(sections.size());
    std::unordered_map<std::string_view, std::size_t> latest{sections.size()};
    for (std::size_t i = 0; i < sections.size(); ++i) {
      const ConfigSection& next = sections[i];
      if (!is_known(next.type) || !StorageId::parse(next.id)) continue;
      const auto [earlier, is_first] = latest.try_emplace(next.id, i);
      if (is_first) continue;
      const ConfigSection& lost = sections[std::exchange(earlier->second, i)];
      replaced[static_cast<std::size_t>(&lost - sections.data())] = true;
      report(lost.line, lost, {}, "replaced by the section of the same name in line " + std::to_string(next.line),
             ConfigRemedy::section_ignored);
    }
    return replaced;
  }

  static bool is_known(std::string_view type) noexcept {
    return find_config_type(type) != nullptr || detail::is_one_of(detail::foreign_types, type);
  }

  void read(std::size_t index) {
    const ConfigSection& section = document_.sections()[index];
    const auto skip = [&](std::string message) {
      report(section.line, section, {}, std::move(message), ConfigRemedy::section_ignored);
    };
    const auto id = StorageId::parse(section.id);
    if (!id) return skip(id.error().detail());
    if (!is_known(section.type)) return skip("unknown type '" + section.type + "'");
    if (id->str() == "local" && !detail::is_the_local_directory(section)) {
      return skip("the storage 'local' is always the directory /var/lib/vz");
    }
    const ConfigType* type = find_config_type(section.type);
    ConfigStorage storage{*id, section.type, index, {}, {}, type != nullptr && type->shared, std::nullopt};
    if (type == nullptr) {
      keep(section, storage);
    } else {
      if (!check(section, *type, storage)) return;
      storage.shared = storage.shared || storage.is_true("shared");
      storage.config = detail::typed_config(storage);
    }
    storages_.push_back(std::move(storage));
  }

  /// A type of Proxmox VE that is not ours: nothing of it is judged.
  static void keep(const ConfigSection& section, ConfigStorage& storage) {
    for (const ConfigProperty& p : section.properties) storage.settings.push_back({p.key, p.value.value_or("1")});
    if (const std::string* content = storage.setting("content")) storage.content = split_config_list(*content);
    std::sort(storage.content.begin(), storage.content.end());
    constexpr std::array<std::string_view, 4> on_every_host{"nfs", "cifs", "cephfs", "pbs"};
    storage.shared = detail::is_one_of(on_every_host, section.type) || storage.is_true("shared");
  }

  /// False: the section cannot be used, and that is reported.
  bool check(const ConfigSection& section, const ConfigType& type, ConfigStorage& storage) {
    bool usable = true;
    storage.settings.reserve(section.properties.size());
    for (const ConfigProperty& p : section.properties) usable = check(p, section, type, storage) && usable;
    for (const ConfigRule& rule : type.rules) {
      if (!rule.required || storage.setting(rule.key) != nullptr) continue;
      usable = false;
      report(section.line, section, rule.key, "missing, and required", ConfigRemedy::section_ignored);
    }
    return decode_content(section, type, storage) && usable;
  }

  bool check(const ConfigProperty& property, const ConfigSection& section, const ConfigType& type,
             ConfigStorage& storage) {
    const auto ignore = [&](std::string message, ConfigRemedy remedy = ConfigRemedy::property_ignored) {
      report(property.line, section, property.key, std::move(message), remedy);
      return remedy != ConfigRemedy::section_ignored;
    };
    if (property.key == "type" && property.value == section.type) return true;
    const ConfigRule* rule = type.rule(property.key);
    if (rule == nullptr) return ignore("type " + section.type + " has no such property");
    if (storage.setting(property.key) != nullptr) return ignore("given twice; the first value counts");
    if (!property.value && rule->value != ConfigValue::boolean) {
      return ignore("has no value",
                    guards_section(rule->value) ? ConfigRemedy::section_ignored : ConfigRemedy::property_ignored);
    }
    const std::string value = property.value.value_or("1");
    if (auto good = check_config_value(rule->value, value); !good) {
      return ignore(good.error().detail(),
                    guards_section(rule->value) ? ConfigRemedy::section_ignored : ConfigRemedy::property_ignored);
    }
    if (rule->value == ConfigValue::nodes && split_config_list(value).empty()) {
      ignore("names no node, so the storage is available nowhere", ConfigRemedy::noted);
    }
    if ((rule->value == ConfigValue::target || rule->value == ConfigValue::url_target) &&
        !is_rfc_name(*Iqn::parse(value))) {
      ignore("not a name by RFC 7143 (iqn.yyyy-mm.domain:name): '" + value + "'", ConfigRemedy::noted);
    }
    storage.settings.push_back({property.key, value});
    return true;
  }

  bool decode_content(const ConfigSection& section, const ConfigType& type, ConfigStorage& storage) {
    const std::string* text = storage.setting("content");
    if (text == nullptr) {
      storage.content.assign(type.default_content.begin(), type.default_content.end());
      return true;
    }
    std::size_t line = section.line;
    for (const ConfigProperty& p : section.properties) {
      if (p.key == "content" && p.value) line = p.line;
    }
    const auto items = split_config_list(*text);
    const bool none = std::find(items.begin(), items.end(), "none") != items.end();
    const bool more = std::any_of(items.begin(), items.end(), [](const std::string& item) { return item != "none"; });
    if (none && more) {
      report(line, section, "content", "'none' beside something else", ConfigRemedy::section_ignored);
      return false;
    }
    for (const std::string& item : items) {
      if (type.holds(item)) {
        storage.content.push_back(item);
      } else if (item != "none") {
        report(line, section, "content", "type " + section.type + " does not hold '" + item + "'",
               ConfigRemedy::item_ignored);
      }
    }
    std::sort(storage.content.begin(), storage.content.end());
    storage.content.erase(std::unique(storage.content.begin(), storage.content.end()), storage.content.end());
    if (!storage.content.empty() || type.holds("none")) return true;
    report(line, section, "content", "nothing is left that type " + section.type + " holds",
           ConfigRemedy::section_ignored);
    return false;
  }

  [[nodiscard]] Error missing(const StorageId& id) const {
    for (const ConfigProblem& p : problems_) {
      if (p.section != id.str() || p.remedy != ConfigRemedy::section_ignored) continue;
      const std::string what = p.property.empty() ? "" : "'" + p.property + "': ";
      return Error{Errc::parse_failed, "its section in the configuration is broken: line " + std::to_string(p.line) +
                                           ": " + what + p.message}
          .about(id.str());
    }
    return Error{Errc::not_found, "no such storage in the configuration"}.about(id.str());
  }

  std::string path_;
  ConfigDocument document_;
  std::vector<ConfigStorage> storages_;
  std::vector<ConfigProblem> problems_;
};

}  // namespace stowage
