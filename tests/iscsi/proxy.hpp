#pragma once
// A network that can be broken at any byte: it hands connections on to a target, cuts or stalls the next one that has
// carried so many bytes, or keeps a command on its way while the initiator loses the connection.

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace stowage::testing {

/// Puts another status into SCSI answers, as they pass by: BUSY and its like, which tgt never says.
class StatusForger {
 public:
  /// `left`: how many answers are to be changed.
  void pass(std::span<char> bytes, std::atomic<int>& left, char status) {
    for (std::size_t at = 0; at < bytes.size();) {
      if (skip_ > 0) {
        const std::size_t step = std::min(skip_, bytes.size() - at);
        skip_ -= step;
        at += step;
        continue;
      }
      // Basic header segment (RFC 7143, 11.2.1): opcode, flags, response, status, lengths of what follows.
      header_[have_++] = bytes[at];
      const int opcode = header_[0] & 0x3f;
      const bool has_status = opcode == 0x21 || (opcode == 0x25 && (header_[1] & 1) != 0);
      if (have_ == 4 && has_status && left > 0) {
        --left;
        bytes[at] = status;
      }
      ++at;
      if (have_ < header_.size()) continue;
      const auto octet = [&](std::size_t i) {
        return static_cast<std::size_t>(static_cast<unsigned char>(header_[i]));
      };
      const std::size_t data = octet(5) << 16U | octet(6) << 8U | octet(7);
      skip_ = octet(4) * 4 + (data + 3) / 4 * 4;
      have_ = 0;
    }
  }

 private:
  std::array<char, 48> header_{};
  std::size_t have_ = 0;
  std::size_t skip_ = 0;
};

class Proxy {
 public:
  enum class Then { cut, stall };

  /// `target`: 127.0.0.1:PORT.
  explicit Proxy(const std::string& target) {
    to_.sin_family = AF_INET;
    to_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to_.sin_port = htons(static_cast<std::uint16_t>(std::stoi(target.substr(target.rfind(':') + 1))));
    listener_ = Fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ::sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const ::sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    ::socklen_t size = sizeof any;
    REQUIRE(::getsockname(listener_.get(), reinterpret_cast<::sockaddr*>(&any), &size) == 0);
    portal_ = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
    thread_ = std::thread{[this] { work(); }};
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;
  ~Proxy() {
    end_ = true;
    thread_.join();
  }

  const std::string& portal() const { return portal_; }

  /// After `bytes` more, in both directions together, break the connection that carries them; those that are made
  /// later work.
  void break_after(std::int64_t bytes, Then then) {
    then_ = then;
    left_ = bytes;
    armed_ = true;
  }
  void heal() { armed_ = false; }
  /// The next `count` answers to SCSI commands have this status instead of theirs.
  void forge(int count, char status) {
    status_ = status;
    forged_left_ = count;
  }
  int forgeries_left() const { return forged_left_; }
  /// It has come to that.
  bool broken() const { return !armed_; }

  /// The next SCSI command with this operation code, and so many in all that follow it at once, stay on their way until
  /// `release`; the initiator's side of their connection is reset. It stays open towards the target.
  void delay(std::uint8_t operation, int commands = 1) {
    delayed_commands_ = commands;
    delayed_operation_ = operation;
  }
  /// It has come to that.
  bool delayed() const { return held_; }
  /// Lets the delayed commands arrive. Says whether the target answers, rather than having closed the connection.
  bool release() {
    const std::lock_guard lock{mutex_};
    if (!late_) return false;
    static_cast<void>(::send(late_.get(), late_bytes_.data(), late_bytes_.size(), MSG_NOSIGNAL));
    ::pollfd answer{late_.get(), POLLIN, 0};
    std::array<char, 4096> buffer{};
    const bool answered =
        ::poll(&answer, 1, 3000) == 1 && ::recv(late_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0;
    if (answered) static_cast<void>(::poll(nullptr, 0, 50));  // there may be more than one
    late_.reset();
    return answered;
  }
  /// Behave as a target that reinstates sessions (RFC 7143, 6.3.5): a login with the ISID of the session whose command
  /// was delayed ends that session. tgtd does not.
  void reinstate_sessions() { reinstates_ = true; }
  /// Connections that are made from now on are closed at once, until `admit`.
  void refuse_logins() { closed_ = true; }
  void admit() { closed_ = false; }
  /// The login answers name this portal group (one digit) instead of theirs.
  void name_group(char digit) { group_ = digit; }
  /// Commands with this operation code that have passed.
  int passed(std::uint8_t operation) const { return passed_.at(operation); }

 private:
  using Isid = std::array<char, 6>;
  struct Link {
    Fd client;
    Fd server;
    bool stalled = false;
    Isid isid{};
    std::string held{};  // of the command that is delayed
    StatusForger forger{};
    std::string to_client{};  // what has come and cannot go on yet
    std::string to_server{};
  };

  /// A side is read only when what it said before has gone on. (To wait there for the other one would be the end when
  /// both sides write first and read then, as tgtd does.)
  static ::pollfd wanted_of(const Link& link, const Fd& side, const std::string& from_it, const std::string& to_it) {
    const int events = (from_it.empty() ? POLLIN : 0) | (to_it.empty() ? 0 : POLLOUT);
    return {link.stalled ? -1 : side.get(), static_cast<short>(events), 0};
  }

  void work() {
    std::vector<Link> links;
    while (!end_) {
      std::vector<::pollfd> wanted{{listener_.get(), POLLIN, 0}};
      for (const Link& link : links) {
        wanted.push_back(wanted_of(link, link.client, link.to_server, link.to_client));
        wanted.push_back(wanted_of(link, link.server, link.to_client, link.to_server));
      }
      if (::poll(wanted.data(), wanted.size(), 20) <= 0) continue;
      for (std::size_t i = 0; i < links.size(); ++i) {
        Link& link = links[i];
        if (wanted[1 + 2 * i].revents == 0 && wanted[2 + 2 * i].revents == 0) continue;
        const bool goes_on = carry(link, link.client, link.server, link.to_server) &&
                             carry(link, link.server, link.client, link.to_client);
        if (!goes_on) link.client.reset();
      }
      std::erase_if(links, [](const Link& link) { return !link.client; });
      if (wanted[0].revents != 0) {
        Link link{Fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)},
                  Fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}};
        if (closed_) continue;
        if (::connect(link.server.get(), reinterpret_cast<const ::sockaddr*>(&to_), sizeof to_) == 0) {
          links.push_back(std::move(link));
        }
      }
    }
  }

  /// False: the link is to be closed.
  bool carry(Link& link, const Fd& from, const Fd& to, std::string& backlog) {
    if (link.stalled) return true;
    if (!send(to, backlog, MSG_DONTWAIT)) return false;
    if (!backlog.empty()) return true;
    std::array<char, 65536> buffer{};
    const ::ssize_t length = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0) return errno == EAGAIN;
    if (length == 0) return false;
    const std::span bytes = std::span{buffer}.first(static_cast<std::size_t>(length));
    if (&from == &link.server) {
      link.forger.pass(bytes, forged_left_, status_);
      if (group_ != 0) rename_group(bytes);
    } else if (!link.held.empty() || is_delayed(link, bytes)) {
      return !hold(link, bytes);
    }
    auto part = static_cast<std::int64_t>(length);
    bool breaks = false;
    if (armed_) {
      breaks = part >= left_;
      if (breaks) part = left_;
      left_ -= part;
    }
    backlog.assign(buffer.data(), static_cast<std::size_t>(part));
    if (!send(to, backlog, breaks ? 0 : MSG_DONTWAIT)) return false;
    if (!breaks) return true;
    armed_ = false;
    link.stalled = then_ == Then::stall;
    return link.stalled;
  }

  /// What an initiator sends begins with a PDU's header here, as long as it sends little.
  bool is_delayed(Link& link, std::span<const char> bytes) {
    if (bytes.size() < 48) return false;
    const int opcode = bytes[0] & 0x3f;
    if (opcode == 3) {
      std::copy_n(bytes.begin() + 8, link.isid.size(), link.isid.begin());
      const std::lock_guard lock{mutex_};
      if (reinstates_ && late_ && late_isid_ == link.isid) late_.reset();
    }
    if (opcode != 1) return false;
    const auto operation = static_cast<std::uint8_t>(bytes[32]);
    if (delayed_operation_ == operation) return true;
    ++passed_.at(operation);
    return false;
  }

  /// Keeps the commands until they are all there, with their immediate data; then says so, and the link is to be
  /// closed.
  bool hold(Link& link, std::span<const char> bytes) {
    link.held.append(bytes.data(), bytes.size());
    int whole = 0;
    for (std::size_t at = 0; at + 48 <= link.held.size();) {
      const auto octet = [&](std::size_t i) {
        return static_cast<std::size_t>(static_cast<unsigned char>(link.held[at + i]));
      };
      const std::size_t data = octet(5) << 16U | octet(6) << 8U | octet(7);
      at += 48 + octet(4) * 4 + (data + 3) / 4 * 4;
      if (at <= link.held.size()) ++whole;
    }
    if (whole < delayed_commands_) return false;
    delayed_operation_ = -1;
    const std::lock_guard lock{mutex_};
    late_ = std::move(link.server);
    late_bytes_ = std::move(link.held);
    late_isid_ = link.isid;
    const ::linger at_once{1, 0};
    static_cast<void>(::setsockopt(link.client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    held_ = true;
    return true;
  }

  void rename_group(std::span<char> bytes) const {
    constexpr std::string_view key = "TargetPortalGroupTag=";
    const auto found = std::search(bytes.begin(), bytes.end(), key.begin(), key.end());
    if (bytes.end() - found > std::ssize(key)) found[std::ssize(key)] = group_;
  }

  /// What is left stays in `backlog`. False: the other side has gone.
  static bool send(const Fd& to, std::string& backlog, int flags) {
    if (backlog.empty()) return true;
    const ::ssize_t sent = ::send(to.get(), backlog.data(), backlog.size(), MSG_NOSIGNAL | flags);
    if (sent < 0) return errno == EAGAIN;
    backlog.erase(0, static_cast<std::size_t>(sent));
    return true;
  }

  ::sockaddr_in to_{};
  Fd listener_;
  std::string portal_;
  std::atomic<bool> end_ = false;
  std::atomic<bool> armed_ = false;
  std::atomic<Then> then_ = Then::cut;
  std::atomic<std::int64_t> left_ = 0;
  std::atomic<int> forged_left_ = 0;
  std::atomic<char> status_ = 0;
  std::atomic<int> delayed_operation_ = -1;
  std::atomic<int> delayed_commands_ = 1;
  std::atomic<bool> held_ = false;
  std::atomic<bool> reinstates_ = false;
  std::atomic<bool> closed_ = false;
  std::atomic<char> group_ = 0;
  std::array<std::atomic<int>, 256> passed_{};
  std::mutex mutex_;  // for the delayed command
  Fd late_;
  std::string late_bytes_;
  Isid late_isid_{};
  std::thread thread_;
};

/// A portal that takes connections and never says a word.
class MutePortal {
 public:
  MutePortal() : listener_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    ::sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const ::sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    ::socklen_t size = sizeof any;
    REQUIRE(::getsockname(listener_.get(), reinterpret_cast<::sockaddr*>(&any), &size) == 0);
    portal_ = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
  }
  const std::string& portal() const { return portal_; }

 private:
  Fd listener_;
  std::string portal_;
};

}  // namespace stowage::testing
