// The CUDA side of Evoformer attention: the arguments are those of the CPU (kernels/evoformer_attention.h), with data
// on the device, and biases, the span and its views, in host memory. Without a CUDA build no_cuda.cpp takes its place,
// which throws by name.
//
// Everything is launched on `stream` of the current device, and returns at once: no wait, no allocation, so that a
// graph can capture it. The same bits every run; a row's bits do not depend on N.
#pragma once

#include <string>

#include "longfold/kernels/evoformer_attention.h"

// What the runtime's cudaStream_t points to: this header needs no CUDA.
struct CUstream_st;

namespace longfold::kernels::cuda {

using Stream = CUstream_st*;

// More are an error by name: views are passed to the device by value.
inline constexpr int kMostBiases = 16;

// Bytes of device memory, 256-byte aligned, content irrelevant; a function of the shape, of how tensors lie and of the
// gradients that are wanted. 0 for a forward pass whose pair bias can stay where it is.
template <class T>
[[nodiscard]] int64_t forward_workspace_bytes(const ForwardArgs<T>& args);

// num_threads has no meaning here.
template <class T>
void run_forward(const ForwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);

template <class T>
[[nodiscard]] int64_t backward_workspace_bytes(const BackwardArgs<T>& args);

// Unlike on the CPU grad_pair may be of size 1 along B or H, and so may grad_logits: then it is the sum over these too.
template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream);

// to[outer, inner] = the sum over r of from[outer, r, inner], all contiguous, in the order of r and in double.
template <class T>
void sum_middle(const T* from, T* to, int64_t num_outer, int64_t num_summed, int64_t num_inner, Stream stream);

// "found: ..." or "missing: why", for people.
[[nodiscard]] std::string engine_status();

}  // namespace longfold::kernels::cuda
