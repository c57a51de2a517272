// delta of each query: the sum of its weights times their gradients, less grad_log_sum_exp. That sum is grad_out . out;
// but an output that was rounded to 16 bits is too coarse, and then it is made of the weights.
#pragma once

#include "longfold/kernels/cuda/tiled/items.cuh"
#include "longfold/kernels/cuda/tiled/logit_gradients.cuh"

namespace longfold::kernels::cuda::tiled {

template <class T>
__device__ __forceinline__ LongSum minus_grad_log_sum_exp(const BackwardParams<T>& params, int64_t b, int64_t n,
                                                          int64_t h, int64_t i) {
  LongSum sum;
  if (params.grad_log_sum_exp.data != nullptr) sum.sum = -*params.grad_log_sum_exp.at(b, n, h, i);
  return sum;
}

// A thread for a query.
template <class T, int D>
struct DeltaOfOutput {
  using Params = BackwardParams<T>;
  static constexpr int kSharedBytes = 0, kBlocks = 4;

  static int64_t count(const Params& params) {
    const Shape& shape = params.problem.shape;
    return divide_up(shape.B * shape.N * shape.H * shape.Lq, kThreads);
  }

  __device__ __forceinline__ static void run(const Params& params, uint32_t) {
    const Shape& shape = params.problem.shape;
    const int64_t queries = shape.B * shape.N * shape.H * shape.Lq;
    for (int64_t query = int64_t{blockIdx.x} * kThreads + threadIdx.x; query < queries;
         query += int64_t{gridDim.x} * kThreads) {
      const int64_t i = query % shape.Lq, h = query / shape.Lq % shape.H, row = query / shape.Lq / shape.H,
                    n = row % shape.N, b = row / shape.N;
      LongSum sum = minus_grad_log_sum_exp(params, b, n, h, i);
      const T* const out = params.out.view.at(b, n, i, h);
      const T* const grad_out = params.grad_out.view.at(b, n, i, h);
      const int64_t stride = params.out.view.strides[4], grad_stride = params.grad_out.view.strides[4];
      float product = 0;
#pragma unroll 8
      for (int d = 0; d < D; ++d) product = fmaf(number(out[d * stride]), number(grad_out[d * grad_stride]), product);
      sum.add(product);
      params.delta[query] = sum.value();
    }
  }
};

// A block for a tile of queries, through all keys.
template <class T, int D>
struct DeltaOfWeights : QueryTile<T, D> {
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
    LongSum sums[kRowsOfThread];
    Corner corner{item.b, item.n, item.h, item.first, 0, item.left, static_cast<int>(params.problem.shape.Lk)};
    for (; corner.keys_left > 0; corner.key += Tile::kColumns, corner.keys_left -= Tile::kColumns) {
      ptx::sync_block();
      if (corner.key == 0) {
        Base::copy_queries(params, corner, shared);
        copy_statistics<Tile::kRows>(shared + Base::kStatisticsAt, params, corner, false);
      }
      Base::copy_keys(params, corner, shared);
      ptx::sync_block();
      typename Tile::Logits weights, gradients;
      Base::make_weights(params, corner, place, shared, weights, gradients);
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) {
        float sum = 0;
#pragma unroll
        for (int c = 0; c < Tile::kColumnsOfThread; ++c) sum = fmaf(weights[r][c], gradients[r][c], sum);
        sums[r].add(sum);
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      LongSum sum = sum_of_lanes<Tile::kLanesAcross>(sums[r]);
      if (place.row(r) >= item.left || place.across != 0) continue;
      const int i = item.first + place.row(r);
      sum.add(minus_grad_log_sum_exp(params, item.b, item.n, item.h, i).sum);
      params.delta[delta_index(params.problem, item.b, item.n, item.h, i)] = sum.value();
    }
  }
};

template <class T, int D>
using Delta = std::conditional_t<kDeltaFromWeights<T>, DeltaOfWeights<T, D>, DeltaOfOutput<T, D>>;

}  // namespace longfold::kernels::cuda::tiled
