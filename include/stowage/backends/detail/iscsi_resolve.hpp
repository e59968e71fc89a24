#pragma once
// Names of portals into addresses, with a deadline.

#include <netdb.h>
#include <sys/socket.h>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stowage/core/error.hpp>
#include <stowage/core/net.hpp>
#include <string>
#include <utility>
#include <vector>

namespace stowage::detail {

using AddressList = std::unique_ptr<::addrinfo, decltype([](::addrinfo* list) { ::freeaddrinfo(list); })>;

/// `127.0.0.1:3260` or `[::1]:3260`, as libiscsi wants it.
inline std::string numeric_portal(const ::addrinfo& address, std::uint16_t port) {
  std::array<char, NI_MAXHOST> host{};
  if (::getnameinfo(address.ai_addr, address.ai_addrlen, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    return {};
  }
  const std::string text = host.data();
  return (address.ai_family == AF_INET6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

/// A lookup that may have to be left behind. glibc cannot stop one that has begun, and it writes into this.
struct NameLookup {
  std::string host;
  ::addrinfo hints{};
  ::gaicb request{};

  explicit NameLookup(std::string name) : host{std::move(name)} {
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_family = AF_UNSPEC;
    request.ar_name = host.c_str();
    request.ar_request = &hints;
  }
};

/// All addresses of a portal, in the order of the system's preference.
/// Errors: unavailable (no such name), timed_out, invalid_argument (port).
/// Blocks: a name on the resolver, until the deadline; an address not at all.
inline Result<std::vector<std::string>> resolve_portal(const Portal& portal,
                                                       std::chrono::steady_clock::time_point deadline) {
  const auto port = portal.port_or(3260);
  if (!port) return fail(port.error());

  auto lookup = std::make_unique<NameLookup>(portal.host());
  AddressList addresses;
  ::addrinfo* found = nullptr;
  lookup->hints.ai_flags = AI_NUMERICHOST;
  int status = ::getaddrinfo(portal.host().c_str(), nullptr, &lookup->hints, &found);
  if (status == EAI_NONAME) {
    lookup->hints.ai_flags = AI_ADDRCONFIG;
    ::gaicb* requests[] = {&lookup->request};
    status = ::getaddrinfo_a(GAI_NOWAIT, requests, 1, nullptr);
    while (status == 0 && (status = ::gai_error(&lookup->request)) == EAI_INPROGRESS) {
      const auto left =
          std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0) {
        if (::gai_cancel(&lookup->request) == EAI_NOTCANCELED) static_cast<void>(lookup.release());
        return fail(Errc::timed_out, "no answer from the name service for portal '" + portal.str() + "'");
      }
      const ::timespec wait{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
      static_cast<void>(::gai_suspend(requests, 1, &wait));
      status = 0;
    }
    found = lookup->request.ar_result;
  }
  addresses.reset(found);
  std::vector<std::string> numeric;
  for (const ::addrinfo* a = addresses.get(); status == 0 && a != nullptr; a = a->ai_next) {
    if (std::string text = numeric_portal(*a, *port); !text.empty()) numeric.push_back(std::move(text));
  }
  if (numeric.empty()) {
    return fail(Errc::unavailable, "cannot resolve portal '" + portal.str() + "': " + ::gai_strerror(status));
  }
  return numeric;
}

}  // namespace stowage::detail
