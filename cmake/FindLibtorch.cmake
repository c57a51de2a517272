# Finds libtorch without a CUDA toolkit: the config file inside the torch wheel insists on one, and probes GPUs.
#
# Looks in LIBTORCH (cache or environment: the folder that holds include/ and lib/), else asks Python_EXECUTABLE.
# Defines the targets
#   libtorch::cpu     torch, torch_cpu, c10 and their headers
#   libtorch::openmp  the OpenMP runtime that the wheel brings; without -fopenmp at::parallel_for is silently serial,
#                     and a second runtime beside the wheel's would mean two thread pools
#   libtorch::cuda    torch_cuda and c10_cuda, where the wheel has them; their headers need the CUDA toolkit's
# and Libtorch_VERSION (numbers alone), Libtorch_FULL_VERSION (as Python says it, without the part after +),
# Libtorch_CUDA_VERSION ("13.0"; empty: a wheel without CUDA), Libtorch_ROOT, Libtorch_FOLDERS (of the libraries, for a run path).

set(LIBTORCH "$ENV{LIBTORCH}" CACHE PATH "folder of libtorch (include/ and lib/); empty: ask Python")
set(Libtorch_ROOT "${LIBTORCH}")
if(NOT Libtorch_ROOT AND Python_EXECUTABLE)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE Libtorch_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()

# "2.11.0", "2.11.0a0": without the part after the +, which names the devices.
if(EXISTS "${Libtorch_ROOT}/version.py") # the wheel
  file(STRINGS "${Libtorch_ROOT}/version.py" _line REGEX "^__version__ = ")
  string(REGEX REPLACE ".*'([^'+]+).*" "\\1" Libtorch_FULL_VERSION "${_line}")
  file(STRINGS "${Libtorch_ROOT}/version.py" _cuda REGEX "^cuda(:[^=]*)? = '")
  string(REGEX MATCH "[0-9]+[.][0-9]+" Libtorch_CUDA_VERSION "${_cuda}")
elseif(EXISTS "${Libtorch_ROOT}/build-version") # the zip
  file(STRINGS "${Libtorch_ROOT}/build-version" _line)
  string(REGEX REPLACE "[+].*" "" Libtorch_FULL_VERSION "${_line}")
  set(Libtorch_CUDA_VERSION "")
  if(_line MATCHES "[+]cu([0-9]+)([0-9])$")
    set(Libtorch_CUDA_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
  endif()
endif()
string(REGEX MATCH "^[0-9]+[.][0-9]+[.][0-9]+" Libtorch_VERSION "${Libtorch_FULL_VERSION}")

include(FindPackageHandleStandardArgs)
# NO_CACHE: a build folder that is configured again with another torch must not keep the first one's headers.
unset(Libtorch_INCLUDE_DIR CACHE)
find_path(Libtorch_INCLUDE_DIR torch/library.h PATHS "${Libtorch_ROOT}/include" NO_CACHE NO_DEFAULT_PATH)
foreach(_name torch torch_cpu c10 torch_cuda c10_cuda)
  unset(Libtorch_${_name}_LIBRARY CACHE)
  find_library(Libtorch_${_name}_LIBRARY ${_name} PATHS "${Libtorch_ROOT}/lib" NO_CACHE NO_DEFAULT_PATH)
endforeach()
find_package_handle_standard_args(
  Libtorch
  REQUIRED_VARS Libtorch_torch_LIBRARY Libtorch_torch_cpu_LIBRARY Libtorch_c10_LIBRARY Libtorch_INCLUDE_DIR
  VERSION_VAR Libtorch_VERSION HANDLE_VERSION_RANGE
  REASON_FAILURE_MESSAGE "run `make setup`, or set LIBTORCH or Python_EXECUTABLE to a place that has torch")

if(Libtorch_FOUND AND NOT TARGET libtorch::cpu)
  add_library(libtorch::cpu INTERFACE IMPORTED)
  target_include_directories(
    libtorch::cpu SYSTEM INTERFACE "${Libtorch_INCLUDE_DIR}" "${Libtorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_compile_features(libtorch::cpu INTERFACE cxx_std_20)
  target_compile_definitions(libtorch::cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
  # The wheel's libraries export a std::filesystem of an older compiler, whose remove_all jumps to address 0. The first
  # library that has a symbol wins, so the compiler's own comes first. By its file's name: a compiler that has but the
  # static one would put a second copy into ours, and their streams do not mix.
  target_link_options(libtorch::cpu INTERFACE "LINKER:--no-as-needed,-l:libstdc++.so.6,--as-needed")
  target_link_options(libtorch::cpu INTERFACE "LINKER:--no-as-needed,${Libtorch_torch_LIBRARY}" "LINKER:--as-needed")
  target_link_libraries(libtorch::cpu INTERFACE "${Libtorch_torch_cpu_LIBRARY}" "${Libtorch_c10_LIBRARY}")

  add_library(libtorch::openmp INTERFACE IMPORTED)
  target_compile_options(libtorch::openmp INTERFACE -fopenmp)
  file(GLOB _gomp "${Libtorch_ROOT}/lib/libgomp*.so*" "${Libtorch_ROOT}/../torch.libs/libgomp*.so*")
  set(Libtorch_FOLDERS "${Libtorch_ROOT}/lib")
  if(_gomp)
    list(GET _gomp 0 _gomp)
    cmake_path(GET _gomp PARENT_PATH _gomp_folder)
    list(APPEND Libtorch_FOLDERS "${_gomp_folder}")
    list(REMOVE_DUPLICATES Libtorch_FOLDERS)
    target_link_libraries(libtorch::openmp INTERFACE "${_gomp}")
  else()
    target_link_options(libtorch::openmp INTERFACE -fopenmp)
  endif()
endif()

if(Libtorch_torch_cuda_LIBRARY AND Libtorch_c10_cuda_LIBRARY)
  if(Libtorch_FOUND AND NOT TARGET libtorch::cuda)
    add_library(libtorch::cuda INTERFACE IMPORTED)
    target_link_libraries(
      libtorch::cuda INTERFACE libtorch::cpu "${Libtorch_torch_cuda_LIBRARY}" "${Libtorch_c10_cuda_LIBRARY}")
  endif()
else()
  set(Libtorch_CUDA_VERSION "")
endif()
