# Whether cuDNN's attention is built: its frontend, which is headers alone, and the headers of cuDNN and CUDA, which come
# with torch's wheel; no nvcc, and no library, since cuDNN is loaded where there is a GPU. Sets LONGFOLD_CUDNN_IS_BUILT and
# LONGFOLD_CUDNN_HEADERS, else LONGFOLD_WHY_NO_CUDNN: words that errors and `longfold info` end with.
set(LONGFOLD_CUDNN_IS_BUILT OFF)
set(LONGFOLD_CUDNN_HEADERS "")
set(LONGFOLD_WHY_NO_CUDNN "")
string(REGEX MATCH "^[0-9]+" _cuda_major "${Libtorch_CUDA_VERSION}")
if(NOT _cuda_major)
  set(LONGFOLD_WHY_NO_CUDNN "torch ${Libtorch_FULL_VERSION} was installed without CUDA")
endif()

# A header, the macro in it that says a version, and the versions that will do: the majors of what torch loads.
cmake_path(GET Libtorch_ROOT PARENT_PATH _packages)
foreach(_line "cudnn_frontend.h||" "cudnn_version.h|CUDNN_MAJOR|9" "cuda_runtime_api.h|CUDART_VERSION|${_cuda_major}[0-9][0-9][0-9]")
  string(REGEX MATCH "^([^|]*)[|]([^|]*)[|](.*)$" _ "${_line}")
  set(_header "${CMAKE_MATCH_1}")
  set(_macro "${CMAKE_MATCH_2}")
  set(_expected "${CMAKE_MATCH_3}")
  find_path(
    _folder ${_header}
    HINTS "${_packages}/include" "${_packages}/nvidia/cudnn/include" "${_packages}/nvidia/cu${_cuda_major}/include"
          "${_packages}/nvidia/cuda_runtime/include" ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
    PATH_SUFFIXES include NO_CACHE)
  set(_version "")
  if(_folder AND _macro)
    file(STRINGS "${_folder}/${_header}" _version REGEX "^#define +${_macro} +[0-9]+")
    string(REGEX MATCH "[0-9]+$" _version "${_version}")
  endif()
  if(LONGFOLD_WHY_NO_CUDNN)
    # the first reason is told
  elseif(NOT _folder)
    set(LONGFOLD_WHY_NO_CUDNN "no ${_header} was found")
  elseif(_macro AND NOT _version MATCHES "^${_expected}$")
    set(LONGFOLD_WHY_NO_CUDNN "${_folder}/${_header} has ${_macro} ${_version}, and torch is of CUDA ${Libtorch_CUDA_VERSION} with cuDNN 9")
  else()
    list(APPEND LONGFOLD_CUDNN_HEADERS "${_folder}")
  endif()
  unset(_folder)
endforeach()
list(REMOVE_DUPLICATES LONGFOLD_CUDNN_HEADERS)

if(LONGFOLD_WHY_NO_CUDNN)
  message(STATUS "cuDNN's attention: not built, ${LONGFOLD_WHY_NO_CUDNN}")
else()
  set(LONGFOLD_CUDNN_IS_BUILT ON)
  message(STATUS "cuDNN's attention: built")
endif()
