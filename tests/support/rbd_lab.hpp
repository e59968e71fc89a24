#pragma once
// Storages on the Ceph cluster of the suite, each test in a namespace of its own, and the `rbd` command beside them.

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <stowage/testing/records.hpp>

#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "support/lab.hpp"

namespace stowage::testing {

using namespace std::chrono_literals;

/// A shell command's output; `fails` says that it should not succeed.
inline std::string shell(const std::string& command, bool fails = false) {
  std::FILE* pipe = ::popen(("timeout 60 " + command).c_str(), "r");  // NOLINT(cert-env33-c)
  REQUIRE(pipe != nullptr);
  std::string out;
  std::array<char, 4096> buffer{};
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  INFO(command << "\n" << out);
  REQUIRE((status == 0) != fails);
  return out;
}

/// How long `work` took.
template <class F>
std::chrono::milliseconds elapsed(F work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
}

inline const VmId guest{990'000'101};

/// A folder of secrets as /etc/pve/priv is one.
class PrivFolder {
 public:
  PrivFolder() {
    static std::atomic<int> number{0};
    path_ = "/tmp/stowage-priv-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
    std::filesystem::create_directories(path_ + "/ceph");
  }
  PrivFolder(const PrivFolder&) = delete;
  PrivFolder& operator=(const PrivFolder&) = delete;
  ~PrivFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/ceph/" + name; }
  void write(const std::string& name, const std::string& text) const { std::ofstream{file(name)} << text; }
  void copy(const std::string& from, const std::string& name) const {
    std::filesystem::copy_file(from, file(name), std::filesystem::copy_options::overwrite_existing);
  }

 private:
  std::string path_;
};

/// A pool of a cluster, or a namespace of its own in it that goes with the test.
class RbdLab {
 public:
  enum class Where { name_space, whole_pool };

  explicit RbdLab(Server server = Server::shared("ceph"), Where where = Where::name_space, std::string pool = "rbd")
      : own_name_space_{where == Where::name_space}, server_{std::move(server)} {
    static std::atomic<int> number{0};
    config.pool = std::move(pool);
    config.common.content = {Content::images, Content::rootdir};
    if (own_name_space_) {
      config.name_space = "t" + std::to_string(::getpid()) + "-" + std::to_string(number++);
      rbd("namespace create " + config.pool + "/" + config.name_space);
    }
    options.priv = priv.path();
    options.ceph_conf = server_["CONF"];
  }
  RbdLab(const RbdLab&) = delete;
  RbdLab& operator=(const RbdLab&) = delete;
  ~RbdLab() {
    sweep();
    if (own_name_space_) quietly("rbd namespace remove " + config.pool + "/" + config.name_space);
  }

  const Server& server() const { return server_; }
  std::string spec(const std::string& image = {}) const {
    return config.pool + (config.name_space.empty() ? "" : "/" + config.name_space) +
           (image.empty() ? "" : "/" + image);
  }

  /// The section as it stands in `config`. Every call opens anew.
  Result<Storage<Rbd>> open(const std::string& id = "st") const {
    return Storage<Rbd>::open(must(StorageId::parse(id)), config, options);
  }
  Storage<Rbd> storage(const std::string& id = "st") const { return must(open(id)); }

  /// Puts the record of a verb on a volume: bound to it, and of nobody, unless `intent` says otherwise.
  void leave_unfinished(const VolumeName& volume, Intent intent) const {
    with_record(volume, [&](const auto& pool, const auto& place) {
      if (intent.nonce.empty()) intent.nonce = must(new_nonce());
      put_record(pool, place, must(text_of_record(intent, place.bound)));
    });
  }
  /// Puts any text there.
  void leave_record(const VolumeName& volume, const std::string& text) const {
    with_record(volume, [&](const auto& pool, const auto& place) { put_record(pool, place, text); });
  }
  std::string record(const VolumeName& volume) const {
    std::string text;
    with_record(volume, [&](const auto& pool, const auto& place) {
      text = must(::stowage::detail::rbd_read_record(pool, place)).text;
    });
    return text;
  }

  /// The `rbd` command as client.admin.
  std::string rbd(const std::string& arguments, bool fails = false) const {
    return shell("rbd -c " + server_["CONF"] + " " + arguments + (fails ? " 2>&1" : " 2>/dev/null"), fails);
  }
  nlohmann::json rbd_json(const std::string& arguments) const {
    return nlohmann::json::parse(rbd(arguments + " --format json"));
  }
  std::string rados(const std::string& arguments) const {
    const std::string place = config.name_space.empty() ? "" : " -N " + config.name_space;
    return shell("rados -c " + server_["CONF"] + " -p " + config.pool + place + " " + arguments + " 2>/dev/null");
  }
  std::string ceph(const std::string& arguments) const {
    return shell("ceph -c " + server_["CONF"] + " " + arguments + " 2>/dev/null");
  }

  /// Everything in the place, ours or not: clones before their parents. Not with the `rbd` command, of which every call
  /// costs a tenth of a second.
  void sweep() const {
    OpenOptions patient = options;
    patient.timeout = 60s;
    RbdConfig place = config;
    place.username = "admin";
    place.monhost.clear();
    const auto pool = ::stowage::detail::rbd_open_pool(must(StorageId::parse("sweep")), place, patient);
    if (!pool) return;
    for (int round = 0; round < 6; ++round) {
      std::vector<::stowage::detail::RbdEntry> left =
          ::stowage::detail::rbd_directory(**pool).value_or(std::vector<::stowage::detail::RbdEntry>{});
      const std::string trash = quietly("rbd trash ls --all " + spec());
      if (left.empty() && trash.empty()) return;
      std::mutex mutex;
      std::vector<std::thread> sweepers;
      for (int at = 0; at < 6; ++at) {
        sweepers.emplace_back([&] {
          for (;;) {
            std::string name;
            {
              const std::lock_guard lock{mutex};
              if (left.empty()) return;
              name = left.back().name;
              left.pop_back();
            }
            sweep_one(**pool, name);
          }
        });
      }
      for (std::thread& sweeper : sweepers) sweeper.join();
      std::istringstream entries{trash};
      for (std::string line; std::getline(entries, line);) {
        quietly("rbd trash rm --force --no-progress " + spec(line.substr(0, line.find(' '))));
      }
    }
  }

  RbdConfig config;
  OpenOptions options;
  PrivFolder priv;

 private:
  template <class Use>
  void with_record(const VolumeName& volume, Use use) const {
    const auto pool = must(::stowage::detail::rbd_open_pool(must(StorageId::parse("st")), config, options));
    auto image = must(::stowage::detail::rbd_look(*pool, volume.str()));
    use(*pool, must(::stowage::detail::rbd_record_place(*pool, image.get(), volume.str())));
  }
  static void put_record(const ::stowage::detail::RbdPool& pool, const ::stowage::detail::RbdRecordPlace& place,
                         const std::string& text) {
    const std::string before = must(::stowage::detail::rbd_read_record(pool, place)).text;
    must(::stowage::detail::rbd_swap_record(pool, place.header, before, text));
  }

  static void sweep_one(const ::stowage::detail::RbdPool& pool, const std::string& name) {
    if (auto image = ::stowage::detail::rbd_edit(pool, name)) {
      for (const SnapshotInfo& snapshot :
           ::stowage::detail::rbd_snapshots(image->get()).value_or(std::vector<SnapshotInfo>{})) {
        static_cast<void>(::stowage::detail::rbd_drop_snapshot(image->get(), snapshot.name.str()));
      }
    }
    static_cast<void>(::rbd_remove(pool.io.get(), name.c_str()));
  }

  std::string quietly(const std::string& command) const {
    std::FILE* pipe = ::popen(("timeout 30 " + command + " -c " + server_["CONF"] + " 2>/dev/null").c_str(), "r");
    if (pipe == nullptr) return {};
    std::string out;
    std::array<char, 4096> buffer{};
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
    ::pclose(pipe);
    return out;
  }

  bool own_name_space_;
  Server server_;
};

}  // namespace stowage::testing
