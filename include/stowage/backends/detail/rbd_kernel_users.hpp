#pragma once
// Who uses a block device of the kernel: for the error that says why it cannot go.

#include <unistd.h>
#include <array>
#include <stowage/backends/detail/rbd_kernel_devices.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// The whole of a file of the kernel's that may be long.
inline std::string krbd_file(const std::string& path) {
  std::string text;
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 8192> buffer{};
  for (::ssize_t got = 1; file && got > 0;) {
    got = ::read(file.get(), buffer.data(), buffer.size());
    if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

/// The mount points of the device `major:minor` among the lines of a mountinfo (proc_pid_mountinfo(5): the third word
/// is the device, the fifth the mount point).
inline std::vector<std::string> krbd_mounts(std::string_view mountinfo, std::string_view device) {
  std::vector<std::string> points;
  while (!mountinfo.empty()) {
    const std::size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    std::string_view line = mountinfo.substr(0, end);
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
    std::array<std::string_view, 5> words;
    for (std::string_view& word : words) {
      word = line.substr(0, line.find(' '));
      line.remove_prefix(std::min(word.size() + 1, line.size()));
    }
    if (!device.empty() && words[2] == device) points.emplace_back(words[4]);
  }
  return points;
}

/// The processes that have one of `nodes` open, as far as we may look.
inline std::vector<std::string> krbd_openers(const KrbdTree& tree, const std::vector<std::string>& nodes) {
  std::vector<std::string> openers;
  for (const std::string& pid : krbd_names(tree.proc)) {
    if (!all_digits(pid)) continue;
    const std::string folder = tree.proc + "/" + pid + "/";
    for (const std::string& fd : krbd_names(folder + "fd")) {
      std::string link = folder;
      link.append("fd/").append(fd);
      std::array<char, 256> target{};
      const ::ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
      const std::string_view opened{target.data(), length < 0 ? 0U : static_cast<std::size_t>(length)};
      if (std::find(nodes.begin(), nodes.end(), opened) == nodes.end()) continue;
      openers.emplace_back("process ").append(pid).append(" (").append(krbd_line(folder + "comm").value_or("?")) += ')';
      break;
    }
  }
  return openers;
}

/// What stands on the block device `name` or its partitions: devices, mounts, processes. Costs a look at every open
/// file of the host.
inline std::vector<std::string> krbd_users(const KrbdTree& tree, const std::string& name) {
  const std::string block = tree.sys + "/block/";
  std::vector<std::string> users;
  std::vector<std::string> nodes;
  std::vector<std::string> parts{name};
  for (const std::string& part : krbd_names(block + name, name + "p")) {
    parts.emplace_back(name).append("/").append(part);
  }
  const std::string mountinfo = krbd_file(tree.proc + "/self/mountinfo");
  for (const std::string& part : parts) {
    nodes.push_back(tree.dev + "/" + part.substr(part.rfind('/') + 1));
    for (const std::string& holder : krbd_names(block + part + "/holders")) {
      users.push_back(krbd_line(block + holder + "/dm/name").value_or(holder));
    }
    const std::string device = krbd_line(block + part + "/dev").value_or("");
    for (const std::string& point : krbd_mounts(mountinfo, device)) users.push_back("the mount " + point);
  }
  for (std::string& opener : krbd_openers(tree, nodes)) users.push_back(std::move(opener));
  return users;
}

}  // namespace stowage::detail
