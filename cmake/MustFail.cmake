# stowage_must_fail(file.cpp target...): a test that file.cpp compiles as it is (the control), and that the compiler
# refuses it with STOWAGE_MUST_FAIL defined and says why. The first line of the file tells what it must say:
#   // expect-error: REGEX
# Several such lines at the top are several cases: the k-th is compiled with STOWAGE_MUST_FAIL=k.
# The test runs the compiler itself: no link and no nested build, so it is fast and safe under ctest -j.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(stowage_must_fail_script ${CMAKE_CURRENT_LIST_FILE})

  function(stowage_must_fail file)
    cmake_path(GET file STEM name)
    set(includes "")
    foreach(target IN LISTS ARGN)
      list(APPEND includes "$<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>")
    endforeach()
    add_test(NAME "must_fail.${name}"
      COMMAND ${CMAKE_COMMAND} -DCOMPILER=${CMAKE_CXX_COMPILER} -DFILE=${file} "-DINCLUDES=${includes}"
              -P ${stowage_must_fail_script})
    set_tests_properties("must_fail.${name}" PROPERTIES LABELS must_fail TIMEOUT 120)
  endfunction()
  return()
endif()

# From here on: the test itself. cmake -DCOMPILER= -DFILE= -DINCLUDES= -P MustFail.cmake
list(REMOVE_DUPLICATES INCLUDES)
list(TRANSFORM INCLUDES PREPEND -I)
macro(compile)
  execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only ${INCLUDES} ${ARGN} ${FILE}
    RESULT_VARIABLE status ERROR_VARIABLE words)
endmacro()

compile()
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the control does not compile:\n${words}")
endif()

file(STRINGS ${FILE} lines)
set(case 0)
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^// expect-error: (.+)$")
    break()
  endif()
  set(regex "${CMAKE_MATCH_1}")
  math(EXPR case "${case} + 1")
  compile(-DSTOWAGE_MUST_FAIL=${case})
  if(status EQUAL 0)
    message(SEND_ERROR "case ${case} compiles, and must not: ${regex}")
  elseif(NOT words MATCHES "${regex}")
    message(SEND_ERROR "case ${case} is refused, but not with '${regex}':\n${words}")
  else()
    message(STATUS "case ${case}: refused with '${CMAKE_MATCH_0}'")
  endif()
endforeach()
if(case EQUAL 0)
  message(FATAL_ERROR "the first line must be '// expect-error: REGEX'")
endif()
