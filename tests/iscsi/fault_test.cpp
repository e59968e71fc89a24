// Portals that are dead, mute or slow, targets that are stopped, killed and restarted, networks that break at any byte:
// each with what it must be called, and in how much time.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "iscsi/proxy.hpp"
#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const VolumeName lun1 = *VolumeName::parse("lun1");
// A timeout that a test waits for. What must be done within it writes to a disk that others may be busy with as well.
constexpr std::chrono::milliseconds brief = 2s;
constexpr std::chrono::milliseconds slack = 2s;  // for a busy machine

std::vector<std::byte> bytes(std::uint64_t seed, std::size_t size) { return pattern(seed, size); }

}  // namespace

TEST_CASE("a closed port is unavailable at once") {
  const Error error = refusal_within(slack, Errc::unavailable, [] { return san("127.0.0.1:1", "iqn.a:1").status(); });
  CHECK(error.detail().find("127.0.0.1:1") != std::string::npos);
  CHECK(error.native() == std::errc::connection_refused);
  CHECK_FALSE(error.hint().empty());
  refused_within(slack, Errc::unavailable, [] { return san("127.0.0.1:1", "iqn.a:1").list(); });
  refused_within(slack, Errc::unavailable, [] { return san("127.0.0.1:1", "iqn.a:1").activate(); });
  refused_within(slack, Errc::unavailable, [] { return scan<IscsiDirect>(*Portal::parse("127.0.0.1:1")); });
  refused_within(slack, Errc::unavailable, [] { return san("[::1]:1", "iqn.a:1").status(); });
}

TEST_CASE("a name that is none is unavailable in time") {
  refused_within(slack + 5s, Errc::unavailable,
                 [] { return san("no-such-host.invalid", "iqn.a:1", {.timeout = 5s}).status(); });
  CHECK(must(san("localhost:" + Server::shared("iscsi")["PORT"], Server::shared("iscsi")["IQN1"]).list()).size() == 4);
}

TEST_CASE("a port out of range is refused before anything is asked") {
  refused(try_san("127.0.0.1:65536", "iqn.a:1"), Errc::invalid_argument);
  refused(try_san("127.0.0.1", "iqn.a:1", {.more_portals = {"127.0.0.1:0"}}), Errc::invalid_argument);
}

TEST_CASE("a target that is not there is not found") {
  const Server server = Server::shared("iscsi");
  const Error error = refusal_within(slack, Errc::not_found, [&] { return san(server["PORTAL"], "iqn.no:1").list(); });
  CHECK(error.detail().find("iqn.no:1 at " + server["PORTAL"]) != std::string::npos);
}

TEST_CASE("a portal that says nothing times out") {
  const MutePortal mute;
  const auto took = timed([&] { return san(mute.portal(), "iqn.a:1", {.timeout = brief}).list(); },
                          [](const auto& list) { refused(list, Errc::timed_out); });
  CHECK((took >= brief && took <= brief + slack));
  OpenOptions options;
  options.timeout = brief;
  refused_within(brief + slack, Errc::timed_out,
                 [&] { return scan<IscsiDirect>(*Portal::parse(mute.portal()), options); });
}

TEST_CASE("a dead portal costs its share of the time, and only once") {
  const Server server = Server::shared("iscsi");
  const MutePortal mute;
  San storage = san(mute.portal(), server["IQN1"], {.more_portals = {"127.0.0.1:1", server["PORTAL"]}, .timeout = 3s});
  CHECK(timed([&] { return storage.list(); }, [](const auto& list) { CHECK(must(list).size() == 4); }) < 2900ms);
  must(storage.deactivate());  // forget the session, but not which portal answers
  CHECK(timed([&] { return storage.list(); }, [](const auto& list) { CHECK(must(list).size() == 4); }) < 900ms);

  const Error all = refusal_within(brief + slack, Errc::unavailable, [&] {
    return san("127.0.0.1:1", server["IQN1"], {.more_portals = {"127.0.0.1:2"}, .timeout = brief}).list();
  });
  CHECK(
      (all.detail().find("127.0.0.1:1") != std::string::npos && all.detail().find("127.0.0.1:2") != std::string::npos));
}

TEST_CASE("a stopped target times out, and works again when it goes on", "[own]") {
  const Server server = Server::own_target("stopped", "--luns 2");
  San storage = san(server, {.timeout = brief});
  auto device = must(storage.open_volume(lun1, Access::read_write));
  const auto data = bytes(1, 1 << 20);
  auto seen = data;
  must(device.write_at(Bytes{}, data));
  CHECK(must(storage.list()).size() == 2);  // leaves a session, which is of no use soon

  must(device.read_at(Bytes{}, seen));  // it has just said who it is
  server.command("kill", "STOP");
  refused_within(brief + slack, Errc::outcome_unknown, [&] { return device.write_at(1_MiB, data); });
  refused_within(brief + slack, Errc::timed_out, [&] { return device.write_at(1_MiB, data); });  // not even sent
  refused_within(brief + slack, Errc::timed_out, [&] { return device.read_at(Bytes{}, seen); });
  refused_within(brief + slack, Errc::timed_out, [&] { return storage.list(); });
  refused_within(brief + slack, Errc::timed_out, [&] { return storage.status(); });
  refused_within(brief + slack, Errc::timed_out, [&] { return storage.open_volume(lun1, Access::read_only); });
  refused_within(brief + slack, Errc::timed_out, [&] { return device.flush(); });
  server.command("kill", "CONT");

  CHECK(must(storage.list()).size() == 2);
  must(device.read_at(Bytes{}, seen));
  CHECK((seen == data));
  must(device.write_at(1_MiB, data));
  must(device.close());
}

TEST_CASE("a killed target is unavailable in time, and works again when it is back", "[own]") {
  const Server server = Server::own_target("killed", "--luns 2");
  San storage = san(server, {.timeout = brief});
  auto device = must(storage.open_volume(lun1, Access::read_write));
  const auto data = bytes(2, 3 << 20);
  must(device.write_at(Bytes{}, data));
  CHECK(must(storage.list()).size() == 2);

  server.command("kill");
  refused_within(slack, Errc::unavailable, [&] { return storage.list(); });
  refused_within(slack, Errc::unavailable, [&] { return storage.status(); });
  auto seen = data;
  refused_within(brief + slack, Errc::unavailable, [&] { return device.read_at(Bytes{}, seen); });
  // Without SIGPIPE, however often it is tried. Nothing was sent, so nothing is in doubt but the first time.
  for (int n = 0; n < 3; ++n) {
    const auto written = device.write_at(Bytes{}, data);
    REQUIRE_FALSE(written.has_value());
    CHECK(name(written.error().code()) == name(Errc::unavailable));
  }
  server.command("up");

  CHECK(must(storage.list()).size() == 2);
  must(device.read_at(Bytes{}, seen));
  CHECK((seen == data));
}

TEST_CASE("a write that is on its way when the target dies waits for it, as long as the timeout", "[own]") {
  const Server server = Server::own_target("restarted", "--luns 1");
  auto device = must(san(server, {.timeout = 20s}).open_volume(lun1, Access::read_write));
  const auto data = bytes(3, 32 << 20);
  must(device.write_at(Bytes{}, data));
  std::thread accident{[&] {
    std::this_thread::sleep_for(20ms);
    static_cast<void>(std::system((STOWAGE_TEST_LAB "/target kill " + server.folder()).c_str()));
    std::this_thread::sleep_for(300ms);
    static_cast<void>(std::system((STOWAGE_TEST_LAB "/target up " + server.folder() + " >/dev/null").c_str()));
  }};
  Result<void> good;
  auto fresh = data;
  for (std::uint64_t seed = 4; seed < 24 && good; ++seed) {
    fresh = bytes(seed, data.size());
    good = device.write_at(Bytes{}, fresh);
  }
  accident.join();
  must(good);
  const bool same = read_back(device, Bytes{}, fresh.size()) == fresh;
  CHECK(same);  // to print 32 MiB would take longer than all tests
}

TEST_CASE("a list is whole, wherever the connection breaks", "[own]") {
  const Server server = Server::own_target("cut-list", "--luns 40 --size 1");
  Proxy proxy{server["PORTAL"]};
  San storage = san(proxy.portal(), server["IQN1"]);
  int breaks = 0;
  for (std::int64_t after = 0; after < 30'000; after += after < 2000 ? 97 : 1501) {
    CAPTURE(after);
    proxy.break_after(after, Proxy::Then::cut);
    const auto list = storage.list();
    breaks += proxy.broken() ? 1 : 0;
    proxy.heal();
    // A login that is cut is not repeated: it was not a session yet.
    if (list) {
      CHECK(list->size() == 40);
    } else {
      CHECK(name(list.error().code()) == name(Errc::unavailable));
    }
    must(storage.deactivate());
    CHECK(must(storage.list()).size() == 40);
    if (after % 2 == 0) must(storage.deactivate());
  }
  CHECK(breaks > 20);
}

TEST_CASE("a list is whole or refused in time, when the target is killed and started again in the middle of it",
          "[own]") {
  const Server server = Server::own_target("killed-list", "--luns 40 --size 1");
  San storage = san(server, {.timeout = brief});
  int refusals = 0;
  for (const auto after : {0ms, 2ms, 5ms, 11ms}) {
    std::atomic<bool> back = false;
    std::thread accident{[&] {
      std::this_thread::sleep_for(after);
      static_cast<void>(std::system((STOWAGE_TEST_LAB "/target kill " + server.folder()).c_str()));
      static_cast<void>(std::system((STOWAGE_TEST_LAB "/target up " + server.folder() + " >/dev/null").c_str()));
      back = true;
    }};
    std::vector<std::size_t> partial;
    std::vector<std::string> other;
    std::chrono::milliseconds longest{};
    while (!back) {
      const auto took = timed([&] { return storage.list(); },
                              [&](const auto& list) {
                                refusals += list ? 0 : 1;
                                if (list && list->size() != 40) partial.push_back(list->size());
                                if (list) return;
                                // While it starts, it has no such target yet, and then lets nobody in before all LUNs
                                // are there.
                                const Errc code = list.error().code();
                                const bool expected = code == Errc::unavailable || code == Errc::timed_out ||
                                                      code == Errc::not_found || code == Errc::permission_denied;
                                if (!expected) other.push_back(list.error().message());
                              });
      longest = std::max(longest, took);
    }
    accident.join();
    CHECK(partial.empty());
    CHECK(other.empty());
    CHECK(longest <= brief + slack);
    CHECK(must(storage.list()).size() == 40);
  }
  CHECK(refusals > 0);
}

TEST_CASE("a device reads and writes the right bytes, wherever the connection breaks", "[own]") {
  const Server server = Server::own_target("cut-device", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  auto seen = bytes(0, 3 << 20);
  int breaks = 0;
  for (std::int64_t after = 1; after < 7'000'000; after = after * 5 / 3 + 3) {
    CAPTURE(after);
    const auto data = bytes(static_cast<std::uint64_t>(after), seen.size());
    proxy.break_after(after, Proxy::Then::cut);
    must(device.write_at(512_B, data));
    must(device.read_at(512_B, seen));
    REQUIRE((seen == data));
    breaks += proxy.broken() ? 1 : 0;
    proxy.heal();
  }
  CHECK(breaks > 20);
}

TEST_CASE("a connection that stalls half way is given up in time, and the next request works", "[own]") {
  const Server server = Server::own_target("stall", "--luns 40 --size 1");
  Proxy proxy{server["PORTAL"]};
  San storage = san(proxy.portal(), server["IQN1"], {.timeout = brief});
  auto device = must(storage.open_volume(volume_name("lun40"), Access::read_write));
  const auto data = bytes(9, 1 << 20);
  auto seen = data;
  for (const std::int64_t after : {1, 3'000, 300'000, 900'000}) {
    CAPTURE(after);
    proxy.break_after(after, Proxy::Then::stall);
    refused_within(brief + slack, Errc::outcome_unknown, [&] { return device.write_at(Bytes{}, data); });
    must(device.write_at(Bytes{}, data));
    proxy.break_after(after, Proxy::Then::stall);
    refused_within(brief + slack, Errc::timed_out, [&] { return device.read_at(Bytes{}, seen); });
    must(device.read_at(Bytes{}, seen));
    CHECK((seen == data));
  }
  must(storage.list());
  for (const std::int64_t after : {1, 500, 3'000}) {
    proxy.break_after(after, Proxy::Then::stall);
    refused_within(brief + slack, Errc::timed_out, [&] { return storage.list(); });
    CHECK(must(storage.list()).size() == 40);
  }
}

TEST_CASE("a verb ends soon after it is told to stop") {
  const MutePortal mute;
  std::stop_source source;
  std::thread later{[&] {
    std::this_thread::sleep_for(200ms);
    source.request_stop();
  }};
  refused_within(slack, Errc::cancelled,
                 [&] { return san(mute.portal(), "iqn.a:1", {.timeout = 30s, .stop = source.get_token()}).list(); });
  later.join();
}

TEST_CASE("a device outlives its storage") {
  const Server server = Server::shared("iscsi");
  std::optional<IscsiDirectDevice> device;
  {
    San storage = san(server);
    device = must(storage.open_volume(lun1, Access::read_only));
  }
  std::vector<std::byte> sector(512);
  must(device->read_at(Bytes{}, sector));
  CHECK(sector == read_back(*device, Bytes{}, 512));
}
