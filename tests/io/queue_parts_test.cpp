// What engines are built of.

#include <catch2/catch.hpp>

#include <stowage/io/queue_parts.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <thread>
#include <vector>

using namespace stowage;
using detail::Mailbox;
using detail::Slots;

namespace {

std::atomic<bool> held_up{false};
std::atomic<unsigned> wakes{0};

}  // namespace

/// The C library's, but as slow as a test wants it.
extern "C" int eventfd_write(int fd, ::eventfd_t value) {
  while (held_up) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  ++wakes;  // before it is seen
  return ::write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

namespace {

struct Letter {
  Letter* next = nullptr;
  std::size_t from = 0;
  std::size_t number = 0;
};

Fd eventfd() { return Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}; }

bool is_readable(int fd, int timeout_ms) {
  ::pollfd poll{fd, POLLIN, 0};
  return ::poll(&poll, 1, timeout_ms) == 1;
}

}  // namespace

TEST_CASE("slots are given once each, and again when they came back", "[queue]") {
  Slots<Letter> slots{3};
  CHECK(slots.count() == 3);
  std::array<Letter*, 3> taken{slots.take(), slots.take(), slots.take()};
  CHECK(slots.busy() == 3);
  CHECK(slots.take() == nullptr);
  CHECK(slots.busy() == 3);
  CHECK((taken[0] != taken[1] && taken[1] != taken[2] && taken[0] != taken[2]));
  slots.give_back(taken[1]);
  CHECK(slots.busy() == 2);
  CHECK(slots.take() == taken[1]);
}

TEST_CASE("letters of many threads arrive once each, each thread's in order, and the owner may sleep", "[queue]") {
  constexpr std::size_t senders = 4;
  constexpr std::size_t each = 5000;
  Mailbox<Letter> box{eventfd()};
  std::vector<std::vector<Letter>> letters(senders, std::vector<Letter>(each));
  std::vector<std::thread> threads;
  for (std::size_t sender = 0; sender < senders; ++sender) {
    threads.emplace_back([&, sender] {
      for (std::size_t i = 0; i < each; ++i) {
        letters[sender][i].from = sender;
        letters[sender][i].number = i;
        box.post(&letters[sender][i]);
        if (i % 100 == 0) std::this_thread::yield();
      }
    });
  }
  std::array<std::size_t, senders> next{};
  bool in_order = true;
  bool woken = true;
  for (std::size_t received = 0; received < senders * each;) {
    if (Letter* const letter = box.receive(); letter != nullptr) {
      in_order = in_order && letter->number == next[letter->from]++;
      ++received;
    } else {
      woken = woken && is_readable(box.fd(), 10'000);
    }
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(in_order);
  CHECK(woken);
  CHECK(box.receive() == nullptr);
  CHECK_FALSE(is_readable(box.fd(), 0));
}

TEST_CASE("a mailbox that goes after its last letter waits for the sender to be done with it", "[queue]") {
  // The sender is held up between posting and waking. By then the descriptor could be somebody else's.
  std::optional<Mailbox<Letter>> box;
  box.emplace(eventfd());
  Letter letter;
  wakes = 0;
  held_up = true;
  std::thread sender{[&] { box->post(&letter); }};
  while (box->receive() == nullptr) std::this_thread::yield();
  CHECK(wakes == 0);
  std::thread other{[] {
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
    held_up = false;
  }};
  box.reset();
  CHECK(wakes == 1);
  sender.join();
  other.join();
}
