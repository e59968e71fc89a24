# Defines Jansson::Jansson: JSON in C. pkg-config gives hints and the version; the header and library decide.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_Jansson QUIET jansson)
endif()
find_path(Jansson_INCLUDE_DIR jansson.h HINTS ${PC_Jansson_INCLUDE_DIRS})
find_library(Jansson_LIBRARY jansson HINTS ${PC_Jansson_LIBRARY_DIRS})
set(Jansson_VERSION "${PC_Jansson_VERSION}")
mark_as_advanced(Jansson_INCLUDE_DIR Jansson_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Jansson REQUIRED_VARS Jansson_LIBRARY Jansson_INCLUDE_DIR VERSION_VAR Jansson_VERSION)
if(Jansson_FOUND AND NOT TARGET Jansson::Jansson)
  add_library(Jansson::Jansson UNKNOWN IMPORTED)
  set_target_properties(Jansson::Jansson PROPERTIES
    IMPORTED_LOCATION "${Jansson_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Jansson_INCLUDE_DIR}")
endif()
