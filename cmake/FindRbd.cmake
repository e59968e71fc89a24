# Defines Rbd::Rbd: the C API of librbd. It has neither a .pc nor a CMake package, so the header tells the version.
find_path(Rbd_INCLUDE_DIR rbd/librbd.h)
find_library(Rbd_LIBRARY rbd)
if(Rbd_INCLUDE_DIR)
  file(STRINGS "${Rbd_INCLUDE_DIR}/rbd/librbd.h" _version REGEX "^#define LIBRBD_VER_(MAJOR|MINOR|EXTRA) +[0-9]+")
  list(TRANSFORM _version REPLACE "[^0-9]+" "")
  list(JOIN _version "." Rbd_VERSION)
endif()
mark_as_advanced(Rbd_INCLUDE_DIR Rbd_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Rbd REQUIRED_VARS Rbd_LIBRARY Rbd_INCLUDE_DIR VERSION_VAR Rbd_VERSION)
if(Rbd_FOUND AND NOT TARGET Rbd::Rbd)
  add_library(Rbd::Rbd UNKNOWN IMPORTED)
  set_target_properties(Rbd::Rbd PROPERTIES
    IMPORTED_LOCATION "${Rbd_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Rbd_INCLUDE_DIR}")
endif()
