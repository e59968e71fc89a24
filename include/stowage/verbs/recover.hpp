#pragma once
// The verbs about unfinished verbs: of a storage of one type, and of any.

#include <optional>
#include <stowage/backend.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/volume.hpp>
#include <variant>
#include <vector>

namespace stowage {

namespace detail {

/// A policy that would never be called is a mistake.
template <class B>
concept recovers_as_before = requires(B& b) { b.recover(); };

}  // namespace detail

/// Part of `Storage<B>`, which is `Self`.
template <class B, class Self>
class RecoverVerbs {
  static_assert(!detail::recovers_as_before<B>, "B::recover takes (only, options, work) and gives a Recovery");

 public:
  /// Unfinished verbs, and what else an administrator should know. Changes nothing.
  [[nodiscard]] Result<std::vector<Finding>> check() const {
    const Self& self = static_cast<const Self&>(*this);
    if constexpr (requires(const B& b) { b.check(); }) return self.named(self.backend_.check());
    return std::vector<Finding>{};
  }

  /// Finishes or undoes every unfinished verb, also those of other hosts that died. A verb that still runs is left
  /// alone (`busy`), and so is what only a person can decide (`left`). May be repeated.
  /// Errors: only if it could not be found out what is unfinished.
  Result<Recovery> recover(const Work& work = {}) { return recover(RecoverOptions{}, work); }
  /// Errors: also invalid_argument (`RecoverOptions::then`, which is about one volume).
  Result<Recovery> recover(const RecoverOptions& options, const Work& work = {}) {
    if (options.then != RecoverOptions::Then::none) {
      return self().named(
          Result<Recovery>{fail(Errc::invalid_argument, "to finish, keep or adopt is about one volume")});
    }
    return self().named(ask(std::nullopt, options, work));
  }
  /// The same for one volume. Errors: also not_found.
  Result<Recovery> recover(const VolumeName& volume, const RecoverOptions& options = {}, const Work& work = {}) {
    return self().on(volume, [&](const VolumeName& v) { return ask(v, options, work); });
  }

 private:
  Result<Recovery> ask(const std::optional<VolumeName>& only, const RecoverOptions& options, const Work& work) {
    if constexpr (requires(B& b) { b.recover(only, options, work); }) {
      return self().backend_.recover(only, options, work);
    } else {
      return Recovery{};
    }
  }
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

/// Part of `BasicAnyStorage`, which is `Self`.
template <class Self>
class AnyRecoverVerbs {
 public:
  [[nodiscard]] Result<std::vector<Finding>> check() const {
    return std::visit([](const auto& s) { return s.check(); }, static_cast<const Self&>(*this).storage_);
  }
  Result<Recovery> recover(const Work& work = {}) { return recover(RecoverOptions{}, work); }
  Result<Recovery> recover(const RecoverOptions& options, const Work& work = {}) {
    return std::visit([&](auto& s) { return s.recover(options, work); }, self().storage_);
  }
  Result<Recovery> recover(const VolumeName& volume, const RecoverOptions& options = {}, const Work& work = {}) {
    return std::visit([&](auto& s) { return s.recover(volume, options, work); }, self().storage_);
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

}  // namespace stowage
