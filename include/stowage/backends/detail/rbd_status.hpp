#pragma once
// The pool's numbers, and what an administrator should know of it.

#include <jansson.h>
#include <rados/librados.h>
#include <array>
#include <cstdint>
#include <stowage/backends/detail/rbd_pool.hpp>
#include <stowage/core/bytes.hpp>
#include <stowage/volume.hpp>
#include <string>
#include <string_view>

namespace stowage::detail {

// jansson's own is `static inline`, so no template argument.
inline void rbd_free_json(::json_t* value) noexcept { ::json_decref(value); }
using RbdJson = Handle<::json_t, &rbd_free_json>;

/// Asks a monitor; the answer is JSON.
inline Result<RbdJson> rbd_ask_monitor(const RbdCluster& cluster, const char* command, std::string_view doing) {
  char* out = nullptr;
  char* status = nullptr;
  std::size_t out_size = 0;
  std::size_t status_size = 0;
  const int code = ::rados_mon_command(cluster.client(), &command, 1, "", 0, &out, &out_size, &status, &status_size);
  RbdJson answer;
  if (code >= 0) answer.reset(::json_loadb(out, out_size, 0, nullptr));
  ::rados_buffer_free(out);
  ::rados_buffer_free(status);
  if (code == -ETIMEDOUT) {
    return fail(Errc::timed_out, std::string{doing} + ": no monitor answered in time", native_errno(code));
  }
  if (code < 0) return fail(rbd_error(code, doing));
  if (!answer) return fail(Errc::corrupt, std::string{doing} + ": the answer is no JSON");
  return answer;
}

inline std::uint64_t rbd_number(const ::json_t* object, const char* key) noexcept {
  const ::json_t* value = ::json_object_get(object, key);
  const auto number =
      json_is_real(value) ? static_cast<::json_int_t>(::json_real_value(value)) : ::json_integer_value(value);
  return number < 0 ? 0 : static_cast<std::uint64_t>(number);
}
inline std::string_view rbd_text(const ::json_t* object, const char* key) noexcept {
  const char* text = ::json_string_value(::json_object_get(object, key));
  return text == nullptr ? std::string_view{} : text;
}

/// The element of `list` whose `key` is `name`; null when there is none.
inline const ::json_t* rbd_find(const ::json_t* list, const char* key, std::string_view name) noexcept {
  for (std::size_t at = 0; at < ::json_array_size(list); ++at) {
    const ::json_t* element = ::json_array_get(list, at);
    if (rbd_text(element, key) == name) return element;
  }
  return nullptr;
}

/// Numbers of the pool that the data goes to, out of `df`.
inline void rbd_read_usage(const ::json_t* df, const std::string& pool, Status& status) {
  // Until a manager daemon has reported, everything is zero, also what cannot be.
  if (rbd_number(::json_object_get(df, "stats"), "total_bytes") == 0) {
    status.health.emplace_back("the cluster has no numbers: no manager daemon (ceph-mgr) reports to it");
    return;
  }
  const ::json_t* entry = rbd_find(::json_object_get(df, "pools"), "name", pool);
  const ::json_t* stats = ::json_object_get(entry, "stats");
  if (stats == nullptr) {
    status.health.push_back("the cluster has no numbers for pool '" + pool + "' yet");
    return;
  }
  // "stored" is what users wrote; before 14.2.2 there was only what it takes, with copies.
  const bool has_stored = ::json_object_get(stats, "stored") != nullptr;
  const Bytes used{rbd_number(stats, has_stored ? "stored" : "bytes_used")};
  const Bytes available{rbd_number(stats, "max_avail")};
  status.used = used;
  status.available = available;
  status.total = used + available;
}

/// Flags and quota of one pool, out of `osd pool ls detail`.
inline void rbd_read_pool_health(const ::json_t* pools, const std::string& pool, const Status& numbers,
                                 std::vector<std::string>& health) {
  const ::json_t* entry = rbd_find(pools, "pool_name", pool);
  const std::string flags = "," + std::string{rbd_text(entry, "flags_names")} + ",";
  const auto has = [&](std::string_view flag) { return flags.find("," + std::string{flag} + ",") != flags.npos; };
  if (has("full_quota")) {
    health.push_back("pool '" + pool + "' is full: its quota is used up");
  } else if (has("full")) {
    health.push_back("pool '" + pool + "' is full: writes block");
  } else if (has("backfillfull")) {
    health.push_back("pool '" + pool + "' is nearly full: the cluster cannot repair itself");
  } else if (has("nearfull")) {
    health.push_back("pool '" + pool + "' is nearly full");
  }
  const std::uint64_t quota = rbd_number(entry, "quota_max_bytes");
  if (quota != 0 && numbers.used && !has("full_quota") && numbers.used->count / 17 >= quota / 20) {
    health.push_back("pool '" + pool + "' has used " + to_string(*numbers.used) + " of its quota of " +
                     to_string(Bytes{quota}));
  }
}

inline Result<Status> rbd_status(const RbdPool& pool) {
  const std::string& counted = pool.config.data_pool.empty() ? pool.config.pool : pool.config.data_pool;
  const auto df = rbd_ask_monitor(*pool.cluster, R"({"prefix":"df","format":"json"})", "asking for the usage");
  if (!df) return fail(df.error());
  Status status;
  status.active = true;
  rbd_read_usage(df->get(), counted, status);

  // A user may be allowed to see one and not the other.
  const auto pools = rbd_ask_monitor(*pool.cluster, R"({"prefix":"osd pool ls","detail":"detail","format":"json"})",
                                     "asking for the state of the pools");
  if (!pools) {
    status.health.push_back("the state of the pool is not known: " + pools.error().detail());
    return status;
  }
  rbd_read_pool_health(pools->get(), counted, status, status.health);
  if (counted != pool.config.pool) rbd_read_pool_health(pools->get(), pool.config.pool, Status{}, status.health);
  return status;
}

}  // namespace stowage::detail
