// grad_k, grad_v and the mask's gradient on tensor cores. A consumer warp has kM * 16 keys of one row n, which lie
// along the rows of its fragments: products and weights are transposed. Tiles of queries come by.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_kv.cuh"
#include "longfold/kernels/cuda/mma/logits.cuh"
#include "longfold/kernels/cuda/mma/query_tiles.cuh"

namespace longfold::kernels::cuda::mma {

// 16 keys, from `key` on, by 16 queries, from the one at `rows` on, of a pair bias whose tile has rows of queries: two
// tiles of 8 queries, as accumulators hold them.
template <class T, BiasForm Form, class Tile>
__device__ __forceinline__ void read_pair_bias_transposed(float (&two)[2][4], uint32_t rows, int key, int lane) {
  if constexpr (Form == BiasForm::k16) {
    uint32_t words[4];
    ptx::load_matrices_transposed(words, Tile::unit(rows, lane / 16 * 8 + lane % 8, key / 8 + lane / 8 % 2));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = ptx::unpack<T>(words[i]);
      two[i / 2][i % 2 * 2] = pair.x;
      two[i / 2][i % 2 * 2 + 1] = pair.y;
    }
  } else if constexpr (Form == BiasForm::k32) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int query = i / 4 * 8 + lane % 4 * 2 + i % 2, column = key + i % 4 / 2 * 8 + lane / 4;
      two[i / 4][i % 4] = ptx::load_shared<float>(Tile::unit(rows, query, column / 4) + column % 4 * 4);
    }
  }
}

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct GradKV {
  static constexpr bool kForWarpgroups = false;
  static constexpr TileSize kSize = grad_kv_tile_size(HeadDim, OneRow);
  static constexpr int kM = kSize.query_tiles, kRows = kSize.rows, kWarps = kSize.warps;
  static constexpr int kConsumers = kWarps * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kKeys = 16 * kM * kWarps;
  using Tiles = QueryTiles<HeadDim, Form, kRows, kKeys>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  static constexpr int kStages = stages_in(shared_bytes_of(kSize, HeadDim), Tiles::kStageBytes);
  static constexpr int kTiles = Head<HeadDim>::kOdd ? 4 : 2;  // of 8 queries at a time
  static_assert(kStages >= 2);

  using Stages = Ring<kStages, Tiles::kStageBytes, kConsumers>;
  using ThisItem = typename Tiles::ThisItem;
  static constexpr int kPairBytes = bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes;

  struct Keys {
    RowFragments<HeadDim> k[kM], v[kM];
    float mask[kM][2];      // what products start from or what is added, by kind
    bool is_hidden[kM][2];  // by a mask of bools
    MaskTile kind;
  };

  static __device__ void produce(const BackwardParams& params, Stages ring) {
    const Problem& p = params.problem;
    const Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lk); i += gridDim.x) {
      const ThisItem item(p, p.Lk, i);
      Tiles::load_keys(producer, p, p.k, p.maps.k, item, ring);
      Tiles::load_keys(producer, p, p.v, p.maps.v, item, ring);
      Tiles::load_queries(producer, params, item, ring);
    }
  }

  // The masks of this lane's keys.
  static __device__ void look_at_keys(Keys& keys, const Problem& p, int64_t offset, float shift, int first_key) {
    bool values = shift != 0;
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) {
      const int key = first_key + 8 * i + lane_of_warp() / 4;
      float value = 0;
      if (p.mask.data != nullptr && key < p.Lk) value = read_mask(p.mask, offset + key * p.mask.strides[4]);
      if (key >= p.Lk) value = -INFINITY;
      keys.mask[i / 2][i % 2] = value;
      keys.is_hidden[i / 2][i % 2] = p.mask.dtype == DType::kBool && value == kHiddenLogit;
      values |= is_value(value) || keys.is_hidden[i / 2][i % 2];
    }
    keys.kind = ptx::any(values) ? MaskTile::kValues : MaskTile::kSomeHidden;
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) {
      float& mask = keys.mask[i / 2][i % 2];
      if (keys.kind == MaskTile::kValues)
        mask -= shift;
      else
        mask = mask <= kHidesAt ? -INFINITY : 0;
    }
  }

  struct Sums {
    float grad_k[kM][HeadDim / 8][4], grad_v[kM][HeadDim / 8][4], mask[kM][2];
  };

  // 8 * kTiles queries: those at `queries`, `grad_out`, `bias` and `statistics`. `first` is the warp's first key.
  template <MaskTile Mask, bool SomeUniform>
  static __device__ __forceinline__ void step(Sums& sums, const Keys& keys, uint32_t queries, uint32_t grad_out,
                                              uint32_t bias, int first, uint32_t statistics, const Problem& p,
                                              int lane) {
    constexpr bool kIsProduct = Form == BiasForm::kNone && Mask != MaskTile::kValues;
    float s[kM][kTiles][4], grad[kM][kTiles][4];
    float4 two[kTiles];  // minus_lse, minus_delta, of two queries
#pragma unroll
    for (int j = 0; j < kTiles; ++j) two[j] = ptx::load_shared<float4>(statistics + 64 * j + 16 * (lane % 4));
    multiply_rows<T, QueryTile>(s, keys.k, queries, lane, [&](int m, int, float (&start)[4]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) start[i] = Mask == MaskTile::kValues ? 0 : keys.mask[m][i / 2];
    });
    multiply_rows<T, QueryTile>(grad, keys.v, grad_out, lane, [&](int, int j, float (&start)[4]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) start[i] = i % 2 == 0 ? two[j].y : two[j].w;
    });
    if constexpr (!kIsProduct) {
#pragma unroll
      for (int j = 0; j < kTiles; j += 2) {
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          float pair[2][4] = {};
          read_pair_bias_transposed<T, Form, PairTile>(pair, bias + 8 * j * PairTile::kChunk, first + 16 * m, lane);
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            float& logit = s[m][j + i / 4][i % 4];
            logit = fmaf(logit, p.scale, pair[i / 4][i % 4]);
            if (Mask == MaskTile::kValues)
              logit = keys.is_hidden[m][i % 4 / 2] ? -INFINITY : logit + keys.mask[m][i % 4 / 2];
          }
        }
      }
    }
    const float to_log2 = kIsProduct ? p.scale * kLog2E : kLog2E;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[m][j][i] = ptx::exp2(fmaf(s[m][j][i], to_log2, i % 2 == 0 ? two[j].x : two[j].z));
      }
    }
    if constexpr (SomeUniform) {
      const float uniform = 1 / static_cast<float>(p.Lk);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if ((i % 2 == 0 ? two[j].x : two[j].z) == kUniform) s[m][j][i] = uniform;
          }
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          grad[m][j][i] *= s[m][j][i];
          sums.mask[m][i / 2] += grad[m][j][i];
        }
      }
    }
    uint32_t packed[kM][kTiles / 2][4];
    pack_weights<T>(packed, 0, s);
    add_weighted_rows<T, QueryTile>(sums.grad_v, packed, grad_out, lane);
    pack_weights<T>(packed, 0, grad);
    add_weighted_rows<T, QueryTile>(sums.grad_k, packed, queries, lane);
  }

  static __device__ void consume(const BackwardParams& params, Stages ring) {
    const Problem& p = params.problem;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, row = warp / kWarps, first = warp % kWarps * kM * 16;
    const int lane = ptx::lane();
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lk); i += gridDim.x) {
      const ThisItem item(p, p.Lk, i);
      const int n = min(item.n + row, p.N - 1);
      Keys keys;
      Sums sums{};
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m)
        take_fragments<KeyTile>(keys.k[m], Tiles::keys(ring.stage(), row, first + 16 * m), lane);
      ring.leave(lane);
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m)
        take_fragments<KeyTile>(keys.v[m], Tiles::keys(ring.stage(), row, first + 16 * m), lane);
      ring.leave(lane);
      const int64_t mask = bias_offset(p.mask, item.b, n, item.h);
      look_at_keys(keys, p, mask, shift_of_row(p.mask, mask, p.Lk), item.first + first);
      for (int query = 0; query < p.Lq; query += kTileKeys) {
        ring.wait_until_full();
        const uint32_t queries = Tiles::queries(ring.stage(), row), grad_out = Tiles::grad_out(ring.stage(), row);
        const uint32_t bias = Tiles::bias(ring.stage()), statistics = Tiles::statistics(ring.stage(), row);
        const bool some_uniform = ptx::load_shared<uint32_t>(statistics + 8 * kStatisticsBlock) != 0;
        const auto steps = [&]<MaskTile Mask, bool SomeUniform>() {
#pragma unroll
          for (int at = 0; at < kTileKeys; at += 8 * kTiles) {
            step<Mask, SomeUniform>(sums, keys, queries + at * QueryTile::kChunk, grad_out + at * QueryTile::kChunk,
                                    bias + at * PairTile::kChunk, first, statistics + 8 * at, p, lane);
          }
        };
        if (keys.kind == MaskTile::kValues && some_uniform)
          steps.template operator()<MaskTile::kValues, true>();
        else if (keys.kind == MaskTile::kValues)
          steps.template operator()<MaskTile::kValues, false>();
        else if (some_uniform)
          steps.template operator()<MaskTile::kSomeHidden, true>();
        else
          steps.template operator()<MaskTile::kSomeHidden, false>();
        ring.leave(lane);
      }
      if (item.n + row >= p.N) continue;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int u = 0; u < HeadDim / 2; ++u) {
          if (keys.is_hidden[m][u % 4 / 2]) sums.grad_k[m][u / 4][u % 4] = 0;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (keys.is_hidden[m][half]) sums.mask[m][half] = 0;
        }
        finish_grad_kv<T, HeadDim>(params, sums.grad_k[m], sums.grad_v[m], sums.mask[m], item.b, n, item.h,
                                   item.first + first + 16 * m);
      }
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    run_block<Stages, kConsumers, kSize.blocks>(
        shared, [&](Stages ring) { produce(params, ring); }, [&](Stages ring) { consume(params, ring); });
  }
};

}  // namespace longfold::kernels::cuda::mma
