// Evoformer attention by tiles, on plain multiply-adds: fp32, and 16-bit types with biases that the kernels on tensor
// cores do not take; the head dims that were built; any strides and biases. Products are IEEE fp32 in every type.
//
//   forward.cuh    out, log_sum_exp, lse_correction            a block for a tile of queries
//   delta.cuh      delta                                       a thread for a query, or a block for a tile of them
//   grad_q.cuh     grad_q                                      a block for a tile of queries
//   grad_kv.cuh    grad_k, grad_v, grad_mask                   a block for a tile of keys
//   grad_pair.cuh  grad_pair by groups of rows n, grad_logits  a block for a tile of logits
//
// The plain kernels take the rest.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda::tiled {

template <class T>
[[nodiscard]] bool takes(const ForwardArgs<T>& args);
template <class T>
[[nodiscard]] bool takes(const BackwardArgs<T>& args);

// What takes() refuses is undefined behaviour.
template <class T>
void run_forward(const ForwardArgs<T>& args, Stream stream);
template <class T>
[[nodiscard]] int64_t backward_workspace_bytes(const BackwardArgs<T>& args);
template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);

}  // namespace longfold::kernels::cuda::tiled
