// What comes before and after the kernels of the backward pass.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::mma {

// Fills params.statistics.
template <class T>
void run_statistics(const BackwardParams& params, int head_dim, Stream stream);

// grad_pair = the groups' sums, planes of [group, B, H, Lq, Lk], added up in their order, and over B and H where
// grad_pair is of size 1 there.
void run_sum_of_groups(const float* planes, int groups, const Shape& shape, const TensorView<float, 4>& grad_pair,
                       Stream stream);

}  // namespace longfold::kernels::cuda::mma
