// Rbd against the `rbd` command and against bare librbd: listing, and the latency of verbs.
// usage: bench_rbd CEPH_CONF KEYRING IMAGES   (a throw-away cluster: its pool `rbd` is filled and emptied)
//        bench_rbd CEPH_CONF list             (what a program costs that lists the pool once)

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stowage/backends/rbd.hpp>
#include <stowage/storage.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "paired.hpp"

using namespace stowage;

namespace {

constexpr std::size_t pairs = 15;
constexpr std::size_t many_pairs = 45;  // a snapshot waits for a round of the monitors, whose times scatter widely
constexpr int per_round = 5;            // verbs timed together: one is too short against the noise
constexpr Bytes size = 1_GiB;

/// What a program without stowage would hold.
struct Bare {
  rados_t cluster{};
  rados_ioctx_t pool{};

  explicit Bare(const char* conf) {
    bench::must(::rados_create(&cluster, "admin"), "rados_create");
    bench::must(::rados_conf_read_file(cluster, conf), "rados_conf_read_file");
    bench::must(::rados_connect(cluster), "rados_connect");
    bench::must(::rados_ioctx_create(cluster, "rbd", &pool), "rados_ioctx_create");
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() {
    ::rados_ioctx_destroy(pool);
    ::rados_shutdown(cluster);
  }

  void create(const std::string& name) const {
    rbd_image_options_t options{};
    ::rbd_image_options_create(&options);
    ::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FORMAT, 2);
    ::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES,
                                   RBD_FEATURE_LAYERING | RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_OBJECT_MAP |
                                       RBD_FEATURE_FAST_DIFF | RBD_FEATURE_DEEP_FLATTEN);
    bench::must(::rbd_create4(pool, name.c_str(), size.count, options), "rbd_create4");
    ::rbd_image_options_destroy(options);
  }
  void remove(const std::string& name) const { bench::must(::rbd_remove(pool, name.c_str()), "rbd_remove"); }

  template <class Verb>
  void with_image(const std::string& name, Verb verb) const {
    rbd_image_t image{};
    bench::must(::rbd_open(pool, name.c_str(), &image, nullptr), "rbd_open");
    verb(image);
    bench::must(::rbd_close(image), "rbd_close");
  }
  void snapshot(const std::string& name, const char* snap) const {
    with_image(name, [&](rbd_image_t image) { bench::must(::rbd_snap_create(image, snap), "rbd_snap_create"); });
  }
  void remove_snapshot(const std::string& name, const char* snap) const {
    with_image(name, [&](rbd_image_t image) { bench::must(::rbd_snap_remove(image, snap), "rbd_snap_remove"); });
  }
  void clone(const std::string& parent, const char* snap, const std::string& name) const {
    rbd_image_options_t options{};
    ::rbd_image_options_create(&options);
    ::rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES,
                                   RBD_FEATURE_LAYERING | RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_OBJECT_MAP |
                                       RBD_FEATURE_FAST_DIFF | RBD_FEATURE_DEEP_FLATTEN);
    bench::must(::rbd_clone3(pool, parent.c_str(), snap, pool, name.c_str(), options), "rbd_clone3");
    ::rbd_image_options_destroy(options);
  }
};

VolumeName named(const std::string& text) { return *VolumeName::parse(text); }

/// `vm-100-<what><n>`, never the same twice.
std::string fresh(const std::string& what) {
  static std::atomic<unsigned> next{0};
  return "vm-100-" + what + std::to_string(next++);
}

/// Seconds of one of `per_round` calls; the names that `verb` gets were made by `prepare`, which is not timed.
template <class Prepare, class Verb>
double each(Prepare prepare, Verb verb) {
  std::vector<std::string> names;
  names.reserve(per_round);
  for (int i = 0; i < per_round; ++i) names.push_back(prepare());
  const auto all = [&] {
    for (const std::string& name : names) verb(name);
  };
  return bench::seconds(all) / per_round;
}

/// Seconds for one of the calls that `threads` callers make at once.
template <class Verb>
double at_once(unsigned threads, unsigned calls, Verb verb) {
  const auto all = [&] {
    std::vector<std::thread> callers;
    for (unsigned t = 0; t < threads; ++t) {
      callers.emplace_back([&] {
        for (unsigned i = 0; i < calls; ++i) verb();
      });
    }
    for (std::thread& caller : callers) caller.join();
  };
  return bench::seconds(all) / (threads * calls);
}

Storage<Rbd> open_storage(const OpenOptions& options) {
  return bench::must(Storage<Rbd>::open(*StorageId::parse("bench"), RbdConfig{}, options), "open");
}

/// What `bench_rbd CEPH_CONF list` does, to be compared with a program: it starts, connects, lists and prints.
void print_listing(const std::string& conf) {
  const std::vector<VolumeInfo> volumes = bench::must(open_storage({.ceph_conf = conf}).list(), "list");
  for (const VolumeInfo& v : volumes) {
    std::printf(R"({"image":"%s","size":%s,"parent":"%s"})"
                "\n",
                v.name.c_str(), std::to_string(v.size.count).c_str(), v.parent ? v.parent->image.c_str() : "");
  }
}

class RbdBench {
 public:
  RbdBench(const std::string& conf, const std::string& keyring)
      : bare_{conf.c_str()}, rbd_{"/usr/bin/rbd", "-c", conf, "--keyring", keyring}, options_{.ceph_conf = conf} {}

  void run(std::size_t images) {
    bench::print_header();
    listing(images);  // first, while the pool holds as many as asked for
    creating();
    snapshots();
    resizing();
    cloning();
    removing();
    crowd();
  }

 private:
  /// Over a connection of its own: storages with another deadline do not share it.
  [[nodiscard]] Storage<Rbd> connect() const {
    OpenOptions own = options_;
    own.timeout += std::chrono::seconds{1};
    return open_storage(own);
  }
  void rbd(std::vector<std::string> words) const {
    words.insert(words.begin(), rbd_.begin(), rbd_.end());
    bench::run_command(std::move(words));
  }
  [[nodiscard]] std::string made(const char* what) const {
    std::string name = fresh(what);
    bare_.create(name);
    return name;
  }
  [[nodiscard]] std::string made_with_snapshot(const char* what) const {
    std::string name = made(what);
    bare_.snapshot(name, "s1");
    return name;
  }
  void create(const std::string& name) {
    static_cast<void>(bench::must(storage_.create({.vmid = VmId{100}, .size = size, .name = named(name)}), "create"));
  }

  /// A row for `ours` against `theirs`, both called with names from `prepare`.
  template <class Prepare, class Ours, class Theirs>
  void row(const char* work, const char* peer, bench::Goal goal, Prepare prepare, Ours ours, Theirs theirs,
           std::size_t count = pairs) {
    const auto a = [&] { return each(prepare, ours); };
    const auto b = [&] { return each(prepare, theirs); };
    bench::print_row(work, peer, bench::paired(count, a, b), goal);
  }

  /// One in ten is a linked clone.
  void listing(std::size_t images) {
    const std::string golden = "base-9-golden";
    bare_.create(golden);
    bare_.snapshot(golden, "__base__");
    bare_.with_image(golden, [](rbd_image_t image) { bench::must(::rbd_snap_protect(image, "__base__"), "protect"); });
    for (std::size_t i = 1; i < images; ++i) {
      if (i % 10 == 0) {
        bare_.clone(golden, "__base__", fresh("l"));
      } else {
        bare_.create(fresh("l"));
      }
    }
    const std::size_t found = bench::must(storage_.list(), "list").size();
    const std::string work = "list " + std::to_string(found) + " images with sizes and parents";
    const auto list = [&] { static_cast<void>(bench::must(storage_.list(), "list")); };
    const auto connect_and_list = [&] { static_cast<void>(bench::must(connect().list(), "list")); };
    const auto program = [&] {
      return bench::seconds([&] { bench::run_command({"/proc/self/exe", options_.ceph_conf, "list"}); });
    };
    const auto tool = [&] { return bench::seconds([&] { rbd({"ls", "-l", "--format", "json"}); }); };
    bench::print_row(work.c_str(), "`rbd ls -l --format json`",
                     bench::paired(
                         9, [&] { return bench::seconds(list); }, tool),
                     bench::times_faster(25));
    // The tool starts and connects each time: so do these.
    bench::print_row((work + ", connecting for it").c_str(), "`rbd ls -l --format json`",
                     bench::paired(
                         9, [&] { return bench::seconds(connect_and_list); }, tool));
    bench::print_row((work + ", by a program started for it").c_str(), "`rbd ls -l --format json`",
                     bench::paired(9, program, tool));
  }

  void creating() {
    const auto name = [] { return fresh("c"); };
    const auto ours = [&](const std::string& n) { create(n); };
    row("create", "rbd_create4", bench::at_most(1.10), name, ours, [&](const std::string& n) { bare_.create(n); });
    row("create", "`rbd create`", bench::no_goal, name, ours, [&](const std::string& n) {
      rbd({"create", "--size", "1024", n});
    });
  }

  void snapshots() {
    const SnapshotName s1 = *SnapshotName::parse("s1");
    const auto image = [&] { return made("s"); };
    const auto take = [&](const std::string& n) { bench::must(storage_.snapshot(named(n), s1), "snapshot"); };
    const auto drop = [&](const std::string& n) { bench::must(storage_.remove_snapshot(named(n), s1), "remove"); };
    row(
        "snapshot", "rbd_open, rbd_snap_create, rbd_close", bench::at_most(1.10), image, take,
        [&](const std::string& n) { bare_.snapshot(n, "s1"); }, many_pairs);
    row("snapshot", "`rbd snap create`", bench::no_goal, image, take, [&](const std::string& n) {
      rbd({"snap", "create", "--no-progress", n + "@s1"});
    });
    row(
        "remove_snapshot", "rbd_open, rbd_snap_remove, rbd_close", bench::at_most(1.10),
        [&] { return made_with_snapshot("d"); }, drop, [&](const std::string& n) { bare_.remove_snapshot(n, "s1"); },
        many_pairs);
  }

  void resizing() {
    const auto ours = [&](const std::string& n) {
      static_cast<void>(bench::must(storage_.resize(named(n), 2_GiB), "resize"));
    };
    row(
        "resize", "rbd_open, rbd_resize, rbd_close", bench::at_most(1.10), [&] { return made("r"); }, ours,
        [&](const std::string& n) {
          bare_.with_image(n, [](rbd_image_t i) { bench::must(::rbd_resize(i, (2_GiB).count), "rbd_resize"); });
        });
  }

  void cloning() {
    create("vm-100-golden");
    const VolumeName base = bench::must(storage_.make_template(named("vm-100-golden")), "make_template");
    const auto name = [] { return fresh("k"); };
    const auto ours = [&](const std::string& n) {
      static_cast<void>(bench::must(storage_.clone(base, {.vmid = VmId{100}, .name = named(n)}), "clone"));
    };
    row("clone", "rbd_clone3", bench::at_most(1.35), name, ours,
        [&](const std::string& n) { bare_.clone(base.str(), "__base__", n); });
    row("clone", "`rbd clone`", bench::no_goal, name, ours, [&](const std::string& n) {
      rbd({"clone", "rbd/" + base.str() + "@__base__", "rbd/" + n});
    });
  }

  void removing() {
    const auto image = [&] { return made("x"); };
    const auto ours = [&](const std::string& n) { bench::must(storage_.remove(named(n)), "remove"); };
    row("remove", "rbd_remove, and one open to look first", bench::at_most(1.35), image, ours,
        [&](const std::string& n) {
          bare_.with_image(n, [](rbd_image_t) {});
          bare_.remove(n);
        });
    row("remove", "rbd_remove, which proves nothing", bench::no_goal, image, ours,
        [&](const std::string& n) { bare_.remove(n); });
    row("remove", "`rbd rm`", bench::no_goal, image, ours, [&](const std::string& n) {
      rbd({"rm", "--no-progress", n});
    });
  }

  void crowd() {
    const auto one_more = [&] { create(fresh("p")); };
    const auto crowd = [&] { return at_once(8, 15, one_more); };
    const auto alone = [&] { return at_once(1, 15, one_more); };
    bench::print_row("create, 8 callers at once", "one caller", bench::paired(pairs, crowd, alone),
                     bench::times_faster(2.5));
    const auto bare_crowd = [&] { return at_once(8, 15, [&] { bare_.create(fresh("q")); }); };
    const auto bare_alone = [&] { return at_once(1, 15, [&] { bare_.create(fresh("q")); }); };
    bench::print_row("rbd_create4, 8 callers at once", "one caller", bench::paired(pairs, bare_crowd, bare_alone));
    bench::print_row("create, 8 callers at once", "rbd_create4, 8 callers at once",
                     bench::paired(pairs, crowd, bare_crowd));
  }

  Bare bare_;
  std::vector<std::string> rbd_;
  OpenOptions options_;
  Storage<Rbd> storage_ = open_storage(options_);
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view{argv[2]} == "list") {
    print_listing(argv[1]);
    return 0;
  }
  if (argc != 4) bench::die("usage: bench_rbd CEPH_CONF KEYRING IMAGES");
  RbdBench{argv[1], argv[2]}.run(static_cast<std::size_t>(std::atoi(argv[3])));
  return 0;
}
