// Tiles on their way from global to shared memory: a ring of stages, filled by the producer warps and used by all
// others, the consumers. A stage is full when all that the producers' lanes copied and stored is there, and empty when
// every consumer warp has left it.
#pragma once

#include "longfold/kernels/cuda/mma/tile_size.h"
#include "longfold/kernels/cuda/ptx.cuh"

namespace longfold::kernels::cuda::mma {

constexpr int kLanes = 32;

__device__ __forceinline__ int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % kLanes;
}

// Producers need fewer registers than a block's threads have on average, consumers more. `Blocks` on a multiprocessor.
template <int Consumers, int Blocks, int OfProducers>
__device__ __forceinline__ void share_registers(bool produces) {
  constexpr int kOfAll = 65536 / 32 / 8 / Blocks / ((Consumers + kProducers + 3) / 4 * 4) * 8;
  constexpr int kOfConsumers = (kOfAll + (kOfAll - OfProducers) * kProducers / Consumers) / 8 * 8;
  if (produces)
    ptx::give_registers<OfProducers>();
  else
    ptx::take_registers < kOfConsumers<240 ? kOfConsumers : 240>();
}

// ForWarpgroups: consumers read by products of warpgroups, which see what threads store only after a fence of theirs;
// there are no copies but those by tensor maps. A producer warp then arrives once.
template <int Stages, int StageBytes, int ConsumerWarps, bool ForWarpgroups = false>
class Ring {
 public:
  static constexpr int kBarrierBytes = 1024;  // so that stages lie as tiles must
  static constexpr int kBytes = kBarrierBytes + Stages * StageBytes;
  // Of a producer's thread: by tensor maps alone it needs few; each one spilled is read from L2.
  static constexpr int kProducerRegisters = ForWarpgroups ? 32 : 56;
  static_assert(StageBytes % 1024 == 0);

  // By one thread, before all of the block meet.
  static __device__ void init(uint32_t shared) {
    for (int stage = 0; stage < Stages; ++stage) {
      ptx::barrier_init(shared + 16 * stage, (ForWarpgroups ? 1 : 2 * kLanes) * kProducers);
      ptx::barrier_init(shared + 16 * stage + 8, ConsumerWarps);
    }
  }

  explicit __device__ Ring(uint32_t shared) : shared_(shared) {}

  [[nodiscard]] static __device__ __forceinline__ uint32_t at(uint32_t shared, int stage) {
    return shared + kBarrierBytes + stage * StageBytes;
  }

  // The address of the current stage, and of the barrier of those who wait until it is full.
  [[nodiscard]] __device__ __forceinline__ uint32_t stage() const { return at(shared_, index_); }
  [[nodiscard]] __device__ __forceinline__ uint32_t barrier() const { return shared_ + 16 * index_; }

  // A producer: waits until the stage may be written ... and hands it over, once its copies are there.
  __device__ __forceinline__ void wait_until_empty() const { ptx::barrier_wait(barrier() + 8, parity_ ^ 1); }
  __device__ __forceinline__ void hand_over() {
    if constexpr (ForWarpgroups) {
      ptx::fence_stores_to_products();
      ptx::sync_warp();
      if (lane_of_warp() == 0) ptx::barrier_arrive(barrier());
    } else {
      ptx::copies_arrive(barrier());
      ptx::barrier_arrive(barrier());
    }
    advance();
  }

  // A consumer: waits until the stage can be read ... and leaves it. What it loaded there must have come.
  __device__ __forceinline__ void wait_until_full() const { ptx::barrier_wait(barrier(), parity_); }
  __device__ __forceinline__ void leave(int lane) {
    ptx::sync_warp();
    if (lane == 0) ptx::barrier_arrive(barrier() + 8);
    advance();
  }

  // On to the next stage, as hand_over and leave do.
  __device__ __forceinline__ void advance() {
    if (++index_ == Stages) {
      index_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  uint32_t shared_;
  int index_ = 0;
  uint32_t parity_ = 0;
};

// What all threads of a block do: the last warps produce(first, second), all others consume(first, second), two rings
// that lie one behind the other.
template <class First, class Second, int Consumers, int Blocks, int OfProducers = First::kProducerRegisters,
          class Produce, class Consume>
__device__ __forceinline__ void run_block(uint32_t shared, const Produce& produce, const Consume& consume) {
  const uint32_t second = shared + First::kBytes;
  if (threadIdx.x == 0) {
    First::init(shared);
    Second::init(second);
    ptx::fence_barrier_init();
  }
  ptx::sync_block();
  const bool produces = threadIdx.x / kLanes >= Consumers;
  share_registers<Consumers, Blocks, OfProducers>(produces);
  if (produces)
    produce(First(shared), Second(second));
  else
    consume(First(shared), Second(second));
}

// The same with one ring.
struct NoRing {
  static constexpr int kBytes = 0;
  static __device__ void init(uint32_t) {}
  explicit __device__ NoRing(uint32_t) {}
};
template <class Stages, int Consumers, int Blocks, class Produce, class Consume>
__device__ __forceinline__ void run_block(uint32_t shared, const Produce& produce, const Consume& consume) {
  run_block<Stages, NoRing, Consumers, Blocks>(
      shared, [&](Stages ring, NoRing) { produce(ring); }, [&](Stages ring, NoRing) { consume(ring); });
}

}  // namespace longfold::kernels::cuda::mma
