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

// Keys or values as rows of D contiguous floats.
struct KeyRows {
  const float* data;
  int64_t row;
};

// The keys, or the values, of one row n and head as fp32 rows: converted as a whole where that is small, so that all
// panels share the work, else block by block, or read in place where the caller's memory has that form.
template <class T>
class PackedRows {
 public:
  PackedRows(const TensorView<const T, 5>& from, const Shape& shape, int64_t block, float* buffer)
      : from_(from),
        shape_(shape),
        dim_(padded_head_dim(shape)),
        buffer_(buffer),
        whole_(packed_keys(shape, block) == shape.Lk) {}

  void start_row(int64_t b, int64_t n, int64_t h) {
    matrix_ = {from_.at(b, n, 0, h), from_.strides[2], from_.strides[4]};
    if (whole_) pack_rows(matrix_, shape_.Lk, shape_.D, 1.0f, buffer_, shape_.Lk, dim_);
  }

  KeyRows block(int64_t key, int64_t keys) const {
    if (whole_) return {buffer_ + key * dim_, dim_};
    Matrix<const T> part = matrix_;
    part.data += key * part.row_stride;
    if constexpr (std::is_same_v<T, float>) {
      if (part.inner_stride == 1) return {part.data, part.row_stride};
    }
    pack_rows(part, keys, shape_.D, 1.0f, buffer_, keys, dim_);
    return {buffer_, dim_};
  }

 private:
  const TensorView<const T, 5>& from_;
  Shape shape_;
  int64_t dim_;
  float* buffer_;
  bool whole_;
  Matrix<const T> matrix_{};
};

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
