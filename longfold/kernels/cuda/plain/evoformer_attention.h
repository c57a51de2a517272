// Plain CUDA kernels: loops that read like the formulas, with a warp for a row. They take every dtype, head dim, stride
// and bias, on every GPU that CUDA targets, are slow, and are what faster kernels are held against on the device.
//
//   forward.cu          out, log_sum_exp, lse_correction   a warp for a query
//   grad_q.cu           delta and grad_q                   a warp for a query
//   grad_kv.cu          grad_k, grad_v, grad_mask          a warp for a key
//   logit_gradients.cu  grad_pair, grad_logits             a thread for an element
//
// Each result is written by one warp or thread, which adds up its terms in a fixed order: no atomics, and no workspace
// but delta.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda::plain {

template <class T>
void run_forward(const ForwardArgs<T>& args, Stream stream);
template <class T>
[[nodiscard]] int64_t backward_workspace_bytes(const BackwardArgs<T>& args);
template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);

// The parts of the backward pass. The first fills delta [B, N, H, Lq], contiguous, which the others read.
template <class T>
void run_grad_q(const BackwardArgs<T>& args, Accumulator<T>* delta, Stream stream);
template <class T>
void run_grad_kv(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream);
template <class T>
void run_grad_pair(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream);
template <class T>
void run_grad_logits(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream);

}  // namespace longfold::kernels::cuda::plain
