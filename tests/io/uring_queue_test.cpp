// UringQueue on files, with io_uring and with threads. On block devices: tests/guest/uring_test.cpp.

#include <catch2/catch.hpp>

#include <stowage/core/handle.hpp>
#include <stowage/io/uring_queue.hpp>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/locks.hpp"
#include "support/queue_laws.hpp"
#include "support/queue_model.hpp"

using namespace stowage;
using namespace std::chrono_literals;
using testing::PageBuffer;
using testing::perform;
using testing::QueueModel;
using testing::range_request;
using testing::read_request;
using testing::write_request;

namespace {

/// A file of its own, which goes with the test. Its first half is what a new file is, a hole.
class ScratchFile {
 public:
  explicit ScratchFile(Bytes size, const std::string& folder = "/tmp") : path_{folder + "/stowage-uring-XXXXXX"} {
    fd_ = Fd{::mkstemp(path_.data())};
    REQUIRE(fd_);
    resize(size);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  void resize(Bytes size) const { REQUIRE(::ftruncate(fd_.get(), static_cast<::off_t>(size.count)) == 0); }
  Bytes allocated() const {
    struct ::stat status {};
    REQUIRE(::fstat(fd_.get(), &status) == 0);
    return Bytes{static_cast<std::uint64_t>(status.st_blocks) * 512};
  }
  /// Without a queue.
  Result<void> read_at(Bytes at, std::span<std::byte> buffer) const {
    const auto got = ::pread(fd_.get(), buffer.data(), buffer.size(), static_cast<::off_t>(at.count));
    if (got != static_cast<::ssize_t>(buffer.size())) return fail(Errc::backend_failed, "pread");
    return {};
  }

  UringQueue queue(std::size_t depth, UringOptions options = {}, Access access = Access::read_write) const {
    auto opened = UringQueue::open(path_, access, depth, options);
    INFO((opened ? std::string{} : opened.error().message()));
    REQUIRE(opened.has_value());
    CHECK(opened->uses_io_uring() == options.io_uring);
    return std::move(*opened);
  }
  /// Through the page cache.
  UringQueue buffered(std::size_t depth, UringOptions options = {}) const {
    return UringQueue::over(Fd{::open(path_.c_str(), O_RDWR | O_CLOEXEC)}, depth, options).value();
  }

 private:
  std::string path_;
  Fd fd_;
};

constexpr UringOptions ring{.io_uring = true};
constexpr UringOptions threads{.io_uring = false};

void storm(const ScratchFile& file, UringOptions options) {
  QueueModel model{512_KiB, 6_MiB, true};
  auto queue = file.queue(32, options);
  model.storm(queue, {.requests = 4000});
  model.verify_through(queue);
  model.verify([&](Bytes at, std::span<std::byte> piece) { return file.read_at(at, piece); });
  CHECK(model.count(IoOp::discard) > 100);
  CHECK(model.count(IoOp::write_zeroes) > 100);
}

unsigned threads_of_this_program() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("Threads:", 0) == 0) return static_cast<unsigned>(std::stoul(line.substr(8)));
  }
  return 0;
}

/// A thread that was joined still shows for a moment.
bool comes_to(unsigned count) {
  for (int patience = 1000; patience > 0 && threads_of_this_program() != count; --patience) {
    std::this_thread::sleep_for(1ms);
  }
  return threads_of_this_program() == count;
}

}  // namespace

TEST_CASE("the queue of a file keeps the laws", "[queue]") {
  const ScratchFile file{8_MiB};
  testing::check_queue_laws([&](std::size_t depth) { return file.queue(depth, ring); });
}

TEST_CASE("the queue of a file keeps the laws with threads", "[queue]") {
  const ScratchFile file{8_MiB};
  testing::check_queue_laws([&](std::size_t depth) { return file.queue(depth, threads); });
}

TEST_CASE("the queue of a file in memory keeps the laws", "[queue]") {
  const ScratchFile file{8_MiB, "/dev/shm"};
  testing::check_queue_laws([&](std::size_t depth) { return file.queue(depth, ring); });
}

TEST_CASE("the queue of a file through the page cache keeps the laws", "[queue]") {
  const ScratchFile file{8_MiB};
  testing::check_queue_laws([&](std::size_t depth) { return file.buffered(depth); });
}

TEST_CASE("a storm of requests leaves in a file what the model says", "[queue]") {
  SECTION("io_uring") { storm(ScratchFile{8_MiB}, ring); }
  SECTION("threads") { storm(ScratchFile{8_MiB}, threads); }
  SECTION("io_uring, in memory") { storm(ScratchFile{8_MiB, "/dev/shm"}, ring); }
  SECTION("threads, in memory") { storm(ScratchFile{8_MiB, "/dev/shm"}, threads); }
}

TEST_CASE("discards and zeros give the space of a file back", "[queue]") {
  const ScratchFile file{8_MiB};
  auto queue = file.queue(4);
  const PageBuffer data{8U << 20U, std::byte{1}};
  const ::iovec whole = data.iov();
  REQUIRE(perform(queue, write_request(0_B, {&whole, 1})) == 8 << 20);
  REQUIRE(perform(queue, testing::flush_request()) == 0);
  REQUIRE(file.allocated() >= 8_MiB);
  REQUIRE(perform(queue, range_request(IoOp::discard, 0_B, 8_MiB)) == 8 << 20);
  CHECK(file.allocated() < 1_MiB);
}

TEST_CASE("files of any size have a queue", "[queue]") {
  for (const auto& [size, block] : {std::pair{1_MiB + 512_B, 512_B}, std::pair{Bytes{1'000'001}, 1_B}}) {
    const ScratchFile file{size};
    auto queue = file.queue(4);
    CHECK(queue.size() == size);
    CHECK(queue.block_size() == block);
    const PageBuffer memory{4096, std::byte{9}};
    const ::iovec last = memory.iov(0, block.count);
    CHECK(perform(queue, write_request(size - block, {&last, 1})) == static_cast<std::int64_t>(block.count));
    std::array<std::byte, 1> seen{};
    REQUIRE(file.read_at(size - 1_B, seen));
    CHECK(seen[0] == std::byte{9});
  }
  const ScratchFile empty{0_B};
  auto queue = empty.queue(4);
  CHECK(queue.size() == 0_B);
  CHECK(queue.submit(range_request(IoOp::discard, 0_B, 512_B)) == Submitted::invalid);
  CHECK(perform(queue, testing::flush_request()) == 0);
}

TEST_CASE("with O_DIRECT, memory that does not lie on blocks is invalid, and else it is not", "[queue]") {
  const ScratchFile file{1_MiB};
  const PageBuffer memory{8192};
  const ::iovec crooked = memory.iov(8, 4096);
  const std::array<::iovec, 2> halves{memory.iov(0, 100), memory.iov(100, 412)};
  auto cached = file.buffered(4);
  CHECK(perform(cached, read_request(0_B, {&crooked, 1})) == 4096);
  CHECK(perform(cached, write_request(512_B, halves)) == 512);
  auto direct = UringQueue::over(Fd{::open(file.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)}, 4);
  REQUIRE(direct.has_value());
  CHECK(direct->submit(read_request(0_B, {&crooked, 1})) == Submitted::invalid);
  CHECK(direct->submit(write_request(512_B, halves)) == Submitted::invalid);
}

TEST_CASE("a file that was opened to read is only read", "[queue]") {
  const ScratchFile file{1_MiB};
  for (const UringOptions options : {ring, threads}) {
    auto queue = file.queue(4, options, Access::read_only);
    testing::check_read_only_queue(queue);
  }
}

TEST_CASE("what is no device and no file, and a senseless depth, give no queue", "[queue]") {
  const auto code = [](const std::string& path, std::size_t depth = 1, Access access = Access::read_only) {
    return UringQueue::open(path, access, depth).error().code();
  };
  CHECK(code("/tmp/there is no such file") == Errc::not_found);
  CHECK(code("/tmp") == Errc::invalid_argument);
  CHECK(code("/dev/null") == Errc::invalid_argument);
  CHECK(UringQueue::over(Fd{}, 1).error().code() == Errc::backend_failed);
  const ScratchFile file{1_MiB};
  for (const int flags : {O_WRONLY, O_RDWR | O_APPEND, O_RDWR | O_NONBLOCK}) {
    const auto queue = UringQueue::over(Fd{::open(file.path().c_str(), flags | O_CLOEXEC)}, 1);
    CHECK(queue.error().code() == Errc::invalid_argument);
  }
  CHECK(code(file.path(), 0) == Errc::invalid_argument);
  CHECK(code(file.path(), 5000) == Errc::invalid_argument);
}

TEST_CASE("a file that became smaller fails the requests beyond its end", "[queue]") {
  for (const UringOptions options : {ring, threads}) {
    const ScratchFile file{1_MiB};
    auto queue = file.queue(4, options);
    file.resize(512_KiB);
    const PageBuffer memory{64U << 10U};
    const ::iovec whole = memory.iov();
    CHECK(perform(queue, read_request(768_KiB, {&whole, 1})) == -ENXIO);
    CHECK(perform(queue, read_request(512_KiB - 32_KiB, {&whole, 1})) == -ENXIO);
    CHECK(perform(queue, read_request(0_B, {&whole, 1})) == 64 << 10);
  }
}

TEST_CASE("more than one system call moves is moved", "[queue]") {
  // 3 GiB of a hole, over and over into the same memory: the kernel stops in the midst of a buffer below 2 GiB.
  const ScratchFile file{3_GiB};
  const PageBuffer memory{4U << 20U, std::byte{1}};
  const std::vector<::iovec> buffers(768, memory.iov());
  for (const UringOptions options : {ring, threads}) {
    auto queue = file.queue(2, options);
    CHECK(perform(queue, read_request(0_B, buffers)) == std::int64_t{3} << 30);
  }
}

TEST_CASE("requests outlive the thread that submitted them", "[queue]") {
  const ScratchFile file{8_MiB};
  for (const UringOptions options : {ring, threads}) {
    auto queue = file.queue(64, options);
    const PageBuffer data{4U << 20U, std::byte{0x42}};
    std::vector<::iovec> buffers;
    for (std::size_t i = 0; i < 64; ++i) buffers.push_back(data.iov(i << 16U, 1U << 16U));
    std::atomic<unsigned> taken{0};
    std::thread{[&] {
      for (std::size_t i = 0; i < 64; ++i) {
        // Also what the kernel leaves to its own threads, which it ends with ours.
        const Bytes at{i << 16U};
        const Submitted submitted = i % 4 == 3 ? queue.submit(range_request(IoOp::write_zeroes, at, 64_KiB))
                                               : queue.submit(write_request(at, {&buffers[i], 1}));
        taken += submitted == Submitted::yes ? 1 : 0;
      }
    }}.join();
    REQUIRE(taken == 64);
    std::array<IoCompletion, 64> out;
    std::size_t done = 0;
    while (done < 64) {
      const std::size_t reaped = wait(queue, out, 60s).value();
      for (std::size_t i = 0; i < reaped; ++i) CHECK(out[i].result == 64 << 10);
      done += reaped;
    }
    std::array<std::byte, 4096> seen{};
    for (std::size_t i = 0; i < 64; ++i) {
      REQUIRE(file.read_at(Bytes{i << 16U}, seen));
      CHECK(seen[4095] == (i % 4 == 3 ? std::byte{0} : std::byte{0x42}));
    }
  }
}

TEST_CASE("a request to a file allocates nothing, and locks nothing where io_uring makes the calls", "[queue]") {
  const ScratchFile file{8_MiB};
  for (const UringOptions options : {ring, threads}) {
    auto queue = file.queue(8, options);
    const PageBuffer memory{8U << 20U};
    std::vector<std::array<::iovec, 2>> buffers;
    for (std::size_t i = 0; i < 500; ++i)
      buffers.push_back({memory.iov(i << 14U, 4096), memory.iov((i << 14U) + 8192, 4096)});
    std::array<IoCompletion, 8> out;
    const std::uint64_t before = testing::allocations();
    const std::uint64_t locked = testing::locks();
    unsigned good = 0;
    for (std::size_t i = 0; i < 500; ++i) {
      const Bytes at{i << 13U};
      const IoRequest request = i % 5 == 0   ? range_request(IoOp::write_zeroes, at, 8_KiB, i)
                                : i % 5 == 1 ? range_request(IoOp::discard, at, 8_KiB, i)
                                : i % 5 == 2 ? write_request(at, buffers[i], i)
                                             : read_request(at, buffers[i], i);
      good += queue.submit(request) == Submitted::yes ? 1U : 0U;
      if (queue.in_flight() == queue.depth()) good += wait(queue, out, 60s).has_value() ? 0U : 1000U;
    }
    while (queue.in_flight() > 0) good += wait(queue, out, 60s).has_value() ? 0U : 1000U;
    const std::uint64_t after = testing::allocations();
    const std::uint64_t locks = testing::locks() - locked;
    CHECK(good == 500);
    CHECK(after == before);
    CHECK(locks == (queue.uses_io_uring() ? 0 : 500));
  }
  const std::uint64_t before = testing::allocations();
  ::operator delete(::operator new(1));
  CHECK(testing::allocations() == before + 1);  // it does count
}

TEST_CASE("threads are few, and only where io_uring is not", "[queue]") {
  const ScratchFile file{8_MiB};
  const unsigned before = threads_of_this_program();
  REQUIRE(before >= 1);
  {
    auto queue = file.queue(64, ring);
    CHECK(comes_to(before));
  }
  {
    auto queue = file.queue(64, threads);
    CHECK(comes_to(before + 16));
    auto narrow = file.queue(2, threads);
    CHECK(comes_to(before + 18));
  }
  CHECK(comes_to(before));
}

TEST_CASE("where io_uring is forbidden, threads do the work unasked", "[queue]") {
  const auto forbidden = GENERATE(as<unsigned>{}, __NR_io_uring_setup, __NR_io_uring_register, __NR_io_uring_enter);
  const ScratchFile file{1_MiB};
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // As container runtimes forbid it.
    ::sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(::seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const ::sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      ::_exit(2);
    }
    auto queue = UringQueue::open(file.path(), Access::read_write, 4);
    if (!queue || queue->uses_io_uring()) ::_exit(3);
    const PageBuffer data{4096, std::byte{0x66}};
    const ::iovec one = data.iov();
    std::array<IoCompletion, 1> out;
    if (queue->submit(write_request(4_KiB, {&one, 1})) != Submitted::yes) ::_exit(4);
    ::_exit(wait(*queue, out, 30s).value_or(0) == 1 && out[0].result == 4096 ? 0 : 5);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  std::array<std::byte, 1> seen{};
  REQUIRE(file.read_at(4_KiB, seen));
  CHECK(seen[0] == std::byte{0x66});
}

// ---- one request as system calls
// -------------------------------------------------------------------------------------

namespace {

using detail::UringCall;
using detail::UringOp;

/// What a kernel would do that moves less than it was asked to.
std::int64_t stingy(const UringCall& call, std::vector<std::byte>& volume, std::mt19937& random) {
  std::uint64_t wanted = call.length;
  for (const ::iovec& buffer : call.buffers) wanted += buffer.iov_len;
  std::uint64_t moved = 1 + random() % wanted;
  const std::uint64_t result = moved;
  std::uint64_t at = call.offset;
  const auto move = [&](void* memory, std::uint64_t length) {
    length = std::min(length, moved);
    if (call.what == UringCall::What::read) std::memcpy(memory, volume.data() + at, length);
    if (call.what == UringCall::What::write) std::memcpy(volume.data() + at, memory, length);
    at += length;
    moved -= length;
  };
  if (call.buffers.empty()) move(call.memory, call.length);
  for (const ::iovec& buffer : call.buffers) move(buffer.iov_base, buffer.iov_len);
  return static_cast<std::int64_t>(result);
}

}  // namespace

TEST_CASE("a request that the kernel does piece by piece is done as a whole", "[queue]") {
  std::mt19937 random{7};
  std::vector<std::byte> volume(10'000);
  for (std::byte& byte : volume) byte = static_cast<std::byte>(random());
  unsigned calls = 0;
  for (unsigned round = 0; round < 500; ++round) {
    std::vector<std::byte> memory(1 + random() % 2000);
    std::vector<::iovec> buffers;
    for (std::size_t begin = 0; begin < memory.size();) {
      const std::size_t length = random() % 4 == 0 ? 0 : std::min<std::size_t>(memory.size() - begin, random() % 300);
      buffers.push_back({memory.data() + begin, length});
      begin += length;
    }
    const bool write = round % 2 == 0;
    if (write) std::generate(memory.begin(), memory.end(), [&] { return static_cast<std::byte>(random()); });
    const std::size_t at = random() % (volume.size() - memory.size());
    std::vector<std::byte> expected = volume;
    if (write) std::copy(memory.begin(), memory.end(), expected.begin() + static_cast<std::ptrdiff_t>(at));
    UringOp op;
    op.begin(write ? write_request(Bytes{at}, buffers, round) : read_request(Bytes{at}, buffers, round), memory.size(),
             false);
    const std::int64_t interruptions[] = {-EINTR, -EAGAIN, -ECANCELED};
    for (bool done = false; !done; ++calls) {
      const UringCall call = op.call();
      done = op.advance(random() % 5 == 0 ? interruptions[random() % 3] : stingy(call, volume, random));
    }
    CHECK(op.completion().token == round);
    CHECK(op.completion().result == static_cast<std::int64_t>(memory.size()));
    CHECK(volume == expected);
    CHECK(std::equal(memory.begin(), memory.end(), volume.begin() + static_cast<std::ptrdiff_t>(at)));
  }
  CHECK(calls > 1500);
}

TEST_CASE("a range is zeroed and discarded in the best way that there is", "[queue]") {
  using What = UringCall::What;
  UringOp op;
  SECTION("zeros: as a hole, as a range, by writing") {
    op.begin(range_request(IoOp::write_zeroes, 4_KiB, 100_KiB), 100U << 10U, false);
    CHECK(op.call().what == What::allocate);
    CHECK((op.call().mode & FALLOC_FL_PUNCH_HOLE) != 0);
    CHECK_FALSE(op.advance(-EOPNOTSUPP));
    CHECK((op.call().mode & FALLOC_FL_ZERO_RANGE) != 0);
    CHECK_FALSE(op.advance(-EOPNOTSUPP));
    CHECK(op.call().what == What::write);
    CHECK(op.call().offset == 4096);
    CHECK(op.call().length == 64U << 10U);
    CHECK_FALSE(op.advance(64 << 10));
    CHECK(op.call().offset == 68U << 10U);
    CHECK(op.call().length == 36U << 10U);
    CHECK(op.advance(36 << 10));
    CHECK(op.completion().result == 100 << 10);
  }
  SECTION("zeros on a thin volume: whole chunks are discarded, and the ends are holes, ranges or written") {
    constexpr std::uint64_t chunk = 64U << 10U;
    op.begin(range_request(IoOp::write_zeroes, 4_KiB, 192_KiB), 3 * chunk, true, chunk);
    CHECK(op.needs_thread());
    const auto next = [&](What what, std::uint64_t offset, std::uint64_t length) {
      CHECK(op.call().what == what);
      CHECK(op.call().offset == offset);
      CHECK(op.call().length == length);
    };
    next(What::allocate, 4096, chunk - 4096);
    CHECK_FALSE(op.advance(-EOPNOTSUPP));
    next(What::allocate, 4096, chunk - 4096);
    CHECK_FALSE(op.advance(0));
    next(What::discard, chunk, 2 * chunk);
    SECTION("done") {
      CHECK_FALSE(op.advance(0));
      next(What::allocate, 3 * chunk, 4096);
      CHECK(op.advance(0));
    }
    SECTION("not by this pool") {
      CHECK_FALSE(op.advance(-EOPNOTSUPP));
      next(What::allocate, chunk, 2 * chunk + 4096);
      CHECK(op.advance(0));
    }
    CHECK(op.completion().result == 3 * chunk);
  }
  SECTION("chunks larger than one call takes are not discarded") {
    op.begin(range_request(IoOp::write_zeroes, 0_B, 4_GiB), 4U * (std::uint64_t{1} << 30U), true, 2U << 30U);
    CHECK_FALSE(op.needs_thread());
    CHECK(op.call().what == What::allocate);
    CHECK(op.call().length == 1U << 30U);
  }
  SECTION("zeros of no whole chunk are not discarded") {
    op.begin(range_request(IoOp::write_zeroes, 4_KiB, 64_KiB), 64U << 10U, true, 64U << 10U);
    CHECK_FALSE(op.needs_thread());
    CHECK(op.call().what == What::allocate);
    CHECK(op.call().length == 64U << 10U);
    CHECK(op.advance(0));
  }
  SECTION("a discard that nobody can do is done") {
    for (const bool on_block_device : {false, true}) {
      op.begin(range_request(IoOp::discard, 0_B, 4_KiB), 4096, on_block_device);
      CHECK(op.needs_thread() == on_block_device);
      CHECK(op.call().what == (on_block_device ? What::discard : What::allocate));
      CHECK(op.advance(-EOPNOTSUPP));
      CHECK(op.completion().result == 4096);
    }
  }
  SECTION("long ranges in pieces") {
    op.begin(range_request(IoOp::discard, 0_B, Bytes{(3U << 30U) - 512U}), (3U << 30U) - 512U, true);
    unsigned calls = 1;
    for (; !op.advance(0); ++calls) CHECK(op.call().offset == std::uint64_t{calls} << 30U);
    CHECK(calls == 3);
  }
  SECTION("errors end it") {
    for (const IoOp what : {IoOp::discard, IoOp::write_zeroes}) {
      op.begin(range_request(what, 0_B, 4_KiB), 4096, true);
      CHECK(op.advance(-EIO));
      CHECK(op.completion().result == -EIO);
    }
    op.begin(range_request(IoOp::discard, 0_B, 4_KiB), 4096, true);
    CHECK(op.advance(-ETIMEDOUT));
    CHECK(op.completion().result == -EINPROGRESS);  // the disk may have done it
    op.begin(testing::flush_request(3), 0, true);
    CHECK(op.call().what == What::sync);
    CHECK(op.advance(-ENOSPC));
    CHECK(op.completion().result == -ENOSPC);
    CHECK(op.completion().token == 3);
  }
}
