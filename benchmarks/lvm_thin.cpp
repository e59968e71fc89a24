// LvmThin against LVM's own tools: listing, creating, snapshots, clones, removing; and the parsing of a large report.
// usage: bench_lvm_thin                       the parsing only
//        bench_lvm_thin VG POOL PAIRS         as root, on a thin pool without volumes, which is left so
//        bench_lvm_thin VG POOL PAIRS list    the listing only, of what is there

#include <algorithm>
#include <cstdio>
#include <stowage/backends/lvm_thin.hpp>
#include <stowage/storage.hpp>
#include <string>
#include <utility>
#include <vector>

#include "paired.hpp"

using namespace stowage;

namespace {

const VmId guest{990'000'101};
const std::string filler(16, 'x');

/// What `lvs --rows` writes: a line for each column.
std::string report_of(int volumes) {
  std::vector<std::string> rows(detail::lvm_columns.size());
  for (int n = 0; n < volumes; ++n) {
    const std::string id = std::to_string(100'000 + n);
    const std::vector<std::string> cells{"vg",
                                         "vm-" + id + "-disk-0",
                                         std::string{"2uY6We-"}.append(filler).append("-").append(id),
                                         "34359738368",
                                         "Vwi-a-tz--",
                                         "pool",
                                         "",
                                         "39.02",
                                         "1700000000",
                                         "stowage.parent=base-100-disk-0",
                                         std::string{"1tZ5Xd-"}.append(filler).append("-aaaa-bbbb"),
                                         "4194304",
                                         "1073741824",
                                         "",
                                         "",
                                         id,
                                         "",
                                         "",
                                         "",
                                         "",
                                         "",
                                         "",
                                         ""};
    for (std::size_t row = 0; row < rows.size(); ++row) rows[row].append(n == 0 ? "  " : "|").append(cells.at(row));
  }
  std::string text;
  for (const std::string& row : rows) text += row + "\n";
  return text;
}

/// The best of some rounds: what the code costs, not what else runs.
int parsing() {
  const std::string text = report_of(10'000);
  double best = 1;
  for (int round = 0; round < 20; ++round) {
    std::size_t volumes = 0;
    best = std::min(
        best, bench::seconds([&] { volumes = bench::must(detail::parse_lvm_report(text), "parsing").volumes.size(); }));
    if (volumes != 10'000) bench::die("the report was not understood");
  }
  bench::print_header();
  std::printf("| parse what lvs says of 10000 volumes | | %.3f ms | | | <= 10 ms | %s |\n", best * 1e3,
              best <= 0.010 ? "yes" : "NO");
  return 0;
}

class Pool {
 public:
  Pool(const std::string& vg, const std::string& pool)
      : vg_{vg},
        pool_{vg + "/" + pool},
        storage_{bench::must(Storage<LvmThin>::open(*StorageId::parse("st"), config(vg, pool)), "opening")} {}

  /// The bare command that does the same, with the same flags.
  static void bare(std::vector<std::string> argv) { bench::run_command(std::move(argv)); }

  void list(std::size_t pairs) {
    const std::size_t volumes = bench::must(storage_.list(), "listing").size();
    const std::string what = "list " + std::to_string(volumes) + " volumes";
    const auto ours = [&] {
      return bench::seconds([&] { static_cast<void>(bench::must(storage_.list(), "listing")); });
    };
    const auto theirs = [&] {
      return bench::seconds([&] {
        bare({"/sbin/lvs", "--noheadings", "--units", "b", "-o",
              "lv_name,lv_size,lv_attr,pool_lv,origin,data_percent,lv_time,lv_tags", vg_});
      });
    };
    bench::print_row(what.c_str(), "lvs", bench::paired(pairs, ours, theirs), bench::at_most(1.05));
  }

  /// `ours` and `theirs` make something under a name of their own, which is removed without being counted.
  template <class Ours, class Theirs>
  void change(std::size_t pairs, const char* what, const char* peer, Ours ours, Theirs theirs) {
    const auto undo = [&](const std::string& name) { bare({"/sbin/lvremove", "-qq", "-y", vg_ + "/" + name}); };
    const bench::Ratio r = bench::paired(
        pairs,
        [&] {
          const double took = bench::seconds(ours);
          undo(undone_ours_);
          return took;
        },
        [&] {
          const double took = bench::seconds(theirs);
          undo(undone_theirs_);
          return took;
        });
    bench::print_row(what, peer, r, bench::at_most(1.10));
  }

  void run(std::size_t pairs) {
    const CreateSpec spec{.vmid = guest, .size = 64_MiB, .name = *VolumeName::parse("vm-990000101-ours")};
    undone_ours_ = "vm-990000101-ours";
    undone_theirs_ = "theirs";
    change(
        pairs, "create", "lvcreate -V", [&] { static_cast<void>(bench::must(storage_.create(spec), "creating")); },
        [&] {
          bare({"/sbin/lvcreate", "-qq", "-y", "-prw", "-ay", "-ky", "-K", "-Wn", "-V", "64M", "-n", "theirs",
                "--thinpool", pool_});
        });

    const VolumeName origin = *VolumeName::parse("vm-990000101-origin");
    static_cast<void>(bench::must(storage_.create({.vmid = guest, .size = 64_MiB, .name = origin}), "creating"));
    undone_ours_ = "snap_vm-990000101-origin_ours";
    const SnapshotName snapshot = *SnapshotName::parse("ours");
    change(
        pairs, "snapshot", "lvcreate -s", [&] { bench::must(storage_.snapshot(origin, snapshot), "snapshot"); },
        [&] {
          bare({"/sbin/lvcreate", "-qq", "-y", "-s", "-pr", "-ky", "--addtag", "taken", "-n", "theirs",
                vg_ + "/" + origin.str()});
        });

    const VolumeName base = bench::must(storage_.make_template(origin), "template");
    undone_ours_ = "vm-990000101-ours";
    const CloneSpec clone{.vmid = guest, .name = *VolumeName::parse("vm-990000101-ours")};
    change(
        pairs, "clone", "lvcreate -s -K",
        [&] { static_cast<void>(bench::must(storage_.clone(base, clone), "cloning")); },
        [&] {
          bare({"/sbin/lvcreate", "-qq", "-y", "-s", "-prw", "-ay", "-ky", "-K", "--addtag", "cloned", "-n", "theirs",
                vg_ + "/" + base.str()});
        });

    const bench::Ratio removal = bench::paired(
        pairs,
        [&] {
          static_cast<void>(bench::must(storage_.create(spec), "creating"));
          return bench::seconds([&] { bench::must(storage_.remove(*spec.name), "removing"); });
        },
        [&] {
          bare({"/sbin/lvcreate", "-qq", "-V", "64M", "-n", "theirs", "--thinpool", pool_});
          return bench::seconds([&] { bare({"/sbin/lvremove", "-qq", "-y", vg_ + "/theirs"}); });
        });
    bench::print_row("remove", "lvremove", removal, bench::at_most(1.10));
    bench::must(storage_.remove(base), "removing the template");
  }

 private:
  static LvmThinConfig config(const std::string& vg, const std::string& pool) {
    LvmThinConfig config;
    config.vgname = vg;
    config.thinpool = pool;
    return config;
  }

  std::string vg_;
  std::string pool_;
  std::string undone_ours_;
  std::string undone_theirs_;
  Storage<LvmThin> storage_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return parsing();
  if (words.size() < 3) bench::die("usage: bench_lvm_thin [VG POOL PAIRS [list]]");
  Pool pool{words[0], words[1]};
  const std::size_t pairs = std::stoul(words[2]);
  bench::print_header();
  if (words.size() > 3) {
    pool.list(pairs);
  } else {
    pool.run(pairs);
  }
  return 0;
}
