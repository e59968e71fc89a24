// What a storage.cfg of 10 000 sections costs: to read, and to change one property in. `bench_config [FOLDER]`: where
// it is written; in memory (the default) an fsync costs nothing, so what is measured is our own work.

#include <unistd.h>
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <stowage/config/store.hpp>
#include <string>
#include <utility>
#include <vector>

#include "paired.hpp"

using namespace stowage;

namespace {

std::string large_config(int sections) {
  const std::vector<std::string> kinds{
      "rbd: ceph@\n\tcontent images\n\tkrbd 0\n\tmonhost 10.0.0.1 10.0.0.2\n\tpool p@\n\n",
      "lvmthin: thin@\n\tthinpool data\n\tvgname vg@\n\tcontent images,rootdir\n\n",
      "iscsi: san@\n\tportal 10.0.0.1\n\ttarget iqn.2001-04.com.example:t@\n\n",
      "nfs: share@\n\tpath /mnt/@\n\tserver 10.0.0.9\n\texport /e\n\t# by hand\n\n"};
  std::string text = "# all storages of the house\n\n";
  for (int i = 0; i < sections; ++i) {
    for (const char c : kinds[static_cast<std::size_t>(i) % kinds.size()]) {
      if (c == '@') {
        text += std::to_string(i);
      } else {
        text += c;
      }
    }
  }
  return text;
}

/// The median of 15, in milliseconds.
template <class Work>
double milliseconds(Work work) {
  std::vector<double> all;
  all.reserve(15);
  for (int round = 0; round < 15; ++round) all.push_back(bench::seconds([&] { work(round); }) * 1e3);
  std::nth_element(all.begin(), all.begin() + 7, all.end());
  return all[7];
}

void print_row(const char* work, double took, double goal) {
  std::printf("| %s | %.1f ms | <= %.0f ms | %s |\n", work, took, goal, took <= goal ? "yes" : "NO");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder =
      (argc > 1 ? argv[1] : "/dev/shm") + std::string{"/stowage-bench-"} + std::to_string(::getpid());
  bench::must(::mkdir(folder.c_str(), 0700), "mkdir");
  const ConfigStore store{{.config = folder + "/storage.cfg", .priv = folder + "/priv"}};
  const std::string text = large_config(10'000);
  bench::must(bench::must(detail::StagedFile::stage(folder + "/storage.cfg", text, {}), "stage").commit(), "write");

  std::printf("storage.cfg: 10000 sections, %zu bytes\n\n| work | ours | goal | met |\n|---|---|---|---|\n",
              text.size());
  print_row("parse", milliseconds([&](int) {
              if (StorageConfigFile::parse(text).storages().size() != 10'000) bench::die("parse");
            }),
            20);
  print_row("change one property and write", milliseconds([&](int round) {
              const SetStorage wanted{*StorageId::parse("ceph4000"), {{"pool", "q" + std::to_string(round)}}};
              bench::must(store.commit(wanted), "commit");
            }),
            30);
  static_cast<void>(::unlink((folder + "/storage.cfg").c_str()));
  static_cast<void>(::unlink((folder + "/storage.cfg.lock").c_str()));
  return ::rmdir(folder.c_str()) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
