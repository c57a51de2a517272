// out, log_sum_exp and lse_correction: a block has a tile of queries and goes through all keys, with a running maximum
// for each query.
#pragma once

#include "longfold/kernels/cuda/tiled/items.cuh"
#include "longfold/kernels/cuda/tiled/logits.cuh"
#include "longfold/kernels/cuda/tiled/products.cuh"

namespace longfold::kernels::cuda::tiled {

// Of a query.
struct RunningSoftmax {
  float largest = -INFINITY;
  LongSum sum;  // of the weights that this thread has computed

  // Weights are exp(logit - bound). The bound is finite and starts where fully masked rows end; in all others it
  // becomes the largest logit.
  [[nodiscard]] __device__ __forceinline__ float bound() const { return fmaxf(largest, kFullyMaskedLogit); }
  [[nodiscard]] __device__ __forceinline__ bool fully_masked(const LongSum& of_row) const {
    return largest <= kFullyMaskedLogit && of_row.sum == of_row.sum;
  }
};

template <class T, int D>
struct Forward {
  using Tile = tiled::Tile<D>;
  using ThisItem = Item<Tile::kRows>;
  using Params = ForwardParams<T>;
  using Sums = LongSum[kRowsOfThread][Tile::kDimsOfThread];
  static constexpr int kQueriesAt = 0, kKeysAt = kQueriesAt + Tile::kRowsBytes,
                       kValuesAt = kKeysAt + Tile::kColumnsBytes, kWeightsAt = kValuesAt + Tile::kColumnsBytes,
                       kMasksAt = kWeightsAt + Tile::kWeightsBytes, kVotesAt = kMasksAt + Masks<Tile::kColumns>::kBytes,
                       kSharedBytes = kVotesAt + 4 * kWarps;
  static constexpr int kBlocks = D <= 64 ? 3 : 2;  // on a multiprocessor

  static int64_t count(const Params& params) { return ThisItem::count(params.problem.shape, params.problem.shape.Lq); }

  __device__ __forceinline__ static void run(const Params& params, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    for (int64_t index = blockIdx.x; index < ThisItem::count(shape, shape.Lq); index += gridDim.x) {
      run_item(params, ThisItem(shape, shape.Lq, index), shared);
    }
  }

 private:
  __device__ __forceinline__ static void run_item(const Params& params, const ThisItem& item, uint32_t shared) {
    const Problem<T>& p = params.problem;
    const Place<D> place;
    Corner corner{item.b, item.n, item.h, item.first, 0, item.left, static_cast<int>(p.shape.Lk)};
    RunningSoftmax softmax[kRowsOfThread];
    Sums out = {};
    for (; corner.keys_left > 0; corner.key += Tile::kColumns, corner.keys_left -= Tile::kColumns) {
      ptx::sync_block();
      if (corner.key == 0) {
        copy_rows<D, Tile::kRows>(shared + kQueriesAt, p.q, item.b, item.n, item.h, item.first, item.left);
      }
      copy_rows<D, Tile::kColumns>(shared + kKeysAt, p.k, item.b, item.n, item.h, corner.key, corner.keys_left);
      copy_rows<D, Tile::kColumns>(shared + kValuesAt, p.v, item.b, item.n, item.h, corner.key, corner.keys_left);
      copy_masks<Tile::kColumns>(shared + kMasksAt, p, corner);
      ptx::sync_block();
      typename Tile::Logits logits;
      multiply(logits, place, shared + kQueriesAt, shared + kKeysAt);
      finish_logits<Keys::kAreColumns>(logits, place, p, corner, shared + kMasksAt);
      if (corner.keys_left < Tile::kColumns) {
#pragma unroll
        for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
          for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
            if (place.column(c) >= corner.keys_left) logits[r][c] = -INFINITY;
          }
        }
      }
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) make_weights(logits[r], softmax[r], out[r]);
      store_weights(shared + kWeightsAt, place, logits);
      ptx::sync_warp();
      add_product(out, place, shared + kWeightsAt, shared + kValuesAt);
    }
    finish(params, item, place, softmax, out, shared);
  }

  // The logits of a query become weights; what was summed up so far comes to the same bound.
  __device__ __forceinline__ static void make_weights(float (&logits)[Tile::kColumnsOfThread], RunningSoftmax& softmax,
                                                      LongSum (&out)[Tile::kDimsOfThread]) {
    float largest = logits[0];
#pragma unroll
    for (int c = 1; c < Tile::kColumnsOfThread; ++c) largest = fmaxf(largest, logits[c]);
#pragma unroll
    for (int far = 1; far < Tile::kLanesAcross; far *= 2) largest = fmaxf(largest, ptx::shuffle_xor(largest, far));
    const float before = softmax.bound();
    softmax.largest = fmaxf(softmax.largest, largest);
    const float bound = softmax.bound(), factor = expf(before - bound);
    softmax.sum.scale(factor);
#pragma unroll
    for (int d = 0; d < Tile::kDimsOfThread; ++d) out[d].scale(factor);
    float sum = 0;
#pragma unroll
    for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
      logits[c] = expf(logits[c] - bound);
      sum += logits[c];
    }
    softmax.sum.add(sum);
  }

  __device__ __forceinline__ static void finish(const Params& params, const ThisItem& item, const Place<D>& place,
                                                const RunningSoftmax (&softmax)[kRowsOfThread], const Sums& out,
                                                uint32_t shared) {
    const Problem<T>& p = params.problem;
    LongSum sums[kRowsOfThread];
    bool any_masked = false;
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      sums[r] = sum_of_lanes<Tile::kLanesAcross>(softmax[r].sum);
      any_masked |= softmax[r].fully_masked(sums[r]);
    }
    LongSum mean[Tile::kDimsOfThread];
    if (p.mean_if_masked && any_of_block(any_masked, shared + kVotesAt)) sum_values(p, item, place, mean, shared);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      if (place.row(r) >= item.left) continue;
      const int i = item.first + place.row(r);
      const bool masked = softmax[r].fully_masked(sums[r]);
      const float divisor = masked ? static_cast<float>(p.shape.Lk) : sums[r].value();
      float values[Tile::kDimsOfThread];
#pragma unroll
      for (int d = 0; d < Tile::kDimsOfThread; ++d) {
        const float of_masked = p.mean_if_masked ? mean[d].value() / divisor : 0;
        values[d] = masked ? of_masked : out[r][d].value() / divisor;
      }
      write_row(params.out, item.b, item.n, item.h, i, place, values);
      if (place.across != 0) continue;
      // In double, so that the correction holds what rounding log_sum_exp left out and nothing else.
      const double total = static_cast<double>(sums[r].sum) + static_cast<double>(sums[r].rest);
      const double largest = static_cast<double>(softmax[r].largest);
      const float lse = masked ? softmax[r].largest : static_cast<float>(largest + log(total));
      *params.log_sum_exp.at(item.b, item.n, item.h, i) = lse;
      *params.lse_correction.at(item.b, item.n, item.h, i) =
          masked ? 1.0f : static_cast<float>(exp(static_cast<double>(lse) - largest) / total);
    }
  }

  __device__ __forceinline__ static bool any_of_block(bool value, uint32_t votes) {
    const bool any = ptx::any(value);
    if (threadIdx.x % kLanesOfWarp == 0) {
      ptx::store_shared(votes + 4 * (threadIdx.x / kLanesOfWarp), static_cast<uint32_t>(any));
    }
    ptx::sync_block();
    uint32_t all = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) all |= ptx::load_shared<uint32_t>(votes + 4 * warp);
    return all != 0;
  }

  // The sum of all keys' values.
  __device__ __forceinline__ static void sum_values(const Problem<T>& p, const ThisItem& item, const Place<D>& place,
                                                    LongSum (&sums)[Tile::kDimsOfThread], uint32_t shared) {
    for (int key = 0, left = static_cast<int>(p.shape.Lk); left > 0; key += Tile::kColumns, left -= Tile::kColumns) {
      ptx::sync_block();
      copy_rows<D, Tile::kColumns>(shared + kValuesAt, p.v, item.b, item.n, item.h, key, left);
      ptx::sync_block();
      for (int chunk = 0; chunk < Tile::kColumns; chunk += kChain) {
        float part[Tile::kDimsOfThread] = {};
        for (int column = chunk; column < chunk + kChain; ++column) {
          float values[Tile::kDimsOfThread];
          load_dims<D>(values, shared + kValuesAt + column * Tile::kPitch + 4 * Tile::kVector * place.across);
#pragma unroll
          for (int d = 0; d < Tile::kDimsOfThread; ++d) part[d] += values[d];
        }
#pragma unroll
        for (int d = 0; d < Tile::kDimsOfThread; ++d) sums[d].add(part[d]);
      }
    }
  }
};

}  // namespace longfold::kernels::cuda::tiled
