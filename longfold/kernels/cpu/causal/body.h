// The kernels of one instruction set, from the shared source: included by the one .cpp of each.
#pragma once

#include "longfold/kernels/cpu/causal/backward.h"
#include "longfold/kernels/cpu/causal/forward.h"
#include "longfold/kernels/cpu/causal/isa_kernels.h"

namespace longfold::kernels {
namespace {

template <class T>
void causal_forward(const CausalForwardArgs<T>& args, const CausalForwardPlan& plan, const CausalShape& shape,
                    int64_t begin, int64_t end, float* scratch) {
  CausalForwardItem<T> worker(args, plan, shape, scratch);
  for (int64_t item = begin; item < end; ++item) worker.run(item);
}

template <class T>
void causal_backward(const CausalBackwardArgs<T>& args, const CausalBackwardPlan& plan, const CausalShape& shape,
                     int64_t phase, int64_t begin, int64_t end, float* scratch, float* workspace) {
  CausalBackwardItem<T> worker(args, plan, shape, scratch, workspace);
  for (int64_t item = begin; item < end; ++item) worker.run(phase, item);
}

template <class T>
constexpr CausalKernels<T> kCausalKernels{&causal_forward<T>, &causal_backward<T>};

}  // namespace
}  // namespace longfold::kernels
