// The products of attention on a panel of 64 queries, each a loop over register tiles.
//
//   scores     s[key][64]   = scale k[key] . q[.][64] + pair[key][64] + mask[key]
//   gather     o[d][64]    += sum over keys of a[key][d] w[key][64]       (out from v, grad_q from k)
//   scatter    g[key][d]   += sum over queries of w[key][query] r[query][d] (grad_v from grad_out, grad_k from q)
#pragma once

#include "longfold/kernels/cpu/pack.h"
#include "longfold/kernels/cpu/tile.h"

namespace longfold::kernels {
namespace {

// Keys or values of one block as rows of D contiguous floats.
struct KeyRows {
  const float* data;
  int64_t row;
};

// In place where the caller's memory already has that form, else converted into `buffer`.
template <class T>
LONGFOLD_INLINE KeyRows key_rows(Matrix<const T> from, int64_t count, int64_t D, float* buffer, int64_t padded_dim) {
  if constexpr (std::is_same_v<T, float>) {
    if (from.inner_stride == 1) return {from.data, from.row_stride};
  }
  pack_rows(from, count, D, 1.0f, buffer, count, padded_dim);
  return {buffer, padded_dim};
}

// Visits products k[key] . q[.][64]: body(tile, first key, first lane), C vectors of lanes and R keys at a time.
template <class Before, class Body, class After>
LONGFOLD_INLINE void for_score_tiles(KeyRows k, const float* q_panel, int64_t D, int64_t keys, Before&& before,
                                     Body&& body, After&& after) {
  constexpr int C = kTileColumns;
  for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
    before(lane);
    for_row_groups<kTileRows<C>>(keys, [&]<int R>(Rows<R>, int64_t key) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.multiply(k.data + key * k.row, k.row, 1, q_panel + lane, kLanes, D);
      body(tile, key, lane);
    });
    after(lane);
  }
}

// Scale and biases come after the product: starting from them would cost digits where biases are large. Mask before
// pair, as eager code has it.
template <bool HasPair, bool HasMask, int R, int C>
LONGFOLD_INLINE Vec biased(const Tile<R, C>& tile, int r, int c, Vec scale, const float* pair, const float* mask,
                           int64_t key, int64_t lane) {
  Vec s = HasMask ? fma(tile.acc[r][c], scale, splat(mask[key + r])) : tile.acc[r][c] * scale;
  if constexpr (HasPair) s += load(pair + (key + r) * kLanes + lane + c * kWidth);
  return s;
}

// Calls body.operator()<HasPair, HasMask>() for what is there.
template <class Body>
LONGFOLD_INLINE void with_biases(const float* pair, const float* mask, Body&& body) {
  if (pair != nullptr && mask != nullptr)
    body.template operator()<true, true>();
  else if (pair != nullptr)
    body.template operator()<true, false>();
  else if (mask != nullptr)
    body.template operator()<false, true>();
  else
    body.template operator()<false, false>();
}

// out[d][64] = correction[64] * out[d][64] + sum over keys of a[key][d] * w[key][64]; without correction, plain sum.
// The sum of a block starts from zero and is then added: fewer digits are lost over long rows.
enum class Gather { kFirst, kAdd, kCorrectAndAdd };

template <Gather How>
LONGFOLD_INLINE void gather(KeyRows a, const float* weights, int64_t D, int64_t keys, const float* correction,
                            float* out) {
  constexpr int C = kTileColumns;
  for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
    for_row_groups<kTileRows<C>>(D, [&]<int R>(Rows<R>, int64_t d) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.multiply(a.data + d, 1, a.row, weights + lane, kLanes, keys);
      float* to = out + d * kLanes + lane;
      if constexpr (How == Gather::kFirst) {
        tile.write_to(to, kLanes);
      } else if constexpr (How == Gather::kAdd) {
        tile.add_to(to, kLanes);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) {
            float* at = to + r * kLanes + c * kWidth;
            store(at, fma(load(at), load(correction + lane + c * kWidth), tile.acc[r][c]));
          }
        }
      }
    });
  }
}

// to[key][d] += sum over the 64 queries of w[key][query] * rows[query][d], d up to the padded head dim.
LONGFOLD_INLINE void scatter(const float* weights, const float* rows, int64_t padded_dim, int64_t keys, float* to) {
  for_column_groups(padded_dim / kWidth, [&]<int C>(Columns<C>, int64_t column) LONGFOLD_INLINE_LAMBDA {
    for_row_groups<kTileRows<C>>(keys, [&]<int R>(Rows<R>, int64_t key) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.multiply(weights + key * kLanes, kLanes, 1, rows + column * kWidth, padded_dim, kLanes);
      tile.add_to(to + key * padded_dim + column * kWidth, padded_dim);
    });
  });
}

}  // namespace
}  // namespace longfold::kernels
