// grad_k, grad_v and grad_mask: a block has a tile of keys and sums up the weights and logit gradients of all queries,
// times grad_out and q. Keys are the rows of its tiles.
#pragma once

#include "longfold/kernels/cuda/tiled/items.cuh"
#include "longfold/kernels/cuda/tiled/logit_gradients.cuh"

namespace longfold::kernels::cuda::tiled {

template <class T, int D>
struct GradKV {
  using Tile = tiled::Tile<D>;
  using Params = BackwardParams<T>;
  using ThisItem = Item<Tile::kRows>;
  using Sums = LongSum[kRowsOfThread][Tile::kDimsOfThread];
  static constexpr int kKeysAt = 0, kValuesAt = kKeysAt + Tile::kRowsBytes, kQueriesAt = kValuesAt + Tile::kRowsBytes,
                       kGradOutAt = kQueriesAt + Tile::kColumnsBytes, kWeightsAt = kGradOutAt + Tile::kColumnsBytes,
                       kStatisticsAt = kWeightsAt + Tile::kWeightsBytes, kMasksAt = kStatisticsAt + 16 * Tile::kColumns,
                       kSharedBytes = kMasksAt + Masks<Tile::kRows>::kBytes;
  static constexpr int kBlocks = D <= 32 ? 3 : 2;

  static int64_t count(const Params& params) { return ThisItem::count(params.problem.shape, params.problem.shape.Lk); }

  __device__ __forceinline__ static void run(const Params& params, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    for (int64_t index = blockIdx.x; index < ThisItem::count(shape, shape.Lk); index += gridDim.x) {
      run_item(params, ThisItem(shape, shape.Lk, index), shared);
    }
  }

 private:
  __device__ __forceinline__ static void run_item(const Params& params, const ThisItem& item, uint32_t shared) {
    const Problem<T>& p = params.problem;
    const Place<D> place;
    Sums grad_k, grad_v;
    LongSum grad_mask[kRowsOfThread];
    Corner corner{item.b, item.n, item.h, 0, item.first, static_cast<int>(p.shape.Lq), item.left};
    for (; corner.queries_left > 0; corner.query += Tile::kColumns, corner.queries_left -= Tile::kColumns) {
      ptx::sync_block();
      if (corner.query == 0) copy_keys(params, corner, shared);
      copy_queries(params, corner, shared);
      ptx::sync_block();
      typename Tile::Logits weights, gradients;
      multiply(weights, place, shared + kKeysAt, shared + kQueriesAt);
      finish_logits<Keys::kAreRows>(weights, place, p, corner, shared + kMasksAt);
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
        const QueryStatistics query = load_statistics(shared + kStatisticsAt, place.column(c));
#pragma unroll
        for (int r = 0; r < kRowsOfThread; ++r) weights[r][c] = query.weight(weights[r][c]);
      }
      store_weights(shared + kWeightsAt, place, weights);
      ptx::sync_warp();
      add_product(grad_v, place, shared + kWeightsAt, shared + kGradOutAt);
      multiply(gradients, place, shared + kValuesAt, shared + kGradOutAt);
      load_weights(weights, place, shared + kWeightsAt);  // rather than keep them in registers
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
        const float delta = load_statistics(shared + kStatisticsAt, place.column(c)).delta;
#pragma unroll
        for (int r = 0; r < kRowsOfThread; ++r) gradients[r][c] = weights[r][c] * (gradients[r][c] - delta);
      }
      if (params.grad_mask.data != nullptr) {
#pragma unroll
        for (int r = 0; r < kRowsOfThread; ++r) {
          float sum = 0;
#pragma unroll
          for (int c = 0; c < Tile::kColumnsOfThread; ++c) sum += gradients[r][c];
          grad_mask[r].add(sum);
        }
      }
      ptx::sync_warp();
      store_weights(shared + kWeightsAt, place, gradients);
      ptx::sync_warp();
      add_product(grad_k, place, shared + kWeightsAt, shared + kQueriesAt);
    }
    finish(params, item, place, grad_k, grad_v, grad_mask, shared);
  }

  __device__ __forceinline__ static void copy_keys(const Params& params, const Corner& corner, uint32_t shared) {
    const Problem<T>& p = params.problem;
    copy_rows<D, Tile::kRows>(shared + kKeysAt, p.k, corner.b, corner.n, corner.h, corner.key, corner.keys_left);
    copy_rows<D, Tile::kRows>(shared + kValuesAt, p.v, corner.b, corner.n, corner.h, corner.key, corner.keys_left);
    copy_masks<Tile::kRows>(shared + kMasksAt, p, corner);
  }
  __device__ __forceinline__ static void copy_queries(const Params& params, const Corner& corner, uint32_t shared) {
    copy_rows<D, Tile::kColumns>(shared + kQueriesAt, params.problem.q, corner.b, corner.n, corner.h, corner.query,
                                 corner.queries_left);
    copy_rows<D, Tile::kColumns>(shared + kGradOutAt, params.grad_out, corner.b, corner.n, corner.h, corner.query,
                                 corner.queries_left);
    copy_statistics<Tile::kColumns>(shared + kStatisticsAt, params, corner);
  }

  // Nothing flows through a key that is hidden, whatever its query's gradients are.
  __device__ __forceinline__ static void finish(const Params& params, const ThisItem& item, const Place<D>& place,
                                                const Sums& grad_k, const Sums& grad_v,
                                                const LongSum (&grad_mask)[kRowsOfThread], uint32_t shared) {
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      const LongSum sum = sum_of_lanes<Tile::kLanesAcross>(grad_mask[r]);
      if (place.row(r) >= item.left) continue;
      const int j = item.first + place.row(r);
      const bool hidden =
          ptx::load_shared<uint32_t>(shared + kMasksAt + Masks<Tile::kRows>::kHiddenAt + 4 * place.row(r)) != 0;
      float values[Tile::kDimsOfThread];
#pragma unroll
      for (int d = 0; d < Tile::kDimsOfThread; ++d) values[d] = grad_v[r][d].value();
      write_row(params.grad_v, item.b, item.n, item.h, j, place, values);
#pragma unroll
      for (int d = 0; d < Tile::kDimsOfThread; ++d) {
        values[d] = hidden ? 0 : params.problem.scale * grad_k[r][d].value();
      }
      write_row(params.grad_k, item.b, item.n, item.h, j, place, values);
      if (params.grad_mask.data != nullptr && place.across == 0) {
        *params.grad_mask.at(item.b, item.n, item.h, j) = hidden ? 0 : sum.value();
      }
    }
  }
};

}  // namespace longfold::kernels::cuda::tiled
