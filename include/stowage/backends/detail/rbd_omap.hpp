#pragma once
// Reads keys of many objects at once: what makes a listing fast.

#include <rados/librados.h>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stowage::detail {

struct RbdOmapQuery {
  ::rados_ioctx_t io = nullptr;  ///< null: a place that could not be opened, nothing is there
  std::string object;
  std::vector<std::string> keys;  ///< none: only asks whether the object is there
  std::string prefix{};           ///< if it is not empty: the first thousand keys that begin so, instead of `keys`
};

struct RbdOmapAnswer {
  int code = 0;  ///< -ENOENT: no such object. A key that is not there is no error.
  std::vector<std::pair<std::string, std::string>> values;

  /// Empty when it is not there.
  [[nodiscard]] std::string_view operator[](std::string_view key) const noexcept {
    for (const auto& [name, value] : values) {
      if (name == key) return value;
    }
    return {};
  }
};

/// One request on its way.
class RbdOmapRead {
 public:
  explicit RbdOmapRead(const RbdOmapQuery& query) {
    if (query.io == nullptr) return;
    op_.reset(::rados_create_read_op());
    std::vector<const char*> keys;
    std::vector<std::size_t> lengths;
    for (const std::string& key : query.keys) {
      keys.push_back(key.data());
      lengths.push_back(key.size());
    }
    if (query.prefix.empty()) {
      ::rados_read_op_omap_get_vals_by_keys2(op_.get(), keys.data(), keys.size(), lengths.data(), &values_, &code_);
    } else {
      constexpr std::uint64_t most = 1000;
      ::rados_read_op_omap_get_vals2(op_.get(), "", query.prefix.c_str(), most, &values_, nullptr, &code_);
    }
    ::rados_completion_t completion = nullptr;
    ::rados_aio_create_completion2(nullptr, nullptr, &completion);
    completion_.reset(completion);
    started_ = ::rados_aio_read_op_operate(op_.get(), query.io, completion, query.object.c_str(), 0);
  }

  RbdOmapRead(const RbdOmapRead&) = delete;  // librados writes to `values_`
  RbdOmapRead& operator=(const RbdOmapRead&) = delete;
  ~RbdOmapRead() {
    if (!waited_) static_cast<void>(wait());
  }

  /// Blocks: until the OSD answers, or for `rados_osd_op_timeout`.
  RbdOmapAnswer wait() {
    waited_ = true;
    RbdOmapAnswer answer;
    answer.code = started_;
    if (started_ < 0) return answer;
    ::rados_aio_wait_for_complete(completion_.get());
    answer.code = std::min(0, ::rados_aio_get_return_value(completion_.get()));
    if (values_ == nullptr) return answer;
    char* key = nullptr;
    char* value = nullptr;
    std::size_t key_size = 0;
    std::size_t value_size = 0;
    while (answer.code == 0 && ::rados_omap_get_next2(values_, &key, &value, &key_size, &value_size) == 0) {
      if (key == nullptr) break;
      answer.values.emplace_back(std::string{key, key_size}, std::string{value, value_size});
    }
    ::rados_omap_get_end(values_);
    values_ = nullptr;
    return answer;
  }

 private:
  Handle<void, &::rados_release_read_op> op_;
  Handle<void, &::rados_aio_release> completion_;
  ::rados_omap_iter_t values_ = nullptr;
  int code_ = 0;
  int started_ = -ENOENT;
  bool waited_ = false;
};

/// The answers in the order of the queries. After the first that timed out none is sent any more: the rest says so too.
inline std::vector<RbdOmapAnswer> rbd_read_omaps(std::span<const RbdOmapQuery> queries) {
  constexpr std::size_t window = 128;  // more does not make it faster: measured on one OSD
  std::vector<std::unique_ptr<RbdOmapRead>> reads(queries.size());
  std::vector<RbdOmapAnswer> answers(queries.size());
  std::size_t begun = 0;
  bool late = false;
  for (std::size_t at = 0; at < queries.size(); ++at) {
    for (; !late && begun < std::min(at + window, queries.size()); ++begun) {
      reads[begun] = std::make_unique<RbdOmapRead>(queries[begun]);
    }
    answers[at].code = -ETIMEDOUT;
    if (reads[at]) answers[at] = reads[at]->wait();
    reads[at].reset();
    late = late || answers[at].code == -ETIMEDOUT;
  }
  return answers;
}

}  // namespace stowage::detail
