// The rules of adding, setting and removing a storage.

#include <catch2/catch.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <stowage/config/change.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;

namespace {

StorageId storage_id(const std::string& text) { return *StorageId::parse(text); }

const std::string& house() {
  static const std::string text =
      "# our storages\n\nrbd: ceph\n\tpool p\n\tnodes n1\n\nlvmthin: thin\n\tvgname pve\n\tthinpool data\n\n"
      "iscsi: san\n\tportal 10.0.0.1\n\ttarget iqn.2001-04.com.example:t1\n\n"
      "lvm: onsan\n\tvgname vg0\n\tbase san:0.0.1.scsi-1\n\nnfs: share\n\tpath /m\n\tserver s\n\texport /e\n";
  return text;
}

StorageConfigFile file(const std::string& text = house()) { return StorageConfigFile::parse(text); }

Result<ConfigChange> set(const std::string& text, const char* id, std::vector<ConfigSetting> settings,
                         std::vector<std::string> remove = {}) {
  return apply(file(text), SetStorage{storage_id(id), std::move(settings), std::move(remove)});
}
Result<ConfigChange> add(const std::string& text, const char* type, const char* id,
                         std::vector<ConfigSetting> settings) {
  return apply(file(text), AddStorage{type, storage_id(id), std::move(settings)});
}
Result<ConfigChange> remove(const std::string& text, const char* id) {
  return apply(file(text), RemoveStorage{storage_id(id)});
}
template <class T>
std::optional<Errc> code(const Result<T>& result) {
  return result ? std::nullopt : std::optional{result.error().code()};
}

}  // namespace

TEST_CASE("storage.cfg: every vector of the reference's rules holds") {
  const json rows = testing::vectors("config_check");
  REQUIRE(rows.size() == 14);
  for (const json& row : rows) {
    CAPTURE(row.dump());
    std::vector<ConfigSetting> settings;
    for (const auto& [key, value] : row["params"].items()) settings.push_back({key, value});
    const StorageId id = storage_id(row["id"]);
    auto change =
        row["op"] == "create"
            ? apply(file(), AddStorage{row["type"], id, settings})
            : apply(file(), SetStorage{id, settings,
                                       row["delete"].is_null() ? std::vector<std::string>{}
                                                               : row["delete"].get<std::vector<std::string>>()});
    if (row.contains("error")) {
      REQUIRE_FALSE(change);
      const std::string theirs = row["error"];
      const bool value = theirs.starts_with("type check");
      CHECK(change.error().code() == (value ? Errc::parse_failed : Errc::invalid_argument));
      // The option that they name, we name.
      const auto quote = theirs.find(" option '");
      if (quote != theirs.npos) {
        CHECK(change.error().detail().find("'" + theirs.substr(quote + 9, theirs.size() - quote - 10) + "'") !=
              std::string::npos);
      }
      continue;
    }
    REQUIRE(change);
    REQUIRE(change->after);
    CHECK(change->after->type == row["result"]["type"]);
    for (const auto& [key, value] : row["result"].items()) {
      if (key == "type") continue;
      if (key == "content") {  // an empty set is written, and read again, as none
        CHECK(json(change->after->content) == (value.empty() ? json{"none"} : value));
        continue;
      }
      REQUIRE(change->after->setting(key) != nullptr);
      CHECK(*change->after->setting(key) == value);
    }
    if (row["op"] == "create")
      CHECK(change->text.starts_with(house() + "\n" + row["type"].get<std::string>() + ": t1\n"));
  }
}

TEST_CASE("storage.cfg: a new section is written as the reference writes it") {
  std::size_t compared = 0;
  for (const json& row : testing::vectors("storage_cfg")) {
    if (!row.contains("rewritten_sorted_sets") || row["rewritten_sorted_sets"].is_null()) continue;
    // What we read otherwise (see storage_cfg_test.cpp), we write otherwise.
    if (row["name"] == "value-0-line" || row["name"] == "rbd-keyring-in-cfg") continue;
    const std::string theirs = "\n" + row["rewritten_sorted_sets"].get<std::string>();
    const auto read = file(row["text"]);
    for (const ConfigStorage& storage : read.storages()) {
      const std::string header = "\n" + storage.type + ": " + storage.id.str() + "\n";
      const auto at = theirs.find(header);
      if (find_config_type(storage.type) == nullptr || at == theirs.npos) continue;
      CAPTURE(row["name"]);
      std::vector<ConfigSetting> settings = storage.settings;
      std::erase_if(settings, [](const ConfigSetting& s) { return s.key == "content"; });
      std::string content;
      for (const std::string& kind : storage.content) content += (content.empty() ? "" : ",") + kind;
      settings.push_back({"content", content.empty() ? "none" : content});
      const auto change = apply(file(""), AddStorage{storage.type, storage.id, settings});
      REQUIRE(change);
      CHECK(change->text == theirs.substr(at + 1, theirs.find("\n\n", at + 1) + 1 - at));
      ++compared;
    }
  }
  CHECK(compared > 40);
}

TEST_CASE("storage.cfg: what may not be added") {
  CHECK(code(add(house(), "rbd", "ceph", {})) == Errc::already_exists);
  CHECK(code(add(house(), "rbd", "share", {})) == Errc::already_exists);
  CHECK(code(add("what: ever\n", "rbd", "ever", {})) == Errc::already_exists);
  CHECK(code(add("rbd: broken\n\tnodes b_d\n", "rbd", "broken", {})) == Errc::already_exists);
  CHECK(code(add("", "rbd", "local", {})) == Errc::already_exists);
  CHECK(code(add(house(), "nfs", "more", {})) == Errc::not_supported);
  CHECK(code(add(house(), "zfsiscsi", "more", {})) == Errc::invalid_argument);
  CHECK(code(add(house(), "rbd", "more", {{"vgname", "x1"}})) == Errc::invalid_argument);
  CHECK(code(add(house(), "rbd", "more", {{"pool", "a"}, {"pool", "b"}})) == Errc::invalid_argument);
  CHECK(code(add(house(), "rbd", "more", {{"pool", "a\nrbd: evil"}})) == Errc::parse_failed);
  CHECK(code(add(house(), "rbd", "more", {{"pool", " a"}})) == Errc::parse_failed);
  CHECK(code(add(house(), "rbd", "more", {{"monhost", ""}})) == Errc::parse_failed);
  CHECK(code(add(house(), "rbd", "more", {{"nodes", ","}})) == Errc::parse_failed);
  CHECK(code(add(house(), "lvm", "more", {{"vgname", "vg1"}, {"base", "none:0.0.1.x"}})) == Errc::not_found);
  CHECK(code(add(house(), "lvm", "more", {{"vgname", "vg1"}, {"base", "ceph:vm-1-x"}})) == Errc::invalid_argument);
  CHECK(add(house(), "lvm", "more", {{"vgname", "vg1"}, {"base", "san:0.0.1.x"}}));
  const auto key = add(house(), "rbd", "more", {{"keyring", "AQBsecret=="}});
  REQUIRE_FALSE(key);
  CHECK(key.error().message().find("secret") == std::string::npos);
}

TEST_CASE("storage.cfg: lists are written sorted, and what a type does not hold is left out and told") {
  const auto change = add("", "lvmthin", "thin",
                          {{"vgname", "v1"},
                           {"thinpool", "t1"},
                           {"nodes", "b;a b"},
                           {"content", "rootdir images,iso"},
                           {"bwlimit", ""},
                           {"disable", "1"}});
  REQUIRE(change);
  CHECK(change->text ==
        "lvmthin: thin\n\tdisable\n\tthinpool t1\n\tvgname v1\n\tcontent images,rootdir\n\tnodes a,b\n\n");
  REQUIRE(change->notes.size() == 1);
  CHECK(change->notes[0].find("iso") != std::string::npos);
}

TEST_CASE("storage.cfg: a set changes its lines, and nothing where nothing changes") {
  const auto pool = set(house(), "ceph", {{"pool", "q"}, {"krbd", "1"}}, {"nodes"});
  REQUIRE(pool);
  CHECK(pool->diff == "@@ -4,2 +4,2 @@ rbd: ceph\n-\tpool p\n-\tnodes n1\n+\tpool q\n+\tkrbd 1\n");
  CHECK(*pool->after->setting("pool") == "q");
  CHECK(*pool->before->setting("pool") == "p");

  const std::string odd = "rbd: a1\n\tkrbd\n\tcontent  rootdir, images\n\tdisable 0\n\tnodes b,a\n";
  for (const ConfigSetting& same : std::vector<ConfigSetting>{
           {"krbd", "1"}, {"content", "images,rootdir"}, {"disable", "0"}, {"nodes", "a,b"}, {"namespace", ""}}) {
    CAPTURE(same.key);
    const auto change = set(odd, "a1", {same});
    REQUIRE(change);
    CHECK(change->text == odd);
    CHECK(change->diff.empty());
  }
  CHECK(set(odd, "a1", {{"disable", "1"}})->text ==
        "rbd: a1\n\tkrbd\n\tcontent  rootdir, images\n\tdisable\n\tnodes b,a\n");
  CHECK(set("rbd: a1\n\tdisable\n", "a1", {{"disable", "0"}})->text == "rbd: a1\n");
  CHECK(set("rbd: a1\n\tpool x\n", "a1", {{"pool", ""}})->text == "rbd: a1\n");
  CHECK(set("rbd: a1\n\tpool x\n\tpool y\n", "a1", {}, {"pool"})->text == "rbd: a1\n");
}

TEST_CASE("storage.cfg: what may not be set or deleted") {
  CHECK(code(set(house(), "none", {})) == Errc::not_found);
  CHECK(code(set(house(), "share", {{"nodes", "a"}})) == Errc::not_supported);
  CHECK(code(set("what: ever\n", "ever", {})) == Errc::not_supported);
  CHECK(code(set(house(), "thin", {{"vgname", "pve"}})) == Errc::invalid_argument);  // fixed, also the same value
  CHECK(code(set(house(), "onsan", {{"base", "san:0.0.1.y"}})) == Errc::invalid_argument);
  CHECK(code(set(house(), "ceph", {{"krbd", "yes"}})) == Errc::parse_failed);
  CHECK(code(set(house(), "ceph", {{"monhost", "bad_host"}})) == Errc::parse_failed);
  CHECK(code(set(house(), "thin", {{"content", "none"}})) == Errc::invalid_argument);
  CHECK(code(apply(file(), SetStorage{storage_id("ceph"), {}, {}, "00"})) == Errc::conflict);
  CHECK(apply(file(), SetStorage{storage_id("ceph"), {{"pool", "q"}}, {}, file().digest()}));
  // A header that is not seen as one would change hands unnoticed.
  const std::string swallowed = "rbd: ceph\n\tpool p1\nlvmthin: thin\n\tthinpool t1\n";
  CHECK(code(set(swallowed, "ceph", {{"krbd", "1"}})) == Errc::wrong_state);
  CHECK(code(remove(swallowed, "ceph")) == Errc::wrong_state);
  CHECK(code(remove(swallowed + "\nrbd: ceph\n", "ceph")) == Errc::wrong_state);
}

TEST_CASE("storage.cfg: a broken section is mended by a set, or stays as it is") {
  const std::string text = "rbd: far\n\tmonhost bad_host\n\tpool p\n\nlvmthin: thin\n\tthinpool t1\n";
  const auto mended = set(text, "far", {{"monhost", "10.0.0.1"}});
  REQUIRE(mended);
  CHECK(mended->text == "rbd: far\n\tmonhost 10.0.0.1\n\tpool p\n\nlvmthin: thin\n\tthinpool t1\n");
  CHECK(code(set(text, "far", {{"pool", "q"}})) == Errc::parse_failed);
  CHECK(set(text, "far", {}, {"monhost"}));
  CHECK(code(set(text, "thin", {{"nodes", "a"}})) == Errc::parse_failed);
  CHECK(remove(text, "thin")->text == "rbd: far\n\tmonhost bad_host\n\tpool p\n\n");
}

TEST_CASE("storage.cfg: of sections of one name the last is set, and all are removed") {
  const std::string text = "rbd: a1\n\tpool one\n\nrbd: b1\n\nrbd: a1\n\tpool two\n";
  CHECK(set(text, "a1", {{"pool", "three"}})->text == "rbd: a1\n\tpool one\n\nrbd: b1\n\nrbd: a1\n\tpool three\n");
  CHECK(remove(text, "a1")->text == "rbd: b1\n\n");
  CHECK(code(remove("nfs: a1\n\tpath /x\n\n" + text, "a1")) == Errc::wrong_state);
}

TEST_CASE("storage.cfg: what may not be removed") {
  const auto base = remove(house(), "san");
  REQUIRE(code(base) == Errc::in_use);
  CHECK(base.error().detail().find("'onsan'") != std::string::npos);
  CHECK(code(remove(house(), "share")) == Errc::not_supported);
  CHECK(code(remove(house(), "none")) == Errc::not_found);
  CHECK(code(apply(file(), RemoveStorage{storage_id("ceph"), "00"})) == Errc::conflict);
  const auto gone = remove(house(), "thin");
  REQUIRE(gone);
  CHECK_FALSE(gone->after);
  CHECK(gone->before->id.str() == "thin");
  CHECK(file(gone->text).find(storage_id("thin")) == nullptr);
}
