// By the driver: what knows the bits of a CUtensorMap.
#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstring>

#include "longfold/kernels/cuda/mma/tensor_maps.h"
#include "longfold/kernels/cuda/runtime.h"

namespace longfold::kernels::cuda::mma {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap));

PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
        "evoformer_attention");
  return found == cudaDriverEntryPointSuccess ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function) : nullptr;
}

CUtensorMapSwizzle swizzle_of(int bytes) {
  switch (bytes) {
    case 128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case 64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case 32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    default:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

}  // namespace

bool encode_tensor_map(TensorMap& to, const MappedTensor& tensor) {
  const auto encode_tiled = encoder();
  if (encode_tiled == nullptr) return false;
  const std::array<cuuint64_t, 5> sizes = tensor.sizes;
  const std::array<cuuint64_t, 4> strides = tensor.strides;
  const std::array<cuuint32_t, 5> box = tensor.box, steps{1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode_tiled(&map, tensor.element_bytes == 4 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
                   5, const_cast<void*>(tensor.data), sizes.data(), strides.data(), box.data(), steps.data(),
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(tensor.swizzle_bytes), CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return false;
  std::memcpy(&to, &map, sizeof(map));
  return true;
}

}  // namespace longfold::kernels::cuda::mma
