// A copy of the pair bias in rows of whole units of 16 bytes, which alone are copied to the tensor cores at once, for
// one that does not lie so: heads innermost, as OpenFold has it, or an odd number of keys, or of another type. Next to
// what the rows n make of it the copy is small, 1 / N of the logits. A bias that varies over n is copied some rows at a
// time: whatever N is, the same kernels run.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::mma {

struct PairCopy {
  Bias from;    // data null: the bias can stay where it is
  Bias to;      // rows of Lk end in zeros
  int B, N, H;  // that differ; the others are of stride 0
  int Lq, Lk;
};

// Where there is to be a copy it has its layout, and no place.
[[nodiscard]] PairCopy pair_copy(const Bias& pair, BiasForm form, const Problem& p);
[[nodiscard]] int64_t num_bytes(const PairCopy& copy);
// How many of N rows n a call has at once, so that the copy takes 64 MiB, or one row.
[[nodiscard]] int64_t rows_at_once(const PairCopy& copy, int64_t N);

// Fills `to`, whose data is 16-byte aligned.
void run_pair_copy(const PairCopy& copy, BiasForm form, Stream stream);

}  // namespace longfold::kernels::cuda::mma
