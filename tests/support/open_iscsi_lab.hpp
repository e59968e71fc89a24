#pragma once
// What the guest tests of OpenIscsi are written with: a storage on a target of the guest, which is left when the test
// is over, and what iscsiadm says of sessions.

#include <catch2/catch.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <stowage/backends/open_iscsi.hpp>
#include <stowage/storage.hpp>
#include <stowage/testing/laws/bench.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/guest_lab.hpp"
#include "support/lab.hpp"

namespace stowage::testing {

using namespace std::chrono_literals;

/// The sessions that `iscsiadm --mode session` tells, by target: number and portal.
inline std::map<std::string, std::vector<std::pair<std::string, std::string>>> parse_sessions(const std::string& text) {
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> sessions;
  stowage::detail::for_each_line(text, [&](std::string_view line) {
    const auto words = stowage::detail::words_of(line, 6);
    if (words.size() != 5 || words[0] != "tcp:" || words[1].size() < 3) return;
    sessions[std::string{words[3]}].emplace_back(words[1].substr(1, words[1].size() - 2),
                                                 words[2].substr(0, words[2].rfind(',')));
  });
  return sessions;
}

/// A storage with the id `san` on a target. Not active yet; logged out when it goes.
class KernelSan {
 public:
  KernelSan(const std::string& portal, std::string target, std::chrono::milliseconds timeout = 30s,
            const std::string& chap = {}, stowage::detail::OpenIscsiHost host = {})
      : target_{std::move(target)},
        priv_{guest_variable("STOWAGE_LAB") + "/priv"},
        storage_{open(portal, timeout, chap, std::move(host))} {
    inside("iscsid start");
  }
  KernelSan(const KernelSan&) = delete;
  KernelSan& operator=(const KernelSan&) = delete;
  ~KernelSan() {
    // A session that iscsid is bringing back cannot be ended before it is back.
    const std::string sessions = "grep -qsxF " + target_ + " /sys/class/iscsi_session/*/targetname";
    const Said left = ask(STOWAGE_TEST_LAB "/inside iscsid start; for n in $(seq 60); do " + sessions +
                          " || break; iscsiadm -m node -T " + target_ + " --logout || sleep 0.3; done; rm -rf " +
                          priv_ + "; iscsiadm -m node -T " + target_ + " -o delete; ! " + sessions);
    INFO(left.text);
    CHECK(left.status == 0);
  }

  Storage<OpenIscsi>& operator*() noexcept { return storage_; }
  Storage<OpenIscsi>* operator->() noexcept { return &storage_; }

  /// The volume of a LUN, as it is listed. Pre: active.
  VolumeName volume(int lun) {
    const std::string begin = "0.0." + std::to_string(lun) + ".";
    for (const VolumeInfo& info : must(storage_.list())) {
      if (info.name.str().starts_with(begin)) return info.name;
    }
    FAIL("LUN " << lun << " is not listed");
    return volume_name("x");
  }
  /// The kernel's disk of a LUN: "sda".
  std::string disk(int lun) {
    const std::string to = sh("realpath " + must(storage_.path(volume(lun))));
    return to.substr(5, to.size() - 6);
  }

 private:
  Storage<OpenIscsi> open(const std::string& portal, std::chrono::milliseconds timeout, const std::string& chap,
                          stowage::detail::OpenIscsiHost host) const {
    if (!chap.empty()) {
      std::filesystem::create_directories(priv_ + "/iscsi");
      std::ofstream{priv_ + "/iscsi/san.chap"} << chap;
      std::filesystem::permissions(priv_ + "/iscsi/san.chap", std::filesystem::perms{0600});
    }
    const StorageId id = must(StorageId::parse("san"));
    return {id, must(OpenIscsi::open(id, {must(Portal::parse(portal)), must(Iqn::parse(target_))},
                                     OpenOptions{.timeout = timeout, .priv = priv_}, {}, std::move(host)))};
  }

  std::string target_;
  std::string priv_;
  Storage<OpenIscsi> storage_;
};

inline std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : ", ") + text;
  return all;
}

/// Activates a storage on the kernel's own target. Initiator and target are one kernel there: an answer to a login
/// request may come before the sender is through with that request, and then the initiator (libiscsi) refuses the next
/// one, says so, and the login breaks off with 5. More often with CHAP, which takes more requests. This, which no
/// network is fast enough for, is repeated; nothing else is.
inline void activate_beside_target(KernelSan& san) {
  const auto told = [] { return sh("dmesg | grep -c 'Login/Text in progress' || true"); };
  for (int repeats = 0;; ++repeats) {
    const std::string before = told();
    auto active = san->activate();
    if (active || repeats == 3 || active.error().native().value() != 5 || told() == before) return must(active);
  }
}

/// `work` is refused with `code`, not later than `limit`.
template <class Work>
Error refusal_soon(std::chrono::milliseconds limit, Errc code, Work work) {
  const auto begin = std::chrono::steady_clock::now();
  const auto answer = work();
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
  CHECK(took.count() <= limit.count());
  return refusal_of(answer, code);
}
template <class Work>
void refused_soon(std::chrono::milliseconds limit, Errc code, Work work) {
  static_cast<void>(refusal_soon(limit, code, std::move(work)));
}

}  // namespace stowage::testing
