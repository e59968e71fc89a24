// Many requests in flight on real LUNs: right bytes, and what becomes of them when targets die, fall silent, come back,
// or have become another.

#include <cstdlib>
#include <thread>

#include "iscsi/proxy.hpp"
#include "iscsi/san.hpp"
#include "support/allocations.hpp"
#include "support/locks.hpp"
#include "support/queue_laws.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const VolumeName lun1 = *VolumeName::parse("lun1");
const VolumeName lun2 = *VolumeName::parse("lun2");
// A timeout that a test waits for. What must be done within it writes to a disk that others may be busy with as well.
constexpr std::chrono::milliseconds brief = 2s;
constexpr std::chrono::milliseconds slack = 2s;  // for a busy machine

IscsiQueue open_queue(const Server& server, const VolumeName& lun, std::size_t depth, std::size_t sessions = 1,
                      const SanOptions& with = {}) {
  auto device = must(san(server, with).open_volume(lun, Access::read_write));
  return must(device.queue(depth, sessions));
}

/// Does `work` while somebody kills the target and starts it again.
template <class Work>
void with_accident(const Server& server, Work work) {
  std::thread accident{[&] {
    std::this_thread::sleep_for(30ms);
    static_cast<void>(std::system((STOWAGE_TEST_LAB "/target kill " + server.folder()).c_str()));
    std::this_thread::sleep_for(200ms);
    static_cast<void>(std::system((STOWAGE_TEST_LAB "/target up " + server.folder() + " >/dev/null").c_str()));
  }};
  work();
  accident.join();
}

}  // namespace

TEST_CASE("the queue of a LUN obeys the laws of queues") {
  const Server server = Server::shared("iscsi");
  check_queue_laws([&](std::size_t depth) { return open_queue(server, lun1, depth); });
}

TEST_CASE("so does one over three sessions, with sectors of 4 KiB") {
  const Server server = Server::shared("iscsi-4k");
  check_queue_laws([&](std::size_t depth) { return open_queue(server, lun1, depth, 3); });
}

TEST_CASE("a storm of requests leaves the bytes that it should") {
  const auto storm = [](const Server& server, const VolumeName& lun, std::size_t depth, std::size_t sessions) {
    CAPTURE(depth, sessions);
    auto queue = open_queue(server, lun, depth, sessions);
    QueueModel model{1_MiB, 24_MiB, false, static_cast<std::uint32_t>(depth)};
    model.storm(queue, {.requests = 1500, .longest = 1U << 20U});
    model.verify_through(queue);
  };
  SECTION("thin, with sectors of 512 bytes") {
    const Server server = Server::shared("iscsi");
    for (const std::size_t depth : {1U, 7U, 64U}) storm(server, lun2, depth, 1);
    storm(server, lun2, 32, 2);
    CHECK(true);
  }
  SECTION("not thin, with sectors of 4 KiB") {
    const Server server = Server::shared("iscsi-4k");
    storm(server, lun2, 32, 1);
    storm(server, lun2, 16, 4);
    CHECK(true);
  }
}

TEST_CASE("a LUN that was opened to read takes no changes, and a write-protected one is not opened for them") {
  const Server server = Server::shared("iscsi");
  auto device = must(san(server).open_volume(volume_name("lun4"), Access::read_only));
  auto queue = must(device.queue(4));
  check_read_only_queue(queue);
  CHECK(queue.trouble() == nullptr);
}

TEST_CASE("a queue has 1 to 4096 requests and 1 to 16 sessions, and needs a target", "[own]") {
  const Server server = Server::own_target("none", "--luns 1");
  auto device = must(san(server, {.timeout = brief}).open_volume(lun1, Access::read_only));
  refused(device.queue(0), Errc::invalid_argument);
  refused(device.queue(4097), Errc::invalid_argument);
  refused(device.queue(1, 0), Errc::invalid_argument);
  refused(device.queue(1, 17), Errc::invalid_argument);
  server.command("kill", "STOP");
  refused_within(brief + slack, Errc::timed_out, [&] { return device.queue(1); });
  server.command("kill");
  refused_within(slack, Errc::unavailable, [&] { return device.queue(1); });
}

TEST_CASE("a target that is killed and comes back costs time, and no request", "[own]") {
  const Server server = Server::own_target("queue-killed", "--luns 1");
  for (const std::size_t sessions : {1U, 2U}) {
    CAPTURE(sessions);
    auto queue = open_queue(server, lun1, 32, sessions, {.timeout = 20s});
    QueueModel model{Bytes{}, 32_MiB, false};
    with_accident(server, [&] {
      const auto end = std::chrono::steady_clock::now() + 600ms;
      do model.storm(queue, {.requests = 200, .longest = 1U << 20U});
      while (std::chrono::steady_clock::now() < end);
    });
    model.verify_through(queue);
    REQUIRE(queue.trouble() != nullptr);  // it has seen it
  }
}

TEST_CASE("wherever a connection breaks, the bytes are right", "[own]") {
  const Server server = Server::own_target("queue-cut", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  int breaks = 0;
  for (const std::size_t sessions : {1U, 2U}) {
    auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = 20s}).open_volume(lun1, Access::read_write));
    auto queue = must(device.queue(16, sessions));
    QueueModel model{Bytes{}, 16_MiB, false};
    for (std::int64_t after = 1; after < 8'000'000; after = after * 3 + 7) {
      CAPTURE(sessions, after);
      proxy.break_after(after, Proxy::Then::cut);
      model.storm(queue, {.requests = 60, .longest = 512U << 10U});
      breaks += proxy.broken() ? 1 : 0;
      proxy.heal();
    }
    model.verify_through(queue);
  }
  CHECK(breaks > 15);
}

TEST_CASE("requests over a connection that stalls come back in time, and the next ones work", "[own]") {
  const Server server = Server::own_target("queue-stall", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(16));
  QueueModel model{Bytes{}, 8_MiB, false};
  for (const std::int64_t after : {1, 49, 3'000, 300'000, 900'000}) {
    CAPTURE(after);
    proxy.break_after(after, Proxy::Then::stall);
    const auto took =
        timed([&] { return model.storm(queue, {.requests = 80, .errors_allowed = true}), 0; }, [](int) {});
    CHECK(proxy.broken());
    CHECK((took >= brief && took <= brief + slack));
    proxy.heal();
    model.storm(queue, {.requests = 50});
    model.verify_through(queue);
  }
  CHECK(model.failed() >= 5);
}

TEST_CASE("a stopped target times out, a killed one is not there, and writes that were sent are in doubt", "[own]") {
  const Server server = Server::own_target("queue-gone", "--luns 1");
  auto queue = open_queue(server, lun1, 64, GENERATE(1U, 2U), {.timeout = brief});
  const PageBuffer memory{1U << 20U};
  const ::iovec all = memory.iov();
  const ::iovec block = memory.iov(0, 4096);
  const auto storm_of = [&](IoOp op) {
    std::vector<std::int64_t> results;
    for (std::uint64_t n = 0; n < 64; ++n) {
      const IoRequest request{.op = op, .offset = Bytes{n << 20U}, .buffers = {&all, 1}, .token = n};
      REQUIRE(queue.submit(request) == Submitted::yes);
    }
    std::array<IoCompletion, 64> done;
    while (queue.in_flight() > 0) {
      const std::size_t count = must(wait(queue, done, brief + slack));
      for (std::size_t i = 0; i < count; ++i) results.push_back(done[i].result);
    }
    return results;
  };
  const auto any = [](const std::vector<std::int64_t>& results, std::int64_t wanted) {
    return std::count(results.begin(), results.end(), wanted) > 0;
  };
  const auto within = [](std::chrono::milliseconds limit, auto work) {
    CHECK(timed([&] { return work(), 0; }, [](int) {}) <= limit);
  };
  const auto of = [&](const ::iovec& data, IoOp op) {
    return IoRequest{.op = op, .offset = 3_MiB, .buffers = {&data, 1}};
  };
  REQUIRE(perform(queue, of(all, IoOp::write)) == 1 << 20);

  server.command("kill", "STOP");
  within(brief + slack, [&] {
    const auto results = storm_of(IoOp::write);
    CHECK(any(results, -EINPROGRESS));
    CHECK_FALSE(any(results, 1 << 20));
  });
  within(brief + slack, [&] { CHECK(perform(queue, of(all, IoOp::write)) == -ETIMEDOUT); });  // not even sent
  within(brief + slack, [&] { CHECK(perform(queue, of(block, IoOp::read)) == -ETIMEDOUT); });
  within(brief + slack, [&] { CHECK(perform(queue, flush_request()) == -ETIMEDOUT); });
  server.command("kill", "CONT");
  CHECK(perform(queue, of(all, IoOp::write)) == 1 << 20);
  CHECK(perform(queue, of(all, IoOp::read)) == 1 << 20);

  server.command("kill");
  within(brief + slack, [&] {
    const auto results = storm_of(IoOp::read);
    CHECK((any(results, -ENOLINK) && !any(results, -EINPROGRESS)));
  });
  within(brief + slack, [&] { CHECK(perform(queue, of(all, IoOp::write)) == -ENOLINK); });
  REQUIRE(queue.trouble() != nullptr);
  CHECK(queue.trouble()->code() == Errc::unavailable);
  CHECK(queue.trouble()->detail().find(server["PORTAL"]) != std::string::npos);
  server.command("up");
  CHECK(perform(queue, of(all, IoOp::write)) == 1 << 20);
  CHECK(perform(queue, flush_request()) == 0);
}

TEST_CASE("the time of a request does not run out before the queue was asked for anything") {
  const Server server = Server::shared("iscsi");
  auto queue = open_queue(server, lun1, 8, 1, {.timeout = 1s});
  const PageBuffer memory{4096};
  const ::iovec one = memory.iov();
  std::array<IoCompletion, 8> done;
  for (int n = 0; n < 2; ++n) {
    for (std::uint64_t token = 0; token < 8; ++token) {
      REQUIRE(queue.submit(write_request(Bytes{token << 12U}, {&one, 1}, token)) == Submitted::yes);
    }
    std::this_thread::sleep_for(1500ms);
    while (queue.in_flight() > 0) {
      const std::size_t count = must(wait(queue, done, slack));
      CHECK(std::all_of(done.begin(), done.begin() + static_cast<std::ptrdiff_t>(count),
                        [](const IoCompletion& each) { return each.result == 4096; }));
    }
  }
  CHECK(queue.trouble() == nullptr);
}

TEST_CASE("a queue that goes while its target is away does so in time", "[own]") {
  const Server server = Server::own_target("queue-leave", "--luns 1");
  const PageBuffer memory{1U << 20U};
  const ::iovec all = memory.iov();
  for (const char* signal : {"STOP", "KILL"}) {
    CAPTURE(signal);
    std::optional<IscsiQueue> queue = open_queue(server, lun1, 8, 2, {.timeout = brief});
    REQUIRE(queue->submit(write_request(Bytes{}, {&all, 1})) == Submitted::yes);
    server.command("kill", signal);
    static_cast<void>(queue->reap({}));
    CHECK(timed([&] { return queue.reset(), 0; }, [](int) {}) <= brief + slack);
    if (std::string{signal} == "STOP") server.command("kill");
    server.command("up");
  }
}

TEST_CASE("another LUN in the place of the one of a queue is not touched", "[own]") {
  const Server server = Server::own_target("queue-swap", "--luns 1");
  auto queue = open_queue(server, lun1, 8, GENERATE(1U, 2U));
  const PageBuffer memory{1U << 20U, std::byte{0x5a}};
  const ::iovec all = memory.iov();
  REQUIRE(perform(queue, write_request(Bytes{}, {&all, 1})) == 1 << 20);
  std::string image = server.folder() + "/extra-1-1.img";
  SECTION("while the session stands") {
    remove_lun(server, 1, 1);
    add_lun(server, 1, 1, "64M", "c1");
    std::this_thread::sleep_for(1s);  // tgt says nothing, and it is asked once a second
  }
  SECTION("of another size, while the target was away") {
    server.command("kill");
    image = server.folder() + "/t1-lun1.img";
    static_cast<void>(output_of("rm " + image));
    static_cast<void>(output_of("truncate -s 65M " + image));
    server.command("up");
  }
  SECTION("of another identity, while the target was away") {
    server.command("kill");
    server.command("up");
    remove_lun(server, 1, 1);
    add_lun(server, 1, 1, "64M", "c1");
  }
  CHECK(perform(queue, write_request(Bytes{}, {&all, 1})) == -ESTALE);
  CHECK(perform(queue, read_request(Bytes{}, {&all, 1})) == -ESTALE);
  CHECK(perform(queue, flush_request()) == -ESTALE);
  REQUIRE(queue.trouble() != nullptr);
  CHECK(queue.trouble()->code() == Errc::identity_changed);
  static_cast<void>(output_of("cmp -n 33554432 " + image + " /dev/zero"));  // not a byte of ours
}

TEST_CASE("requests to a LUN that is removed fail", "[own]") {
  const Server server = Server::own_target("queue-removed", "--luns 2");
  auto queue = open_queue(server, lun1, 8);
  const PageBuffer memory{4096};
  const ::iovec one = memory.iov();
  REQUIRE(perform(queue, write_request(Bytes{}, {&one, 1})) == 4096);
  remove_lun(server, 1, 1);
  CHECK(perform(queue, read_request(Bytes{}, {&one, 1})) == -ENODEV);
  std::this_thread::sleep_for(1s);
  CHECK(perform(queue, write_request(Bytes{}, {&one, 1})) == -ENODEV);
}

TEST_CASE("a UNIT ATTENTION in the middle of many requests is answered by a look at the LUN", "[own]") {
  const Server server = Server::own_target("queue-attention", "--luns 1");
  auto queue = open_queue(server, lun1, 32, GENERATE(1U, 2U));
  QueueModel model{Bytes{}, 16_MiB, false};
  std::thread other{[&] {
    for (int lun = 2; lun < 5; ++lun) {  // tells all others: REPORTED LUNS DATA HAS CHANGED
      const std::string file = server.folder() + "/new" + std::to_string(lun) + ".img";
      static_cast<void>(std::system(("truncate -s 1M " + file).c_str()));
      static_cast<void>(
          std::system((STOWAGE_TEST_LAB "/target adm " + server.folder() +
                       " --mode logicalunit --op new --tid 1 --lun " + std::to_string(lun) + " --backing-store " + file)
                          .c_str()));
    }
  }};
  const auto end = std::chrono::steady_clock::now() + 300ms;
  do model.storm(queue, {.requests = 100});
  while (std::chrono::steady_clock::now() < end);
  other.join();
  model.verify_through(queue);
  CHECK(model.failed() == 0);
}

TEST_CASE("a target that is busy is asked again, until the deadline", "[own]") {
  const Server server = Server::own_target("queue-busy", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  const std::size_t sessions = GENERATE(1U, 2U);
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(16, sessions));
  constexpr char busy = 0x08;
  constexpr char task_set_full = 0x28;
  constexpr char task_aborted = 0x40;
  QueueModel model{Bytes{}, 8_MiB, false};
  for (const char status : {busy, task_set_full, task_aborted}) {
    proxy.forge(20, status);
    model.storm(queue, {.requests = 100});
    CHECK(proxy.forgeries_left() == 0);
  }
  model.verify_through(queue);
  const PageBuffer memory{4096};
  const ::iovec one = memory.iov();

  auto hasty = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  auto hasty_queue = must(hasty.queue(16, sessions));
  std::this_thread::sleep_for(1s);  // so that it is asked who it is as well, and is too busy to say it
  proxy.forge(1'000'000, busy);
  CHECK(timed(
            [&] {
              return perform(hasty_queue, read_request(Bytes{}, {&one, 1}));
            },
            [](std::int64_t result) { CHECK(result == -ETIMEDOUT); }) <= brief + slack);
  proxy.forge(0, 0);
  CHECK(perform(hasty_queue, read_request(Bytes{}, {&one, 1})) == 4096);
}

TEST_CASE("a reservation of somebody else is an error of its own", "[own]") {
  const Server server = Server::own_target("queue-reserved", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(1));
  const PageBuffer memory{4096};
  const ::iovec one = memory.iov();
  proxy.forge(1, 0x18);
  CHECK(perform(queue, write_request(Bytes{}, {&one, 1})) == -EBADE);
  CHECK(perform(queue, write_request(Bytes{}, {&one, 1})) == 4096);
}

TEST_CASE("a request to a LUN allocates what libiscsi allocates, and nothing of ours, and locks nothing") {
  const Server server = Server::shared("iscsi");
  constexpr std::uint64_t rounds = 500;
  const PageBuffer memory{1U << 16U};
  const std::array<::iovec, 4> parts{memory.iov(0, 512), memory.iov(512, 3584), memory.iov(4096, 512),
                                     memory.iov(8192, 512)};
  // The least of some tries: libiscsi keeps memory for later, and needs some time to have enough of it. What we
  // allocated for each request would be in every one of them.
  const auto counted = [](auto requests) {
    std::uint64_t least = rounds * 1000;
    for (int tries = 0; tries < 4; ++tries) {
      const std::uint64_t before = allocations();
      requests();
      least = std::min(least, allocations() - before);
    }
    return least;
  };
  auto queue = open_queue(server, lun1, 32);
  std::array<IoCompletion, 32> done;
  bool good = true;
  // libiscsi allocates for each answer: they are all in before the next try, or it has some of this one's
  const auto through_queue = [&](IoOp op) {
    return counted([&] {
      for (std::uint64_t n = 0; n < rounds; ++n) {
        const IoRequest request{.op = op, .offset = Bytes{n % 64 << 16U}, .buffers = parts};
        while (queue.submit(request) == Submitted::queue_full) good = good && wait(queue, done, 10s).has_value();
      }
      while (queue.in_flight() > 0) good = good && wait(queue, done, 10s).has_value();
    });
  };
  const std::uint64_t locked = testing::locks();
  const std::uint64_t reads = through_queue(IoOp::read);
  const std::uint64_t writes = through_queue(IoOp::write);
  REQUIRE(good);
  CHECK(testing::locks() == locked);

  const detail::IscsiConnector connector{*StorageId::parse("san"), san_config(server["PORTAL"], server["IQN1"]),
                                         OpenOptions{.priv = "/nonexistent"}};
  auto session = must(connector.connect(1, detail::IscsiLane::Clock::now() + patience));
  detail::IscsiCommand command;
  const auto bare = [&](auto set) {
    return counted([&] {
      for (std::uint64_t n = 0; n < rounds; ++n) {
        set(n % 64 << 7U);
        good = good && session->run(command).has_value();
      }
    });
  };
  const std::uint64_t bare_reads =
      bare([&](std::uint64_t lba) { command.set(1, detail::Cdb::read(lba, 10)).into(memory.span().first(5120)); });
  const std::uint64_t bare_writes =
      bare([&](std::uint64_t lba) { command.set(1, detail::Cdb::write(lba, 10)).from(memory.span().first(5120)); });
  REQUIRE(good);
  CHECK(reads <= bare_reads);
  CHECK(writes <= bare_writes);
}
