// stowctl export of a LUN of a real target, into pipes.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>

#include "support/lab.hpp"
#include "support/stowctl.hpp"

using stowage::testing::Run;
using stowage::testing::Server;
using stowage::testing::Stowctl;

TEST_CASE("stowctl export: a reader that sleeps for longer than the target waits gets all bytes of a LUN", "[own]") {
  const Server server = Server::own_target("ctl-export", "--luns 1 --size 24");
  const Stowctl stowctl{"iscsidirect: san\n\tportal " + server["PORTAL"] + "\n\ttarget " + server["IQN1"] + "\n"};
  std::string image(24 << 20, '\0');
  for (std::size_t at = 0; at < image.size(); ++at) image[at] = static_cast<char>(at * 31 % 251);
  stowctl.write("image", image);
  stowctl.ask({"--yes", "copy", stowctl.file("image"), "san:lun1"});

  const Run plain = stowctl({"export", "san:lun1", "raw", "-"});
  CHECK(plain.status == 0);
  CHECK((plain.out == image));
  const std::string command = "STOWAGE_CONFIG='" + stowctl.file("storage.cfg") + "' STOWAGE_PRIV='" +
                              stowctl.file("priv") + "' '" + STOWAGE_TEST_STOWCTL +
                              "' --timeout 2 export san:lun1 raw - | (sleep 5; cat >'" + stowctl.file("out") + "')";
  CHECK(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  CHECK((stowctl.read("out") == image));
}
