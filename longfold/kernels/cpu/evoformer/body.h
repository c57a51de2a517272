// The kernels of one instruction set, from the shared source: included by the one .cpp of each.
#pragma once

#include "longfold/kernels/cpu/evoformer/backward.h"
#include "longfold/kernels/cpu/evoformer/finish_backward.h"
#include "longfold/kernels/cpu/evoformer/forward.h"
#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {
namespace {

template <class T>
void forward(const ForwardArgs<T>& args, const Shape& shape, int64_t begin, int64_t end, float* scratch) {
  ForwardItem<T> worker(args, shape, scratch);
  for (int64_t item = begin; item < end; ++item) worker.run(item);
}

template <class T>
void backward(const BackwardArgs<T>& args, const Shape& shape, int64_t begin, int64_t end, float* scratch,
              float* workspace) {
  BackwardItem<T> worker(args, shape, scratch, workspace);
  for (int64_t item = begin; item < end; ++item) worker.run(item);
}

template <class T>
void finish(const BackwardArgs<T>& args, const Shape& shape, int64_t begin, int64_t end, float* workspace) {
  for (int64_t item = begin; item < end; ++item) {
    is_single_row(shape) ? finish_key_sums(args, shape, item, workspace)
                         : finish_grad_pair(args, shape, item, workspace);
  }
}

}  // namespace
}  // namespace longfold::kernels
