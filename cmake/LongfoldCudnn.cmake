# Whether cuDNN's attention is built: its frontend, which is headers alone, and the headers of cuDNN and CUDA, which come
# with torch's wheel; no nvcc, and no library, since cuDNN is loaded where there is a GPU. Sets LONGFOLD_CUDNN_IS_BUILT and
# LONGFOLD_CUDNN_HEADERS, else LONGFOLD_WHY_NO_CUDNN: words that errors and `longfold info` end with.
set(LONGFOLD_CUDNN_IS_BUILT OFF)
set(LONGFOLD_CUDNN_HEADERS "")
set(LONGFOLD_WHY_NO_CUDNN "")
cmake_path(GET Libtorch_ROOT PARENT_PATH _packages)
foreach(_header cudnn_frontend.h cudnn.h cuda_runtime.h)
  find_path(
    _folder ${_header}
    HINTS "${_packages}/include" "${_packages}/nvidia/cudnn/include" "${_packages}/nvidia/cu13/include" ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
    PATH_SUFFIXES include NO_CACHE)
  if(_folder)
    list(APPEND LONGFOLD_CUDNN_HEADERS "${_folder}")
  else()
    list(APPEND LONGFOLD_WHY_NO_CUDNN ${_header})
  endif()
  unset(_folder)
endforeach()
list(REMOVE_DUPLICATES LONGFOLD_CUDNN_HEADERS)
if(NOT Libtorch_CUDA_VERSION)
  set(LONGFOLD_WHY_NO_CUDNN "torch ${Libtorch_FULL_VERSION} was installed without CUDA")
elseif(LONGFOLD_WHY_NO_CUDNN)
  list(JOIN LONGFOLD_WHY_NO_CUDNN " and " LONGFOLD_WHY_NO_CUDNN)
  set(LONGFOLD_WHY_NO_CUDNN "no ${LONGFOLD_WHY_NO_CUDNN} was found")
else()
  set(LONGFOLD_CUDNN_IS_BUILT ON)
endif()
if(LONGFOLD_CUDNN_IS_BUILT)
  message(STATUS "cuDNN's attention: built")
else()
  message(STATUS "cuDNN's attention: not built, ${LONGFOLD_WHY_NO_CUDNN}")
endif()
