# Defines Libiscsi::Libiscsi: the user-space iSCSI initiator. pkg-config gives hints and the version; the header and library decide.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_Libiscsi QUIET libiscsi)
endif()
find_path(Libiscsi_INCLUDE_DIR iscsi/iscsi.h HINTS ${PC_Libiscsi_INCLUDE_DIRS})
find_library(Libiscsi_LIBRARY iscsi HINTS ${PC_Libiscsi_LIBRARY_DIRS})
set(Libiscsi_VERSION "${PC_Libiscsi_VERSION}")
mark_as_advanced(Libiscsi_INCLUDE_DIR Libiscsi_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libiscsi REQUIRED_VARS Libiscsi_LIBRARY Libiscsi_INCLUDE_DIR VERSION_VAR Libiscsi_VERSION)
if(Libiscsi_FOUND AND NOT TARGET Libiscsi::Libiscsi)
  add_library(Libiscsi::Libiscsi UNKNOWN IMPORTED)
  set_target_properties(Libiscsi::Libiscsi PROPERTIES
    IMPORTED_LOCATION "${Libiscsi_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Libiscsi_INCLUDE_DIR}")
endif()
