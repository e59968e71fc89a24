# Defines Xxhash::Xxhash: a quick checksum. pkg-config gives hints and the version; the header and library decide.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_Xxhash QUIET libxxhash)
endif()
find_path(Xxhash_INCLUDE_DIR xxhash.h HINTS ${PC_Xxhash_INCLUDE_DIRS})
find_library(Xxhash_LIBRARY xxhash HINTS ${PC_Xxhash_LIBRARY_DIRS})
set(Xxhash_VERSION "${PC_Xxhash_VERSION}")
mark_as_advanced(Xxhash_INCLUDE_DIR Xxhash_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Xxhash REQUIRED_VARS Xxhash_LIBRARY Xxhash_INCLUDE_DIR VERSION_VAR Xxhash_VERSION)
if(Xxhash_FOUND AND NOT TARGET Xxhash::Xxhash)
  add_library(Xxhash::Xxhash UNKNOWN IMPORTED)
  set_target_properties(Xxhash::Xxhash PROPERTIES
    IMPORTED_LOCATION "${Xxhash_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Xxhash_INCLUDE_DIR}")
endif()
