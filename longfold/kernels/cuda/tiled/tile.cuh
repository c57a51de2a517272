// How the threads of a block share out a tile of logits, and how tiles lie in shared memory.
//
// A tile is kRows by kColumns logits: queries by keys, or in grad_kv keys by queries. A warp has rows of its own, so
// that weights go from one product to the next without a wait for other warps. Of these a thread has kRowsOfThread rows
// and every kLanesAcross-th column; of results, D numbers for each row, it has the same rows and kDimsOfThread numbers.
//
// Rows of D numbers lie an odd number of 16 bytes apart, as rows of weights do: lanes that read 16 bytes each of rows
// next to each other read from all banks.
#pragma once

#include <cstdint>

#include "longfold/kernels/cuda/ptx.cuh"

namespace longfold::kernels::cuda::tiled {

constexpr int kLanesOfWarp = 32, kThreads = 128, kWarps = kThreads / kLanesOfWarp;
constexpr int kRowsOfThread = 4;
constexpr int kChain = 32;  // products that are added up plainly, one after another

template <int D>
struct Tile {
  static_assert(D % 8 == 0 && D <= 128);
  static constexpr int kLanesAcross = D <= 64 ? 8 : 16, kLanesDown = kLanesOfWarp / kLanesAcross;
  static constexpr int kRows = kWarps * kLanesDown * kRowsOfThread;
  static constexpr int kColumns = D <= 32 ? 2 * kChain : kChain;
  static constexpr int kColumnsOfThread = kColumns / kLanesAcross;
  static constexpr int kDimsOfThread = D / kLanesAcross;
  static constexpr int kVector = kDimsOfThread % 4 == 0 ? 4 : kDimsOfThread % 2 == 0 ? 2 : 1;  // that lie side by side
  // Bytes.
  static constexpr int kPitch = 4 * (D + 4), kWeightsPitch = 4 * (kColumns + 4);
  static constexpr int kRowsBytes = kRows * kPitch, kColumnsBytes = kColumns * kPitch;
  static constexpr int kWeightsBytes = kRows * kWeightsPitch;

  using Logits = float[kRowsOfThread][kColumnsOfThread];
  using Results = float[kRowsOfThread][kDimsOfThread];
};

// Where a thread is in a tile.
template <int D>
struct Place {
  int down, across;

  __device__ __forceinline__ Place() {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanesOfWarp;
    across = lane % Tile<D>::kLanesAcross;
    down = thread / kLanesOfWarp * (Tile<D>::kLanesDown * kRowsOfThread) + lane / Tile<D>::kLanesAcross;
  }
  [[nodiscard]] __device__ __forceinline__ int row(int r) const { return down + r * Tile<D>::kLanesDown; }
  [[nodiscard]] __device__ __forceinline__ int column(int c) const { return across + c * Tile<D>::kLanesAcross; }
  [[nodiscard]] __device__ __forceinline__ int dim(int e) const {
    constexpr int kVector = Tile<D>::kVector;
    return (e / kVector * Tile<D>::kLanesAcross + across) * kVector + e % kVector;
  }
};

}  // namespace longfold::kernels::cuda::tiled
