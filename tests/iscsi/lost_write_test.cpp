// A write that was sent and whose session is then lost may still be on its way to the LUN: which requests may overtake
// it, and what is reported when nobody knows whether it was done.

#include <pthread.h>
#include <sys/uio.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <stowage/core/handle.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/transfer/copy.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "iscsi/proxy.hpp"
#include "iscsi/san.hpp"
#include "support/queue_model.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const VolumeName lun1 = *VolumeName::parse("lun1");
constexpr std::uint8_t write_16 = 0x8a;
constexpr std::uint8_t write_same_16 = 0x93;
constexpr std::uint8_t unmap_10 = 0x42;
constexpr std::chrono::milliseconds brief = 1s;  // a timeout that a test waits for
constexpr std::chrono::milliseconds slack = 2s;  // for a busy machine

/// 4 KiB of one byte.
class Block {
 public:
  explicit Block(char fill) : memory_{4096, std::byte(fill)} {}
  IoRequest write(Bytes at, std::uint64_t token = 0) const { return write_request(at, {&all_, 1}, token); }
  IoRequest read(Bytes at, std::uint64_t token = 0) const { return read_request(at, {&all_, 1}, token); }

 private:
  PageBuffer memory_;
  ::iovec all_ = memory_.iov();
};

/// What the LUN holds at `at`, asked by a session that has no part in it.
char content(const Server& server, Bytes at = Bytes{}) {
  auto device = must(san(server).open_volume(lun1, Access::read_only));
  return static_cast<char>(read_back(device, at, 512).front());
}

/// Drives a queue and notes which requests have come back.
class Driver {
 public:
  explicit Driver(IscsiQueue& queue) : queue_{queue} {}
  void submit(const IoRequest& request) { REQUIRE(queue_.submit(request) == Submitted::yes); }
  /// Until `token` is back, or for `limit`.
  std::optional<std::int64_t> result(std::uint64_t token, std::chrono::milliseconds limit = 5s) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (results_.count(token) == 0 && std::chrono::steady_clock::now() < until) {
      std::array<IoCompletion, 8> done;
      const auto count = wait(queue_, done, 20ms);
      for (std::size_t i = 0; count && i < *count; ++i) results_[done[i].token] = done[i].result;
    }
    const auto found = results_.find(token);
    return found == results_.end() ? std::nullopt : std::optional{found->second};
  }

 private:
  IscsiQueue& queue_;
  std::map<std::uint64_t, std::int64_t> results_;
};

}  // namespace

TEST_CASE("a lost write is repeated by its own session only, after that is logged in again", "[own]") {
  const Server server = Server::own_target("lost-write", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  proxy.reinstate_sessions();
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(8, GENERATE(1U, 2U, 3U)));
  Driver driver{queue};
  const Block first{'A'};
  const Block second{'B'};

  proxy.refuse_logins();
  proxy.delay(write_16);
  driver.submit(first.write(Bytes{}, 1));
  CHECK_FALSE(driver.result(1, 300ms));
  REQUIRE(proxy.delayed());
  proxy.admit();
  CHECK(driver.result(1) == 4096);
  driver.submit(second.write(Bytes{}, 2));
  CHECK(driver.result(2) == 4096);
  CHECK_FALSE(proxy.release());  // the session of the first copy was ended before the second one was sent
  CHECK(content(server) == 'B');
}

TEST_CASE("while a session is lost with a write, others carry reads and writes that were never sent", "[own]") {
  const Server server = Server::own_target("lost-beside", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  proxy.reinstate_sessions();
  auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(8, 2));
  Driver driver{queue};
  const Block first{'A'};
  const Block second{'B'};
  const Block seen{'?'};

  proxy.refuse_logins();
  proxy.delay(write_16);
  driver.submit(first.write(Bytes{}, 1));
  CHECK_FALSE(driver.result(1, 100ms));
  REQUIRE(proxy.delayed());
  driver.submit(second.write(64_KiB, 2));
  driver.submit(seen.read(Bytes{}, 3));
  CHECK(driver.result(2, brief / 2) == 4096);
  CHECK(driver.result(3, brief / 2) == 4096);
  CHECK(driver.result(1, brief + slack) == -EINPROGRESS);  // it could not be repeated in time
  CHECK(content(server, 64_KiB) == 'B');

  // The caller writes again, as it should: that has to come after the first one, whatever becomes of it.
  driver.submit(second.write(Bytes{}, 4));
  driver.submit(seen.read(Bytes{}, 5));
  CHECK(driver.result(5, brief / 2) == 4096);
  CHECK_FALSE(driver.result(4, 200ms));
  proxy.admit();
  CHECK(driver.result(4) == 4096);
  CHECK_FALSE(proxy.release());
  CHECK(content(server) == 'B');
}

TEST_CASE("a lost change of any kind that cannot be repeated in time is in doubt", "[own]") {
  const Server server = Server::own_target("lost-kinds", "--luns 1 --thin");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(8, 2));
  const Block block{'A'};
  const auto [operation, request] =
      GENERATE_REF(table<std::uint8_t, IoRequest>({{write_16, block.write(Bytes{})},
                                                   {write_same_16, range_request(IoOp::write_zeroes, Bytes{}, 4_KiB)},
                                                   {unmap_10, range_request(IoOp::discard, Bytes{}, 4_KiB)}}));
  CAPTURE(int{operation});
  proxy.refuse_logins();
  proxy.delay(operation);
  CHECK(perform(queue, request, brief + slack) == -EINPROGRESS);
  CHECK(proxy.delayed());
  proxy.admit();
  CHECK(perform(queue, request) == static_cast<std::int64_t>(4096));
}

TEST_CASE("a lost write is in doubt for whatever reason the target lets nobody in again", "[own]") {
  const Server server = Server::own_target("lost-out", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  const std::vector<std::byte> data(4096, std::byte{'A'});
  auto queue = must(device.queue(8));
  must(device.write_at(Bytes{}, data));
  server.command("adm", "--mode target --op unbind --tid 1 --initiator-address 127.0.0.1");  // of new sessions
  proxy.delay(write_16);
  SECTION("by a device") { refused(device.write_at(Bytes{}, data), Errc::outcome_unknown); }
  SECTION("by a queue") { CHECK(perform(queue, Block{'A'}.write(Bytes{}), brief + slack) == -EINPROGRESS); }
  SECTION("by a queue, when the LUN is removed before it is repeated") {
    server.command("adm", "--mode target --op bind --tid 1 --initiator-address 127.0.0.1");
    proxy.refuse_logins();
    Driver driver{queue};
    const Block block{'A'};
    driver.submit(block.write(Bytes{}, 1));
    CHECK_FALSE(driver.result(1, 100ms));
    remove_lun(server, 1, 1);
    proxy.admit();
    CHECK(driver.result(1) == -EINPROGRESS);
  }
  SECTION("by a device, when the LUN is removed before it is repeated") {
    server.command("adm", "--mode target --op bind --tid 1 --initiator-address 127.0.0.1");
    proxy.refuse_logins();
    std::thread accident{[&] {
      std::this_thread::sleep_for(150ms);
      static_cast<void>(std::system(
          (STOWAGE_TEST_LAB "/target adm " + server.folder() + " --mode logicalunit --op delete --tid 1 --lun 1")
              .c_str()));
      proxy.admit();
    }};
    const auto written = device.write_at(Bytes{}, data);
    accident.join();
    refused(written, Errc::outcome_unknown);
  }
  CHECK(proxy.delayed());
}

TEST_CASE("a copy fails by a lost write that cannot be repeated, and names the LUN", "[own]") {
  const Server server = Server::own_target("lost-copy", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"], {.timeout = brief}).open_volume(lun1, Access::read_write));
  auto to = must(device.queue(8, 2));
  const std::string file = server.folder() + "/source.raw";
  static_cast<void>(output_of("dd if=/dev/urandom of=" + file + " bs=1M count=8 status=none"));
  auto from = must(UringQueue::open(file, Access::read_only, 8));
  proxy.refuse_logins();
  proxy.delay(write_16);
  const auto copied = copy_queues(from, to, std::vector<Extent>{{Bytes{}, 8_MiB, true}});
  const Error error = refusal_of(copied, Errc::outcome_unknown);
  CHECK(error.detail().find(server["IQN1"]) != std::string::npos);
  REQUIRE(proxy.delayed());
}

TEST_CASE("a lost write is not repeated through another portal group, which does not end the old session", "[own]") {
  const Server server = Server::own_target("lost-groups", "--luns 1");
  Proxy home{server["PORTAL"]};
  Proxy other{server["PORTAL"]};
  const char group = GENERATE('1', '2', 'x');  // the same, another, and one that is no number
  const bool same = group == '1';
  CAPTURE(group);
  other.name_group(group);
  auto device = must(
      san(home.portal(), server["IQN1"], {.more_portals = {other.portal()}}).open_volume(lun1, Access::read_write));
  const Block first{'A'};
  const Block second{'B'};
  SECTION("by a queue") {
    auto queue = must(device.queue(8, GENERATE(1U, 2U)));
    home.refuse_logins();
    home.delay(write_16);
    CHECK(timed([&] { return perform(queue, first.write(Bytes{})); },
                [&](std::int64_t result) { CHECK(result == (same ? 4096 : -EINPROGRESS)); }) < 4s);
    CHECK(home.delayed());
    CHECK(other.passed(write_16) == (same ? 1 : 0));
    CHECK(perform(queue, second.write(64_KiB)) == 4096);
    CHECK(content(server, 64_KiB) == 'B');
  }
  SECTION("by a device") {
    const auto data = pattern(1, 4096);
    home.refuse_logins();
    home.delay(write_16);
    if (same) {
      must(device.write_at(Bytes{}, data));
    } else {
      const Error error = refusal_within(4s, Errc::outcome_unknown, [&] { return device.write_at(Bytes{}, data); });
      CHECK(error.detail().find(server["IQN1"]) != std::string::npos);
      CHECK(error.detail().find("portal group") != std::string::npos);
    }
    CHECK(home.delayed());
    CHECK(other.passed(write_16) == (same ? 1 : 0));
    must(device.write_at(Bytes{}, data));
  }
}

/// Nobody in this program gets a thread: no address space is large enough for its stack.
class NoThreads {
 public:
  NoThreads() {
    REQUIRE(::pthread_getattr_default_np(&before_) == 0);
    ::pthread_attr_t huge{};
    REQUIRE(::pthread_attr_init(&huge) == 0);
    REQUIRE(::pthread_attr_setstacksize(&huge, std::size_t{1} << 47U) == 0);
    REQUIRE(::pthread_setattr_default_np(&huge) == 0);
  }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;
  ~NoThreads() { ::pthread_setattr_default_np(&before_); }

 private:
  ::pthread_attr_t before_{};
};

TEST_CASE("a session that cannot be made again for want of a thread is made later", "[own]") {
  const Server server = Server::own_target("lost-threads", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  auto queue = must(device.queue(8, GENERATE(1U, 2U)));
  Driver driver{queue};
  const Block block{'A'};
  {
    const NoThreads none;
    proxy.delay(write_16);
    driver.submit(block.write(Bytes{}, 1));
    CHECK_FALSE(driver.result(1, 250ms));
    REQUIRE(queue.trouble() != nullptr);
    CHECK(queue.trouble()->code() == Errc::backend_failed);
  }
  CHECK(driver.result(1) == 4096);
}

// What the RFC promises and tgtd does not do. Should this fail one day because a target became better: good.
TEST_CASE("known: tgtd does not end the old session, so that a lost write can arrive after it was repeated", "[own]") {
  const Server server = Server::own_target("lost-window", "--luns 1");
  Proxy proxy{server["PORTAL"]};
  auto device = must(san(proxy.portal(), server["IQN1"]).open_volume(lun1, Access::read_write));
  const std::vector<std::byte> first(4096, std::byte{'A'});
  const std::vector<std::byte> second(4096, std::byte{'B'});
  SECTION("of a queue with one session") {
    auto queue = must(device.queue(8));
    proxy.delay(write_16);
    CHECK(perform(queue, Block{'A'}.write(Bytes{})) == 4096);
    CHECK(perform(queue, Block{'B'}.write(Bytes{})) == 4096);
  }
  SECTION("of a device") {
    proxy.delay(write_16);
    CHECK(device.write_at(Bytes{}, first));
    CHECK(device.write_at(Bytes{}, second));
  }
  SECTION("even if the LUN is reset meanwhile: that refuses only the first one, and costs other initiators theirs") {
    auto queue = must(device.queue(8));
    Driver driver{queue};
    proxy.delay(write_16, 2);
    const Block old{'A'};
    driver.submit(old.write(64_KiB, 1));
    driver.submit(old.write(Bytes{}, 2));
    CHECK(driver.result(1) == 4096);
    CHECK(driver.result(2) == 4096);
    const Handle<::iscsi_context, &::iscsi_destroy_context> bare{::iscsi_create_context("iqn.2026-11.lab:reset")};
    ::iscsi_set_session_type(bare.get(), ISCSI_SESSION_NORMAL);
    ::iscsi_set_targetname(bare.get(), server["IQN1"].c_str());
    REQUIRE(::iscsi_full_connect_sync(bare.get(), server["PORTAL"].c_str(), 1) == 0);
    CHECK(::iscsi_task_mgmt_abort_task_set_sync(bare.get(), 1) == 0);
    CHECK(::iscsi_task_mgmt_lun_reset_sync(bare.get(), 1) == 0);
    CHECK(perform(queue, Block{'B'}.write(Bytes{})) == 4096);
  }
  REQUIRE(proxy.delayed());
  CHECK(content(server) == 'B');
  CHECK(proxy.release());
  CHECK(content(server) == 'A');
}
