// Weights and the gradients of logits, in the backward pass.
#pragma once

#include "longfold/kernels/cuda/tiled/logits.cuh"
#include "longfold/kernels/cuda/tiled/products.cuh"

namespace longfold::kernels::cuda::tiled {

// Of a query: its weights are exp(logit - log_sum_exp) * correction + uniform. In fully masked rows, and where there is
// no query, the first part is zero.
struct QueryStatistics {
  float log_sum_exp = INFINITY, correction = 0, uniform = 0, delta = 0;

  [[nodiscard]] __device__ __forceinline__ float weight(float logit) const {
    return fmaf(expf(logit - log_sum_exp), correction, uniform);
  }
};

template <class T>
__device__ __forceinline__ int64_t delta_index(const Problem<T>& p, int64_t b, int64_t n, int64_t h, int64_t i) {
  return ((b * p.shape.N + n) * p.shape.H + h) * p.shape.Lq + i;
}

template <class T>
__device__ __forceinline__ QueryStatistics statistics_of(const BackwardParams<T>& params, int64_t b, int64_t n,
                                                         int64_t h, int64_t i, bool has_delta) {
  QueryStatistics query;
  const float log_sum_exp = *params.log_sum_exp.at(b, n, h, i);
  if (log_sum_exp <= kFullyMaskedLogit) {
    if (params.problem.mean_if_masked) query.uniform = 1.0f / static_cast<float>(params.problem.shape.Lk);
  } else {
    query.log_sum_exp = log_sum_exp;
    query.correction = *params.lse_correction.at(b, n, h, i);
  }
  if (has_delta) query.delta = params.delta[delta_index(params.problem, b, n, h, i)];
  return query;
}

// Of a tile's queries, 16 bytes each in shared memory. By all threads.
template <int Count, class T>
__device__ __forceinline__ void copy_statistics(uint32_t to, const BackwardParams<T>& params, const Corner& corner,
                                                bool has_delta = true) {
  const int index = static_cast<int>(threadIdx.x);
  if (index >= Count) return;
  QueryStatistics query;
  if (index < corner.queries_left) {
    query = statistics_of(params, corner.b, corner.n, corner.h, corner.query + index, has_delta);
  }
  ptx::store_shared(to + 16 * index, float4{query.log_sum_exp, query.correction, query.uniform, query.delta});
}
__device__ __forceinline__ QueryStatistics load_statistics(uint32_t from, int index) {
  const auto four = ptx::load_shared<float4>(from + 16 * index);
  return {four.x, four.y, four.z, four.w};
}

// Where a tile whose rows are queries lies in shared memory, and what is common to the passes that have such tiles.
template <class T, int D>
struct QueryTile {
  using Tile = tiled::Tile<D>;
  using Params = BackwardParams<T>;
  static constexpr int kQueriesAt = 0, kGradOutAt = kQueriesAt + Tile::kRowsBytes,
                       kKeysAt = kGradOutAt + Tile::kRowsBytes, kValuesAt = kKeysAt + Tile::kColumnsBytes,
                       kMasksAt = kValuesAt + Tile::kColumnsBytes,
                       kStatisticsAt = kMasksAt + Masks<Tile::kColumns>::kBytes,
                       kWeightsAt = kStatisticsAt + 16 * Tile::kRows, kSharedBytes = kWeightsAt + Tile::kWeightsBytes;

  __device__ __forceinline__ static void copy_queries(const Params& params, const Corner& corner, uint32_t shared) {
    copy_rows<D, Tile::kRows>(shared + kQueriesAt, params.problem.q, corner.b, corner.n, corner.h, corner.query,
                              corner.queries_left);
    copy_rows<D, Tile::kRows>(shared + kGradOutAt, params.grad_out, corner.b, corner.n, corner.h, corner.query,
                              corner.queries_left);
  }
  __device__ __forceinline__ static void copy_keys(const Params& params, const Corner& corner, uint32_t shared) {
    const Problem<T>& p = params.problem;
    copy_rows<D, Tile::kColumns>(shared + kKeysAt, p.k, corner.b, corner.n, corner.h, corner.key, corner.keys_left);
    copy_rows<D, Tile::kColumns>(shared + kValuesAt, p.v, corner.b, corner.n, corner.h, corner.key, corner.keys_left);
    copy_masks<Tile::kColumns>(shared + kMasksAt, p, corner);
  }

  // The weights of this thread's logits, and their gradients.
  __device__ __forceinline__ static void make_weights(const Params& params, const Corner& corner, const Place<D>& place,
                                                      uint32_t shared, typename Tile::Logits& weights,
                                                      typename Tile::Logits& gradients) {
    multiply(weights, place, shared + kQueriesAt, shared + kKeysAt);
    finish_logits<Keys::kAreColumns>(weights, place, params.problem, corner, shared + kMasksAt);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      const QueryStatistics query = load_statistics(shared + kStatisticsAt, place.row(r));
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) weights[r][c] = query.weight(weights[r][c]);
    }
    store_weights(shared + kWeightsAt, place, weights);  // rather than keep them in registers
    multiply(gradients, place, shared + kGradOutAt, shared + kValuesAt);
    load_weights(weights, place, shared + kWeightsAt);
  }

  // The gradients of the logits. Nothing flows through a key that is hidden.
  __device__ __forceinline__ static void make_logit_gradients(const Params& params, const Corner& corner,
                                                              const Place<D>& place, uint32_t shared,
                                                              typename Tile::Logits& gradients) {
    typename Tile::Logits weights;
    make_weights(params, corner, place, shared, weights, gradients);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      const float delta = load_statistics(shared + kStatisticsAt, place.row(r)).delta;
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) gradients[r][c] = weights[r][c] * (gradients[r][c] - delta);
    }
    if (params.problem.has_hidden) set_hidden<Keys::kAreColumns>(gradients, place, shared + kMasksAt, 0.0f);
  }
};

}  // namespace longfold::kernels::cuda::tiled
