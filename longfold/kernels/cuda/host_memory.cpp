#include "longfold/kernels/cuda/host_memory.h"

#include <cuda_runtime_api.h>

namespace longfold::kernels::cuda {

std::string register_host_memory(void* begin, size_t bytes) {
  const cudaError_t error = cudaHostRegister(begin, bytes, cudaHostRegisterDefault);
  if (error == cudaSuccess) return "";
  (void)cudaGetLastError();  // or the next launch would report it
  return cudaGetErrorString(error);
}

void unregister_host_memory(void* begin) {
  if (cudaHostUnregister(begin) != cudaSuccess) (void)cudaGetLastError();
}

}  // namespace longfold::kernels::cuda
