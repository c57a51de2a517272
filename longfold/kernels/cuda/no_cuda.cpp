#include <stdexcept>
#include <string>

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda {

void require_kernels(std::string_view op) {
  throw std::runtime_error(
      "[" + std::string(op) +
      "] expected tensors on the CPU, got CUDA tensors: this build of longfold has no CUDA kernels");
}

std::string engine_status() {
  return "missing: this version has no CUDA kernels";
}

}  // namespace longfold::kernels::cuda
