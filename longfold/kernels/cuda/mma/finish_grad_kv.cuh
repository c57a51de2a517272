// The end of grad_k, grad_v and the mask's gradient.
#pragma once

#include "longfold/kernels/cuda/mma/fragments.cuh"
#include "longfold/kernels/cuda/mma/loader.cuh"

namespace longfold::kernels::cuda::mma {

// Of 16 keys from `first` on; `mask` is this thread's part of their logit gradients' sums. Sums may be wider than
// HeadDim.
template <class T, int HeadDim, int Units>
__device__ __forceinline__ void finish_grad_kv(const BackwardParams& params, const float (&grad_k)[Units][4],
                                               const float (&grad_v)[Units][4], const float (&mask)[2], int b, int n,
                                               int h, int first) {
  const Problem& p = params.problem;
  const float factor[2] = {p.scale, p.scale}, one[2] = {1, 1};
  store_rows<T, HeadDim>(params.grad_k, rows_of(params.grad_k, b, n, h), first, p.Lk, grad_k, factor);
  store_rows<T, HeadDim>(params.grad_v, rows_of(params.grad_v, b, n, h), first, p.Lk, grad_v, one);
  if (params.grad_mask == nullptr) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = mask[half];
    sum += ptx::shuffle_xor(sum, 1);
    sum += ptx::shuffle_xor(sum, 2);
    const int key = first + 8 * half + lane_of_warp() / 4;
    const int64_t* strides = params.grad_mask_strides;
    if (lane_of_warp() % 4 == 0 && key < p.Lk) {
      params.grad_mask[b * strides[0] + n * strides[1] + h * strides[2] + key * strides[3]] = sum;
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
