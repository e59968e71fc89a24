#pragma once
// Which type of storage.cfg has which properties, and what their values may be.

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/net.hpp>
#include <stowage/core/text.hpp>
#include <stowage/names.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage {

/// What the value of a property is.
enum class ConfigValue {
  text,
  boolean,
  content,
  nodes,
  portal,
  monitors,
  target,
  url_target,
  lvm_name,
  bwlimit,
  volume,
  stepsize,
  secret
};

/// A property of a type.
struct ConfigRule {
  std::string_view key;
  ConfigValue value = ConfigValue::text;
  bool required = false;
  bool fixed = false;  ///< set when the section is made, never changed
};

/// A type whose properties are known here: our four, and `lvm`, which lives on top of `iscsi`.
struct ConfigType {
  std::string_view name;
  std::span<const ConfigRule> rules;
  std::span<const std::string_view> content;          ///< what it may hold
  std::span<const std::string_view> default_content;  ///< what it holds when the section does not say
  bool shared = false;

  /// Null: the type has no such property.
  [[nodiscard]] constexpr const ConfigRule* rule(std::string_view key) const noexcept;
  [[nodiscard]] constexpr bool holds(std::string_view kind) const noexcept {
    return std::find(content.begin(), content.end(), kind) != content.end();
  }
};

namespace detail {

inline constexpr std::array common_rules{
    ConfigRule{"nodes", ConfigValue::nodes}, ConfigRule{"disable", ConfigValue::boolean},
    ConfigRule{"content", ConfigValue::content}, ConfigRule{"bwlimit", ConfigValue::bwlimit}};
inline constexpr std::array lvmthin_rules{ConfigRule{"vgname", ConfigValue::lvm_name, true, true},
                                          ConfigRule{"thinpool", ConfigValue::lvm_name, true, true}};
inline constexpr std::array iscsi_rules{ConfigRule{"portal", ConfigValue::portal, true, true},
                                        ConfigRule{"target", ConfigValue::target, true, true}};
inline constexpr std::array iscsidirect_rules{ConfigRule{"portal", ConfigValue::portal, true, true},
                                              ConfigRule{"target", ConfigValue::url_target, true, true}};
inline constexpr std::array rbd_rules{ConfigRule{"pool"},
                                      ConfigRule{"data-pool"},
                                      ConfigRule{"namespace"},
                                      ConfigRule{"monhost", ConfigValue::monitors},
                                      ConfigRule{"username"},
                                      ConfigRule{"krbd", ConfigValue::boolean},
                                      ConfigRule{"keyring", ConfigValue::secret}};
inline constexpr std::array lvm_rules{ConfigRule{"vgname", ConfigValue::lvm_name, true, true},
                                      ConfigRule{"base", ConfigValue::volume, false, true},
                                      ConfigRule{"shared", ConfigValue::boolean},
                                      ConfigRule{"saferemove", ConfigValue::boolean},
                                      ConfigRule{"saferemove-stepsize", ConfigValue::stepsize},
                                      ConfigRule{"saferemove_throughput"},
                                      ConfigRule{"tagged_only", ConfigValue::boolean},
                                      ConfigRule{"snapshot-as-volume-chain", ConfigValue::boolean}};

// The reference takes `none` for iscsidirect too, though the manual's table, and so our feature row, does not have it.
inline constexpr std::array<std::string_view, 2> images_rootdir{"images", "rootdir"};
inline constexpr std::array<std::string_view, 2> images_none{"images", "none"};
inline constexpr std::array<std::string_view, 1> only_images{"images"};

inline constexpr std::array config_types{ConfigType{"lvmthin", lvmthin_rules, images_rootdir, images_rootdir, false},
                                         ConfigType{"iscsi", iscsi_rules, images_none, only_images, true},
                                         ConfigType{"iscsidirect", iscsidirect_rules, images_none, only_images, true},
                                         ConfigType{"rbd", rbd_rules, images_rootdir, only_images, true},
                                         ConfigType{"lvm", lvm_rules, images_rootdir, only_images, false}};

// Proxmox VE's own types that are none of ours: their sections are kept as they are, and are no problem.
inline constexpr std::array<std::string_view, 10> foreign_types{"btrfs",     "cephfs", "cifs", "dir", "esxi",
                                                                "glusterfs", "nfs",    "pbs",  "zfs", "zfspool"};
inline constexpr std::array<std::string_view, 8> content_kinds{"images", "rootdir",  "vztmpl", "iso",
                                                               "backup", "snippets", "none",   "import"};

template <std::size_t N>
constexpr bool is_one_of(const std::array<std::string_view, N>& list, std::string_view text) noexcept {
  return std::find(list.begin(), list.end(), text) != list.end();
}

constexpr bool is_node_name(std::string_view text) noexcept {
  return !text.empty() && is_alnum(text.front()) && is_alnum(text.back()) &&
         all_of(text, [](char c) { return is_alnum(c) || c == '-'; });
}

constexpr bool is_number(std::string_view text) noexcept {  // 5, 5.5
  const std::size_t dot = text.find('.');
  return all_digits(text.substr(0, dot)) && (dot == text.npos || all_digits(text.substr(dot + 1)));
}

}  // namespace detail

constexpr const ConfigRule* ConfigType::rule(std::string_view key) const noexcept {
  for (const auto list : {rules, std::span<const ConfigRule>{detail::common_rules}}) {
    for (const ConfigRule& r : list) {
      if (r.key == key) return &r;
    }
  }
  return nullptr;
}

/// Null: not a type whose properties are known here.
constexpr const ConfigType* find_config_type(std::string_view name) noexcept {
  for (const ConfigType& type : detail::config_types) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

/// The types whose properties are known here.
constexpr std::span<const ConfigType> config_types() noexcept { return detail::config_types; }
/// The properties that each of them has besides its own.
constexpr std::span<const ConfigRule> common_config_rules() noexcept { return detail::common_rules; }

/// The items of a list: cut at commas, semicolons and blanks, or at NULs where there are any. None is empty.
inline std::vector<std::string> split_config_list(std::string_view text) {
  const bool by_nul = text.find('\0') != text.npos;
  const auto is_cut = [by_nul](char c) { return by_nul ? c == '\0' : c == ',' || c == ';' || detail::is_space(c); };
  std::vector<std::string> items;
  for (auto begin = text.begin(); begin != text.end();) {
    const auto end = std::find_if(begin, text.end(), is_cut);
    if (end != begin) items.emplace_back(begin, end);
    begin = std::find_if_not(end, text.end(), is_cut);
  }
  return items;
}

/// A value is good for its property. What depends on the rest of the section is not asked here.
/// Errors: parse_failed, with the reason; never with the text of a secret.
inline Result<void> check_config_value(ConfigValue kind, std::string_view text) {
  const auto bad = [text](std::string_view what, std::optional<std::string_view> item = {}) {
    return fail(Errc::parse_failed, std::string{what}.append(": '").append(item.value_or(text)).append("'"));
  };
  switch (kind) {
    case ConfigValue::text: break;
    case ConfigValue::boolean:
      if (text != "0" && text != "1") return bad("not 1 or 0");
      break;
    case ConfigValue::content:
      for (const std::string& item : split_config_list(text)) {
        if (!detail::is_one_of(detail::content_kinds, item)) return bad("no such content", item);
      }
      break;
    case ConfigValue::nodes:
      for (const std::string& item : split_config_list(text)) {
        if (!detail::is_node_name(item)) return bad("not the name of a node", item);
      }
      break;
    case ConfigValue::portal:
      if (const auto portal = Portal::parse(text); !portal) return fail(portal.error());
      break;
    case ConfigValue::monitors: {
      const auto items = split_config_list(text);
      if (items.empty()) return bad("names no monitor");
      for (const std::string& item : items) {
        if (!Portal::parse(item)) return bad("not the address of a monitor", item);
      }
      break;
    }
    case ConfigValue::target:
    case ConfigValue::url_target:
      if (!Iqn::parse(text)) return bad("not the name of a target");
      if (kind == ConfigValue::url_target && !detail::all_of(text, [](char c) { return c != '/' && c != ' '; })) {
        return bad("a target's name with '/' or blanks cannot stand in the URL that QEMU gets");
      }
      break;
    case ConfigValue::lvm_name:
      if (!detail::is_lvm_name(text)) {
        return bad(
            "not a name of LVM (two or more letters, digits, '-', '_' or '.'; first and last a letter or digit)");
      }
      break;
    case ConfigValue::bwlimit: {
      std::vector<std::string_view> seen;
      for (std::string_view rest = text; !rest.empty();) {
        const std::string_view item = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), item.size() + 1));
        const std::size_t equals = item.find('=');
        const std::string_view key = item.substr(0, equals);
        constexpr std::array<std::string_view, 5> keys{"clone", "default", "migration", "move", "restore"};
        if (equals == item.npos || !detail::is_one_of(keys, key) || !detail::is_number(item.substr(equals + 1)) ||
            std::find(seen.begin(), seen.end(), key) != seen.end()) {
          return bad("not a list of limits (clone|default|migration|move|restore=KiB/s,...)");
        }
        seen.push_back(key);
      }
      break;
    }
    case ConfigValue::volume:
      if (const auto volume = VolumeId::parse(text); !volume) return fail(volume.error());
      break;
    case ConfigValue::stepsize: {
      constexpr std::array<std::string_view, 6> sizes{"1", "2", "4", "8", "16", "32"};
      if (!detail::is_one_of(sizes, text)) return bad("not one of 1, 2, 4, 8, 16, 32 (MiB)");
      break;
    }
    case ConfigValue::secret:
      return fail(Errc::parse_failed,
                  "a key does not belong here, where others can read it; put it into PRIV/ceph/ID.keyring");
  }
  return {};
}

/// Ignoring a bad value would not only lose it but widen who or what the storage is: such a section is not used.
constexpr bool guards_section(ConfigValue kind) noexcept {
  return kind == ConfigValue::nodes || kind == ConfigValue::monitors;
}

}  // namespace stowage
