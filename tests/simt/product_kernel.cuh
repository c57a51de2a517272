// c [m, n] = a [m, k] times b [n, k] transposed, as the attention kernels work: a warp that copies slabs of k into a
// ring of stages, warps that multiply, a loop over more tiles than there are blocks. Template parameter Break leaves
// out one thing that it needs, for the tests that must notice.
#pragma once

#include <cstdint>

#include "longfold/kernels/cuda/ptx.cuh"

namespace longfold::kernels::cuda::product {

enum class Break {
  kNothing,
  kBlockBarrierAfterInit,
  kWaitForFull,
  kWaitForEmpty,
  kArriveAtEmpty,
  kOneCopiesArrive,
  kParityOfFull,
};

constexpr int kConsumers = 2, kStages = 2, kThreads = (kConsumers + 1) * 32;
constexpr int kRows = 16 * kConsumers, kColumns = 16, kDepth = 16;  // of a tile of c, and of a slab
constexpr uint32_t kUnitBytes = 16, kRowBytes = kDepth * 2;
constexpr uint32_t kStageBytes = (kRows + kColumns) * kRowBytes;
constexpr uint32_t kSharedBytes = kStages * (kStageBytes + 16);

struct Params {
  const uint16_t *a, *b;
  float* c;
  int m, n, k;  // k in units of 8: copies are of 16 bytes
};

struct Ring {
  uint32_t base;

  __device__ uint32_t stage(int i) const { return base + static_cast<uint32_t>(i % kStages) * kStageBytes; }
  __device__ uint32_t full(int i) const {
    return base + kStages * kStageBytes + static_cast<uint32_t>(i % kStages) * 16;
  }
  __device__ uint32_t empty(int i) const { return full(i) + 8; }
  __device__ static uint32_t parity(int i) { return static_cast<uint32_t>(i / kStages & 1); }
};

template <Break Broken>
__device__ void produce(const Params& params, const Ring& ring, int row0, int column0, int& i) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int k0 = 0; k0 < params.k; k0 += kDepth, ++i) {
    // Parity 1 of a new barrier counts as ended.
    if (Broken != Break::kWaitForEmpty) ptx::barrier_wait(ring.empty(i), Ring::parity(i) ^ 1u);
    for (int unit = lane; unit < (kRows + kColumns) * 2; unit += 32) {
      const int row = unit / 2, k = k0 + unit % 2 * 8;
      const bool is_a = row < kRows;
      const int line = is_a ? row0 + row : column0 + row - kRows;
      const bool valid = line < (is_a ? params.m : params.n) && k < params.k;
      const uint16_t* from = (is_a ? params.a : params.b) + (valid ? static_cast<int64_t>(line) * params.k + k : 0);
      ptx::copy_async(ring.stage(i) + static_cast<uint32_t>(unit) * kUnitBytes, from, valid);
    }
    if (Broken != Break::kOneCopiesArrive || lane != 7) ptx::copies_arrive(ring.full(i));
  }
}

template <class T, Break Broken>
__device__ void consume(const Params& params, const Ring& ring, int row0, int column0, int& i) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const uint32_t a_from = static_cast<uint32_t>(warp * 16 + lane % 16) * kRowBytes + (lane / 16) * kUnitBytes;
  const uint32_t b_from =
      static_cast<uint32_t>(kRows + lane / 16 * 8 + lane % 8) * kRowBytes + (lane / 8 % 2) * kUnitBytes;
  float c[2][4] = {};
  for (int k0 = 0; k0 < params.k; k0 += kDepth, ++i) {
    const uint32_t wrong = Broken == Break::kParityOfFull ? 1 : 0;
    if (Broken != Break::kWaitForFull) ptx::barrier_wait(ring.full(i), Ring::parity(i) ^ wrong);
    uint32_t a[4], b[4];
    ptx::load_matrices(a, ring.stage(i) + a_from);
    ptx::load_matrices(b, ring.stage(i) + b_from);
    if (Broken != Break::kArriveAtEmpty) ptx::barrier_arrive(ring.empty(i));
#pragma unroll
    for (int j = 0; j < 2; ++j) ptx::multiply<T>(c[j], a, b[2 * j], b[2 * j + 1], c[j]);
  }
  for (int e = 0; e < 8; ++e) {
    const int row = row0 + warp * 16 + lane / 4 + e % 4 / 2 * 8, column = column0 + e / 4 * 8 + lane % 4 * 2 + e % 2;
    if (row < params.m && column < params.n) params.c[row * params.n + column] = c[e / 4][e % 4];
  }
}

template <class T, Break Broken>
__global__ void __launch_bounds__(kThreads) kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(128) char shared[];
  const Ring ring{ptx::shared_address(shared)};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::barrier_init(ring.full(i), 32);
      ptx::barrier_init(ring.empty(i), 32 * kConsumers);
    }
  }
  if (Broken != Break::kBlockBarrierAfterInit) ptx::sync_block();
  const int tiles_across = (params.n + kColumns - 1) / kColumns;
  const int num_tiles = tiles_across * ((params.m + kRows - 1) / kRows);
  int i = 0;  // slabs so far
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles; tile += static_cast<int>(gridDim.x)) {
    const int row0 = tile / tiles_across * kRows, column0 = tile % tiles_across * kColumns;
    if (threadIdx.x >= 32 * kConsumers) {
      produce<Broken>(params, ring, row0, column0, i);
    } else {
      consume<T, Broken>(params, ring, row0, column0, i);
    }
  }
}

}  // namespace longfold::kernels::cuda::product
