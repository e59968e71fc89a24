#pragma once
// What QEMU is told of a volume: the object of its `-blockdev` option or QMP's `blockdev-add`.

#include <array>
#include <cstdint>
#include <optional>
#include <stowage/core/secret.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace stowage {

/// A block device of the host.
struct HostDeviceNode {
  std::string filename;
};

/// A LUN, through QEMU's own initiator. The last three are given only where the storage has CHAP.
struct IscsiNode {
  std::string portal;
  std::string target;
  std::uint32_t lun = 0;
  std::string user;
  std::string password_secret;  ///< the id of a QEMU `secret` object, see `Blockdev::secret`
  std::string initiator_name;
};

/// An RBD image or snapshot, through librbd inside QEMU. What is empty is left out.
struct RbdNode {
  struct Server {
    std::string host;
    std::string port;
  };
  std::string pool;
  std::string name_space;
  std::string image;
  std::string snapshot;
  std::string conf;
  std::string user;
  std::vector<Server> server;
  std::vector<std::string> auth_client_required;
};

/// A secret that QEMU must know before the node: `object-add` with `qom-type` secret, this id and this data.
struct QemuSecret {
  std::string id;
  Secret data;
};

namespace detail {

/// Writes one JSON object, a member at a time.
class JsonObject {
 public:
  JsonObject& text(std::string_view key, std::string_view value) {
    if (!value.empty()) member(key).append(quoted(value));
    return *this;
  }
  JsonObject& raw(std::string_view key, std::string_view value) {
    member(key).append(value);
    return *this;
  }
  [[nodiscard]] std::string str() const { return "{" + members_ + "}"; }

  [[nodiscard]] static std::string quoted(std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.append({'\\', c});
      } else if (byte < 0x20) {
        out.append("\\u00").append({hex[byte >> 4U], hex[byte & 0xFU]});
      } else {
        out += c;
      }
    }
    return out + "\"";
  }

 private:
  std::string& member(std::string_view key) {
    if (!members_.empty()) members_ += ',';
    return members_.append(quoted(key)) += ':';
  }

  std::string members_;
};

inline std::string json_of(const HostDeviceNode& node) {
  return JsonObject{}.text("driver", "host_device").text("filename", node.filename).str();
}

inline std::string json_of(const IscsiNode& node) {
  return JsonObject{}
      .text("driver", "iscsi")
      .text("transport", "tcp")
      .text("portal", node.portal)
      .text("target", node.target)
      .raw("lun", std::to_string(node.lun))
      .text("user", node.user)
      .text("password-secret", node.password_secret)
      .text("initiator-name", node.initiator_name)
      .str();
}

inline std::string json_of(const RbdNode& node) {
  JsonObject object;
  object.text("driver", "rbd").text("pool", node.pool).text("namespace", node.name_space).text("image", node.image);
  object.text("snapshot", node.snapshot).text("conf", node.conf).text("user", node.user);
  std::string list;
  for (const auto& [host, port] : node.server) {
    list += (list.empty() ? "" : ",") + JsonObject{}.text("host", host).text("port", port).str();
  }
  if (!list.empty()) object.raw("server", "[" + list + "]");
  list.clear();
  for (const std::string& method : node.auth_client_required) {
    list += (list.empty() ? "" : ",") + JsonObject::quoted(method);
  }
  if (!list.empty()) object.raw("auth-client-required", "[" + list + "]");
  return object.str();
}

}  // namespace detail

/// How QEMU opens a volume.
struct Blockdev {
  std::variant<HostDeviceNode, IscsiNode, RbdNode> node;
  std::optional<QemuSecret> secret;  ///< add this to QEMU first; never on a command line

  /// The node as JSON, for `-blockdev` or the arguments of `blockdev-add`; without `node-name`, which is the
  /// caller's. No secret is in it.
  [[nodiscard]] std::string to_json() const {
    return std::visit([](const auto& n) { return detail::json_of(n); }, node);
  }
};

}  // namespace stowage
