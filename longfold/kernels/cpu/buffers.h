// How a thread's scratch is laid out, in floats. The same code sizes it (base null) and hands it out.
#pragma once

#include "longfold/kernels/tile_size.h"

namespace longfold::kernels {
namespace {

struct Bump {
  float* base;
  int64_t used = 0;

  [[gnu::always_inline]] inline float* take(int64_t count) {
    float* at = base == nullptr ? nullptr : base + used;
    used += round_up(count, kWidestVector);
    return at;
  }
};

struct ForwardBuffers {
  float* q_rows;      // [64][Dp] fp32 queries; then the output on its way out
  float* q_panel;     // [Dp][64] the same, queries in the lanes
  float* k_rows;      // [packed_keys][Dp] keys
  float* v_rows;      // [packed_keys][Dp]
  float* slab;        // [panels of a group][slab_keys][64] pair biases
  float* row_slab;    // [block][64] pair biases and general biases of one row n
  float* mask;        // [Lk] mask biases of one row n
  float* weights;     // [block][64] logits, then softmax weights
  float* out_panel;   // [Dp][64] output, queries in the lanes
  float* largest;     // [64] running maximum
  float* total;       // [64] running sum
  float* correction;  // [64] what the running sums are multiplied with when the maximum moves
  int64_t num_floats;

  [[gnu::always_inline]] inline ForwardBuffers(const Shape& shape, float* base) {
    Bump bump{base};
    const int64_t dim = padded_head_dim(shape);
    const int64_t block = kForwardKeys;
    q_rows = bump.take(kLanes * dim);
    q_panel = bump.take(kLanes * dim);
    k_rows = bump.take(packed_keys(shape, block) * dim);
    v_rows = bump.take(packed_keys(shape, block) * dim);
    slab = bump.take(divide_up(num_panels(shape), forward_panel_groups(shape)) * slab_keys(shape, block) * kLanes);
    row_slab = bump.take(block * kLanes);
    mask = bump.take(round_up(shape.Lk, kWidestVector));
    weights = bump.take(block * kLanes);
    out_panel = bump.take(kLanes * dim);
    largest = bump.take(kLanes);
    total = bump.take(kLanes);
    correction = bump.take(kLanes);
    num_floats = bump.used;
  }
};

struct BackwardBuffers {
  float* q_rows;          // [64][Dp] queries times scale; the output; then grad_q on its way out
  float* q_panel;         // [Dp][64]
  float* grad_out_rows;   // [64][Dp]
  float* grad_out_panel;  // [Dp][64]
  float* k_rows;          // [packed_keys][Dp]
  float* v_rows;          // [packed_keys][Dp]
  float* slab;            // [panels of a group][slab_keys][64]
  float* row_slab;        // [block][64]
  float* mask;            // [Lk]
  float* weights;         // [block][64] softmax weights
  float* grad_logits;     // [block][64]
  float* grad_q_panel;    // [Dp][64]
  float* log_sum_exp;     // [64]
  float* delta;           // [64] sum over d of grad_out * out
  float* grad_k;          // [rows at once][Lk][Dp]
  float* grad_v;          // [rows at once][Lk][Dp]
  int64_t num_floats;

  [[gnu::always_inline]] inline BackwardBuffers(const Shape& shape, int64_t block, float* base) {
    Bump bump{base};
    const int64_t dim = padded_head_dim(shape);
    q_rows = bump.take(kLanes * dim);
    q_panel = bump.take(kLanes * dim);
    grad_out_rows = bump.take(kLanes * dim);
    grad_out_panel = bump.take(kLanes * dim);
    k_rows = bump.take(packed_keys(shape, block) * dim);
    v_rows = bump.take(packed_keys(shape, block) * dim);
    slab = bump.take(divide_up(num_panels(shape), backward_panel_groups(shape)) * slab_keys(shape, block) * kLanes);
    row_slab = bump.take(block * kLanes);
    mask = bump.take(round_up(shape.Lk, kWidestVector));
    weights = bump.take(block * kLanes);
    grad_logits = bump.take(block * kLanes);
    grad_q_panel = bump.take(kLanes * dim);
    log_sum_exp = bump.take(kLanes);
    delta = bump.take(kLanes);
    grad_k = bump.take(backward_rows_at_once(shape) * shape.Lk * dim);
    grad_v = bump.take(backward_rows_at_once(shape) * shape.Lk * dim);
    num_floats = bump.used;
  }
};

// The workspace of a backward call that wants grad_pair: one [Lk][panel_lanes] fp32 slab for each (b, h, group of rows,
// panel). Only the last panel of an item may have fewer than 64 lanes.
[[gnu::always_inline]] inline int64_t partial_offset(const Shape& shape, int64_t item, int64_t panel) {
  return (item * all_lanes(shape) + panel * kLanes) * shape.Lk;
}

}  // namespace
}  // namespace longfold::kernels
