# stowage_component(NAME HEADERS pattern... [NEEDS component...] [PACKAGES package...] [LINKS target...])
# makes the interface target stowage::NAME and what find_package(stowage COMPONENTS NAME) must know about it.
# HEADERS are patterns below include/stowage. PACKAGES are looked up here and again in the user's project.
function(stowage_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;NEEDS;PACKAGES;LINKS")
  set(include ${PROJECT_SOURCE_DIR}/include)
  list(TRANSFORM arg_HEADERS PREPEND ${include}/stowage/)
  file(GLOB headers CONFIGURE_DEPENDS ${arg_HEADERS})

  # A header-only library can be installed without the C libraries at hand. Our own programs cannot do without.
  set(how QUIET)
  if(STOWAGE_BUILD_TESTS OR STOWAGE_BUILD_EXAMPLES OR STOWAGE_BUILD_BENCHMARKS)
    set(how REQUIRED)
  endif()
  foreach(package IN LISTS arg_PACKAGES)
    find_package(${package} ${how} GLOBAL)
  endforeach()

  set(target stowage_${name})
  if(name STREQUAL "stowage")
    set(target stowage)
  endif()
  add_library(${target} INTERFACE)
  add_library(stowage::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS ${include} FILES ${headers})
  foreach(needed IN LISTS arg_NEEDS)
    target_link_libraries(${target} INTERFACE stowage::${needed})
  endforeach()
  target_link_libraries(${target} INTERFACE ${arg_LINKS})

  # One export set per component: a missing librbd must not stop the user of another component.
  install(TARGETS ${target} EXPORT stowage_${name} FILE_SET HEADERS)
  install(EXPORT stowage_${name} NAMESPACE stowage:: DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/stowage)
  set_property(GLOBAL APPEND PROPERTY STOWAGE_COMPONENTS ${name})
  set_property(GLOBAL APPEND_STRING PROPERTY STOWAGE_COMPONENT_FACTS
    "set(_stowage_${name}_needs ${arg_NEEDS})\nset(_stowage_${name}_packages ${arg_PACKAGES})\n")
endfunction()

# stowage_install_package(): after the last component; installs the package files that find_package reads.
function(stowage_install_package)
  get_property(STOWAGE_COMPONENTS GLOBAL PROPERTY STOWAGE_COMPONENTS)
  get_property(STOWAGE_COMPONENT_FACTS GLOBAL PROPERTY STOWAGE_COMPONENT_FACTS)
  include(CMakePackageConfigHelpers)
  set(to ${CMAKE_INSTALL_DATADIR}/cmake/stowage)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/stowageConfig.cmake.in stowageConfig.cmake
    INSTALL_DESTINATION ${to} NO_SET_AND_CHECK_MACRO)
  write_basic_package_version_file(stowageConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
  file(GLOB finders CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/Find*.cmake)
  install(FILES ${finders} ${CMAKE_CURRENT_BINARY_DIR}/stowageConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/stowageConfigVersion.cmake DESTINATION ${to})
endfunction()
