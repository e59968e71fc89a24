#pragma once
// What the tests of IscsiDirect are written with: storages on targets of the lab, time limits, CHAP files, other
// people's tools.

#include <catch2/catch.hpp>

#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/lab.hpp"

namespace stowage::testing {

using namespace std::chrono_literals;
using San = Storage<IscsiDirect>;

/// Long enough for a busy machine; a test that hangs would take longer.
inline constexpr std::chrono::milliseconds patience = 5s;

/// A folder for secrets that goes with the test.
class PrivFolder {
 public:
  PrivFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "stowage-priv-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
    std::filesystem::create_directory(folder_ / "iscsi");
  }
  PrivFolder(const PrivFolder&) = delete;
  PrivFolder& operator=(const PrivFolder&) = delete;
  ~PrivFolder() { std::filesystem::remove_all(folder_); }

  std::string str() const { return folder_.string(); }
  std::string file() const { return (folder_ / "iscsi" / "san.chap").string(); }

  void chap(const std::string& text, std::filesystem::perms mode = std::filesystem::perms{0600}) const {
    std::filesystem::remove(file());
    std::ofstream{file()} << text;
    std::filesystem::permissions(file(), mode);
  }

 private:
  std::filesystem::path folder_;
};

struct SanOptions {
  std::vector<std::string> more_portals{};
  std::chrono::milliseconds timeout = patience;
  std::string priv = "/nonexistent";
  std::stop_token stop{};
};

inline IscsiDirectConfig san_config(const std::string& portal, const std::string& iqn, const SanOptions& with = {}) {
  IscsiDirectConfig config{must(Portal::parse(portal)), must(Iqn::parse(iqn))};
  for (const std::string& more : with.more_portals) config.more_portals.push_back(must(Portal::parse(more)));
  return config;
}

inline Result<San> try_san(const std::string& portal, const std::string& iqn, const SanOptions& with = {}) {
  return San::open(must(StorageId::parse("san")), san_config(portal, iqn, with),
                   OpenOptions{.timeout = with.timeout, .stop = with.stop, .priv = with.priv});
}

/// A storage with the id `san`.
inline San san(const std::string& portal, const std::string& iqn, const SanOptions& with = {}) {
  return must(try_san(portal, iqn, with));
}
inline San san(const Server& server, const SanOptions& with = {}) {
  return san(server["PORTAL"], server["IQN1"], with);
}

/// How long `work` takes; whatever it answers is given to `judge`.
template <class Work, class Judge>
std::chrono::milliseconds timed(Work work, Judge judge) {
  const auto begin = std::chrono::steady_clock::now();
  const auto answer = work();
  const auto end = std::chrono::steady_clock::now();
  judge(answer);
  return std::chrono::duration_cast<std::chrono::milliseconds>(end - begin);
}

/// `work` is refused with `code`, not later than `limit`.
template <class Work>
Error refusal_within(std::chrono::milliseconds limit, Errc code, Work work) {
  std::optional<Error> error;
  const auto took = timed(std::move(work), [&](const auto& answer) { error = refusal_of(answer, code); });
  CHECK(took.count() <= limit.count());
  return *error;
}
template <class Work>
void refused_within(std::chrono::milliseconds limit, Errc code, Work work) {
  static_cast<void>(refusal_within(limit, code, std::move(work)));
}

/// What a tool prints, which must succeed.
inline std::string output_of(const std::string& command) {
  INFO(command);
  std::FILE* const pipe = ::popen(("timeout 60 " + command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  std::array<char, 4096> buffer{};
  while (const std::size_t length = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    text.append(buffer.data(), length);
  }
  const int status = ::pclose(pipe);
  CAPTURE(text);
  REQUIRE(status == 0);
  return text;
}

inline std::vector<std::byte> read_back(IscsiDirectDevice& device, Bytes at, std::size_t length) {
  std::vector<std::byte> bytes(length);
  must(device.read_at(at, bytes));
  return bytes;
}

/// Makes a LUN of a file, with an identity of its own.
inline void add_lun(const Server& server, int target, int lun, const std::string& size, const std::string& identity,
                    const std::string& params = {}, const std::string& device_options = {}) {
  const std::string file = server.folder() + "/extra-" + std::to_string(target) + "-" + std::to_string(lun) + ".img";
  static_cast<void>(output_of("truncate -s " + size + " " + file));
  const std::string place = "--mode logicalunit --tid " + std::to_string(target) + " --lun " + std::to_string(lun);
  server.command("adm", place + " --op new --backing-store " + file + " " + device_options);
  server.command("adm", place + " --op update --params scsi_id=" + identity + params);
}
inline void remove_lun(const Server& server, int target, int lun) {
  server.command("adm",
                 "--mode logicalunit --op delete --tid " + std::to_string(target) + " --lun " + std::to_string(lun));
}

}  // namespace stowage::testing
