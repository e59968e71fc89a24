# Defines Rados::Rados: the C API of librados. It has neither a .pc nor a CMake package, so the header tells the version.
find_path(Rados_INCLUDE_DIR rados/librados.h)
find_library(Rados_LIBRARY rados)
if(Rados_INCLUDE_DIR)
  file(STRINGS "${Rados_INCLUDE_DIR}/rados/librados.h" _version REGEX "^#define LIBRADOS_VER_(MAJOR|MINOR|EXTRA) +[0-9]+")
  list(TRANSFORM _version REPLACE "[^0-9]+" "")
  list(JOIN _version "." Rados_VERSION)
endif()
mark_as_advanced(Rados_INCLUDE_DIR Rados_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Rados REQUIRED_VARS Rados_LIBRARY Rados_INCLUDE_DIR VERSION_VAR Rados_VERSION)
if(Rados_FOUND AND NOT TARGET Rados::Rados)
  add_library(Rados::Rados UNKNOWN IMPORTED)
  set_target_properties(Rados::Rados PROPERTIES
    IMPORTED_LOCATION "${Rados_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Rados_INCLUDE_DIR}")
endif()
