// The products of attention on a panel of 64 queries, each a loop over register tiles. Operands are words (pack.h).
//
//   scores     s[key][64]   = k[key] . q[.][64]
//   gather     o[d][64]    += sum over keys of a[key][d] w[key][64]       (out from v, grad_q from k)
//   gather_rows  the same as o[query][d], queries first
//   scatter    g[key][d]   += sum over queries of w[key][query] r[query][d] (grad_v from grad_out, grad_k from q)
#pragma once

#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/prefetch.h"
#include "longfold/kernels/cpu/tile.h"

namespace longfold::kernels {
namespace {

// Visits products k[key] . panel[.][64] of `words` words: body(tile, first key, first lane), C vectors of lanes and at
// most MostRows keys at a time.
template <int Pack, int MostRows, class Prefetching, class Before, class Body, class After>
LONGFOLD_INLINE void for_score_tiles(const float* k, const float* panel, int64_t words, int64_t keys,
                                     Prefetching& prefetcher, Before&& before, Body&& body, After&& after) {
  constexpr int C = kTileColumns;
  for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
    before(lane);
    for_row_groups<MostRows>(keys, [&]<int R>(Rows<R>, int64_t key) LONGFOLD_INLINE_LAMBDA {
      prefetcher.step();
      Tile<R, C> tile;
      tile.clear();
      tile.template multiply<Pack>(k + key * words, words, 1, panel + lane, kLanes, words);
      body(tile, key, lane);
    });
    after(lane);
  }
}

// Tiles from which weights are made at once have fewer rows than a product alone would: what exp needs stays in
// registers too.
constexpr int kWeighRows = 4;

// w = exp(s - base[64]) for the logits s = logit(tile, r, c, key, lane) of a tile: body(r, c, s, w).
template <int R, int C, class Logit, class Body>
LONGFOLD_INLINE void for_weights(const Tile<R, C>& tile, Logit logit, int64_t key, int64_t lane, const float* base,
                                 Body&& body) {
  constexpr int K = R % 2 == 0 ? 2 : 1;
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    const Vec m = load(base + lane + c * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; r += K) {
      Vec s[K], w[K];
      for (int i = 0; i < K; ++i) {
        s[i] = logit(tile, r + i, c, key, lane);
        w[i] = s[i] - m;  // in natural units first, so that large logits keep their digits
      }
      exp(w);
      for (int i = 0; i < K; ++i) body(r + i, c, s[i], w[i]);
    }
  }
}

// How often for_score_tiles calls Prefetcher::step() for a row of Lk keys that pass in blocks.
template <int MostRows>
[[nodiscard]] constexpr int64_t num_score_tiles(int64_t Lk, int64_t block) {
  const int64_t row_groups = Lk / block * num_row_groups<MostRows>(block) + num_row_groups<MostRows>(Lk % block);
  return row_groups * (kLanes / (kTileColumns * kWidth));
}

// out[d][64] = correction[64] * out[d][64] + sum over keys of a[key][d] * w[key][64]; without correction, plain sum.
// The sum of a block starts from zero and is then added: fewer digits are lost over long rows.
enum class Gather { kFirst, kAdd, kCorrectAndAdd };

template <Gather How, int Pack>
LONGFOLD_INLINE void gather(const float* a, const float* weights, int64_t D, int64_t keys, const float* correction,
                            float* out) {
  constexpr int C = kTileColumns;
  const int64_t steps = divide_up(keys, Pack);
  for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
    for_row_groups<kTileRows<C>>(D, [&]<int R>(Rows<R>, int64_t d) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.template multiply<Pack>(a + d, 1, D, weights + lane, kLanes, steps);
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

// to[key][width] (+)= sum over the 64 queries of w[key][query] * rows[query][width]; w has `lanes` words a key, and
// Side of them are taken in one step. Width is a multiple of the widest vector.
// With rests a long sum.
template <int Pack, int Side, bool HasRest = false>
LONGFOLD_INLINE void scatter(const float* weights, int64_t lanes, const float* rows, int64_t width, int64_t keys,
                             bool add, float* to, float* rest = nullptr) {
  for_column_groups(width / kWidth, [&]<int C>(Columns<C>, int64_t column) LONGFOLD_INLINE_LAMBDA {
    for_row_groups<kTileRows<C>>(keys, [&]<int R>(Rows<R>, int64_t key) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.template multiply<Pack, Side>(weights + key * lanes, lanes, 1, rows + column * kWidth, width, lanes / Side);
      const int64_t at = key * width + column * kWidth;
      if constexpr (HasRest) {
        for (int r = 0; r < R; ++r) {
          for (int c = 0; c < C; ++c) {
            add_long(tile.acc[r][c], to + at + r * width + c * kWidth, rest + at + r * width + c * kWidth);
          }
        }
      } else {
        add ? tile.add_to(to + at, width) : tile.write_to(to + at, width);
      }
    });
  });
}

// to[query][width] (+)= sum over keys of w[key][query] * rows[key][width], for `queries` of the 64; rows lie D words
// apart, and whole vectors of them are read.
template <int Pack>
LONGFOLD_INLINE void gather_rows(const float* weights, const float* rows, int64_t D, int64_t width, int64_t keys,
                                 int64_t queries, bool add, float* to) {
  const int64_t steps = divide_up(keys, Pack);
  for_column_groups(width / kWidth, [&]<int C>(Columns<C>, int64_t column) LONGFOLD_INLINE_LAMBDA {
    for_row_groups<kTileRows<C>>(queries, [&]<int R>(Rows<R>, int64_t query) LONGFOLD_INLINE_LAMBDA {
      Tile<R, C> tile;
      tile.clear();
      tile.template multiply<Pack>(weights + query, 1, kLanes, rows + column * kWidth, D, steps);
      float* at = to + query * width + column * kWidth;
      add ? tile.add_to(at, width) : tile.write_to(at, width);
    });
  });
}

}  // namespace
}  // namespace longfold::kernels
