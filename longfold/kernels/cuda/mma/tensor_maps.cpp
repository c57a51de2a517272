#include "longfold/kernels/cuda/mma/tensor_maps.h"

#include <cuda.h>
#include <cudaTypedefs.h>

#include <array>
#include <cstring>

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

CUtensorMapSwizzle swizzle_of(int chunk_bytes) {
  switch (chunk_bytes) {
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

struct Dimension {
  int64_t size, stride;  // the stride in elements, zero where the tensor does not vary
};

// The first dimension has neighbours side by side. Returns whether the driver took it.
bool encode(TensorMap& to, const void* data, int element_bytes, int64_t columns, const std::array<Dimension, 4>& others,
            Box box) {
  const auto encode_tiled = encoder();
  if (encode_tiled == nullptr) return false;
  std::array<cuuint64_t, 5> sizes{static_cast<cuuint64_t>(columns)};
  std::array<cuuint64_t, 4> strides{};
  for (size_t i = 0; i < 4; ++i) {
    const bool varies = others[i].stride != 0;
    sizes[i + 1] = varies ? static_cast<cuuint64_t>(others[i].size) : 1;
    strides[i] = varies ? static_cast<cuuint64_t>(others[i].stride * element_bytes) : 16;
  }
  const std::array<cuuint32_t, 5> boxes{static_cast<cuuint32_t>(box.chunk_bytes / element_bytes),
                                        static_cast<cuuint32_t>(box.rows), 1, 1, 1};
  const std::array<cuuint32_t, 5> steps{1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode_tiled(
      &map, element_bytes == 4 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16, 5,
      const_cast<void*>(data), sizes.data(), strides.data(), boxes.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle_of(box.chunk_bytes), CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return false;
  std::memcpy(&to, &map, sizeof(map));
  return true;
}

bool encode_rows(TensorMap& to, const Problem& p, const Rows& rows, int length, int head_dim, Box box) {
  if (!rows.in_units || (rows.strides[2] == 0 && length != 1)) return false;
  return encode(to, rows.data, 2, head_dim,
                {{{length, rows.strides[2]}, {p.H, rows.strides[3]}, {p.N, rows.strides[1]}, {p.B, rows.strides[0]}}},
                box);
}

}  // namespace

void make_tensor_maps(Problem& p, const Rows* grad_out, int head_dim, Box of_queries, Box of_keys, Box of_pair,
                      int pair_element_bytes) {
  TensorMaps& maps = p.maps;
  const auto& s = p.pair.strides;
  maps.are_used = encode_rows(maps.q, p, p.q, p.Lq, head_dim, of_queries) &&
                  encode_rows(maps.k, p, p.k, p.Lk, head_dim, of_keys) &&
                  encode_rows(maps.v, p, p.v, p.Lk, head_dim, of_keys) &&
                  (grad_out == nullptr || encode_rows(maps.grad_out, p, *grad_out, p.Lq, head_dim, of_queries)) &&
                  (p.pair.data == nullptr ||
                   (p.pair.in_units && encode(maps.pair, p.pair.data, pair_element_bytes, p.Lk,
                                              {{{p.Lq, s[3]}, {p.H, s[2]}, {p.N, s[1]}, {p.B, s[0]}}}, of_pair)));
}

}  // namespace longfold::kernels::cuda::mma
