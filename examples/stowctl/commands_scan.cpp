// scan iscsidirect, scan rbd

#include "command.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

namespace stowctl {

using namespace stowage;

namespace {

struct Where {
  std::string text;
};

Result<Answer> scan_iscsidirect(Context& context, const Where& where) {
  const auto portal = Portal::parse(where.text);
  if (!portal) return fail(portal.error());
  const auto targets = scan<IscsiDirect>(*portal, context.open_options());
  if (!targets) return fail(targets.error());
  using enum TextTable::Align;
  TextTable table{{{"Target", left}, {"Portals", left}}};
  Answer answer{{}, Json::array()};
  for (const IscsiTarget& t : *targets) {
    std::vector<std::string> portals;
    for (const Portal& p : t.portals) portals.push_back(p.bracketed());
    table.add({t.target.str(), join(portals, ",")});
    answer.json.push_back({{"target", t.target.str()}, {"portals", portals}});
  }
  answer.text = table.str();
  return answer;
}

Result<Answer> scan_rbd(Context& context, const Where& where) {
  const auto file = context.config();
  if (!file) return fail(file.error());
  const auto id = StorageId::parse(where.text);
  if (!id) return fail(id.error());
  const auto config = file->config_for(*id, local_node_name());
  if (!config) return fail(config.error());
  const auto* rbd = std::get_if<RbdConfig>(&*config);
  if (rbd == nullptr) return fail(Error{Errc::invalid_argument, "not a storage of type rbd"}.about(id->str()));
  const auto places = scan<Rbd>(*id, *rbd, context.open_options());
  if (!places) return fail(places.error());
  using enum TextTable::Align;
  TextTable table{{{"Pool", left}, {"Namespaces", left}}};
  Answer answer{{}, Json::array()};
  for (const RbdPlace& place : *places) {
    table.add({place.pool, join(place.namespaces, ",")});
    answer.json.push_back({{"pool", place.pool}, {"namespaces", place.namespaces}});
  }
  answer.text = table.str();
  return answer;
}

}  // namespace

void add_scan_commands(Commands commands) {
  Commands scan = commands.group("scan", "find what could become a storage");
  scan.add<Where>(
      "iscsidirect", "the targets of a portal",
      [](CLI::App& app, Where& where) { app.add_option("PORTAL", where.text, "HOST[:PORT]")->required(); },
      scan_iscsidirect);
  scan.add<Where>(
      "rbd", "the pools and namespaces of a storage's cluster",
      [](CLI::App& app, Where& where) { app.add_option("ID", where.text, "the storage")->required(); }, scan_rbd);
}

}  // namespace stowctl
