// Sums down to the shape of a broadcast bias, with the same bits as on the CPU (ops/sum_to.cpp).
#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/launch.cuh"

namespace longfold::kernels::cuda {
namespace {

template <class T>
struct KernelArgs {
  const T* from;  // [outer, summed, inner]
  T* to;          // [outer, inner]
  int64_t num_outer, num_summed, num_inner;
};

template <class T>
__global__ void __launch_bounds__(plain::kThreads) sum_middle_kernel(const __grid_constant__ KernelArgs<T> args) {
  for (int64_t element = plain::first_element(); element < args.num_outer * args.num_inner;
       element += plain::element_step()) {
    const T* from = args.from + element / args.num_inner * args.num_summed * args.num_inner + element % args.num_inner;
    double sum = 0;
    for (int64_t r = 0; r < args.num_summed; ++r) sum += static_cast<double>(from[r * args.num_inner]);
    args.to[element] = static_cast<T>(sum);
  }
}

}  // namespace

template <class T>
void sum_middle(const T* from, T* to, int64_t num_outer, int64_t num_summed, int64_t num_inner, Stream stream) {
  const KernelArgs<T> args{from, to, num_outer, num_summed, num_inner};
  plain::launch("evoformer_attention_backward", sum_middle_kernel<T>, args, num_outer * num_inner, stream);
}

template void sum_middle<float>(const float*, float*, int64_t, int64_t, int64_t, Stream);
template void sum_middle<double>(const double*, double*, int64_t, int64_t, int64_t, Stream);

}  // namespace longfold::kernels::cuda
