#pragma once
// What a guest's configuration tells of its volumes: those of a container are `rootdir`, those of a VM `images`.

#include <unistd.h>
#include <optional>
#include <stowage/core/ids.hpp>
#include <stowage/features.hpp>
#include <string>
#include <string_view>

namespace stowctl {

/// The folder with `qemu-server/` and `lxc/`: the one that holds storage.cfg, if they are there, else /etc/pve.
inline std::string guests_folder(const std::string& config) {
  const std::size_t slash = config.rfind('/');
  std::string beside = slash == config.npos ? "." : config.substr(0, slash);
  for (const char* kind : {"/qemu-server", "/lxc"}) {
    if (::access((beside + kind).c_str(), F_OK) == 0) return beside;
  }
  return "/etc/pve";
}

inline std::optional<stowage::Content> content_by_guest(const std::string& folder, stowage::VmId vmid) {
  const std::string file = "/" + to_string(vmid) + ".conf";
  if (::access((folder + "/lxc" + file).c_str(), F_OK) == 0) return stowage::Content::rootdir;
  if (::access((folder + "/qemu-server" + file).c_str(), F_OK) == 0) return stowage::Content::images;
  return std::nullopt;
}

}  // namespace stowctl
