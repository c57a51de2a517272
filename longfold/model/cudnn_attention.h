// Causal attention on NVIDIA GPUs by cuDNN (kernels/cudnn/attention.h), about twice as fast as FlashAttention-2 on an
// H200 (docs/results). bf16 and fp16, D a multiple of 8.
#pragma once

#include <cstdint>
#include <string>

#include "longfold/model/attention.h"

namespace longfold::model {

// Most queries and keys of a tile of the backward pass where bits repeat: cuDNN then writes the gradients of a tile's
// logits to memory, 2 GiB for 16 heads. Tiles are smaller where B x H of this size would take more than kMostBytes.
// Their gradients are added in fp32, in order.
inline constexpr int64_t kTile = 8192;
inline constexpr int64_t kMostBytes = int64_t{4} << 30;

// Of rows that are one document each; packed documents, heads of more than 128 dimensions, rows of one token, which
// cuDNN does not take, and rows of 2^31 elements or more go to flash_attention().
[[nodiscard]] SharedCore cudnn_attention(bool repeatable, int64_t tile = kTile);

// "" if this build has it, else why not.
[[nodiscard]] std::string missing_for_cudnn();
// "" if the current GPU and its cuDNN take both passes over a small row of heads of 64, else why not.
[[nodiscard]] std::string problem_with_cudnn(at::ScalarType dtype, bool repeatable);

}  // namespace longfold::model
