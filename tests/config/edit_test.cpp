// Bytes: what a change must leave alone.

#include <catch2/catch.hpp>

#include <rapidcheck.h>
#include <algorithm>
#include <cstddef>
#include <optional>
#include <stowage/config/edit.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;

namespace {

std::string edited(const std::string& text, void (*change)(ConfigEdit&, const ConfigDocument&)) {
  const auto document = ConfigDocument::parse(text);
  ConfigEdit edit{document};
  change(edit, document);
  return edit.text();
}

std::string set(const std::string& text, std::size_t section, const char* key, std::optional<std::string_view> value) {
  const auto document = ConfigDocument::parse(text);
  ConfigEdit edit{document};
  edit.set(document.sections().at(section), key, value);
  return edit.text();
}
std::string unset(const std::string& text, std::size_t section, const char* key) {
  const auto document = ConfigDocument::parse(text);
  ConfigEdit edit{document};
  edit.remove(document.sections().at(section), key);
  return edit.text();
}
std::string cut(const std::string& text, std::size_t section) {
  const auto document = ConfigDocument::parse(text);
  ConfigEdit edit{document};
  edit.remove(document.sections().at(section));
  return edit.text();
}
std::string appended(const std::string& text) {
  return edited(text, [](ConfigEdit& edit, const ConfigDocument&) {
    edit.append("rbd", "new", std::vector<ConfigProperty>{{"disable", std::nullopt, 0}, {"pool", "p", 0}});
  });
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

/// A file as people leave them: whole sections, broken ones, comments, blanks, DOS line ends, any bytes.
rc::Gen<std::string> any_file() {
  const auto piece = rc::gen::element<std::string>(
      "rbd: ceph\n", "rbd: ceph\r\n", "lvmthin: thin\n\tvgname pve\n\tthinpool data\n", "iscsi: san\n", "foo: bar\n",
      "dir: local\n\tpath /var/lib/vz\n", "\tpool p1\n", "  pool   p2  \n", "\tpool p3\r\n", "\tkrbd\n", "\tkrbd 1",
      "\tcontent images,rootdir\n", "\tcontent none, images\n", "# comment\n", "\t# indented\n", "\n", "\n\n", "\r\n",
      "   \n", "0\n", "garbage\n", "rbd:", ":", "\t", " ", "x", "nodes a,b\n", "\tnodes a,b\n", "\tnodes bad_\n",
      std::string{"\0", 1}, "\xff\xfe", "\n\n\nrbd: two\n\tpool q\n\n");
  const auto pieces = rc::gen::container<std::vector<std::string>>(piece);
  return rc::gen::map(pieces, [](const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& p : all) text += p;
    return text;
  });
}

}  // namespace

TEST_CASE("storage.cfg: without a change every byte comes back") {
  std::size_t files = 0;
  for (const auto& row : testing::vectors("storage_cfg")) {
    const std::string text = row["text"];
    CAPTURE(row["name"]);
    CHECK(edited(text, [](ConfigEdit&, const ConfigDocument&) {}) == text);
    ++files;
  }
  CHECK(files == 71);
  rc::detail::TestParams params;
  params.maxSuccess = 10'000;
  const auto result = rc::detail::checkTestable(
      [] {
        const std::string text = *any_file();
        RC_ASSERT(edited(text, [](ConfigEdit&, const ConfigDocument&) {}) == text);
        // To set what is there already is no change either.
        const auto document = ConfigDocument::parse(text);
        ConfigEdit edit{document};
        for (const ConfigSection& s : document.sections()) {
          std::vector<std::string> seen;
          for (const ConfigProperty& p : s.properties) {
            if (std::find(seen.begin(), seen.end(), p.key) == seen.end()) edit.set(s, p.key, p.value);
            seen.push_back(p.key);
          }
        }
        RC_ASSERT(edit.text() == text);
        RC_ASSERT(edit.diff().empty());
      },
      rc::detail::TestMetadata{}, params);
  CHECK(result.template is<rc::detail::SuccessResult>());
}

TEST_CASE("storage.cfg: a change touches the lines that it is about, and no other byte") {
  rc::detail::TestParams params;
  params.maxSuccess = 2'000;
  const auto result = rc::detail::checkTestable(
      [] {
        const std::string text = *any_file();
        const auto document = ConfigDocument::parse(text);
        RC_PRE(!document.sections().empty());
        const auto index = *rc::gen::inRange<std::size_t>(0, document.sections().size());
        const ConfigSection& section = document.sections()[index];
        const std::string key = *rc::gen::element<std::string>("pool", "krbd", "content", "nodes", "namespace");
        const bool set_it = *rc::gen::arbitrary<bool>();
        ConfigEdit edit{document};
        if (set_it) {
          edit.set(section, key, "new");
        } else {
          edit.remove(section, key);
        }
        const std::string after = edit.text();
        const auto again = ConfigDocument::parse(after);
        RC_ASSERT(again.sections().size() == document.sections().size());

        std::size_t of_key = 0;
        std::size_t first = 0;
        for (const ConfigProperty& p : section.properties) {
          if (p.key == key && of_key++ == 0) first = p.line;
        }
        std::vector<std::string> expected = lines_of(text);
        const auto& now = again.sections()[index].properties;
        const auto found = std::find_if(now.begin(), now.end(), [&](const auto& p) { return p.key == key; });
        if (!set_it) {
          RC_ASSERT(found == now.end());
          for (auto p = section.properties.rbegin(); p != section.properties.rend(); ++p) {
            if (p->key == key) expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(p->line) - 1);
          }
          RC_ASSERT(lines_of(after) == expected);
          return;
        }
        RC_ASSERT(found != now.end());
        RC_ASSERT(found->value == "new");
        // The line that differs, taken from the result, makes the two equal.
        const auto at = static_cast<std::ptrdiff_t>(found->line) - 1;
        const std::vector<std::string> lines = lines_of(after);
        if (of_key > 0) {
          RC_ASSERT(found->line == first);
          expected[static_cast<std::size_t>(at)] = lines[static_cast<std::size_t>(at)];
        } else {
          expected.insert(expected.begin() + at, lines[static_cast<std::size_t>(at)]);
        }
        RC_ASSERT(lines == expected);
      },
      rc::detail::TestMetadata{}, params);
  CHECK(result.template is<rc::detail::SuccessResult>());
}

TEST_CASE("storage.cfg: a section that is added is there, and its removal brings the old file back") {
  rc::detail::TestParams params;
  params.maxSuccess = 1'000;
  const auto result = rc::detail::checkTestable(
      [] {
        const std::string text = *any_file();
        const auto before = ConfigDocument::parse(text).sections();
        const std::string after = appended(text);
        RC_ASSERT(after.starts_with(text));
        const auto sections = ConfigDocument::parse(after).sections();
        RC_ASSERT(sections.size() == before.size() + 1);
        RC_ASSERT(sections.back().id == "new");
        RC_ASSERT(sections.back().properties.size() == 2U);
        const std::string again = cut(after, before.size());
        // but for the line end and the empty line that the new one needed above it
        RC_ASSERT(again.starts_with(text));
        RC_ASSERT(again.size() <= text.size() + 4);
        RC_ASSERT(ConfigDocument::parse(again).sections().size() == before.size());
      },
      rc::detail::TestMetadata{}, params);
  CHECK(result.template is<rc::detail::SuccessResult>());
}

TEST_CASE("storage.cfg: where a property is put, and what of its line stays") {
  CHECK(set("rbd: a1\n  pool \t one  \n", 0, "pool", "two") == "rbd: a1\n  pool \t two  \n");
  CHECK(set("rbd: a1\r\n\tpool one\r\n", 0, "pool", "two") == "rbd: a1\r\n\tpool two\r\n");
  CHECK(set("rbd: a1\n\tkrbd\n", 0, "krbd", "0") == "rbd: a1\n\tkrbd 0\n");
  CHECK(set("rbd: a1\n\tdisable 0  \n", 0, "disable", std::nullopt) == "rbd: a1\n\tdisable  \n");
  CHECK(set("rbd: a1\n\tpool x\n\tpool y\n", 0, "pool", "z") == "rbd: a1\n\tpool z\n\tpool y\n");
  // new: behind the last property, not behind the comments; indented as that one
  CHECK(set("rbd: a1\n    pool x\n# end\n\nrbd: b1\n", 0, "krbd", "1") ==
        "rbd: a1\n    pool x\n    krbd 1\n# end\n\nrbd: b1\n");
  CHECK(set("rbd: a1\n# none yet\n", 0, "krbd", "1") == "rbd: a1\n\tkrbd 1\n# none yet\n");
  CHECK(set("rbd: a1", 0, "krbd", "1") == "rbd: a1\n\tkrbd 1\n");
  CHECK(set("rbd: a1\r\n\r\nrbd: b1\r\n", 0, "krbd", "1") == "rbd: a1\r\n\tkrbd 1\r\n\r\nrbd: b1\r\n");
  CHECK(set("rbd: a1\n\tkrbd", 0, "krbd", "0") == "rbd: a1\n\tkrbd 0");  // still no line end
  CHECK(unset("rbd: a1\n\tpool x\n# c\n\tkrbd\n\tpool y\n", 0, "pool") == "rbd: a1\n# c\n\tkrbd\n");
  CHECK(unset("rbd: a1\n\tkrbd", 0, "krbd") == "rbd: a1\n");
}

TEST_CASE("storage.cfg: how sections come and go") {
  CHECK(appended("") == "rbd: new\n\tdisable\n\tpool p\n\n");
  CHECK(appended("rbd: a1\n\n") == "rbd: a1\n\nrbd: new\n\tdisable\n\tpool p\n\n");
  CHECK(appended("rbd: a1\n") == "rbd: a1\n\nrbd: new\n\tdisable\n\tpool p\n\n");
  CHECK(appended("rbd: a1") == "rbd: a1\n\nrbd: new\n\tdisable\n\tpool p\n\n");
  CHECK(appended("rbd: a1\r\n") == "rbd: a1\r\n\r\nrbd: new\r\n\tdisable\r\n\tpool p\r\n\r\n");

  const std::string three =
      "# top\n\nrbd: a1\n\tpool x\n\n# about b1\nrbd: b1\n\t# inside\n\tpool y\n# end\n\nrbd: c1\n";
  CHECK(cut(three, 0) == "# top\n\n# about b1\nrbd: b1\n\t# inside\n\tpool y\n# end\n\nrbd: c1\n");
  CHECK(cut(three, 1) == "# top\n\nrbd: a1\n\tpool x\n\n# about b1\n# end\n\nrbd: c1\n");
  CHECK(cut(three, 2) == "# top\n\nrbd: a1\n\tpool x\n\n# about b1\nrbd: b1\n\t# inside\n\tpool y\n# end\n\n");
}

TEST_CASE("storage.cfg: a difference is shown as diff -U0 shows it, and no key is") {
  const auto document =
      ConfigDocument::parse("rbd: a1\n\tpool x\n\tkeyring AQBsecret==\n\nrbd: b1\n\tpool y\n\tkrbd\n\nrbd: c1\n");
  ConfigEdit edit{document};
  edit.set(document.sections()[0], "pool", "z");
  edit.remove(document.sections()[0], "keyring");
  edit.set(document.sections()[1], "namespace", "n");
  edit.remove(document.sections()[2]);
  edit.append("rbd", "d1", {});
  CHECK(edit.diff() ==
        "@@ -2,2 +2 @@ rbd: a1\n-\tpool x\n-\tkeyring (not shown)\n+\tpool z\n"
        "@@ -7,0 +7 @@ rbd: b1\n+\tnamespace n\n"
        "@@ -9 +9,3 @@ rbd: c1\n-rbd: c1\n+\n+rbd: d1\n+\n");
}
