# stowage_dev: what our own programs are built with and a user's never are: warnings as errors, sanitizers, the checks
# of the standard library. Not exported.
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON) # clang-tidy reads them

add_library(stowage_dev INTERFACE)
target_compile_features(stowage_dev INTERFACE cxx_std_20)
target_compile_definitions(stowage_dev INTERFACE _GLIBCXX_ASSERTIONS)
target_compile_options(stowage_dev INTERFACE
  -Werror -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wdouble-promotion -Wshadow -Wold-style-cast
  -Wcast-align -Wcast-qual -Wnon-virtual-dtor -Woverloaded-virtual -Wunused -Wformat=2 -Wextra-semi -Wundef
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op>)
if(STOWAGE_SANITIZE)
  set(sanitize -fsanitize=${STOWAGE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(stowage_dev INTERFACE ${sanitize})
  target_link_options(stowage_dev INTERFACE ${sanitize})
endif()

# stowage_heap: for programs that copy. librbd allocates each MiB that it reads at the start of a page, in one thread, and
# frees it in another: glibc's heap grows to two or three times what is in use, tcmalloc's does not (benchmarks/versus
# memory). Sanitizers have a heap of their own.
add_library(stowage_heap INTERFACE)
if(NOT STOWAGE_SANITIZE)
  find_library(STOWAGE_TCMALLOC tcmalloc_minimal REQUIRED)
  target_link_libraries(stowage_heap INTERFACE ${STOWAGE_TCMALLOC})
endif()
