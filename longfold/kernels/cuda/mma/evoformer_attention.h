// Evoformer attention on tensor cores: 16-bit types, the head dims that were built, at most one bias that is the same
// for all queries and one other, compute capability 8.0 and later. The tiled kernels, then the plain ones, take the
// rest.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda::mma {

template <class T>
[[nodiscard]] bool takes(const ForwardArgs<T>& args);
template <class T>
[[nodiscard]] bool takes(const BackwardArgs<T>& args);

// What takes() refuses is undefined behaviour.
template <class T>
[[nodiscard]] int64_t forward_workspace_bytes(const ForwardArgs<T>& args);
template <class T>
void run_forward(const ForwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);
template <class T>
[[nodiscard]] int64_t backward_workspace_bytes(const BackwardArgs<T>& args);
template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);

}  // namespace longfold::kernels::cuda::mma
