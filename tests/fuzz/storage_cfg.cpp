// Any bytes as a storage.cfg: they are read without harm, kept byte for byte, and a change of one section leaves the
// others what they were. By hand, for long: fuzz_storage_cfg -max_total_time=600 SCRATCH tests/fuzz/corpus/storage_cfg

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stowage/config/change.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace stowage;

namespace {

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

std::string kept(const ConfigDocument& document) {
  std::string text;
  for (std::size_t number = 1; number <= document.lines().size(); ++number) {
    text.append(document.line(number)).append("\n");
  }
  if (!document.text().ends_with('\n') && !text.empty()) text.pop_back();
  return text;
}

bool same(const ConfigSection& a, const ConfigSection& b) {
  const auto equal = [](const ConfigProperty& p, const ConfigProperty& q) {
    return p.key == q.key && p.value == q.value;
  };
  return a.type == b.type && a.id == b.id &&
         std::equal(a.properties.begin(), a.properties.end(), b.properties.begin(), b.properties.end(), equal);
}

/// The sections of both, without number `changed` of the old ones, are the same.
void check_others(const ConfigDocument& before, const ConfigDocument& after, std::size_t changed, bool removed) {
  std::size_t other = 0;
  for (std::size_t i = 0; i < before.sections().size(); ++i) {
    if (i == changed) {
      other += removed ? 0 : 1;
      continue;
    }
    must(other < after.sections().size(), "no section is lost");
    must(same(before.sections()[i], after.sections()[other]), "other sections stay what they are");
    ++other;
  }
  must(other == after.sections().size(), "no section is added");
}

void check_edits(const ConfigDocument& document, std::size_t which, std::string_view key) {
  const ConfigSection& section = document.sections()[which];
  {
    ConfigEdit edit{document};
    edit.set(section, key, "new");
    const auto after = ConfigDocument::parse(edit.text());
    check_others(document, after, which, false);
    const auto& now = after.sections()[which].properties;
    const auto found = std::find_if(now.begin(), now.end(), [&](const ConfigProperty& p) { return p.key == key; });
    must(found != now.end() && found->value == "new", "what is set is read");
  }
  {
    ConfigEdit edit{document};
    edit.remove(section, key);
    const auto after = ConfigDocument::parse(edit.text());
    check_others(document, after, which, false);
    const auto& now = after.sections()[which].properties;
    must(std::none_of(now.begin(), now.end(), [&](const ConfigProperty& p) { return p.key == key; }),
         "what is deleted is gone");
  }
  {
    ConfigEdit edit{document};
    edit.remove(section);
    check_others(document, ConfigDocument::parse(edit.text()), which, true);
  }
}

void check_changes(const StorageConfigFile& file, const ConfigStorage& storage) {
  const std::vector<SetStorage> wanted{{storage.id, {{"nodes", "n1,n2"}, {"content", "images"}}},
                                       {storage.id, {{"disable", "1"}}, {"bwlimit"}},
                                       {storage.id, {{"pool", "p"}, {"krbd", "0"}}}};
  for (const SetStorage& set : wanted) {
    const auto change = apply(file, set);
    if (!change) continue;
    const auto after = StorageConfigFile::parse(change->text);
    must(after.storages().size() == file.storages().size(), "a set adds and removes no storage");
    must(after.find(storage.id) != nullptr, "the storage that was set is there");
  }
  if (const auto change = apply(file, RemoveStorage{storage.id})) {
    must(StorageConfigFile::parse(change->text).find(storage.id) == nullptr, "what is removed is gone");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  const auto file = StorageConfigFile::parse(text);
  const ConfigDocument& document = file.document();
  must(document.text() == text && kept(document) == text, "every byte is kept");
  must(ConfigEdit{document}.text() == text, "no change changes nothing");
  for (const ConfigProblem& p : file.problems()) {
    must(p.line >= 1 && p.line <= document.lines().size(), "a problem stands in a line");
  }
  // The number of sections that one input works on is bounded, so that none takes long.
  constexpr std::size_t most = 4;
  for (std::size_t i = 0; i < std::min(document.sections().size(), most); ++i) {
    check_edits(document, i, "pool");
    check_edits(document, i, "krbd");
  }
  for (std::size_t i = 0; i < std::min(file.storages().size(), most); ++i) {
    must(file.find(file.storages()[i].id) == &file.storages()[i], "a storage is found by its name");
    check_changes(file, file.storages()[i]);
  }
  if (const auto added = apply(file, AddStorage{"rbd", *StorageId::parse("added-by-us"), {{"pool", "p"}}})) {
    must(added->text.starts_with(text), "a new storage comes behind what is there");
    must(ConfigDocument::parse(added->text).sections().size() == document.sections().size() + 1, "and is one more");
  }
  return 0;
}
