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

// Without delta, which the first kernel makes.
template <class T>
__device__ __forceinline__ QueryStatistics statistics_without_delta(const BackwardParams<T>& params, int64_t b,
                                                                    int64_t n, int64_t h, int64_t i) {
  QueryStatistics query;
  const float log_sum_exp = *params.log_sum_exp.at(b, n, h, i);
  if (log_sum_exp <= kFullyMaskedLogit) {
    if (params.problem.mean_if_masked) query.uniform = 1.0f / static_cast<float>(params.problem.shape.Lk);
  } else {
    query.log_sum_exp = log_sum_exp;
    query.correction = *params.lse_correction.at(b, n, h, i);
  }
  return query;
}
template <class T>
__device__ __forceinline__ QueryStatistics statistics(const BackwardParams<T>& params, int64_t b, int64_t n, int64_t h,
                                                      int64_t i) {
  QueryStatistics query = statistics_without_delta(params, b, n, h, i);
  query.delta = params.delta[delta_index(params.problem, b, n, h, i)];
  return query;
}

// Where a tile whose rows are queries lies in shared memory, and what is common to the passes that have such tiles.
template <class T, int D>
struct QueryTile {
  using Tile = tiled::Tile<D>;
  using Params = BackwardParams<T>;
  static constexpr int kQueriesAt = 0, kGradOutAt = kQueriesAt + Tile::kRowsBytes,
                       kKeysAt = kGradOutAt + Tile::kRowsBytes, kValuesAt = kKeysAt + Tile::kColumnsBytes,
                       kMasksAt = kValuesAt + Tile::kColumnsBytes,
                       kWeightsAt = kMasksAt + Masks<Tile::kColumns>::kBytes;

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

  __device__ __forceinline__ static void make_weights(const Params& params, const Corner& corner, const Place<D>& place,
                                                      const QueryStatistics (&queries)[kRowsOfThread], uint32_t shared,
                                                      typename Tile::Logits& weights) {
    multiply(weights, place, shared + kQueriesAt, shared + kKeysAt);
    finish_logits<Keys::kAreColumns>(weights, place, params.problem, corner, shared + kMasksAt);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) weights[r][c] = queries[r].weight(weights[r][c]);
    }
  }

  // The gradients of the logits in the place of `gradients`. Nothing flows through a key that is hidden.
  __device__ __forceinline__ static void make_logit_gradients(const Params& params, const Corner& corner,
                                                              const Place<D>& place,
                                                              const QueryStatistics (&queries)[kRowsOfThread],
                                                              uint32_t shared, typename Tile::Logits& gradients) {
    typename Tile::Logits weights;
    make_weights(params, corner, place, queries, shared, weights);
    multiply(gradients, place, shared + kGradOutAt, shared + kValuesAt);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
        gradients[r][c] = weights[r][c] * (gradients[r][c] - queries[r].delta);
      }
    }
    if (params.problem.has_hidden) set_hidden<Keys::kAreColumns>(gradients, place, shared + kMasksAt, 0.0f);
  }
};

}  // namespace longfold::kernels::cuda::tiled
