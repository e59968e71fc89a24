#pragma once
// How fast a command moves bytes.

#include "command.hpp"

#include <stowage/config/datacenter.hpp>
#include <stowage/transfer/bandwidth.hpp>

namespace stowctl {

/// As --limit says; else as the storages allow, as soon as they are known.
class Rate {
 public:
  /// Errors: parse_failed, of the option or of datacenter.cfg.
  static Result<Rate> parse(const Context& context, const std::string& option, stowage::Traffic what) {
    if (!option.empty()) {
      return stowage::Bytes::parse(option).map([&](stowage::Bytes limit) { return Rate{what, {}, limit}; });
    }
    return stowage::read_datacenter_config(stowage::datacenter_config_beside(context.options().config))
        .map([&](stowage::DatacenterConfig datacenter) {
          return Rate{what, std::move(datacenter), {}};
        });
  }

  /// Bytes come from there, or go there.
  void pass(const stowage::AnyStorage& storage) {
    const stowage::Bytes limit = bandwidth_limit(what_, datacenter_, storage.config());
    if (limit.count != 0 && (allowed_.count == 0 || limit < allowed_)) allowed_ = limit;
  }
  /// Bytes a second; zero: as fast as it goes.
  [[nodiscard]] stowage::Bytes limit() const { return asked_.value_or(allowed_); }

 private:
  Rate(stowage::Traffic what, stowage::DatacenterConfig datacenter, std::optional<stowage::Bytes> asked)
      : what_{what}, datacenter_{std::move(datacenter)}, asked_{asked} {}

  stowage::Traffic what_;
  stowage::DatacenterConfig datacenter_;
  std::optional<stowage::Bytes> asked_;
  stowage::Bytes allowed_{};
};

/// For commands that move bytes.
inline void rate_option(CLI::App& app, std::string& limit) {
  app.add_option("--limit", limit,
                 "bytes a second, as 100M; 0: none. Default: the bwlimit of the storages, or of the datacenter");
}

}  // namespace stowctl
