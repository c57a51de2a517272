// Causal attention on NVIDIA GPUs by FlashAttention-2 as torch has it, reached through its dispatcher: no CUDA here.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "longfold/model/attention.h"

namespace longfold::model {

// Queries in a call of FlashAttention-2's backward pass where bits repeat: that pass keeps some copies of the queries'
// gradients in fp32, as many as let it fill the GPU without adding in any order, and this bounds what they take. A
// document of more is done in such chunks, each against the keys before its end.
inline constexpr int64_t kChunkQueries = 32768;

// bf16 or fp16, D a multiple of 8 up to 256.
[[nodiscard]] SharedCore flash_attention(bool repeatable, int64_t chunk_queries = kChunkQueries);

}  // namespace longfold::model
