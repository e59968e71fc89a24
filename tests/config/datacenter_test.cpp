#include <catch2/catch.hpp>

#include <filesystem>
#include <stowage/config/datacenter.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>

#include "support/folder.hpp"

using namespace stowage;
using namespace stowage::testing;

TEST_CASE("datacenter.cfg: what it says of storages, and nothing if it is not there", "[config]") {
  const Folder folder;
  const std::string path = datacenter_config_beside(folder.file("storage.cfg"));
  CHECK(path == folder.file("datacenter.cfg"));
  CHECK(datacenter_config_beside("storage.cfg") == "datacenter.cfg");
  CHECK(must(read_datacenter_config(path)).bwlimit.empty());
  const auto limits_in = [&](const std::string& text) {
    folder.write("datacenter.cfg", text);
    return read_datacenter_config(path).map([](const DatacenterConfig& config) { return config.bwlimit; });
  };
  CHECK(must(limits_in("")).empty());
  CHECK(must(limits_in("keyboard: de\nbwlimit: default=100,move=80 \nconsole: html5")) == "default=100,move=80");
  CHECK(must(limits_in("bwlimit:clone=1")) == "clone=1");
  CHECK(must(limits_in("bwlimit: clone=1\nbwlimit: clone=2\n")) == "clone=2");
  CHECK(must(limits_in("# bwlimit: clone=1\nbwlimits: clone=3\n bwlimit: clone=4\nbwlimit\n")).empty());
  const auto bad = limits_in("bwlimit: as fast as it goes\n");
  refused(bad, Errc::parse_failed);
  CHECK(bad.error().object() == path);
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  refused(read_datacenter_config(path), Errc::invalid_argument);
}
