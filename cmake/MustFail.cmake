# stowage_must_fail(file.cpp target...): a test that file.cpp compiles as it is (the control), and that the compiler
# refuses it with STOWAGE_MUST_FAIL defined and says why. The first line of the file tells what it must say:
#   // expect-error: REGEX
# Several such lines at the top are several cases: the k-th is compiled with STOWAGE_MUST_FAIL=k.
# The test runs the compiler itself: no link and no nested build, so it is safe under ctest -j. What file.cpp includes
# is compiled once for all its cases, which is nearly all there is to compile.
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
              -DHEADERS=${CMAKE_CURRENT_BINARY_DIR}/must_fail/${name}.hpp -P ${stowage_must_fail_script})
    set_tests_properties("must_fail.${name}" PROPERTIES LABELS must_fail TIMEOUT 120)
  endfunction()
  return()
endif()

# From here on: the test itself. cmake -DCOMPILER= -DFILE= -DINCLUDES= -DHEADERS= -P MustFail.cmake
cmake_path(GET FILE PARENT_PATH folder)
list(REMOVE_DUPLICATES INCLUDES)
list(TRANSFORM INCLUDES PREPEND -I)
macro(compile)
  execute_process(COMMAND ${COMPILER} -std=c++20 ${INCLUDES} ${ARGN} RESULT_VARIABLE status ERROR_VARIABLE words)
endmacro()
macro(compile_case)
  compile(-include ${HEADERS} -fsyntax-only ${ARGN} ${FILE})
endmacro()

file(STRINGS ${FILE} includes REGEX "^#include ")
list(JOIN includes "\n" includes)
file(WRITE ${HEADERS} "${includes}\n")
compile(-I${folder} -x c++-header ${HEADERS} -o ${HEADERS}.gch)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "what it includes does not compile:\n${words}")
endif()

compile_case()
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
  compile_case(-DSTOWAGE_MUST_FAIL=${case})
  if(status EQUAL 0)
    message(SEND_ERROR "case ${case} compiles, and must not: ${regex}")
  elseif(NOT words MATCHES "${regex}")
    message(SEND_ERROR "case ${case} is refused, but not with '${regex}':\n${words}")
  else()
    message(STATUS "case ${case}: refused with '${CMAKE_MATCH_0}'")
  endif()
endforeach()
file(REMOVE ${HEADERS}.gch) # some 50 MB
if(case EQUAL 0)
  message(FATAL_ERROR "the first line must be '// expect-error: REGEX'")
endif()
