#pragma once
// datacenter.cfg, which lies beside storage.cfg: what it says of storages.

#include <stowage/config/properties.hpp>
#include <stowage/config/read.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/text.hpp>
#include <stowage/storage_config.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace stowage {

namespace detail {

/// The value of a line `key: value`, without the blanks around it; empty when it is another line.
constexpr std::string_view datacenter_value(std::string_view line, std::string_view key) noexcept {
  if (!line.starts_with(key) || line.substr(key.size(), 1) != ":") return {};
  line.remove_prefix(key.size() + 1);
  while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
  while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
  return line;
}

}  // namespace detail

/// The datacenter.cfg of the folder that a storage.cfg is in.
inline std::string datacenter_config_beside(const std::string& storage_config) {
  const std::size_t slash = storage_config.rfind('/');
  return (slash == storage_config.npos ? "" : storage_config.substr(0, slash + 1)) + "datacenter.cfg";
}

/// Reads a datacenter.cfg. One that is not there says nothing, as for Proxmox VE, and of lines with the same key the
/// last one counts. Errors: parse_failed (a `bwlimit` that is none); those of `read_storage_config`.
inline Result<DatacenterConfig> read_datacenter_config(const std::string& path) {
  return detail::read_file(path, detail::largest_config)
      .and_then([&](const std::optional<detail::FileSnapshot>& file) -> Result<DatacenterConfig> {
        DatacenterConfig config;
        detail::for_each_line(file ? std::string_view{file->text} : std::string_view{}, [&](std::string_view line) {
          if (const std::string_view value = detail::datacenter_value(line, "bwlimit"); !value.empty()) {
            config.bwlimit = value;
          }
        });
        if (auto good = check_config_value(ConfigValue::bwlimit, config.bwlimit); !good) {
          return fail(std::move(good.error()).during("reading its bwlimit").about(path));
        }
        return config;
      });
}

}  // namespace stowage
