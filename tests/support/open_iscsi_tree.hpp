#pragma once
// What the unit tests of OpenIscsi are written with: a host in a temporary folder, whose sysfs, udev links, open files
// and node records the test makes up.

#include <catch2/catch.hpp>

#include <stdlib.h>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stowage/backends/detail/open_iscsi_sysfs.hpp>
#include <string>
#include <vector>

namespace stowage::testing {

/// The bytes of page 0x83 with one NAA designator: `hex` has 16 or 32 digits.
inline std::string page_83(const std::string& hex) {
  std::string id;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    id += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  const auto length = static_cast<char>(id.size());
  return std::string{"\x00\x83\x00", 3} + static_cast<char>(length + 4) + std::string{"\x01\x03\x00", 3} + length + id;
}

/// A host of its own, which goes with the test.
class FakeHost {
 public:
  FakeHost() {
    std::string name = (std::filesystem::temp_directory_path() / "stowage-host-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root_ = name;
    for (const char* folder : {"sys/class/iscsi_session", "sys/block", "by-id", "dev", "iscsi", "bin"}) {
      std::filesystem::create_directories(root_ / folder);
    }
    put("proc/net/unix", "0000: 00000002 00000000 00010000 0001 01 4242 @ISCSIADM_ABSTRACT_NAMESPACE\n");
    put("proc/self/mountinfo", "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n");
    for (const char* program : {"bin/iscsiadm", "bin/multipath", "bin/multipathd"}) {
      put(program, "");
      std::filesystem::permissions(root_ / program, std::filesystem::perms{0700});
    }
  }
  FakeHost(const FakeHost&) = delete;
  FakeHost& operator=(const FakeHost&) = delete;
  ~FakeHost() { std::filesystem::remove_all(root_); }

  detail::OpenIscsiHost host() const {
    return {.kernel = {.sys = at("sys"), .dev = at("dev"), .proc = at("proc"), .number_of = &number_in},
            .by_id = at("by-id"),
            .udev_queue = at("queue"),
            .databases = {at("iscsi")},
            .iscsiadm = {at("bin/iscsiadm")},
            .multipath = {at("bin/multipath")},
            .multipathd = {at("bin/multipathd")}};
  }
  std::string at(const std::string& path) const { return (root_ / path).string(); }

  void put(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream{root_ / path, std::ios::binary} << content;
  }
  std::string get(const std::string& path) const {
    std::ifstream file{root_ / path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  void remove(const std::string& path) const { std::filesystem::remove_all(root_ / path); }
  void link(const std::string& path, const std::string& to) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::filesystem::remove(root_ / path);
    std::filesystem::create_symlink(to, root_ / path);
  }

  /// A session, as scsi_transport_iscsi shows it.
  void session(int number, const std::string& target, const std::string& address, const std::string& port = "3260",
               const std::string& state = "LOGGED_IN") const {
    const std::string name = std::to_string(number);
    const std::string session = "sys/class/iscsi_session/session" + name;
    put(session + "/targetname", target + "\n");
    put(session + "/state", state + "\n");
    const std::string connection = session + "/device/connection" + name + ":0/iscsi_connection/connection" + name;
    put(connection + ":0/persistent_address", address + "\n");
    put(connection + ":0/persistent_port", port + "\n");
  }
  void end_session(int number) const { remove("sys/class/iscsi_session/session" + std::to_string(number)); }

  /// The folder of a LUN in sysfs.
  static std::string lun(int session, int number) {
    const std::string host = std::to_string(session + 1);
    return "sys/class/iscsi_session/session" + std::to_string(session) + "/device/target" + host + ":0:0/" + host +
           ":0:0:" + std::to_string(number);
  }
  /// A LUN of a session: device `name`, with a link of udev's for its WWID.
  void disk(int session, int number, const std::string& name, const std::string& naa, std::uint64_t bytes) const {
    const std::string folder = lun(session, number);
    put(folder + "/state", "running\n");
    put(folder + "/type", "0\n");
    put(folder + "/vpd_pg83", page_83(naa));
    put(folder + "/inquiry", std::string(8, '\0') + "IET     VIRTUAL-DISK    ");
    put(folder + "/rescan", "");
    put(folder + "/delete", "");
    put(folder + "/block/" + name + "/dev", "");
    block(name, bytes);
    link("by-id/scsi-3" + naa, "../../" + name);
  }
  void block(const std::string& name, std::uint64_t bytes) const {
    put("sys/block/" + name + "/size", std::to_string(bytes / 512) + "\n");
    put("sys/block/" + name + "/ro", "0\n");
    put("sys/block/" + name + "/dev", number_of(name) + "\n");
    std::filesystem::create_directories(root_ / ("sys/block/" + name + "/holders"));
    put("dev/" + name, number_of(name));
  }
  /// A number for a device that nobody else has: "8:98" for sdb.
  static std::string number_of(const std::string& name) {
    return (name.starts_with("dm-") ? "253:" : "8:") + std::to_string(static_cast<unsigned char>(name.back()));
  }
  /// A node is a file with its number in it.
  static std::string number_in(const std::string& node) {
    std::string number;
    if (std::filesystem::is_regular_file(node)) std::ifstream{node} >> number;
    return number;
  }
  /// A device-mapper device on top of others.
  void mapper(const std::string& name, const std::string& called, const std::string& uuid,
              const std::vector<std::string>& below, std::uint64_t bytes) const {
    block(name, bytes);
    put("sys/block/" + name + "/dm/name", called + "\n");
    put("sys/block/" + name + "/dm/uuid", uuid + "\n");
    for (const std::string& device : below)
      put(std::string{"sys/block/"}.append(device).append("/holders/").append(name), "");
  }
  /// A program that has a device open.
  void process(int number, const std::string& program, const std::string& device) const {
    put("proc/" + std::to_string(number) + "/comm", program + "\n");
    link("proc/" + std::to_string(number) + "/fd/7", at("dev/" + device));
  }

 private:
  std::filesystem::path root_;
};

}  // namespace stowage::testing
