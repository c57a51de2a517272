# One folder, one target, one namespace: longfold_library(kernels ...) makes longfold_kernels, alias longfold::kernels.

add_library(longfold_warnings INTERFACE)
# What nvcc makes of a .cu file converts at will.
target_compile_options(
  longfold_warnings
  INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Wno-sign-conversion;-Wshadow>"
            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(longfold_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>") # false alarms on "text" + std::string, GCC bug 105651
endif()

add_library(longfold_sanitize INTERFACE)
if(LONGFOLD_SANITIZE)
  target_compile_options(longfold_sanitize INTERFACE -fsanitize=${LONGFOLD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
                         -O1)
  target_link_options(longfold_sanitize INTERFACE -fsanitize=${LONGFOLD_SANITIZE})
endif()

function(longfold_library name)
  cmake_parse_arguments(ARG "SHARED" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  if(ARG_SHARED)
    add_library(longfold_${name} SHARED ${ARG_SOURCES})
  else()
    add_library(longfold_${name} STATIC ${ARG_SOURCES})
  endif()
  add_library(longfold::${name} ALIAS longfold_${name})
  target_compile_features(longfold_${name} PUBLIC cxx_std_20)
  target_include_directories(longfold_${name} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR};${PROJECT_BINARY_DIR}/generated>")
  # Flags of ours stay ours: an installed static library must not ask its users for them.
  target_link_libraries(
    longfold_${name} PUBLIC ${ARG_PUBLIC} PRIVATE $<BUILD_LOCAL_INTERFACE:longfold_warnings>
                            $<BUILD_LOCAL_INTERFACE:longfold_sanitize> ${ARG_PRIVATE})
  set_target_properties(longfold_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON EXPORT_NAME ${name})
endfunction()

# longfold_public_headers(folder a.h ... GENERATED b.h ...): the headers of a folder that `cmake --install` installs.
function(longfold_public_headers name)
  cmake_parse_arguments(ARG "" "" "GENERATED" ${ARGN})
  list(TRANSFORM ARG_UNPARSED_ARGUMENTS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  list(TRANSFORM ARG_GENERATED PREPEND "${PROJECT_BINARY_DIR}/generated/longfold/${name}/")
  target_sources(
    longfold_${name}
    PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${ARG_UNPARSED_ARGUMENTS}
    PUBLIC FILE_SET generated TYPE HEADERS BASE_DIRS "${PROJECT_BINARY_DIR}/generated" FILES ${ARG_GENERATED})
endfunction()

# longfold_test(folder SOURCES ... LIBRARIES ...) makes the program test_<folder>, one ctest entry per test; WHOLE: one
# for the program, which is skipped where it ends with 77.
function(longfold_test folder)
  cmake_parse_arguments(ARG "WHOLE" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(test_${folder} ${ARG_SOURCES})
  target_link_libraries(
    test_${folder} PRIVATE ${ARG_LIBRARIES} GTest::gtest GTest::gtest_main longfold_warnings longfold_sanitize)
  target_include_directories(test_${folder} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(test_${folder} PRIVATE LONGFOLD_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(ARG_WHOLE)
    add_test(NAME ${folder} COMMAND test_${folder})
    set_tests_properties(${folder} PROPERTIES LABELS ${folder} TIMEOUT 600 SKIP_RETURN_CODE 77)
  else()
    gtest_discover_tests(test_${folder} TEST_PREFIX "${folder}." DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT 600)
  endif()
endfunction()

# longfold_processes_test(folder SOURCES ... LIBRARIES ... PROCESSES 1 2 4): a program whose tests several processes run
# together, one ctest entry for each number of them; more than one needs mpirun. tests/parallel/world_main.cpp is its main.
function(longfold_processes_test folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES;PROCESSES" ${ARGN})
  add_executable(test_${folder} ${ARG_SOURCES} "${PROJECT_SOURCE_DIR}/tests/parallel/world_main.cpp")
  target_link_libraries(test_${folder} PRIVATE ${ARG_LIBRARIES} longfold::parallel GTest::gtest longfold_warnings longfold_sanitize)
  target_include_directories(test_${folder} PRIVATE "${PROJECT_SOURCE_DIR}")
  set_target_properties(test_${folder} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(test_${folder} PRIVATE -fPIC) # as the precompiled header
  longfold_use_torch_pch(test_${folder})
  find_program(MPIRUN mpirun)
  foreach(_processes ${ARG_PROCESSES})
    set(_launcher "")
    if(_processes GREATER 1)
      if(NOT MPIRUN OR NOT MPI_CXX_FOUND)
        continue()
      endif()
      set(_launcher "${PROJECT_SOURCE_DIR}/tools/mpirun.sh" ${_processes})
    endif()
    add_test(NAME ${folder}.${_processes}_processes COMMAND ${_launcher} $<TARGET_FILE:test_${folder}>)
    set_tests_properties(${folder}.${_processes}_processes PROPERTIES TIMEOUT 600 PROCESSORS 2)
  endforeach()
endfunction()

# Targets that include much of libtorch share one precompiled header (longfold/CMakeLists.txt).
function(longfold_use_torch_pch target)
  target_precompile_headers(${target} REUSE_FROM longfold_torch_pch)
endfunction()
