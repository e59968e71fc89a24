#include "command.hpp"
#include "failure.hpp"

#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <iostream>

namespace stowctl {

using namespace stowage;

Result<StorageConfigFile> Context::config() const {
  // To the library a missing file is an empty one. A person who forgot --config wants to hear of it.
  if (::access(options_.config.c_str(), F_OK) != 0) {
    return fail(Error{Errc::not_found, "no such file"}.about(options_.config).advise("name another with --config"));
  }
  return read_storage_config(options_.config);
}

OpenOptions Context::open_options() const {
  OpenOptions options;
  options.timeout = std::chrono::milliseconds{static_cast<std::int64_t>(options_.timeout * 1000)};
  options.priv = options_.priv;
  options.ceph_conf = options_.ceph_conf;
  // Not `options.stop`: what undoes a change that was stopped must still be able to.
  options.locks = storage_locks(options_.config, options_.cluster);
  options.locks->wait = options.timeout;
  options.locks->stop = stop_;
  return options;
}

Result<AnyStorage> Context::open(const std::string& id) const {
  const auto file = config();
  if (!file) return fail(file.error());
  const auto storage = StorageId::parse(id);
  if (!storage) return fail(storage.error());
  return open_storage(*file, *storage, open_options());
}

Result<std::vector<ConfigStorage>> chosen(const StorageConfigFile& file, const std::string& id) {
  std::vector<ConfigStorage> storages;
  for (const ConfigStorage& s : file.storages()) {
    if (id.empty() ? s.config.has_value() : s.id.str() == id) storages.push_back(s);
  }
  if (!id.empty() && (storages.empty() || !storages.front().config)) {
    return StorageId::parse(id).and_then([&](const StorageId& one) -> Result<std::vector<ConfigStorage>> {
      return fail(file.config_for(one, {}).error());
    });
  }
  std::sort(storages.begin(), storages.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return storages;
}

bool is_disabled(const ConfigStorage& storage) {
  const CommonConfig& config = common(*storage.config);
  const std::string node = local_node_name();
  return config.disable ||
         (!config.nodes.empty() && std::find(config.nodes.begin(), config.nodes.end(), node) == config.nodes.end());
}

Result<void> Context::confirm(const std::string& question) const {
  if (options_.yes || ::isatty(STDIN_FILENO) == 0 || ::isatty(STDERR_FILENO) == 0) return {};
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return {};
  return fail(Errc::cancelled, "nothing was changed");
}

Answer Context::would(const std::string& what) { return {"would " + what, {{"dry_run", true}, {"would", what}}}; }

void Context::warn(const std::string& what) const {
  if (!options_.json) std::fprintf(stderr, "stowctl: %s\n", what.c_str());
}

Result<Volume> Volume::open(const Context& context, const std::string& volid) {
  const auto id = VolumeId::parse(volid);
  if (!id) return fail(id.error());
  auto storage = context.open(id->storage.str());
  if (!storage) return fail(std::move(storage.error()));
  return Volume{*std::move(storage), id->volume};
}

Result<VolumeInfo> Volume::could(Capability capability) const {
  const Features& row = storage.features();
  if (!row.can.has(capability)) {
    return fail(
        Error{Errc::not_supported, "type " + std::string{row.name} + ": " + std::string{refusal(capability)}}.about(
            storage.id().str()));
  }
  const auto parts = parse_volume_name(row.type, name);
  if (!parts) return fail(Error{parts.error()}.about(volid()));
  if (!row.can.has(capability, parts->state())) {
    return fail(Error{Errc::wrong_state, std::string{stowage::name(capability)} + " does not act on a " +
                                             std::string{stowage::name(parts->state())} + " volume"}
                    .about(volid()));
  }
  return storage.info(name);
}

void print_error(const Error& error, bool json, const std::string& what) {
  if (json) {
    const std::string text = Json{{"error", to_json(error)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  std::string line = (error.object().empty() && !what.empty() ? what + ": " : "") + error.message();
  for (char& c : line) c = c == '\n' || c == '\r' ? ' ' : c;  // one line, whatever a tool or library said
  std::fprintf(stderr, "stowctl: %s\n", line.c_str());
}

}  // namespace stowctl
