// Sums of gradients down to the shape of a broadcast argument, with the same bits for any number of threads, and on
// CUDA.
#pragma once

#include <ATen/core/Tensor.h>

namespace longfold::ops {

// Sums `full` (fp32 or fp64, contiguous) over the dimensions in which `like`, aligned on the right, has size 1 or none;
// the result has the shape and dtype of `like`. at::sum would split some reductions by the number of threads.
[[nodiscard]] at::Tensor sum_to(at::Tensor full, const at::Tensor& like);

// to[o, i] = the sum over r of from[o, r, i], in the order of r and in double; in cuda.cpp or no_cuda.cpp.
void sum_middle_on_cuda(const at::Tensor& from, const at::Tensor& to, int64_t num_outer, int64_t num_summed,
                        int64_t num_inner);

}  // namespace longfold::ops
