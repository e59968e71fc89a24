#pragma once
// One connection to a target, from the login to its loss, and the event loop that drives it.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <stowage/backends/detail/chap_file.hpp>
#include <stowage/backends/detail/iscsi_command.hpp>
#include <stowage/backends/detail/iscsi_place.hpp>
#include <stowage/backends/detail/iscsi_text.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/sigpipe.hpp>
#include <string>
#include <utility>

namespace stowage::detail {

/// Who logs in where.
struct IscsiLogin {
  std::string initiator;
  std::string target;  ///< empty: a discovery session
  std::optional<IscsiChap> chap{};
  std::uint32_t isid = 0;  ///< see `IscsiPlace::reinstates`
  std::string where;       ///< for errors: "iqn... at 127.0.0.1:3260"
  std::size_t portal = 0;  ///< which of the configured ones
};

/// The part of a session that knows no commands. The rules (measured against 1.19, reference/lab/iscsi.md): libiscsi
/// neither reconnects nor counts time, as both lose callbacks there; after a deadline or a lost connection the context
/// is destroyed, which is what makes it give up the caller's memory. No `_sync` call.
class IscsiLink {
 public:
  using Clock = std::chrono::steady_clock;

  IscsiLink(const IscsiLink&) = delete;
  IscsiLink& operator=(const IscsiLink&) = delete;

  /// Whom it talks to.
  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  [[nodiscard]] bool lost() const noexcept { return !context_; }
  /// Where it was logged in.
  [[nodiscard]] const IscsiPlace& place() const noexcept { return place_; }

  /// Answers what the target has sent since the last command, and says whether the session still stands.
  [[nodiscard]] bool alive() {
    const NoSigpipe quiet;  // libiscsi writes by `writev`; only its `send` has MSG_NOSIGNAL
    for (int turns = 0; turns < 4 && context_; ++turns) {
      ::pollfd socket{::iscsi_get_fd(context_.get()), POLLIN, 0};
      if (::poll(&socket, 1, 0) == 0) return true;
      static_cast<void>(turn(Clock::now()));
    }
    return static_cast<bool>(context_);
  }

  /// What to poll for, besides deadlines. No descriptor when the session is lost.
  [[nodiscard]] ::pollfd socket() const noexcept {
    if (!context_) return {-1, 0, 0};
    return {::iscsi_get_fd(context_.get()), static_cast<short>(::iscsi_which_events(context_.get())), 0};
  }

  /// Lets libiscsi read (POLLIN) until there is no more, and write (POLLOUT) until the socket is full. Never blocks.
  /// `together`: several commands are to be written, which libiscsi does one by one; they go in as few segments as they
  /// fit into. False: the session is lost. Writing may raise SIGPIPE, see `NoSigpipe`.
  bool service(short events, bool together = false) {
    if (!context_) return false;
    if (together) cork(true);
    const bool good = ::iscsi_service(context_.get(), events) >= 0;
    if (phase_ == Phase::failed) return false;
    if (!good || broken_) return lose(Errc::unavailable, "the connection was lost"), false;
    if (together) cork(false);
    return true;
  }

  /// Ends the session: every command in flight comes back cancelled.
  void lose(Errc code, std::string detail) {
    if (!context_) return;
    reason_ = Error{code, std::move(detail)}.during(where_);
    // What is still in the socket's buffer shall not reach the target any more: it will be repeated on a new session.
    if (const int socket = ::iscsi_get_fd(context_.get()); socket >= 0) {
      const ::linger at_once{1, 0};
      static_cast<void>(::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    }
    drop();
  }

  /// Why it was lost.
  [[nodiscard]] Error loss() const {
    return reason_ ? *reason_ : Error{Errc::unavailable, "the session was lost"}.during(where_);
  }

 protected:
  IscsiLink(std::string where, std::chrono::milliseconds timeout, std::stop_token stop)
      : timeout_{timeout}, stop_{std::move(stop)}, where_{std::move(where)} {}
  ~IscsiLink() { drop(); }

  /// Connects to `address` (numeric: libiscsi would resolve names without a deadline) and logs in.
  /// Errors: unavailable, timed_out, permission_denied, not_found, cancelled.
  Result<void> log_in(const IscsiLogin& who, const std::string& address, Clock::time_point deadline) {
    std::string at = address;
    for (int redirects = 0; redirects < 4; ++redirects) {
      if (auto good = create(who); !good) return good;
      place_ = {who.portal, at, {}};
      phase_ = Phase::connecting;
      if (::iscsi_connect_async(context_.get(), at.c_str(), &connected, this) != 0) {
        return fail(Error{Errc::unavailable, "cannot connect: " + library_text()}.during(where_));
      }
      while (phase_ == Phase::connecting || phase_ == Phase::logging_in) {
        if (auto good = login_turn(deadline); !good) return good;
      }
      if (phase_ == Phase::ready) {
        forget_secrets();
        return {};
      }
      if (phase_ != Phase::redirected) return fail(refused());
      at = ::iscsi_get_target_address(context_.get());
    }
    return fail(Error{Errc::unavailable, "redirected too often, last to " + at}.during(where_));
  }

  /// Waits for the socket, at most until `until`, and lets libiscsi work. False: the session is lost.
  bool turn(Clock::time_point until) {
    if (!context_) return false;
    ::pollfd socket = this->socket();
    if (socket.fd < 0) return lose(Errc::unavailable, "the connection is closed"), false;
    auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (stop_.stop_possible() && wait > std::chrono::milliseconds{50}) wait = std::chrono::milliseconds{50};
    if (wait.count() < 0) wait = {};
    if (wait > std::chrono::minutes{1}) wait = std::chrono::minutes{1};
    if (::poll(&socket, 1, static_cast<int>(wait.count())) <= 0) return true;

    if (phase_ == Phase::connecting) {  // asked here, because libiscsi gives the errno only as a text
      ::socklen_t size = sizeof socket_error_;
      static_cast<void>(::getsockopt(socket.fd, SOL_SOCKET, SO_ERROR, &socket_error_, &size));
      if (socket_error_ != 0) return lose(Errc::unavailable, "cannot connect"), false;
    }
    if (phase_ == Phase::logging_in && (socket.revents & POLLIN) != 0) look_for_group(socket.fd);
    // A refusal and the end of the connection may arrive together: the answer first, the end shows by itself.
    if ((socket.revents & POLLIN) != 0) socket.revents &= POLLIN | POLLOUT;
    return service(socket.revents);
  }

  [[nodiscard]] Error cancelled() const { return Error{Errc::cancelled, "stopped by the caller"}.during(where_); }
  [[nodiscard]] std::string library_text() const {
    std::string text = ::iscsi_get_error(context_.get());
    while (!text.empty() && (is_space(text.back()) || text.back() == '.')) text.pop_back();
    return text;
  }

  std::chrono::milliseconds timeout_;
  std::stop_token stop_;
  bool broken_ = false;  ///< libiscsi has given up a command by itself

  [[nodiscard]] ::iscsi_context* context() const noexcept { return context_.get(); }

 private:
  using Context = Handle<::iscsi_context, &::iscsi_destroy_context>;
  enum class Phase : std::uint8_t { connecting, connected, logging_in, ready, redirected, failed };

  Result<void> create(const IscsiLogin& who) {
    drop();
    context_.reset(::iscsi_create_context(who.initiator.c_str()));
    if (!context_) return fail(Errc::backend_failed, "libiscsi cannot make a context");
    ::iscsi_context* const context = context_.get();
    ::iscsi_set_noautoreconnect(context, 1);
    ::iscsi_set_isid_random(context, who.isid >> 8U, who.isid & 0xffU);
    ::iscsi_set_session_type(context, who.target.empty() ? ISCSI_SESSION_DISCOVERY : ISCSI_SESSION_NORMAL);
    if (!who.target.empty()) ::iscsi_set_targetname(context, who.target.c_str());
    if (who.chap) {
      ::iscsi_set_initiator_username_pwd(context, who.chap->user.c_str(), who.chap->password.reveal().c_str());
      if (who.chap->mutual()) {
        ::iscsi_set_target_username_pwd(context, who.chap->user_in.c_str(), who.chap->password_in.reveal().c_str());
      }
    }
    return {};
  }

  Result<void> login_turn(Clock::time_point deadline) {
    const bool connecting = phase_ == Phase::connecting;
    if (stop_.stop_requested()) return fail(cancelled());
    if (Clock::now() >= deadline) {
      return fail(Error{Errc::timed_out, connecting ? "no connection in time" : "no answer to the login in time"}
                      .during(where_)
                      .advise("is the portal reachable, and its target running?"));
    }
    const bool goes_on = turn(deadline);
    if (phase_ == Phase::connected) {
      phase_ = Phase::logging_in;
      if (::iscsi_login_async(context_.get(), &logged_in, this) != 0) return fail(refused());
    } else if (!goes_on && phase_ != Phase::failed) {
      return fail(connecting ? unreachable() : loss().during("login"));
    }
    return {};
  }

  /// libiscsi does not keep the portal group tag, so it is read before libiscsi reads it. One that comes in two parts
  /// is missed; then only the same portal counts as the same group.
  void look_for_group(int socket) noexcept {
    if (place_.group) return;
    std::array<char, 4096> bytes;
    const ::ssize_t length = ::recv(socket, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (length > 0) place_.group = portal_group_of({bytes.data(), static_cast<std::size_t>(length)});
  }

  void cork(bool on) const noexcept {
    const int value = on ? 1 : 0;
    static_cast<void>(::setsockopt(::iscsi_get_fd(context_.get()), IPPROTO_TCP, TCP_CORK, &value, sizeof value));
  }

  static void connected(::iscsi_context*, int status, void*, void* user) {
    static_cast<IscsiLink*>(user)->phase_ = status == SCSI_STATUS_GOOD ? Phase::connected : Phase::failed;
  }
  static void logged_in(::iscsi_context*, int status, void*, void* user) {
    static_cast<IscsiLink*>(user)->phase_ = status == SCSI_STATUS_GOOD       ? Phase::ready
                                            : status == SCSI_STATUS_REDIRECT ? Phase::redirected
                                                                             : Phase::failed;
  }

  [[nodiscard]] Error unreachable() const {
    if (socket_error_ == 0) return loss();
    const std::error_code native = native_errno(socket_error_);
    return Error{Errc::unavailable, "cannot connect: " + native.message(), native}.during(where_).advise(
        "is the portal reachable, and its target running?");
  }

  /// Why the target did not let us in. Pre: the context is still there.
  [[nodiscard]] Error refused() const {
    if (!context_) return loss();
    const std::string text = library_text();
    const Errc code = iscsi_login_errc(text);
    const char* hint = "";
    if (code == Errc::permission_denied) {
      hint = "look at user and password in the .chap file, and at the initiator names that the target lets in";
    } else if (code == Errc::not_found) {
      hint =
          "`stowctl scan iscsidirect PORTAL` tells the targets; one that our initiator name may not use looks the same";
    }
    return Error{code, text}.during(where_).advise(hint);
  }

  /// libiscsi keeps plain copies, and needs them no more: without automatic reconnect there is no second login.
  void forget_secrets() noexcept {
    // an empty text would only end the old one at its first byte; this pads with zeros
    ::iscsi_set_initiator_username_pwd(context_.get(), "-", "-");
    ::iscsi_set_target_username_pwd(context_.get(), "-", "-");
    ::iscsi_set_initiator_username_pwd(context_.get(), "", "");
    ::iscsi_set_target_username_pwd(context_.get(), "", "");
  }

  /// Every command in flight is called back, and the callers' memory is theirs again. No logout: the end of the
  /// connection ends a session whose DefaultTime2Retain is 0, which libiscsi asks for.
  void drop() noexcept {
    if (context_) forget_secrets();
    context_.reset();
    broken_ = false;
  }

  std::string where_;
  IscsiPlace place_;
  Phase phase_ = Phase::connecting;
  int socket_error_ = 0;
  std::optional<Error> reason_;
  Context context_;  // last: its end calls back into all the others, and into the commands in flight
};

}  // namespace stowage::detail
