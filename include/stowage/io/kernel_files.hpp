#pragma once
// What the kernel shows of itself in small files: sysfs and proc. No tool runs, nothing here waits.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <stowage/core/handle.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace stowage::detail {

/// "8:16", as sysfs and mountinfo write it.
inline std::string number_text(::dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

/// The number of the block device at `path`, or where a link there leads; empty when there is none.
inline std::string block_number(const std::string& path) {
  struct ::stat about {};
  const bool block = ::stat(path.c_str(), &about) == 0 && S_ISBLK(about.st_mode);
  return block ? number_text(about.st_rdev) : std::string{};
}

/// Where the kernel shows itself. Tests have one of their own, in which no file can be a device.
struct KernelTree {
  std::string sys = "/sys";
  std::string dev = "/dev";
  std::string proc = "/proc";
  std::string (*number_of)(const std::string& path) = &block_number;
};

/// `folder/name`.
inline std::string path_of(std::string_view folder, std::string_view name) {
  return std::string{folder}.append("/").append(name);
}

/// The names in a folder, sorted; none when it is not there.
inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const Handle<::DIR, &::closedir> open{::opendir(folder.c_str())};
  if (!open) return names;
  while (const ::dirent* entry = ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe): the stream is ours alone
    const std::string_view name = static_cast<const char*>(entry->d_name);
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The bytes of a file; none when it is not there or cannot be read.
inline std::string read_attribute(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  std::string bytes;
  std::array<char, 4096> part{};
  while (file) {
    const ::ssize_t length = ::read(file.get(), part.data(), part.size());
    if (length <= 0) break;
    bytes.append(part.data(), static_cast<std::size_t>(length));
  }
  return bytes;
}

/// The text of a file without the end of its line; empty when it is not there.
inline std::string attribute(const std::string& path) {
  std::string text = read_attribute(path);
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// The last part of where a link leads; empty when it is no link.
inline std::string link_name(const std::string& path) {
  std::array<char, 4096> to{};
  const ::ssize_t length = ::readlink(path.c_str(), to.data(), to.size());
  if (length <= 0) return {};
  const std::string_view text{to.data(), static_cast<std::size_t>(length)};
  return std::string{text.substr(text.rfind('/') + 1)};
}

/// What the kernel calls the block device at `path`, "dm-3"; empty when there is none.
inline std::string block_name(const KernelTree& tree, const std::string& path) {
  const std::string number = tree.number_of(path);
  return number.empty() ? std::string{} : link_name(tree.sys + "/dev/block/" + number);
}

}  // namespace stowage::detail
