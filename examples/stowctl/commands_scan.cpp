// scan lvmthin, scan iscsi, scan iscsidirect, scan rbd

#include "command.hpp"
#include "json_output.hpp"
#include "text_table.hpp"

namespace stowctl {

using namespace stowage;

namespace {

struct Where {
  std::string text;
};

Result<Answer> scan_lvmthin(Context& context, const Where& where) {
  const auto pools = scan<LvmThin>(where.text, context.open_options());
  if (!pools) return fail(pools.error());
  using enum TextTable::Align;
  TextTable table{{{"Pool", left}, {"Size", right}, {"Used", right}, {"Metadata", right}, {"Used", right}}};
  Answer answer{{}, Json::array()};
  const auto text = [](const std::optional<Bytes>& size) { return size ? to_string(*size) : std::string{"-"}; };
  for (const ThinPool& p : *pools) {  // one that is not active does not tell its use
    table.add({p.name, to_string(p.size), text(p.used), to_string(p.metadata_size), text(p.metadata_used)});
    answer.json.push_back({{"vg", p.vg},
                           {"lv", p.name},
                           {"lv_size", p.size.count},
                           {"used", or_null(number(p.used))},
                           {"metadata_size", p.metadata_size.count},
                           {"metadata_used", or_null(number(p.metadata_used))}});
  }
  answer.text = table.str();
  return answer;
}

/// The targets of a portal, as the kernel's initiator or libiscsi finds them.
template <class B>
Result<Answer> scan_targets(Context& context, const Where& where) {
  const auto portal = Portal::parse(where.text);
  if (!portal) return fail(portal.error());
  const auto targets = scan<B>(*portal, context.open_options());
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
  const auto portal = [](CLI::App& app, Where& where) {
    app.add_option("PORTAL", where.text, "HOST[:PORT]")->required();
  };
  scan.add<Where>(
      "lvmthin", "the thin pools of a volume group",
      [](CLI::App& app, Where& where) { app.add_option("VG", where.text, "the volume group")->required(); },
      scan_lvmthin);
  scan.add<Where>("iscsi", "the targets of a portal, asked by the kernel's initiator", portal, scan_targets<OpenIscsi>);
  scan.add<Where>("iscsidirect", "the targets of a portal", portal, scan_targets<IscsiDirect>);
  scan.add<Where>(
      "rbd", "the pools and namespaces of a storage's cluster",
      [](CLI::App& app, Where& where) { app.add_option("ID", where.text, "the storage")->required(); }, scan_rbd);
}

}  // namespace stowctl
