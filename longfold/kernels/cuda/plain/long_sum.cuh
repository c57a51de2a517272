// Sums of many terms that keep their digits, as on the CPU (cpu/long_sum.h): beside each sum stands its rest, what the
// roundings of the sum left out.
#pragma once

namespace longfold::kernels::cuda::plain {

template <class Acc>
struct LongSum {
  Acc sum = 0;
  Acc rest = 0;

  // Two-sum (Knuth, The Art of Computer Programming 2, 4.2.2). These files are compiled without contraction.
  __device__ void add(Acc term) {
    const Acc before = sum;
    sum = before + term;
    const Acc term_there = sum - before;
    rest += (before - (sum - term_there)) + (term - term_there);
  }
  __device__ void scale(Acc factor) {
    sum *= factor;
    rest *= factor;
  }
  // Where the sum is no finite number, the rest is none at all and the sum stands alone.
  [[nodiscard]] __device__ Acc value() const { return rest == rest ? sum + rest : sum; }
};

}  // namespace longfold::kernels::cuda::plain
