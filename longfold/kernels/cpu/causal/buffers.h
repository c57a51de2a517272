// How a thread's scratch is laid out, in floats (cpu/bump.h). Sizes are those of unpaired words (pack.h), the larger
// ones, so that they depend on the shape alone.
#pragma once

#include <array>

#include "longfold/kernels/causal/tile_size.h"
#include "longfold/kernels/cpu/bump.h"

namespace longfold::kernels {
namespace {

struct CausalPanelBuffers {
  float* q_panel;     // [D][64] queries, in the lanes
  float* out_panel;   // [D][64] output, queries in the lanes
  float* out_sum;     // [D][64] its long sum
  float* out_rest;    // [D][64]
  float* largest;     // [64] running maximum
  float* total;       // [64] running sum
  float* total_rest;  // [64]
};

struct CausalForwardBuffers {
  std::array<CausalPanelBuffers, kCausalPanels> panels;
  float* k_rows;      // [block][D] keys
  float* v_pairs;     // [block][D] values
  float* weights;     // [block][64] logits, then softmax weights
  float* block;       // [64] maximum, or sum, of one block
  float* correction;  // [64] what sums are multiplied with when the maximum moves; in the end 1 / total
  int64_t num_floats;

  [[gnu::always_inline]] inline CausalForwardBuffers(const CausalShape& shape, float* base) {
    Bump bump{base};
    for (CausalPanelBuffers& panel : panels) {
      for (float** matrix : {&panel.q_panel, &panel.out_panel, &panel.out_sum, &panel.out_rest}) {
        *matrix = bump.take(shape.D * kLanes);
      }
      for (float** lanes : {&panel.largest, &panel.total, &panel.total_rest}) *lanes = bump.take(kLanes);
    }
    k_rows = bump.take_rows(kCausalKeys, shape.D);
    v_pairs = bump.take_rows(kCausalKeys, shape.D);
    weights = bump.take(kCausalKeys * kLanes);
    block = bump.take(kLanes);
    correction = bump.take(kLanes);
    num_floats = bump.used;
  }
};

struct CausalBackwardBuffers {
  float* q_panel;         // [D][64]
  float* q_rows;          // [64][width]
  float* grad_out_panel;  // [D][64]
  float* grad_out_rows;   // [64][width]
  float* grad_q_rows;     // [64][width]
  float* k_rows;          // [keys at once][D]
  float* k_pairs;         // [keys at once / 2][D]; where words are single, the same as k_rows
  float* v_rows;          // [keys at once][D]
  float* grad_k;          // [keys at once][width] sums over the queries of a chunk
  float* grad_v;          // [keys at once][width]
  float* weights;         // [block][64] softmax weights
  float* grads;           // [block][64] grad_out . v, then gradients of the logits
  float* weight_words;    // [block][64 / 2] weights as pairs along the queries
  float* grad_words;      // [block][64 / 2] gradients of the logits as pairs along the queries
  float* grad_pairs;      // [block / 2][64] the same along the keys
  float* log_sum_exp;     // [64]
  float* delta;           // [64] sum over d of grad_out * out
  int64_t num_floats;

  [[gnu::always_inline]] inline CausalBackwardBuffers(const CausalShape& shape, bool has_pairs, float* base) {
    Bump bump{base};
    const int64_t width = causal_width(shape), keys = keys_at_once(shape), half = kCausalKeys * kLanes / 2;
    q_panel = bump.take(shape.D * kLanes);
    q_rows = bump.take(kLanes * width);
    grad_out_panel = bump.take(shape.D * kLanes);
    grad_out_rows = bump.take(kLanes * width);
    grad_q_rows = bump.take(kLanes * width);
    k_rows = bump.take_rows(keys, shape.D);
    k_pairs = has_pairs ? bump.take_rows(divide_up(keys, 2), shape.D) : k_rows;
    v_rows = bump.take_rows(keys, shape.D);
    grad_k = bump.take(keys * width);
    grad_v = bump.take(keys * width);
    weights = bump.take(kCausalKeys * kLanes);
    grads = bump.take(kCausalKeys * kLanes);
    weight_words = has_pairs ? bump.take(half) : weights;
    grad_words = has_pairs ? bump.take(half) : grads;
    grad_pairs = has_pairs ? bump.take(half) : grads;
    log_sum_exp = bump.take(kLanes);
    delta = bump.take(kLanes);
    num_floats = bump.used;
  }
};

// The workspace of a backward call: sums in fp32, of some heads of k and v and the heads of q that share them. Tokens
// are counted through the batch.
struct CausalSums {
  float* grad_q;  // [heads at once * G][B Sq][width]
  float* grad_k;  // [heads at once][B Sk][width]
  float* grad_v;  // [heads at once][B Sk][width]
  float* delta;   // [heads at once * G][B Sq]
  int64_t num_floats;

  [[gnu::always_inline]] inline CausalSums(const CausalShape& shape, int64_t heads, float* base) {
    Bump bump{base};
    const int64_t width = causal_width(shape), q_heads = heads * (shape.H / shape.KV);
    grad_q = bump.take(q_heads * shape.B * shape.Sq * width);
    grad_k = bump.take(heads * shape.B * shape.Sk * width);
    grad_v = bump.take(heads * shape.B * shape.Sk * width);
    delta = bump.take(q_heads * shape.B * shape.Sq);
    num_floats = bump.used;
  }
};

}  // namespace
}  // namespace longfold::kernels
