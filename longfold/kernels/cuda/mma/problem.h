// Arguments as the kernels on tensor cores take them.
#pragma once

#include <optional>

#include "longfold/kernels/cuda/mma/pair_copy.h"
#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/evoformer/bias.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels::cuda::mma {

struct Call {
  Problem problem;
  BiasForm form;
  bool one_row;        // blocks of one row n: N is 1, or the pair bias differs from row to row
  PairCopy pair_copy;  // to be made before, in memory that set_pair_copy() is given
};

void set_pair_copy(Call& call, void* data);

[[nodiscard]] int64_t size_of(DType dtype);  // bytes

template <class T>
[[nodiscard]] Rows rows_of_view(const TensorView<T, 5>& view);

// Nothing if there is no such kernel: two biases that are the same for all queries, of kBool or not, two others, a
// scale that is not positive. N makes no difference to that, so that it makes none to the bits.
template <class T, class Args>
[[nodiscard]] std::optional<Call> call_of(const Args& args);

// What the kernels of a pass are given.
template <class T>
[[nodiscard]] ForwardParams params_of(const ForwardArgs<T>& args, const Problem& problem);
// All but what lies in a workspace: the statistics, and the groups' sums. There are no groups where no pair gradient is
// wanted.
template <class T>
[[nodiscard]] BackwardParams params_of(const BackwardArgs<T>& args, const Problem& problem);

// params.columns in memory of as many elements as there are of queries, statistics_pitch for each head, times kColumns.
[[nodiscard]] Rows columns_at(void* data, const BackwardParams& params);

}  // namespace longfold::kernels::cuda::mma
