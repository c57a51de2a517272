// Attention by NVIDIA's cuDNN, which is loaded when the first object is made: bf16 and fp16, D a multiple of 8 up to
// 128, 16-byte aligned data and strides. Without a build that has its headers no_cudnn.cpp takes the place of
// attention.cpp.
//
// cuDNN's backward pass can give the same bits every run. It then writes the gradients of the logits to memory, in 16
// bits, 2 B H Lq Lk bytes of workspace, so that callers do long sequences in tiles of queries and keys.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "longfold/kernels/cuda/stream.h"
#include "longfold/kernels/dtype.h"

namespace longfold::kernels::cudnn {

using cuda::Stream;

// [B, tokens, heads, D] on the device, D contiguous; strides in elements.
struct Heads {
  void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
};

struct Shape {
  DType dtype = DType::kBFloat16;
  int64_t B = 1, Lq = 0, Lk = 0, H = 0, kv_heads = 0, D = 0;
  bool causal = true;  // query i sees keys 0 to i; else all
};

struct ForwardArgs {
  Shape shape;
  Heads q, k, v, out;
  float* lse = nullptr;  // [B, H, Lq], contiguous: natural logarithms of the sums of exp(q k / sqrt(D))
};

// With the out and lse of a whole row, Lq and Lk may be a part of it: the gradients are then that part's share.
struct BackwardArgs {
  Shape shape;
  Heads q, k, v, out, grad_out, grad_q, grad_k, grad_v;
  const float* lse = nullptr;
  bool repeatable = true;
};

// Keeps what cuDNN compiles for a shape and its strides (about a tenth of a second each): one for a model, not one for
// a call. Calls may come from several threads, one after the other.
class Attention {
 public:
  Attention();  // std::runtime_error: what is missing
  ~Attention();
  Attention(const Attention&) = delete;
  Attention& operator=(const Attention&) = delete;

  // Bytes of device memory that run() needs, content irrelevant. std::runtime_error: a shape that cuDNN does not take.
  [[nodiscard]] int64_t workspace_bytes(const ForwardArgs& args);
  [[nodiscard]] int64_t workspace_bytes(const BackwardArgs& args);

  // On `stream` of the current device; returns at once.
  void run(const ForwardArgs& args, void* workspace, Stream stream);
  void run(const BackwardArgs& args, void* workspace, Stream stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "" if this build has it, else why not.
[[nodiscard]] std::string missing_in_build();

}  // namespace longfold::kernels::cudnn
