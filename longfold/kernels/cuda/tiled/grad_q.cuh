// grad_q: a block has a tile of queries and sums up their logit gradients times all keys.
#pragma once

#include "longfold/kernels/cuda/tiled/items.cuh"
#include "longfold/kernels/cuda/tiled/logit_gradients.cuh"

namespace longfold::kernels::cuda::tiled {

template <class T, int D>
struct GradQ : QueryTile<T, D> {
  using Base = QueryTile<T, D>;
  using typename Base::Params, typename Base::Tile;
  using ThisItem = Item<Tile::kRows>;
  static constexpr int kBlocks = D <= 64 ? 3 : 2;

  static int64_t count(const Params& params) { return ThisItem::count(params.problem.shape, params.problem.shape.Lq); }

  __device__ __forceinline__ static void run(const Params& params, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    for (int64_t index = blockIdx.x; index < ThisItem::count(shape, shape.Lq); index += gridDim.x) {
      run_item(params, ThisItem(shape, shape.Lq, index), shared);
    }
  }

 private:
  __device__ __forceinline__ static void run_item(const Params& params, const ThisItem& item, uint32_t shared) {
    const Place<D> place;
    LongSum sums[kRowsOfThread][Tile::kDimsOfThread];
    Corner corner{item.b, item.n, item.h, item.first, 0, item.left, static_cast<int>(params.problem.shape.Lk)};
    for (; corner.keys_left > 0; corner.key += Tile::kColumns, corner.keys_left -= Tile::kColumns) {
      ptx::sync_block();
      if (corner.key == 0) {
        Base::copy_queries(params, corner, shared);
        copy_statistics<Tile::kRows>(shared + Base::kStatisticsAt, params, corner);
      }
      Base::copy_keys(params, corner, shared);
      ptx::sync_block();
      typename Tile::Logits gradients;
      Base::make_logit_gradients(params, corner, place, shared, gradients);
      store_weights(shared + Base::kWeightsAt, place, gradients);
      if (params.problem.has_hidden) {
        ptx::sync_block();  // others read these keys for their logits
        clear_hidden(shared);
        ptx::sync_block();
      } else {
        ptx::sync_warp();
      }
      add_product(sums, place, shared + Base::kWeightsAt, shared + Base::kKeysAt);
    }
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      if (place.row(r) >= item.left) continue;
      float values[Tile::kDimsOfThread];
#pragma unroll
      for (int d = 0; d < Tile::kDimsOfThread; ++d) values[d] = params.problem.scale * sums[r][d].value();
      write_row(params.grad_q, item.b, item.n, item.h, item.first + place.row(r), place, values);
    }
  }

  // A key that is hidden may hold anything, NaN included, which a weight of zero would not take away.
  __device__ __forceinline__ static void clear_hidden(uint32_t shared) {
    constexpr uint32_t kHiddenAt = Base::kMasksAt + Masks<Tile::kColumns>::kHiddenAt;
    for (int unit = static_cast<int>(threadIdx.x); unit < Tile::kColumns * D / 4; unit += kThreads) {
      const int key = unit / (D / 4);
      if (ptx::load_shared<uint32_t>(shared + kHiddenAt + 4 * key) == 0) continue;
      ptx::store_shared(shared + Base::kKeysAt + key * Tile::kPitch + 16 * (unit % (D / 4)), float4{0, 0, 0, 0});
    }
  }
};

}  // namespace longfold::kernels::cuda::tiled
