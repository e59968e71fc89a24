#pragma once
// Pipes of both kinds: Linux writes to one without a name without waiting if it is asked to (from 6.4 on), to one with
// a name it does not.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stowage/core/handle.hpp>
#include <string>

namespace stowage::testing {

struct PipeEnds {
  Fd out;
  Fd into;
};

/// For a `named` one the name is gone again when this comes back.
inline PipeEnds pipe_ends(bool named) {
  if (!named) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    return {Fd{ends[0]}, Fd{ends[1]}};
  }
  const std::string path = "/tmp/stowage-pipe-" + std::to_string(::getpid());
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  PipeEnds ends{Fd{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)}, Fd{}};  // else it waits for a writer
  ends.into = Fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  ::unlink(path.c_str());
  REQUIRE((ends.out && ends.into && ::fcntl(ends.out.get(), F_SETFL, 0) == 0));
  return ends;
}

}  // namespace stowage::testing
