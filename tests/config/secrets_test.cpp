// The files beside storage.cfg: written closed from the start, and only ours are removed.

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <filesystem>
#include <stowage/config/store.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/folder.hpp"

using namespace stowage;
namespace fs = std::filesystem;

namespace {

const std::string key = "[client.admin]\n\tkey = AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ==\n";
const std::string other_key = "[client.admin]\n\tkey = AQBvdGhlciBrZXkgb2YgYW5vdGhlcg==\n";
const std::string chap = "user=joe\npassword=verysecretword\n";

StorageId storage_id(const std::string& text) { return *StorageId::parse(text); }
SecretChange secret(const std::string& text) { return {.text = Secret{text}}; }

class Place : public testing::Folder {
 public:
  explicit Place(const std::string& text = "") { write("storage.cfg", text, 0640); }

  void write(const std::string& name, const std::string& text, ::mode_t mode) const {
    Folder::write(name, text);
    REQUIRE(::chmod(file(name).c_str(), mode) == 0);
  }
  unsigned mode(const std::string& name) const {
    struct ::stat about {};
    REQUIRE(::stat(file(name).c_str(), &about) == 0);
    return about.st_mode & 07777U;
  }
  ConfigStore store(bool in_cluster = false) const {
    return ConfigStore{
        {.config = file("storage.cfg"), .priv = file("priv"), .cluster = in_cluster ? path() : "/nowhere"}};
  }
  std::string generated() const { return "[global]\n\tkeyring = " + file("priv/ceph/ceph.keyring") + "\n\n"; }
};

const AddStorage managed{"rbd", storage_id("ceph")};
const AddStorage external{"rbd", storage_id("ceph"), {{"monhost", "10.0.0.1"}}};
const AddStorage luns{"iscsidirect", storage_id("san"), {{"portal", "nas"}, {"target", "iqn.2001-04.com.example:t1"}}};
const RemoveStorage no_ceph{storage_id("ceph")};

}  // namespace

TEST_CASE("Secrets: a keyring and its conf come with an external rbd storage, closed to others, and go with it") {
  const Place place;
  const ::mode_t umask = ::umask(0);
  const auto added = place.store().commit(external, secret(key + "\n\n"));
  ::umask(umask);
  REQUIRE(added);
  CHECK(added->notes.empty());
  CHECK(place.read("priv/ceph/ceph.keyring") == key);
  CHECK(place.mode("priv/ceph/ceph.keyring") == 0400);
  CHECK(place.read("priv/ceph/ceph.conf") == place.generated());
  CHECK(place.mode("priv/ceph/ceph.conf") == 0600);
  CHECK(place.mode("priv/ceph") == 0700);
  CHECK(place.mode("priv") == 0700);
  CHECK(place.read("storage.cfg").find("AQB") == std::string::npos);

  REQUIRE(place.store().commit(no_ceph));
  CHECK_FALSE(place.has("priv/ceph/ceph.keyring"));
  CHECK_FALSE(place.has("priv/ceph/ceph.conf"));
}

TEST_CASE("Secrets: a managed storage gets a copy of the cluster's key, a foreign one never does") {
  const Place place;
  place.write("priv/ceph.client.admin.keyring", key, 0600);
  REQUIRE(place.store().commit(managed));
  CHECK(place.read("priv/ceph/ceph.keyring") == key);
  CHECK_FALSE(place.has("priv/ceph/ceph.conf"));
  REQUIRE(place.store().commit(no_ceph));
  CHECK(place.has("priv/ceph.client.admin.keyring"));

  const auto foreign = place.store().commit(external);
  REQUIRE(foreign);
  CHECK_FALSE(place.has("priv/ceph/ceph.keyring"));
  CHECK_FALSE(place.has("priv/ceph/ceph.conf"));
  REQUIRE(foreign->notes.size() == 1);
  CHECK(foreign->notes[0].find("without authentication") != std::string::npos);
  REQUIRE(place.store().commit(no_ceph));

  // Nor does one whose user it is not the key of.
  AddStorage joe = managed;
  joe.settings.push_back({"username", "joe"});
  REQUIRE(place.store().commit(joe));
  CHECK_FALSE(place.has("priv/ceph/ceph.keyring"));
}

TEST_CASE("Secrets: what a person put there is neither taken over, nor overwritten, nor removed") {
  const Place place;
  place.write("priv/ceph/ceph.keyring", key, 0600);
  place.write("priv/ceph/ceph.conf", "[global]\n\tms_mode = secure\n", 0600);
  CHECK(place.store().commit(external).error().code() == Errc::already_exists);
  CHECK(place.store().commit(external, secret(other_key)).error().code() == Errc::already_exists);
  CHECK(place.read("priv/ceph/ceph.keyring") == key);
  CHECK(place.read("storage.cfg").empty());

  const auto same = place.store().commit(external, secret(key));  // that very key: it is meant
  REQUIRE(same);
  REQUIRE(same->notes.size() == 1);
  CHECK(same->notes[0].find("ceph.conf") != std::string::npos);

  const auto gone = place.store().commit(no_ceph);
  REQUIRE(gone);
  CHECK(gone->notes.size() == 2);
  CHECK(place.read("priv/ceph/ceph.keyring") == key);
  CHECK(place.read("priv/ceph/ceph.conf") == "[global]\n\tms_mode = secure\n");
}

TEST_CASE("Secrets: on the cluster's file system, which has no modes, the keyring goes with its storage") {
  const Place place{"rbd: ceph\n"};
  place.write("priv/ceph/ceph.keyring", key, 0600);
  REQUIRE(place.store(true).commit(no_ceph));
  CHECK_FALSE(place.has("priv/ceph/ceph.keyring"));
}

TEST_CASE("Secrets: a set gives a new key, deletes it, and brings the conf when the storage becomes external") {
  const Place place;
  REQUIRE(place.store().commit(managed, secret(key)));
  REQUIRE(place.store().commit(SetStorage{storage_id("ceph")}, secret(other_key)));
  CHECK(place.read("priv/ceph/ceph.keyring") == other_key);
  CHECK(place.mode("priv/ceph/ceph.keyring") == 0400);
  CHECK_FALSE(place.has("priv/ceph/ceph.conf"));
  REQUIRE(place.store().commit(SetStorage{storage_id("ceph"), {{"monhost", "10.0.0.1"}}}));
  CHECK(place.read("priv/ceph/ceph.conf") == place.generated());
  CHECK(place.read("priv/ceph/ceph.keyring") == other_key);

  const SetStorage no_key{storage_id("ceph"), {}, {"keyring"}};
  CHECK(place.store().commit(no_key, secret(key)).error().code() == Errc::invalid_argument);
  REQUIRE(place.store().commit(no_key));
  CHECK_FALSE(place.has("priv/ceph/ceph.keyring"));
  CHECK_FALSE(place.has("priv/ceph/ceph.conf"));
}

TEST_CASE("Secrets: CHAP comes with an iSCSI storage, and goes with it unless a person wrote it") {
  const Place place;
  REQUIRE(place.store().commit(luns, secret(chap)));
  CHECK(place.read("priv/iscsi/san.chap").ends_with("\n" + chap));
  CHECK(place.mode("priv/iscsi/san.chap") == 0600);
  CHECK(place.mode("priv/iscsi") == 0700);
  REQUIRE(place.store().commit(SetStorage{storage_id("san")}, secret("user=ann\npassword=anothersecret")));
  CHECK(place.read("priv/iscsi/san.chap").ends_with("\nuser=ann\npassword=anothersecret\n"));
  REQUIRE(place.store().commit(RemoveStorage{storage_id("san")}));
  CHECK_FALSE(place.has("priv/iscsi/san.chap"));

  place.write("priv/iscsi/san.chap", chap, 0600);
  CHECK(place.store().commit(luns, secret("user=a\npassword=b\n")).error().code() == Errc::already_exists);
  REQUIRE(place.store().commit(luns));  // it is there: that is how one sets up CHAP by hand
  const auto gone = place.store().commit(RemoveStorage{storage_id("san")});
  REQUIRE(gone);
  CHECK(gone->notes.size() == 1);
  CHECK(place.read("priv/iscsi/san.chap") == chap);
}

TEST_CASE("Secrets: one that is none, or that the type has no use for, is refused without a word of it") {
  const Place place;
  const std::vector<std::pair<AddStorage, std::string>> wrong{
      {external, "AQBzdGVwaGVuIGlzIG5vdCBhIGtleQ=="},
      {luns, "joe:verysecretword"},
      {AddStorage{"lvmthin", storage_id("thin"), {{"vgname", "pve"}, {"thinpool", "data"}}}, key}};
  for (const auto& [wanted, text] : wrong) {
    const auto refused = place.store().commit(wanted, secret(text));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("AQB") == std::string::npos);
    CHECK(refused.error().message().find("verysecret") == std::string::npos);
  }
  CHECK(place.read("storage.cfg").empty());
  CHECK_FALSE(place.has("priv/ceph"));
}

TEST_CASE("Secrets: a storage that cannot be written leaves no key behind") {
  const Place place;
  fs::create_directory(place.file("storage.cfg.lock"));  // so there is no lock
  REQUIRE_FALSE(place.store().commit(external, secret(key)));
  CHECK_FALSE(place.has("priv"));
  const auto preview = place.store().preview(external, secret(key));
  REQUIRE(preview);
  CHECK_FALSE(place.has("priv"));
}
