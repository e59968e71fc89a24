// CHAP and mutual CHAP, and that the secrets stay where they belong.

#include "iscsi/san.hpp"

using namespace stowage;
using namespace stowage::testing;

namespace {

const std::string good = "user=stowage\npassword=initiator-pw1\n";
const std::string mutual = good + "user_in=target\npassword_in=target-pw-123\n";

Error refusal_to_log_in(const Server& server, const std::string& chap) {
  const PrivFolder priv;
  priv.chap(chap);
  return refusal_within(patience, Errc::permission_denied, [&] { return san(server, {.priv = priv.str()}).status(); });
}

void refused_login(const Server& server, const std::string& chap) {
  static_cast<void>(refusal_to_log_in(server, chap));
}

}  // namespace

TEST_CASE("without or with wrong secrets the target refuses, and nobody is told them") {
  const Server server = Server::shared("iscsi-chap");
  const Error none = refusal_within(patience, Errc::permission_denied, [&] { return san(server).list(); });
  CHECK(none.object() == "san");
  CHECK(none.hint().find(".chap") != std::string::npos);
  for (const std::string chap :
       {"user=stowage\npassword=wrong-wrong-wrong\n", "user=other\npassword=initiator-pw1\n"}) {
    const Error error = refusal_to_log_in(server, chap);
    CHECK(error.message().find("wrong-wrong") == std::string::npos);
    CHECK(error.message().find("initiator-pw1") == std::string::npos);
  }
}

TEST_CASE("with mutual CHAP, a target that cannot prove itself is refused") {
  const Server server = Server::shared("iscsi-mutual");
  refused_login(server, good + "user_in=target\npassword_in=wrong-wrong-wrong\n");
  refused_login(server, good + "user_in=other\npassword_in=target-pw-123\n");
  const PrivFolder priv;
  priv.chap(mutual);
  CHECK(must(san(server, {.priv = priv.str()}).list()).size() == 3);
  refused_login(Server::shared("iscsi-chap"), mutual);  // a target that does not prove anything
}

TEST_CASE("a CHAP file that others can read is refused, and named") {
  const Server server = Server::shared("iscsi-chap");
  const PrivFolder priv;
  for (const unsigned mode : {0640U, 0604U, 0620U}) {
    priv.chap(good, std::filesystem::perms{mode});
    const Error error =
        refusal_of(try_san(server["PORTAL"], server["IQN1"], {.priv = priv.str()}), Errc::permission_denied);
    CHECK(error.detail().find(priv.file()) != std::string::npos);
  }
}

TEST_CASE("a CHAP file with an unknown key is refused, and named") {
  const PrivFolder priv;
  priv.chap(good + "pasword_in=initiator-pw1\n");
  const Error error = refusal_of(try_san("127.0.0.1", "iqn.a:1", {.priv = priv.str()}), Errc::parse_failed);
  CHECK(error.detail().find(priv.file()) != std::string::npos);
  CHECK(error.message().find("initiator-pw1") == std::string::npos);
}

TEST_CASE("a changed CHAP file is used from the next login on") {
  const Server server = Server::shared("iscsi-chap");
  const PrivFolder priv;
  priv.chap("user=stowage\npassword=wrong-wrong-wrong\n");
  San storage = san(server, {.priv = priv.str()});
  refused(storage.activate(), Errc::permission_denied);
  priv.chap(good);
  must(storage.activate());
  CHECK(must(storage.list()).size() == 3);
}

TEST_CASE("with CHAP a path would hold the secret, so QEMU gets a blockdev and a secret beside it") {
  const Server server = Server::shared("iscsi-chap");
  const PrivFolder priv;
  priv.chap(good);
  San storage = san(server, {.priv = priv.str()});
  const Error error = refusal_of(storage.path(volume_name("lun1")), Errc::permission_denied);
  CHECK(error.hint() == "use blockdev");

  const Blockdev node = must(storage.blockdev(volume_name("lun1")));
  const std::string json = node.to_json();
  CAPTURE(json);
  CHECK(json.find("initiator-pw1") == std::string::npos);
  CHECK(json.find(R"("user":"stowage","password-secret":"stowage-san-chap","initiator-name":"iqn.)") !=
        std::string::npos);
  REQUIRE(node.secret.has_value());
  CHECK(node.secret->id == "stowage-san-chap");
  CHECK(node.secret->data.reveal() == "initiator-pw1");

  const std::string file = priv.str() + "/secret";
  std::ofstream{file} << node.secret->data.reveal();
  const std::string info = output_of("qemu-img info --output=json --object secret,id=" + node.secret->id +
                                     ",file=" + file + " 'json:" + json + "'");
  CHECK(info.find("\"virtual-size\": 67108864") != std::string::npos);
}

TEST_CASE("without CHAP, a CHAP file does no harm") {
  const Server server = Server::shared("iscsi");
  const PrivFolder priv;
  priv.chap(good);
  CHECK(must(san(server, {.priv = priv.str()}).list()).size() == 4);
}
