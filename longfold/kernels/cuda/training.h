// Passes over memory that a training step on a GPU makes, each fused into one kernel. Pointers are of the current
// device; everything is launched on `stream` and returns at once. The same bits every run.
#pragma once

#include <cstdint>

#include "longfold/kernels/cuda/stream.h"
#include "longfold/kernels/dtype.h"

namespace longfold::kernels::cuda {

// Whether this build has them for the current GPU: the functions below throw std::runtime_error where it does not.
[[nodiscard]] bool has_training_kernels();

// Rotary embeddings in place. T is bfloat16 or float16.
template <class T>
struct RotateArgs {
  T* qkv = nullptr;  // [tokens, groups, turned + kept, head_size], contiguous
  int64_t num_tokens = 0, num_groups = 0;
  int64_t num_turned = 0, num_kept = 0;  // heads of a group: queries and keys turn, values do not
  int64_t head_size = 0;
  const float* cos = nullptr;  // [tokens, half], contiguous; dimension d < half of a head pairs with half + d
  const float* sin = nullptr;
  int64_t half = 0;
  bool back = false;  // turns the other way, as gradients do
};
template <class T>
void rotate_heads(const RotateArgs<T>& args, Stream stream);

// One update by AdamW (Loshchilov, Hutter 2019) of fp32 parameters, from gradients T: float, bfloat16 or float16.
template <class T>
struct AdamWArgs {
  int64_t count = 0;
  float* parameter = nullptr;
  float* mean = nullptr;
  float* mean_square = nullptr;
  const T* gradient = nullptr;
  void* rounded = nullptr;                // [count] of rounded_type, which gets the new parameters too; none: nullptr
  DType rounded_type = DType::kBFloat16;  // or kFloat16
  float gradient_factor = 1;              // gradients are multiplied by it first
  float learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
  float of_new = 1, of_new_square = 1;     // 1 - beta, which fp32 would lose for a beta near 1
  float correction1 = 1, correction2 = 1;  // 1 - beta^step
};
template <class T>
void adamw(const AdamWArgs<T>& args, Stream stream);

// The sum of the squares of T: float, bfloat16 or float16, as kPartialSums sums in fp64, to be added up.
inline constexpr int kPartialSums = 128;
template <class T>
void sum_of_squares(const T* from, int64_t count, double* partial_sums, Stream stream);

// to[token, head, d] += from[token, head, d], from with strides (elements), of D contiguous and a multiple of 8.
template <class T>
struct AddHeadsArgs {
  const T* from = nullptr;
  int64_t token_stride = 0, head_stride = 0;
  float* to = nullptr;  // contiguous
  int64_t num_tokens = 0, num_heads = 0, head_size = 0;
};
template <class T>
void add_heads(const AddHeadsArgs<T>& args, Stream stream);

}  // namespace longfold::kernels::cuda
