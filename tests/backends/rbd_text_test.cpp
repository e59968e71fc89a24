// RBD's texts and bytes, without a cluster.

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <stowage/backends/detail/rbd_decode.hpp>
#include <stowage/backends/detail/rbd_error.hpp>
#include <stowage/backends/detail/rbd_text.hpp>

#include <string>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;
using nlohmann::json;

namespace {

/// A monhost property, as the configuration splits it. An entry that is no portal is left out.
std::vector<Portal> monitors(const std::string& text) {
  std::vector<Portal> list;
  std::string word;
  for (const char c : text + " ") {
    if (c != ' ' && c != ',' && c != ';') {
      word += c;
    } else if (!word.empty()) {
      if (auto portal = Portal::parse(word)) list.push_back(*std::move(portal));
      word.clear();
    }
  }
  return list;
}

RbdConfig config_of(const json& scfg) {
  RbdConfig config;
  config.pool = scfg.value("pool", "rbd");
  config.name_space = scfg.value("namespace", "");
  config.monhost = monitors(scfg.value("monhost", ""));
  config.krbd = scfg.value("krbd", 0) == 1;
  return config;
}

VolumeName image_of(const std::string& volname) {
  return *VolumeName::parse(volname.substr(volname.find('/') == volname.npos ? 0 : volname.find('/') + 1));
}

detail::RbdAccess access_of(const json& row, const RbdConfig& config) {
  const bool keyring = row.at("files_present").value("keyring", 0) == 1;
  const bool conf = row.at("files_present").value("conf", 0) == 1;
  return detail::rbd_access(*StorageId::parse(testing::text(row, "storeid")), config, {}, keyring, conf);
}

}  // namespace

TEST_CASE("QEMU takes the snapshots, unless the image is a kernel device") {
  int rows = 0;
  for (const json& row : testing::vectors("qemu_snapshot_method")) {
    // of the other types it is the storage, the default of the facade: tests/storage_test.cpp
    if (row.at("scfg").value("type", "") != "rbd") continue;
    ++rows;
    INFO(row.dump());
    const auto expected = row.at("result") == "qemu" ? SnapshotMethod::qemu : SnapshotMethod::storage;
    CHECK(detail::rbd_snapshot_method(config_of(row.at("scfg"))) == expected);
  }
  CHECK(rows >= 2);
}

TEST_CASE("path and blockdev of an image are what QEMU gets from the reference") {
  int rows = 0;
  for (const json& row : testing::vectors("qemu_path")) {
    const json& scfg = row.at("scfg");
    if (scfg.value("type", "") != "rbd") continue;
    ++rows;
    INFO(row.dump());
    const RbdConfig config = config_of(scfg);
    const VolumeName image = image_of(row.at("volname"));
    const std::string snapshot = testing::text(row, "snapname");
    if (config.krbd) {
      const auto device = detail::krbd_device(scfg.value("fsid", ""), config, image, snapshot);
      if (row.contains("path_error")) {
        REQUIRE_FALSE(device);
        CHECK(device.error().code() == Errc::corrupt);
        CHECK(device.error().detail().find(row.at("path_error").get<std::string>()) == 0);
        continue;
      }
      REQUIRE(device);
      CHECK(*device == row.at("path"));
      CHECK(json::parse(Blockdev{HostDeviceNode{*device}, {}}.to_json()) == row.at("blockdev"));
      continue;
    }
    const detail::RbdAccess access = access_of(row, config);
    CHECK(detail::rbd_path(access, config, image, snapshot) == row.at("path"));
    CHECK(json::parse(Blockdev{detail::rbd_node(access, config, image, snapshot), {}}.to_json()) == row.at("blockdev"));
  }
  CHECK(rows >= 11);
}

TEST_CASE("monitors are written as librados and QEMU want them") {
  for (const json& row : testing::vectors("monhost_render")) {
    INFO(row.dump());
    // The reference leaves an empty place for an entry that is no host; we have refused it before.
    std::string expected = row.at("result");
    const std::string separator = row.at("separator");
    if (const auto hole = expected.find(separator + separator); hole != expected.npos) expected.erase(hole, 1);
    CHECK(detail::rbd_monhosts(monitors(row.at("monhost")), separator.front()) == expected);
  }
}

TEST_CASE("a per-storage conf counts only for a cluster that is named by its monitors") {
  const StorageId id = *StorageId::parse("st");
  RbdConfig config;
  CHECK(detail::rbd_access(id, config, {}, false, true).conf == "/etc/pve/ceph.conf");
  config.monhost = monitors("10.0.0.1");
  CHECK(detail::rbd_access(id, config, {}, false, true).conf == "/etc/pve/priv/ceph/st.conf");
  CHECK(detail::rbd_access(id, config, {}, false, false).conf.empty());
  CHECK(detail::rbd_access(id, config, {}, true, false).auth() == "cephx");
}

TEST_CASE("what would end a part of QEMU's string is escaped") {
  RbdConfig config;
  config.pool = "a:b@c";
  detail::RbdAccess access;
  access.conf = "/etc/x:y\\z.conf";
  CHECK(detail::rbd_path(access, config, *VolumeName::parse("vm-1-a:b"), "s:1") ==
        "rbd:a\\:b\\@c/vm-1-a\\:b@s\\:1:conf=/etc/x\\:y\\\\z.conf");
}

TEST_CASE("a keyring is told from other files") {
  using detail::is_rbd_keyring;
  CHECK(is_rbd_keyring("[client.admin]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n"));
  CHECK(is_rbd_keyring("  [client.a b]  \r\n caps mon = \"allow *\"\r\nkey=AQBzdGVwaGVuIGlzIG5vdCBhIGtleWEv"));
  CHECK_FALSE(is_rbd_keyring(""));
  CHECK_FALSE(is_rbd_keyring("key = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n[client.admin]\n"));
  CHECK_FALSE(is_rbd_keyring("[client.admin]\nkey = !!!\n"));
  CHECK_FALSE(is_rbd_keyring("[client.admin]\nkeyring = /etc/ceph/keyring\n"));
}

TEST_CASE("header bytes of both versions are understood, and broken ones are not") {
  using namespace std::string_literals;
  const std::string body_v2 = "\x02\0\0\0\0\0\0\0"s + "\x02\0\0\0ns"s + "\x04\0\0\0abcd"s + "\x07\0\0\0\0\0\0\0"s;
  const std::string overlap = "\0\0\x40\0\0\0\0\0"s;
  const auto framed = [](char version, const std::string& body) {
    return std::string{version, version, static_cast<char>(body.size()), 0, 0, 0} + body;
  };
  const auto v2 = detail::decode_rbd_parent(framed(2, body_v2 + "\x01"s + overlap));
  REQUIRE((v2.good && v2.parent));
  CHECK(v2.parent->pool == 2);
  CHECK(v2.parent->name_space == "ns");
  CHECK(v2.parent->image == "abcd");
  CHECK(v2.parent->snapshot == 7);

  const auto flattened = detail::decode_rbd_parent(framed(2, body_v2 + "\0"s));
  CHECK((flattened.good && !flattened.parent));

  const std::string body_v1 = "\x02\0\0\0\0\0\0\0"s + "\x04\0\0\0abcd"s + "\x07\0\0\0\0\0\0\0"s + overlap;
  const auto v1 = detail::decode_rbd_parent(framed(1, body_v1));
  REQUIRE((v1.good && v1.parent));
  CHECK(v1.parent->name_space.empty());
  CHECK(v1.parent->image == "abcd");

  const std::string whole = framed(2, body_v2 + "\x01"s + overlap);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO(length);
    CHECK_FALSE(detail::decode_rbd_parent(whole.substr(0, length)).good);
  }
  CHECK_FALSE(detail::decode_rbd_parent("\x02\x02\xff\xff\xff\xff"s + body_v2).good);

  CHECK(detail::decode_rbd_size("\0\0\x10\0\0\0\0\0"s) == 1U << 20U);
  CHECK_FALSE(detail::decode_rbd_size("\0\0\x10"s));
  CHECK(detail::decode_rbd_text("\x03\0\0\0abc"s) == "abc");
  CHECK(detail::decode_rbd_text("\x04\0\0\0abc"s).empty());
  CHECK(detail::decode_rbd_snapshot_name(framed(8, "\x07\0\0\0\0\0\0\0\x02\0\0\0s1rest"s)) == "s1");
  // As 16.2.15 writes it: an id, the name, a size, the protection, and more.
  const auto snapshot = [](char compatible, char status) {
    return detail::decode_rbd_snapshot("\x08"s + compatible + "\x23\0\0\0"s + "\x05\0\0\0\0\0\0\0"s + "\x03\0\0\0unp"s +
                                       "\0\0\x80\0\0\0\0\0"s + status + "\0\0\0\0\0\0\0\0"s);
  };
  REQUIRE(snapshot('\x08', '\0'));
  CHECK(snapshot('\x08', '\0')->name == "unp");
  CHECK_FALSE(snapshot('\x08', '\0')->is_protected);
  CHECK_FALSE(snapshot('\x08', '\x01')->is_protected);
  CHECK(snapshot('\x08', '\x02')->is_protected);
  CHECK_FALSE(snapshot('\x01', '\x02'));  // older ones have more before the protection
  CHECK_FALSE(detail::decode_rbd_snapshot("\x08\x08\x23\0\0\0\x05"s));
  CHECK(detail::rbd_snapshot_key(0x1f) == "snapshot_000000000000001f");
}

TEST_CASE("return codes have one meaning each") {
  CHECK(detail::rbd_errc(-ENOENT) == Errc::not_found);
  CHECK(detail::rbd_errc(EACCES) == Errc::permission_denied);
  CHECK(detail::rbd_error(-ETIMEDOUT, "reading").code() == Errc::timed_out);
  const Error lost = detail::rbd_change_error(-ETIMEDOUT, "writing");
  CHECK(lost.code() == Errc::outcome_unknown);
  CHECK(lost.native() == native_errno(ETIMEDOUT));
  CHECK_FALSE(lost.hint().empty());
  CHECK(detail::rbd_error(-EBUSY, "x").code() == Errc::in_use);
  CHECK(detail::rbd_error(-ENOSPC, "x").code() == Errc::no_space);
}
