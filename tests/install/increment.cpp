#include <stowage/increment/receive.hpp>
#include <stowage/increment/send.hpp>

// The checksum is what the program needs the library for.
int main() { return stowage::detail::stream_checksum({}) == 0x2D06800538D394C2U ? 0 : 1; }
