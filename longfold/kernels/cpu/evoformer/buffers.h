// How a thread's scratch is laid out, in floats. The same code sizes it (base null) and hands it out. Sizes are those
// of unpaired words (pack.h), the larger ones, so that they depend on the shape alone.
#pragma once

#include "longfold/kernels/cpu/bump.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels {
namespace {

struct ForwardBuffers {
  float* q_panel;     // [D][64] queries, in the lanes
  float* k_rows;      // [packed_keys][D] keys
  float* v_pairs;     // [packed_keys][D] values
  float* slab;        // [panels of a group][keys][64] pair biases (slab_floats)
  float* row_slab;    // [block][64] pair biases and general biases of one row n
  float* mask;        // [mask_keys] mask biases of one row n
  float* weights;     // [block][64] logits, then softmax weights
  float* out_panel;   // [D][64] output, queries in the lanes
  float* out_sum;     // [D][64] its long sum, in long rows
  float* out_rest;    // [D][64]
  float* largest;     // [64] running maximum
  float* total;       // [64] running sum
  float* total_rest;  // [64]
  float* block;       // [64] maximum, or sum, of one block
  float* correction;  // [64] what the running sums are multiplied with when the maximum moves; in the end 1 / total
  int64_t num_floats;

  [[gnu::always_inline]] inline ForwardBuffers(const Shape& shape, int64_t panel_group, float* base) {
    Bump bump{base};
    const int64_t keys = kForwardKeys;
    q_panel = bump.take(kLanes * shape.D);
    k_rows = bump.take_rows(packed_keys(shape, keys), shape.D);
    v_pairs = bump.take_rows(packed_keys(shape, keys), shape.D);
    slab = bump.take(slab_floats(shape, slab_held(shape, false), panel_group, keys));
    row_slab = bump.take(keys * kLanes);
    mask = bump.take(round_up(mask_keys(shape, keys), kWidestVector));
    weights = bump.take(keys * kLanes);
    out_panel = bump.take(kLanes * shape.D);
    out_sum = bump.take(shape.Lk > kLongRow ? kLanes * shape.D : 0);
    out_rest = bump.take(shape.Lk > kLongRow ? kLanes * shape.D : 0);
    largest = bump.take(kLanes);
    total = bump.take(kLanes);
    total_rest = bump.take(kLanes);
    block = bump.take(kLanes);
    correction = bump.take(kLanes);
    num_floats = bump.used;
  }
};

// Sums over the queries of a span.
struct SpanSums {
  float* grad_k = nullptr;  // [rows][keys][scatter_width]
  float* grad_v = nullptr;
  float* mask = nullptr;  // [rows][keys, whole vectors] logit gradients
  float* mask_rest = nullptr;

  SpanSums() = default;
  [[gnu::always_inline]] inline SpanSums(const Shape& shape, int64_t rows, int64_t keys, Bump& bump)
      : grad_k(bump.take(rows * keys * scatter_width(shape))),
        grad_v(bump.take(rows * keys * scatter_width(shape))),
        mask(bump.take(rows * round_up(keys, kWidestVector))),
        mask_rest(bump.take(rows * round_up(keys, kWidestVector))) {}

  // From the row of that index, and a key, on.
  [[gnu::always_inline]] inline SpanSums from(const Shape& shape, int64_t keys, int64_t row, int64_t key) const {
    const int64_t at = (row * keys + key) * scatter_width(shape), mask_at = row * round_up(keys, kWidestVector) + key;
    SpanSums later;
    later.grad_k = grad_k + at;
    later.grad_v = grad_v + at;
    later.mask = mask + mask_at;
    later.mask_rest = mask_rest + mask_at;
    return later;
  }

  // One of those in the workspace of a call whose items are spans (head: b * H + h).
  [[gnu::always_inline]] static inline SpanSums of_item(const Shape& shape, int64_t head, int64_t span,
                                                        float* workspace) {
    Bump bump{workspace, (head * num_spans(shape) + span) * span_floats(shape, 1, shape.Lk)};
    return {shape, 1, shape.Lk, bump};
  }
  [[gnu::always_inline]] static inline int64_t num_bytes(const Shape& shape) {
    return shape.B * shape.H * num_spans(shape) * span_floats(shape, 1, shape.Lk) * 4;
  }
};

struct BackwardBuffers {
  float* q_panel;         // [D][64]
  float* q_rows;          // [64 / side][scatter_width] queries
  float* grad_out_panel;  // [D][64]
  float* grad_out_rows;   // [64 / side][scatter_width]
  float* k_rows;          // [packed_keys][D]
  float* k_pairs;         // [packed_keys / 2][D]; unused where words are single
  float* v_rows;          // [packed_keys][D]
  float* slab;            // [panels of a group][keys][64] (slab_floats)
  float* row_slab;        // [weight_keys][64]
  float* mask;            // [mask_keys]
  float* weights;         // [weight_keys][64] softmax weights
  float* grad_weights;    // [weight_keys][64] grad_out . v, then gradients of the logits
  float* weight_words;    // [block][64] weights as words along the queries
  float* grad_words;      // [block][64] logit gradients as words along the queries
  float* grad_pairs;      // [block][64] logit gradients as words along the keys
  float* grad_q_panel;    // [D][64]
  float* grad_q_sum;      // [D][64] its long sum, in long rows
  float* grad_q_rest;     // [D][64]
  float* log_sum_exp;     // [64]
  float* delta;           // [64] sum over d of grad_out * out
  float* delta_rest;      // [64]
  float* factor;          // [64]
  SpanSums sums;          // over all queries, of the rows at once and grad_kv_keys keys
  SpanSums span;          // over those of one span, where it has several panels
  float* grad_k_rest;     // of sums.grad_k, where there are so many queries that these are long sums
  float* grad_v_rest;
  float* pair_sum;   // [panels of a group][Lk][64] logit gradients of some rows n (PairSum::kItem, kRows)
  float* pair_rest;  // the same (PairSum::kItem)
  int64_t num_floats;

  [[gnu::always_inline]] inline BackwardBuffers(const Shape& shape, bool delta_from_weights, float* base) {
    Bump bump{base};
    const int64_t block = kBackwardKeys;
    const int64_t weight_keys = backward_weight_keys(shape, delta_from_weights);
    q_panel = bump.take(kLanes * shape.D);
    q_rows = bump.take(kLanes * scatter_width(shape) / scatter_side(shape));
    grad_out_panel = bump.take(kLanes * shape.D);
    grad_out_rows = bump.take(kLanes * scatter_width(shape) / scatter_side(shape));
    k_rows = bump.take_rows(packed_keys(shape, block), shape.D);
    k_pairs = delta_from_weights ? bump.take_rows(divide_up(packed_keys(shape, block), 2), shape.D) : k_rows;
    v_rows = bump.take_rows(packed_keys(shape, block), shape.D);
    const SlabHeld held = slab_held(shape, backward_keys_pass_twice(shape, delta_from_weights));
    slab = bump.take(slab_floats(shape, held, backward_panel_group(shape), block));
    row_slab = bump.take(block * kLanes);
    mask = bump.take(round_up(mask_keys(shape, block), kWidestVector));
    weights = bump.take(weight_keys * kLanes);
    grad_weights = bump.take(weight_keys * kLanes);
    weight_words = delta_from_weights ? bump.take(block * kLanes) : weights;
    grad_words = delta_from_weights ? bump.take(block * kLanes) : grad_weights;
    grad_pairs = delta_from_weights ? bump.take(block * kLanes) : grad_weights;
    grad_q_panel = bump.take(kLanes * shape.D);
    grad_q_sum = bump.take(shape.Lk > kLongRow ? kLanes * shape.D : 0);
    grad_q_rest = bump.take(shape.Lk > kLongRow ? kLanes * shape.D : 0);
    log_sum_exp = bump.take(kLanes);
    delta = bump.take(kLanes);
    delta_rest = bump.take(kLanes);
    factor = bump.take(kLanes);
    const int64_t rows = backward_rows_at_once(shape), keys = grad_kv_keys(shape);
    sums = SpanSums(shape, rows, keys, bump);
    if (num_spans(shape) > 1 && !has_long_columns(shape)) span = SpanSums(shape, rows, keys, bump);
    const int64_t kv = rows * keys * scatter_width(shape);
    grad_k_rest = bump.take(has_long_columns(shape) ? kv : 0);
    grad_v_rest = bump.take(has_long_columns(shape) ? kv : 0);
    const PairSum how = kernels::pair_sum(shape);
    const int64_t slabs = backward_panel_group(shape) * shape.Lk * kLanes;
    pair_sum = bump.take(how == PairSum::kItem || how == PairSum::kRows ? slabs : 0);
    pair_rest = bump.take(how == PairSum::kItem ? slabs : 0);
    num_floats = bump.used;
  }
};

// The workspace of a backward call that wants grad_pair: one [Lk][panel_lanes] fp32 slab for each (b, h, group of rows,
// panel), then, where these are long sums, their rests in the same order. Only the last panel of an item may have fewer
// than 64 lanes.
[[gnu::always_inline]] inline int64_t partial_offset(const Shape& shape, int64_t item, int64_t panel) {
  return (item * all_lanes(shape) + panel * kLanes) * shape.Lk;
}

struct PartialCopies {
  float* sums = nullptr;
  uint16_t* rests = nullptr;  // null if they have none

  PartialCopies() = default;
  [[gnu::always_inline]] inline PartialCopies(const Shape& shape, float* workspace) : sums(workspace) {
    if (workspace != nullptr && cut_backward(shape, true).has_rest) {
      rests = reinterpret_cast<uint16_t*>(workspace + num_floats(shape));
    }
  }

  [[gnu::always_inline]] inline PartialCopies of_panel(const Shape& shape, int64_t item, int64_t panel) const {
    const int64_t offset = partial_offset(shape, item, panel);
    PartialCopies part;
    part.sums = sums + offset;
    part.rests = rests == nullptr ? nullptr : rests + offset;
    return part;
  }

  [[gnu::always_inline]] static inline int64_t num_floats(const Shape& shape) {
    if (pair_sum(shape) == PairSum::kDirect) return 0;
    return partial_offset(shape, shape.B * shape.H * cut_backward(shape, true).row_groups, 0);
  }
  [[gnu::always_inline]] static inline int64_t num_bytes(const Shape& shape) {
    return num_floats(shape) * (cut_backward(shape, true).has_rest ? 6 : 4);
  }
};

}  // namespace
}  // namespace longfold::kernels
