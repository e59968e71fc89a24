// One side of a comparison that `benchmarks/versus` makes: a load of random requests, through stowage or through the
// bare C library, or a copy through stowage. It does it once, and prints what it took.
// usage: bench_versus load ours|bare read|write DEPTH REQUESTS WHERE: prints seconds, and seconds of processor time
//        bench_versus copy WHERE WHERE: prints seconds, and KiB of memory before it and at most
// bench_versus_lun is the same without RBD.
// WHERE is of several words: file PATH, rbd CONF IMAGE, or iscsi PORTAL TARGET, which means its first LUN. A copy makes
// the file or image that it goes to, but goes onto one that is there and empty if it is called empty CONF IMAGE; a LUN
// is overwritten.

#include <fcntl.h>
#include <poll.h>
#include <rados/librados.h>
#include <rbd/librbd.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <span>
#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/backends/rbd.hpp>
#include <stowage/io/kernel_extents.hpp>
#include <stowage/io/uring_queue.hpp>
#include <stowage/storage.hpp>
#include <stowage/transfer/copy.hpp>
#include <stowage/transfer/new_volume.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "paired.hpp"

using namespace stowage;

namespace {

#ifdef STOWAGE_VERSUS_WITHOUT_RBD
constexpr bool with_rbd = false;
#else
constexpr bool with_rbd = true;
#endif

constexpr std::uint64_t block = 4096;
constexpr std::size_t warm_up = 256;  // requests: connections, the exclusive lock, what is bound lazily

struct Load {
  bool writes = false;
  std::size_t depth = 1;
  std::size_t requests = 0;
};

/// Buffers on blocks of memory, one for each request in flight, and the next place for each.
class Places {
 public:
  Places(std::size_t depth, std::uint64_t size)
      : memory_{static_cast<char*>(std::aligned_alloc(block, depth * block))}, blocks_{size / block} {
    std::fill_n(memory_, depth * block, 'x');
  }
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;
  ~Places() { std::free(memory_); }  // NOLINT(cppcoreguidelines-no-malloc)

  [[nodiscard]] char* buffer(std::size_t slot) const noexcept { return memory_ + slot * block; }
  /// Anywhere (xorshift64).
  std::uint64_t next() noexcept {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 7U;
    state_ ^= state_ << 17U;
    return state_ % blocks_ * block;
  }

 private:
  char* memory_;
  std::uint64_t blocks_;
  std::uint64_t state_ = 0x9E3779B97F4A7C15U;
};

double processor_seconds() {
  ::rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const ::timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// `run(requests)` makes so many.
template <class Run>
void measure(const Load& load, Run run) {
  run(warm_up);
  const double before = processor_seconds();
  const double took = bench::seconds([&] { run(load.requests); });
  std::printf("%.6f %.6f\n", took, processor_seconds() - before);
}

// ---- through stowage ------------------------------------------------------------------------------------------------

template <class Queue>
void load_queue(Queue& queue, const Load& load) {
  Places places{load.depth, queue.size().count};
  std::vector<::iovec> buffers(load.depth);
  for (std::size_t slot = 0; slot < load.depth; ++slot) buffers[slot] = {places.buffer(slot), block};
  std::vector<IoCompletion> done(load.depth);
  measure(load, [&](std::size_t requests) {
    std::size_t begun = 0;
    const auto submit = [&](std::uint64_t slot) {
      const IoRequest request{.op = load.writes ? IoOp::write : IoOp::read,
                              .offset = Bytes{places.next()},
                              .buffers = {&buffers[slot], 1},
                              .token = slot};
      if (queue.submit(request) != Submitted::yes) bench::die("the queue takes no request");
      ++begun;
    };
    for (std::size_t slot = 0; slot < load.depth; ++slot) submit(slot);
    while (queue.in_flight() > 0) {
      const std::size_t count = bench::must(wait(queue, done, std::chrono::seconds{30}), "waiting");
      for (std::size_t i = 0; i < count; ++i) {
        if (done[i].result != static_cast<std::int64_t>(block)) bench::die("a request failed");
        if (begun < requests) submit(done[i].token);
      }
    }
  });
}

[[maybe_unused]] Storage<Rbd> open_rbd(const char* conf) {
  return bench::must(Storage<Rbd>::open(*StorageId::parse("bench"), RbdConfig{}, {.ceph_conf = conf}), "opening");
}

Storage<IscsiDirect> open_iscsi(const char* portal, const char* target) {
  const IscsiDirectConfig config{.portal = *Portal::parse(portal), .target = *Iqn::parse(target)};
  return bench::must(Storage<IscsiDirect>::open(*StorageId::parse("bench"), config), "opening");
}

VolumeName first_lun(Storage<IscsiDirect>& storage) {
  auto luns = bench::must(storage.list(), "listing");
  if (luns.empty()) bench::die("the target has no LUN");
  return luns.front().name;
}

template <class Device>
void load_device(Device device, const Load& load) {
  auto queue = bench::must(device.queue(load.depth), "a queue");
  load_queue(queue, load);
}

// ---- bare librbd: one thread that submits and reaps, woken by the image's eventfd
// -------------------------------------

[[maybe_unused]] void load_bare_rbd(const char* conf, const char* name, const Load& load) {
  rados_t cluster{};
  rados_ioctx_t pool{};
  rbd_image_t image{};
  std::uint64_t size = 0;
  bench::must(::rados_create(&cluster, "admin"), "rados_create");
  bench::must(::rados_conf_read_file(cluster, conf), "rados_conf_read_file");
  bench::must(::rados_conf_set(cluster, "rbd_cache", "false"), "rbd_cache");
  bench::must(::rados_connect(cluster), "rados_connect");
  bench::must(::rados_ioctx_create(cluster, "rbd", &pool), "rados_ioctx_create");
  bench::must(::rbd_open(pool, name, &image, nullptr), "rbd_open");
  bench::must(::rbd_get_size(image, &size), "rbd_get_size");
  const int event = ::eventfd(0, EFD_NONBLOCK);
  bench::must(::rbd_set_image_notification(image, event, EVENT_TYPE_EVENTFD), "rbd_set_image_notification");

  Places places{load.depth, size};
  std::vector<rbd_completion_t> done(load.depth);
  measure(load, [&](std::size_t requests) {
    std::size_t begun = 0;
    std::size_t ended = 0;
    const auto submit = [&](char* buffer) {
      rbd_completion_t completion{};
      bench::must(::rbd_aio_create_completion(buffer, nullptr, &completion), "rbd_aio_create_completion");
      const std::uint64_t at = places.next();
      bench::must(load.writes ? ::rbd_aio_write(image, at, block, buffer, completion)
                              : ::rbd_aio_read(image, at, block, buffer, completion),
                  "rbd_aio");
      ++begun;
    };
    for (std::size_t slot = 0; slot < load.depth; ++slot) submit(places.buffer(slot));
    while (ended < begun) {
      ::pollfd poll{event, POLLIN, 0};
      bench::must(::poll(&poll, 1, 30'000), "poll");
      ::eventfd_t ignored = 0;
      ::eventfd_read(event, &ignored);
      const int count = bench::must(::rbd_poll_io_events(image, done.data(), static_cast<int>(load.depth)), "events");
      for (rbd_completion_t completion : std::span{done}.first(static_cast<std::size_t>(count))) {
        bench::must(static_cast<int>(::rbd_aio_get_return_value(completion)), "a request");
        auto* const buffer = static_cast<char*>(::rbd_aio_get_arg(completion));
        ::rbd_aio_release(completion);
        ++ended;
        if (begun < requests) submit(buffer);
      }
    }
  });
  ::rbd_close(image);
  ::close(event);
  ::rados_ioctx_destroy(pool);
  ::rados_shutdown(cluster);
}

// ---- bare libiscsi: each answer sends the next command
// -----------------------------------------------------------------

class BareIscsi {
 public:
  BareIscsi(const char* portal, const char* target, int lun, const Load& load)
      : load_{load}, lun_{lun}, context_{::iscsi_create_context("iqn.2026-11.lab:bench")} {
    ::iscsi_set_targetname(context_, target);
    ::iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL);
    ::iscsi_set_noautoreconnect(context_, 1);
    bench::must(::iscsi_full_connect_sync(context_, portal, lun), "connect");
    ::scsi_task* const task = ::iscsi_readcapacity16_sync(context_, lun);
    if (task == nullptr || task->status != SCSI_STATUS_GOOD) bench::die("READ CAPACITY");
    const auto* const capacity = static_cast<::scsi_readcapacity16*>(::scsi_datain_unmarshall(task));
    sector_ = capacity->block_length;
    size_ = (capacity->returned_lba + 1) * sector_;
    ::scsi_free_scsi_task(task);
  }
  BareIscsi(const BareIscsi&) = delete;
  BareIscsi& operator=(const BareIscsi&) = delete;
  ~BareIscsi() { ::iscsi_destroy_context(context_); }

  void run() {
    Places places{load_.depth, size_};
    places_ = &places;
    std::vector<Slot> slots(load_.depth);
    for (std::size_t n = 0; n < load_.depth; ++n) slots[n] = {this, {places.buffer(n), block}};
    measure(load_, [&](std::size_t requests) {
      left_ = requests;
      for (Slot& slot : slots) submit(slot);
      while (in_flight_ > 0) {
        ::pollfd poll{::iscsi_get_fd(context_), static_cast<short>(::iscsi_which_events(context_)), 0};
        bench::must(::poll(&poll, 1, 30'000), "poll");
        bench::must(::iscsi_service(context_, poll.revents), "iscsi_service");
      }
    });
  }

 private:
  struct Slot {
    BareIscsi* self = nullptr;
    ::scsi_iovec buffer{};
  };

  void submit(Slot& slot) {
    const std::uint64_t at = places_->next() / sector_;
    const auto length = static_cast<std::uint32_t>(block);
    const auto sector = static_cast<int>(sector_);
    const bool good = load_.writes
                          ? ::iscsi_write16_iov_task(context_, lun_, at, nullptr, length, sector, 0, 0, 0, 0, 0,
                                                     &BareIscsi::answered, &slot, &slot.buffer, 1) != nullptr
                          : ::iscsi_read16_iov_task(context_, lun_, at, length, sector, 0, 0, 0, 0, 0,
                                                    &BareIscsi::answered, &slot, &slot.buffer, 1) != nullptr;
    if (!good) bench::die("libiscsi takes no command");
    ++in_flight_;
    --left_;
  }
  static void answered(::iscsi_context*, int status, void* data, void* user) {
    Slot& slot = *static_cast<Slot*>(user);
    BareIscsi& self = *slot.self;
    if (status != SCSI_STATUS_GOOD) bench::die("a command failed");
    ::scsi_free_scsi_task(static_cast<::scsi_task*>(data));
    --self.in_flight_;
    if (self.left_ > 0) self.submit(slot);
  }

  Load load_;
  int lun_;
  ::iscsi_context* context_;
  std::uint64_t sector_ = 512;
  std::uint64_t size_ = 0;
  Places* places_ = nullptr;
  std::size_t left_ = 0;
  std::size_t in_flight_ = 0;
};

int load(std::span<char*> words) {
  if (words.size() < 6) return 2;
  const std::string_view side = words[0];
  const Load load{std::string_view{words[1]} == "write", std::strtoul(words[2], nullptr, 10),
                  std::strtoul(words[3], nullptr, 10)};
  const std::string_view kind = words[4];
  const Access access = load.writes ? Access::read_write : Access::read_only;
  const auto where = words.subspan(5);
  if (kind == "file" && side == "ours") {
    auto queue = bench::must(UringQueue::open(where[0], access, load.depth), "opening");
    load_queue(queue, load);
  } else if (kind == "rbd" && where.size() == 2) {
    if constexpr (with_rbd) {
      if (side == "bare") return load_bare_rbd(where[0], where[1], load), 0;
      auto storage = open_rbd(where[0]);
      load_device(bench::must(storage.open_volume(*VolumeName::parse(where[1]), access), "opening"), load);
    }
  } else if (kind == "iscsi" && where.size() == 2) {
    if (side == "bare") return BareIscsi{where[0], where[1], 1, load}.run(), 0;
    auto storage = open_iscsi(where[0], where[1]);
    load_device(bench::must(storage.open_volume(first_lun(storage), access), "opening"), load);
  } else {
    return 2;
  }
  return 0;
}

// ---- copies ---------------------------------------------------------------------------------------------------------

/// KiB, of a line of /proc/self/status.
std::uint64_t memory(std::string_view what) {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(what)) return std::strtoull(line.c_str() + what.size(), nullptr, 10);
  }
  return 0;
}

/// Onto a queue, all of the source.
template <class Source, class Destination>
void copy_onto(Source& source, Destination& destination, std::span<const Extent> extents, bool fresh) {
  const std::uint64_t before = memory("VmRSS:");
  const double took =
      bench::seconds([&] { bench::must(copy_queues(source, destination, extents, {.fresh = fresh}), "copying"); });
  std::printf("%.6f %llu %llu\n", took, static_cast<unsigned long long>(before),
              static_cast<unsigned long long>(memory("VmHWM:")));
}

template <class Source>
int copy_from(Source& source, std::span<const Extent> extents, std::span<char*> to) {
  const std::string_view kind = to.empty() ? "" : to[0];
  const std::size_t depth = CopyOptions{}.queue_depth;
  if (kind == "file" && to.size() == 2) {
    Fd file{::open(to[1], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (!file || ::ftruncate(file.get(), static_cast<::off_t>(source.size().count)) != 0) bench::die("making a file");
    auto queue = bench::must(UringQueue::over(std::move(file), depth), "a queue");
    copy_onto(source, queue, extents, true);
  } else if ((kind == "rbd" || kind == "empty") && to.size() == 3) {
    if constexpr (with_rbd) {
      auto storage = open_rbd(to[1]);
      const VolumeName name = *VolumeName::parse(to[2]);
      const auto fill = [&](auto& device) -> Result<void> {
        auto queue = bench::must(device.queue(depth), "a queue");
        copy_onto(source, queue, extents, true);
        return {};
      };
      if (kind == "empty") {
        auto device = bench::must(storage.open_volume(name, Access::read_write), "opening");
        bench::must(fill(device).and_then([&] { return device.close(); }), "closing");
      } else {
        const CreateSpec spec{.vmid = VmId{100}, .size = source.size(), .name = name};
        bench::must(make_filled_volume(storage, spec, fill), "making a volume");
      }
    }
  } else if (kind == "iscsi" && to.size() == 3) {
    auto storage = open_iscsi(to[1], to[2]);
    auto device = bench::must(storage.open_volume(first_lun(storage), Access::read_write), "opening");
    auto queue = bench::must(device.queue(depth), "a queue");
    copy_onto(source, queue, extents, false);
    bench::must(device.close(), "closing");
  } else {
    return 2;
  }
  return 0;
}

template <class Device>
int copy_from_device(Device device, std::span<char*> to) {
  const auto extents = bench::must(device.extents(), "extents");
  auto queue = bench::must(device.queue(CopyOptions{}.queue_depth), "a queue");
  return copy_from(queue, extents, to);
}

int copy(std::span<char*> words) {
  const std::string_view kind = words.empty() ? "" : words[0];
  if (kind == "file" && words.size() > 2) {
    const Fd file{::open(words[1], O_RDONLY | O_CLOEXEC)};
    const auto extents = bench::must(file_extents(file.get()), "extents");
    auto queue = bench::must(UringQueue::open(words[1], Access::read_only, CopyOptions{}.queue_depth), "opening");
    return copy_from(queue, extents, words.subspan(2));
  }
  if (kind == "rbd" && words.size() > 3) {
    if constexpr (with_rbd) {
      auto storage = open_rbd(words[1]);
      return copy_from_device(
          bench::must(storage.open_volume(*VolumeName::parse(words[2]), Access::read_only), "opening"),
          words.subspan(3));
    }
  }
  if (kind == "iscsi" && words.size() > 3) {
    auto storage = open_iscsi(words[1], words[2]);
    return copy_from_device(bench::must(storage.open_volume(first_lun(storage), Access::read_only), "opening"),
                            words.subspan(3));
  }
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span words{argv, static_cast<std::size_t>(argc)};
  const std::string_view command = argc > 1 ? argv[1] : "";
  int status = 2;
  if (command == "load") status = load(words.subspan(2));
  if (command == "copy") status = copy(words.subspan(2));
  if (status == 2) std::fputs("usage: see the head of benchmarks/versus.cpp\n", stderr);
  return status;
}
