// Maps that let the device copy whole tiles: made anew for each launch, on the host.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::mma {

// Of one copy: `chunk_bytes` of a row by `rows` rows.
struct Box {
  int rows, chunk_bytes;
};

// Fills p.maps with what a pass copies, if all of that lies in whole units of 16 bytes. `grad_out` may be null.
void make_tensor_maps(Problem& p, const Rows* grad_out, int head_dim, Box of_queries, Box of_keys, Box of_pair,
                      int pair_element_bytes);

}  // namespace longfold::kernels::cuda::mma
