// What the kernels on tensor cores are given, by value.
#pragma once

#include <cstdint>

#include "longfold/kernels/dtype.h"

namespace longfold::kernels::cuda::mma {

// How a pair bias lies in shared memory.
enum class BiasForm : uint8_t {
  kNone,
  k16,  // as it is: it has the type of the queries
  k32,  // in fp32, whatever its type
};

// A CUtensorMap: how boxes of a tensor are copied at once, on devices that can.
struct alignas(64) TensorMap {
  uint64_t words[16];
};

// Maps of one pass, whose tiles have boxes of their own. Where a tensor can have none, none is used.
struct TensorMaps {
  TensorMap q, k, v, out, grad_out, columns, pair;
  bool are_used;
};

// q, k, v, out and their gradients, 16-bit elements.
struct Rows {
  void* data;
  int64_t strides[5];  // of [B, N, L, H, D], in elements
  bool in_units;       // each row of D lies in whole units of 16 bytes; else it is read element by element
};

// A bias; data null: there is none.
struct Bias {
  const void* data;
  DType dtype;
  int64_t strides[5];  // of [B, N, H, Lq, Lk], in elements
};

// What is common to all passes.
struct Problem {
  int B, N, Lq, Lk, H;
  Rows q, k, v;
  // The same for all rows n, unless blocks have one row. Of the type that shared memory holds, each row of Lk whole
  // units of 16 bytes, or zeros make it so.
  Bias pair;
  Bias mask;  // the same for all queries; of kBool: hides keys where it is 0
  float scale;
  bool mean_if_masked;
  TensorMaps maps;
};

struct ForwardParams {
  Problem problem;
  Rows out;
  float *log_sum_exp, *lse_correction;
  int64_t lse_strides[4];  // of [B, N, H, Lq], both
};

// Of a query in the backward pass: a weight is 2^(logit log2 e + minus_lse), and its gradient grad_out . v +
// minus_delta. A query that is fully masked has minus_lse -inf, or inf where its weights are 1 / Lk.
struct QueryStatistics {
  float minus_lse, minus_delta;
};

struct BackwardParams {
  Problem problem;
  Rows out, grad_out, grad_q, grad_k, grad_v;
  const float *log_sum_exp, *lse_correction, *grad_log_sum_exp;  // the last may be null
  int64_t lse_strides[4], correction_strides[4], grad_lse_strides[4];
  QueryStatistics* statistics;  // [B, N, H, statistics_pitch]; those beyond Lq have no weights
  int64_t statistics_pitch;     // Lq rounded up to a multiple of kMostQueries (tile_size.h)
  Rows columns;                 // [B, N, statistics_pitch, H, 8]: what wgmma/ has in their place; see wgmma/columns.cuh
  float* pair_sums;             // [group, B, H, Lq, Lk], the last side by side; null: not wanted
  int64_t pair_strides[4];      // of all others
  int pair_groups;              // of rows n, each with a partial sum of its own
  float* grad_mask;             // null: not wanted
  int64_t grad_mask_strides[4];  // of [B, N, H, Lk]
};

}  // namespace longfold::kernels::cuda::mma
