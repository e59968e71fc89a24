// What thin_dump and thin_delta write, and how a pool's metadata are held still for them. Nothing of LVM is here:
// tests/guest has the real one.

#include <catch2/catch.hpp>

#include <stowage/backends/detail/lvm_extents_text.hpp>
#include <stowage/backends/detail/lvm_metadata.hpp>
#include <stowage/backends/detail/lvm_thin_device.hpp>
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/fake_runner.hpp>
#include <stowage/testing/laws/bench.hpp>

#include <sys/sysmacros.h>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/folder.hpp"
#include "support/lvm_lines.hpp"

using namespace stowage;
using testing::FakeRunner;
using testing::must;
using testing::refusal_of;
using testing::refused;

namespace {

using Extents = std::vector<Extent>;

constexpr Bytes chunk = 64_KiB;

Bytes chunks(std::uint64_t count) { return Bytes{count * chunk.count}; }
Extent data(std::uint64_t begin, std::uint64_t count) { return {chunks(begin), chunks(count), true}; }
Extent zeros(std::uint64_t begin, std::uint64_t count) { return {chunks(begin), chunks(count), false}; }

// thin-provisioning-tools 0.9.0, of a volume of 64 MiB
constexpr const char* dump =
    R"(<superblock uuid="" time="1" transaction="3" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="1" mapped_blocks="5" transaction="0" creation_time="0" snap_time="1">
    <single_mapping origin_block="5" data_block="0" time="0"/>
    <single_mapping origin_block="6" data_block="4" time="1"/>
    <single_mapping origin_block="7" data_block="2" time="0"/>
    <range_mapping origin_begin="200" data_begin="5" length="2" time="1"/>
  </device>
</superblock>
)";
constexpr const char* delta = R"(<superblock uuid="" time="1" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="1">
    <same begin="5" length="1"/>
    <different begin="6" length="1"/>
    <same begin="7" length="1"/>
    <left_only begin="100" length="1"/>
    <right_only begin="200" length="2"/>
  </diff>
</superblock>
)";

/// What a reader makes of a text, in whatever pieces it comes.
template <class Reader>
Result<Extents> read_map(std::string_view text, const Reader& reader, std::size_t piece = 4096) {
  detail::LvmMapText<Reader> whole{reader};
  for (std::size_t at = 0; at < text.size(); at += piece) whole(text.substr(at, piece));
  return whole.finish();
}
Result<Extents> map_of(std::string_view text, Bytes size = 64_MiB, std::uint64_t thin_id = 1) {
  return read_map(text, detail::LvmDumpReader{thin_id, size});
}
Result<Extents> changes_of(std::string_view text, Bytes size = 64_MiB, std::uint64_t before = 2) {
  return read_map(text, detail::LvmDeltaReader{before, 1, size});
}

std::string with(std::string text, std::string_view what, std::string_view instead) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), instead);
}

/// The text without its line `number`.
std::string without_line(std::string text, int number) {
  std::size_t at = 0;
  for (; number > 0; --number) at = text.find('\n', at) + 1;
  return text.erase(at, text.find('\n', at) + 1 - at);
}

}  // namespace

TEST_CASE("thin_dump tells where a volume has blocks") {
  CHECK((must(map_of(dump)) == Extents{zeros(0, 5), data(5, 3), zeros(8, 192), data(200, 2), zeros(202, 822)}));
  CHECK((must(map_of(dump, chunks(201))) == Extents{zeros(0, 5), data(5, 3), zeros(8, 192), data(200, 1)}));
  CHECK((must(map_of(dump, chunks(7) + 4_KiB)).back() == Extent{chunks(5), chunks(2) + 4_KiB, true}));
  CHECK((must(map_of(dump, chunks(5))) == Extents{zeros(0, 5)}));
  const std::string empty = R"(<superblock data_block_size="2048"><device dev_id="3" mapped_blocks="0"></device>)";
  refused(map_of(empty, 1_MiB, 3), Errc::corrupt);  // several elements in a line are not what it writes
  const std::string none =
      "<superblock data_block_size=\"2048\">\n<device dev_id=\"3\" mapped_blocks=\"0\">\n</device>\n"
      "</superblock>";
  CHECK((must(map_of(none, 1_MiB, 3)) == Extents{{Bytes{}, 1_MiB, false}}));
}

TEST_CASE("a map comes in pieces of any size") {
  for (const std::size_t piece : {1U, 2U, 7U, 80U, 1000U}) {
    INFO(piece << " bytes each");
    CHECK((must(read_map(dump, detail::LvmDumpReader{1, 64_MiB}, piece)) == must(map_of(dump))));
    CHECK((must(read_map(delta, detail::LvmDeltaReader{2, 1, 64_MiB}, piece)) == must(changes_of(delta))));
  }
  std::string large = "<superblock data_block_size=\"128\">\n<device dev_id=\"1\" mapped_blocks=\"300000\">\n";
  for (int block = 0; block < 300'000; ++block) {
    large += "<single_mapping origin_block=\"" + std::to_string(2 * block) + "\" data_block=\"1\" time=\"0\"/>\n";
  }
  CHECK(must(map_of(large + "</device>\n</superblock>\n", 100_GiB)).size() == 600'000);
}

TEST_CASE("thin_dump of 1.x tells shared blocks in advance") {
  const std::string shared =
      R"(<superblock uuid="" time="1" transaction="3" version="2" data_block_size="128" nr_data_blocks="0">
  <def name="17">
    <range_mapping origin_begin="5" data_begin="0" length="3" time="0"/>
    <single_mapping origin_block="20" data_block="3" time="0"/>
  </def>
  <device dev_id="1" mapped_blocks="6" transaction="0" creation_time="0" snap_time="1">
    <single_mapping origin_block="1" data_block="9" time="1"/>
    <ref name="17"/>
    <single_mapping origin_block="21" data_block="8" time="1"/>
  </device>
</superblock>)";
  CHECK((must(map_of(shared, chunks(32))) ==
         Extents{zeros(0, 1), data(1, 1), zeros(2, 3), data(5, 3), zeros(8, 12), data(20, 2), zeros(22, 10)}));
  refused(map_of(with(shared, "<ref name=\"17\"", "<ref name=\"18\"")), Errc::corrupt);
  refused(map_of(with(shared, "origin_block=\"21\"", "origin_block=\"20\"")), Errc::corrupt);  // told twice
  refused(map_of(with(shared, "<def name=\"17\">", "<def>")), Errc::corrupt);
}

TEST_CASE("thin_delta tells what is not as it was") {
  CHECK((must(changes_of(delta)) == Extents{data(6, 1), zeros(100, 1), data(200, 2)}));
  CHECK((must(changes_of(delta, chunks(201))) == Extents{data(6, 1), zeros(100, 1), data(200, 1)}));
  CHECK((must(changes_of(delta, chunks(50))) == Extents{data(6, 1)}));
  const std::string neighbours = with(delta, "<same begin=\"7\"", "<right_only begin=\"7\"");
  CHECK((must(changes_of(neighbours)) == Extents{data(6, 2), zeros(100, 1), data(200, 2)}));
  CHECK(must(changes_of("<superblock data_block_size=\"128\">\n<diff left=\"2\" right=\"1\">\n</diff>\n</superblock>"))
            .empty());
  refused(changes_of(delta, 64_MiB, 3), Errc::corrupt);  // of another snapshot
}

TEST_CASE("a map that is not whole is none") {
  for (int line = 0; line < 8; ++line) {
    INFO("without line " << line);
    CHECK_FALSE(map_of(without_line(dump, line)));
  }
  for (const int line : {0, 1, 7, 8}) {
    INFO("without line " << line);
    CHECK_FALSE(changes_of(without_line(delta, line)));
  }
  for (const std::string_view text : {dump, delta}) {
    bool refused_all = true;
    for (std::size_t length = 0; length + 1 < text.size(); ++length) {
      const auto cut = text.substr(0, length);
      refused_all = refused_all && !(text == dump ? map_of(cut) : changes_of(cut));
    }
    CHECK(refused_all);
  }
  CHECK(refusal_of(map_of("<superblock data_block_size=\"128\">\n</superblock>\n"), Errc::corrupt)
            .message()
            .find("it has not the volume 1") != std::string::npos);  // which 0.9.0 finds nothing wrong with
  CHECK_FALSE(map_of(std::string{dump} + dump));
  CHECK_FALSE(changes_of(std::string{delta} + delta));
}

TEST_CASE("what no tool should write is refused") {
  for (const auto& [what, instead] : std::vector<std::pair<std::string, std::string>>{
           {"dev_id=\"1\"", "dev_id=\"2\""},
           {"dev_id=\"1\"", "dev_id=\"one\""},
           {"mapped_blocks=\"5\"", "mapped_blocks=\"6\""},
           {" mapped_blocks=\"5\"", ""},
           {"data_block_size=\"128\"", "data_block_size=\"0\""},
           {"data_block_size=\"128\"", "data_block_size=\"64\""},
           {"data_block_size=\"128\"", "data_block_size=\"99999999999\""},
           {"data_block_size=\"128\"", "data_block_size=\"-128\""},
           {"origin_block=\"7\"", "origin_block=\"6\""},
           {"origin_block=\"7\"", "origin_block=\"3\""},
           {"origin_block=\"7\"", "origin_block=\"7"},
           {"origin_block=\"7\"", "origin_block=\"\""},
           {"origin_begin=\"200\"", "origin_begin=\"18446744073709551615\""},
           {"origin_begin=\"200\"", "origin_begin=\"18446744073709551616\""},
           {"length=\"2\"", "length=\"0\""},
           {"length=\"2\"", "length=\"18446744073709551615\""},
           {"length=\"2\"", "length=\"3\""},
           {"single_mapping", "new_mapping"},
           {"<single_mapping", "single_mapping"},
           {"time=\"0\"/>", "time=\"0\"/><x/>"},
           {"  </device>\n", "  </device>\n  <device dev_id=\"1\" mapped_blocks=\"0\"/>\n"},
           {"</superblock>", "</superblock>\nError: something"}}) {
    INFO(instead << " for " << what);
    const Error error = refusal_of(map_of(with(dump, what, instead)), Errc::corrupt);
    CHECK(error.message().size() < 400);
  }
  for (const auto& [what, instead] : std::vector<std::pair<std::string, std::string>>{
           {"left=\"2\"", "left=\"1\""},
           {"right=\"1\"", "right=\"2\""},
           {"<different", "<differing"},
           {"begin=\"7\"", "begin=\"6\""},
           {"begin=\"200\" length=\"2\"", "begin=\"200\""},
           {"begin=\"200\"", "begin=\"99999999999999999\""},
           {"  </diff>\n", "  </diff>\n  <diff left=\"2\" right=\"1\"/>\n"}}) {
    INFO(instead << " for " << what);
    refused(changes_of(with(delta, what, instead)), Errc::corrupt);
  }
  refused(map_of(std::string(1 << 20, '<')), Errc::corrupt);
}

TEST_CASE("tables and states of a pool are read") {
  CHECK(detail::lvm_held_root("3 115/1024 7/16384 - rw discard_passdown queue_if_no_space - 256") == 0U);
  CHECK(detail::lvm_held_root("3 116/1024 7/16384 46 rw discard_passdown queue_if_no_space - 256") == 46U);
  CHECK_FALSE(detail::lvm_held_root("Fail"));
  CHECK_FALSE(detail::lvm_held_root("3 116/1024 7/16384 x rw"));
  CHECK(detail::lvm_table_number("253:2") == makedev(253, 2));
  CHECK_FALSE(detail::lvm_table_number("253"));
  CHECK_FALSE(detail::lvm_table_number("253:"));
  refused(detail::lvm_map_place(makedev(1, 1)), Errc::not_supported);
}

namespace {

/// A thin pool with one metadata snapshot at most, played. Devices have its name and uuid.
struct PlayedPool {
  std::string name = "vg-pool-tpool";
  std::string uuid = "LVM-groupuuiduuidpool-tpool";
  std::shared_ptr<std::uint64_t> root = std::make_shared<std::uint64_t>(0);

  Result<std::uint64_t> held() const { return *root; }
};

using Lines = std::vector<std::string>;

/// LVM, dmsetup and thin_dump, played on it.
class Bed {
 public:
  Bed() {
    options.lock_folder = folder_.file("locks");
    options.timeout = std::chrono::milliseconds{5};
    runner.play("/sbin/lvs", [this](const Command&) {
      const std::string line = testing::lvs_pool({{"lv_tags", marked ? "stowage.intent=metadata-snapshot" : ""}});
      return CommandOutput{0, testing::lvs_rows(line), {}};
    });
    runner.play("/sbin/lvchange", [this](const Command& command) {
      marked = command.argv[4] == "--addtag";
      return CommandOutput{};
    });
    runner.play("/sbin/dmsetup", [this](const Command& command) { return message(command.argv.at(4)); });
    runner.play("/usr/sbin/thin_dump", [this](const Command&) {
      during();
      return dumped;
    });
  }
  Bed(const Bed&) = delete;
  Bed& operator=(const Bed&) = delete;
  ~Bed() = default;

  Result<Extents> extents() {
    const detail::LvmTools<FakeRunner> tools{{"vg", "pool", {}}, options, runner};
    const detail::LvmMapPlace place{{pool.name, pool.uuid}, "/dev/mapper/vg-pool_tmeta", 1, false};
    return detail::lvm_with_metadata(
        tools, pool, [&](const detail::LvmView&) { return detail::lvm_thin_dump(tools, place, 64_MiB); });
  }

  bool at_rest() const { return *pool.root == 0 && !marked; }

  /// What ran, without paths and settings.
  Lines log() const {
    Lines lines;
    for (const Command& command : runner.log()) {
      const std::string& program = command.argv[0];
      std::string line = program.substr(program.rfind('/') + 1);
      const std::size_t first = line == "lvchange" ? 4 : 1;
      for (std::size_t at = first; at < command.argv.size() && line != "lvs"; ++at) line += " " + command.argv[at];
      lines.push_back(std::move(line));
    }
    return lines;
  }

  FakeRunner runner;
  OpenOptions options;
  PlayedPool pool;
  bool marked = false;
  Result<CommandOutput> dumped = CommandOutput{0, dump, {}};
  std::function<void()> during = [] {};
  Result<CommandOutput> released = CommandOutput{};
  Result<CommandOutput> reserved = CommandOutput{};

 private:
  Result<CommandOutput> message(const std::string& text) {
    std::uint64_t& root = *pool.root;
    const bool take = text == "reserve_metadata_snap";
    Result<CommandOutput> answer = take ? reserved : released;
    if (!answer || answer->exit_code != 0) return answer;
    const std::string words = "device-mapper: message ioctl on vg-pool-tpool  failed: ";
    if (take && root != 0) return CommandOutput{1, {}, words + "Device or resource busy\nCommand failed.\n"};
    if (!take && root == 0) return CommandOutput{1, {}, words + "Invalid argument\nCommand failed.\n"};
    root = take ? 46 : 0;
    return answer;
  }

  testing::Folder folder_;
};

const Lines whole{"lvs",
                  "lvchange --addtag stowage.intent=metadata-snapshot vg/pool",
                  "dmsetup message vg-pool-tpool 0 reserve_metadata_snap",
                  "thin_dump -m --dev-id 1 --format xml /dev/mapper/vg-pool_tmeta",
                  "dmsetup message vg-pool-tpool 0 release_metadata_snap",
                  "lvchange --deltag stowage.intent=metadata-snapshot vg/pool"};

}  // namespace

TEST_CASE("the metadata of a pool are marked, taken, read, released and unmarked") {
  Bed bed;
  CHECK(must(bed.extents()).size() == 5);
  CHECK(bed.log() == whole);
  CHECK(bed.at_rest());
}

TEST_CASE("whatever becomes of the reading, the metadata are released") {
  Bed bed;
  SECTION("the tool finds something wrong, and its first line says what") {
    bed.dumped = CommandOutput{1, {}, "no current metadata snap\nUsage: thin_dump\n"};
    const Error error = refusal_of(bed.extents(), Errc::command_failed);
    CHECK(error.message().find("no current metadata snap") != std::string::npos);
    CHECK(error.message().find("Usage") == std::string::npos);
  }
  SECTION("it hangs") {
    bed.dumped = fail(Errc::timed_out, "killed after 60 s");
    refused(bed.extents(), Errc::timed_out);
  }
  SECTION("it is not there") {
    bed.dumped =
        fail(Error{Errc::unavailable, "the program '/usr/sbin/thin_dump' is not there", native_errno(ENOENT)}.advise(
            "install the package thin-provisioning-tools"));
    CHECK(refusal_of(bed.extents(), Errc::unavailable).hint() == "install the package thin-provisioning-tools");
  }
  SECTION("it writes garbage") {
    bed.dumped = CommandOutput{0, "<superblock uuid=\"\"", {}};
    refused(bed.extents(), Errc::corrupt);
  }
  SECTION("somebody asks to stop") {
    std::stop_source stop;
    bed.options.stop = stop.get_token();
    bed.during = [&] { stop.request_stop(); };
    bed.dumped = fail(Errc::cancelled, "stopped");
    refused(bed.extents(), Errc::cancelled);
  }
  CHECK(bed.log() == whole);
  CHECK(bed.at_rest());
}

TEST_CASE("what one of us left behind is released first") {
  Bed bed;
  bed.marked = true;
  SECTION("he had taken it") {
    *bed.pool.root = 17;
    CHECK(must(bed.extents()).size() == 5);
    CHECK(bed.log() == Lines{whole[0], whole[4], whole[2], whole[3], whole[4], whole[5]});
  }
  SECTION("he had not") {
    CHECK(must(bed.extents()).size() == 5);
    CHECK(bed.log() == Lines{whole[0], whole[2], whole[3], whole[4], whole[5]});
  }
  CHECK(bed.at_rest());
}

TEST_CASE("what is another program's is left alone") {
  Bed bed;
  SECTION("it has the metadata snapshot") {
    *bed.pool.root = 17;
    CHECK(refusal_of(bed.extents(), Errc::in_use).hint().find("release_metadata_snap") != std::string::npos);
    CHECK(bed.log() == Lines{whole[0]});
    CHECK(*bed.pool.root == 17);
  }
  SECTION("it is faster") {
    bed.reserved = CommandOutput{1, {}, "message ioctl failed: Device or resource busy\nCommand failed.\n"};
    refused(bed.extents(), Errc::in_use);
    CHECK(bed.log() == Lines{whole[0], whole[1], whole[2], whole[5]});
  }
  SECTION("it takes ours away, and another one") {
    bed.during = [&] { *bed.pool.root = 99; };
    refused(bed.extents(), Errc::conflict);
    CHECK(bed.log() == Lines{whole[0], whole[1], whole[2], whole[3], whole[5]});
    CHECK(*bed.pool.root == 99);
  }
  SECTION("the pool is not the one of the volume") {
    bed.pool.uuid = "LVM-another-tpool";
    refused(bed.extents(), Errc::identity_changed);
    CHECK(bed.log() == Lines{whole[0]});
  }
  SECTION("one of us is at it, and takes longer than we wait") {
    const auto lock = detail::LvmLock::take(bed.options, "vg", detail::lvm_metadata_lock("pool"), {});
    REQUIRE(lock);
    refused(bed.extents(), Errc::in_use);
    CHECK(bed.log().empty());
  }
  CHECK_FALSE(bed.marked);
}

TEST_CASE("a metadata snapshot that was left behind is told, and kept as long as the pool is inactive") {
  const Bed bed;
  FakeRunner runner;
  runner.play("/sbin/lvs", [](const Command& command) {
    const std::string pool = testing::lvs_pool({{"lv_tags", "stowage.intent=metadata-snapshot"}});
    return CommandOutput{0, testing::lvs_answer(pool, command), {}};
  });
  runner.play("/sbin/dmsetup", [](const Command&) { return CommandOutput{1, {}, "no such device\n"}; });
  const StorageId id = must(StorageId::parse("st"));
  using FakeLvm = BasicLvmThin<FakeRunner>;
  Storage<FakeLvm> storage{id, must(FakeLvm::open(id, {"vg", "pool", {}}, bed.options, runner))};
  const auto findings = must(storage.check());
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].object == "vg/pool");
  CHECK(findings[0].advice.find("recover releases it") != std::string::npos);
  runner.clear_log();
  CHECK(must(storage.recover()).done.empty());
  for (const Command& command : runner.log()) CHECK(command.argv[0] == "/sbin/lvs");
}

TEST_CASE("where nobody knows whether the metadata are held, the mark stays") {
  Bed bed;
  SECTION("taking them was killed") {
    bed.reserved = fail(Errc::timed_out, "killed after 60 s");
    refused(bed.extents(), Errc::timed_out);
    CHECK(bed.log() == Lines{whole[0], whole[1], whole[2]});
  }
  SECTION("they cannot be released") {
    bed.released = CommandOutput{1, {}, "message ioctl failed: Input/output error\n"};
    CHECK(refusal_of(bed.extents(), Errc::command_failed).hint() == "recover releases it");
    CHECK(bed.log() == Lines{whole[0], whole[1], whole[2], whole[3], whole[4]});
  }
  CHECK(bed.marked);
}
