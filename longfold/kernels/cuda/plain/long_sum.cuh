// Sums of many terms that keep their digits, however many and however alike they are: beside each sum stands its rest,
// what the roundings of the sum left out. The sum takes up what its rest has of whole digits each time (on the CPU,
// where a rest gathers no more than some thousand terms, it need not: cpu/long_sum.h).
#pragma once

namespace longfold::kernels::cuda::plain {

template <class Acc>
struct LongSum {
  Acc sum = 0;
  Acc rest = 0;

  // Two-sum (Knuth, The Art of Computer Programming 2, 4.2.2). These files are compiled without contraction.
  __device__ void add(Acc term) {
    const Acc rounded = sum + term, term_there = rounded - sum;
    const Acc lost = rest + ((sum - (rounded - term_there)) + (term - term_there));
    const bool finite = lost == lost;
    const Acc all = finite ? rounded + lost : rounded;
    rest = finite ? lost - (all - rounded) : lost;
    sum = all;
  }
  __device__ void scale(Acc factor) {
    sum *= factor;
    rest *= factor;
  }
  // Where the sum is no finite number, the rest is none at all and the sum stands alone.
  [[nodiscard]] __device__ Acc value() const { return rest == rest ? sum + rest : sum; }
};

}  // namespace longfold::kernels::cuda::plain
