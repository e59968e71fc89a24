#include <catch2/catch.hpp>

#include <stowage/testing/laws/bench.hpp>
#include <stowage/transfer/bandwidth.hpp>
#include <string>

using namespace stowage;

namespace {

CommonConfig limited(std::string bwlimit) {
  CommonConfig config;
  config.bwlimit = std::move(bwlimit);
  return config;
}

}  // namespace

TEST_CASE("bandwidth: a storage limits an operation, or all others by default", "[transfer]") {
  // Rows of the reference's own test, for who may do all and asks for nothing himself.
  const CommonConfig none = limited("");
  const CommonConfig d50 = limited("default=50");
  const CommonConfig d50m40r30 = limited("default=50,move=40,restore=30");
  const CommonConfig d20m40r30 = limited("default=20,move=40,restore=30");
  const CommonConfig d10 = limited("default=10");
  const CommonConfig m50 = limited("move=50");
  CHECK(bandwidth_limit(Traffic::move, none) == Bytes{});
  CHECK(bandwidth_limit(Traffic::clone, d50m40r30) == 50_KiB);
  CHECK(bandwidth_limit(Traffic::move, d50m40r30) == 40_KiB);
  CHECK(bandwidth_limit(Traffic::move, d50) == 50_KiB);
  CHECK(bandwidth_limit(Traffic::clone, m50) == Bytes{});
  CHECK(bandwidth_limit(Traffic::clone, d50m40r30, d20m40r30) == 20_KiB);
  CHECK(bandwidth_limit(Traffic::restore, d10, d20m40r30) == 10_KiB);
  CHECK(bandwidth_limit(Traffic::move, none, m50) == 50_KiB);
}

TEST_CASE("bandwidth: where a storage says nothing, the datacenter does", "[transfer]") {
  // Rows of the same test.
  const DatacenterConfig datacenter{.bwlimit = "default=100,move=80,restore=60"};
  const CommonConfig none = limited("");
  const CommonConfig d50m40r30 = limited("default=50,move=40,restore=30");
  const CommonConfig d200m400r300 = limited("default=200,move=400,restore=300");
  const CommonConfig m50 = limited("move=50");
  CHECK(bandwidth_limit(Traffic::clone, datacenter, none) == 100_KiB);
  CHECK(bandwidth_limit(Traffic::move, datacenter, none) == 80_KiB);
  CHECK(bandwidth_limit(Traffic::restore, datacenter, none) == 60_KiB);
  CHECK(bandwidth_limit(Traffic::migration, datacenter) == 100_KiB);
  CHECK(bandwidth_limit(Traffic::move, datacenter) == 80_KiB);
  CHECK(bandwidth_limit(Traffic::clone, datacenter, d50m40r30) == 50_KiB);
  CHECK(bandwidth_limit(Traffic::move, datacenter, d200m400r300) == 400_KiB);  // it is said, so it goes before
  CHECK(bandwidth_limit(Traffic::restore, datacenter, d200m400r300, m50) == 60_KiB);
  CHECK(bandwidth_limit(Traffic::restore, datacenter, d50m40r30, m50) == 30_KiB);
  CHECK(bandwidth_limit(Traffic::clone, datacenter, limited("clone=0")) == Bytes{});
  CHECK(bandwidth_limit(Traffic::clone, DatacenterConfig{}, none) == Bytes{});
}

TEST_CASE("bandwidth: fractions count, zero is no limit, and what is no limit at all limits nothing", "[transfer]") {
  CHECK(bandwidth_limit(Traffic::restore, limited("clone=1,default=2,migration=3,move=4,restore=5.5")) == Bytes{5632});
  CHECK(bandwidth_limit(Traffic::migration, limited("clone=1,default=2,migration=3,move=4,restore=5.5")) == 3_KiB);
  CHECK(bandwidth_limit(Traffic::clone, limited("default=0.0001")) == Bytes{1});
  CHECK(bandwidth_limit(Traffic::clone, limited("default=7,clone=0")) == Bytes{});
  CHECK(bandwidth_limit(Traffic::clone, limited("default=0,move=3"), limited("clone=9")) == 9_KiB);
  CHECK(bandwidth_limit(Traffic::clone, limited("clone=99999999999999999999")).count > (1ULL << 49U));
  for (const char* odd : {"clone", "clone=", "clone=fast", "clone=-1", "clone=nan", ",,", "=5"}) {
    CAPTURE(odd);
    CHECK(bandwidth_limit(Traffic::clone, limited(odd)) == Bytes{});
  }
}
