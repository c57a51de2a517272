// The end of grad_q, and of delta.
#pragma once

#include "longfold/kernels/cuda/mma/fragments.cuh"
#include "longfold/kernels/cuda/mma/statistics.cuh"

namespace longfold::kernels::cuda::mma {

// Of 16 queries from `first` on: grad_q from logit gradients times keys, weights times keys, and what this thread's
// logit gradients add up to. Sums may be wider than HeadDim.
//
// A row's logit gradients add up to the gradient of its log_sum_exp. What they add up to beyond that is the error of
// delta, which came from the rounded output: it is taken off here, and off minus_delta, for the kernels that follow.
template <class T, int HeadDim, int Units>
__device__ __forceinline__ void finish_grad_q(const BackwardParams& params, float (&grad_q)[Units][4],
                                              const float (&keys)[Units][4], const float (&of_gradients)[2],
                                              float (&minus_delta)[2], int b, int n, int h, int first, int lane) {
  const Problem& p = params.problem;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float error = of_gradients[half];
    error += ptx::shuffle_xor(error, 1);
    error += ptx::shuffle_xor(error, 2);
    const int query = first + 8 * half + lane / 4;
    if (query < p.Lq) {
      error -= grad_lse_at(params, b, n, h, query);
      if (!(minus_delta[half] == minus_delta[half] && error == error)) error = 0;  // NaN stays where it is
      minus_delta[half] -= error;
    }
#pragma unroll
    for (int u = 0; u < HeadDim / 8; ++u) {
      grad_q[u][2 * half] -= error * keys[u][2 * half];
      grad_q[u][2 * half + 1] -= error * keys[u][2 * half + 1];
    }
  }
  const float factor[2] = {p.scale, p.scale};
  store_rows<T, HeadDim>(params.grad_q, rows_of(params.grad_q, b, n, h), first, p.Lq, grad_q, factor);
}

}  // namespace longfold::kernels::cuda::mma
