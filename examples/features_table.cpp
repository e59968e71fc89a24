// Prints the feature table as Markdown. The README's copy of it comes from here; a test compares them.
#include <cstdio>
#include <stowage/features.hpp>
#include <string>

using namespace stowage;

template <class E>
std::string names(FlagSet<E> set) {
  std::string text;
  for (unsigned i = 0; i < static_cast<unsigned>(E::count_); ++i) {
    if (set.has(static_cast<E>(i))) text += (text.empty() ? "" : ", ") + std::string{name(static_cast<E>(i))};
  }
  return text;
}

const char* yes_no(bool yes) { return yes ? "yes" : "no"; }

int main() {
  std::puts("| type | content | formats | shared | snapshots | clones |");
  std::puts("|---|---|---|---|---|---|");
  for (const Features* row : feature_table) {
    const std::string type{row->name};
    std::printf("| `%s` | %s | %s | %s | %s | %s |\n", type.c_str(), names(row->content).c_str(),
                names(row->formats).c_str(), yes_no(row->shared), yes_no(row->can.has(Capability::snapshot)),
                yes_no(row->can.has(Capability::clone)));
  }
}
