#pragma once
// A network that can be broken at any byte: it hands connections on to a target, and cuts or stalls the next one that
// has carried so many bytes.

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <stowage/core/handle.hpp>
#include <string>
#include <thread>
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

 private:
  struct Link {
    Fd client;
    Fd server;
    bool stalled = false;
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
    if (&from == &link.server)
      link.forger.pass(std::span{buffer}.first(static_cast<std::size_t>(length)), forged_left_, status_);
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
