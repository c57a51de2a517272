#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/element.cuh"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/cuda/training/pack.cuh"

namespace longfold::kernels::cuda {
namespace {

constexpr int kElements = 8;

template <class T>
__global__ void __launch_bounds__(plain::kThreads) add_heads_kernel(const __grid_constant__ AddHeadsArgs<T> args) {
  const int packs_of_head = static_cast<int>(args.head_size / kElements);
  const int packs_of_token = static_cast<int>(args.num_heads) * packs_of_head;
  for (int64_t i = plain::first_element(); i < args.num_tokens * packs_of_token; i += plain::element_step()) {
    const int64_t token = i / packs_of_token;
    const int rest = static_cast<int>(i % packs_of_token), head = rest / packs_of_head, pack = rest % packs_of_head;
    const T* from = args.from + token * args.token_stride + head * args.head_stride + pack * kElements;
    const auto added = *reinterpret_cast<const Pack<T, kElements>*>(from);
    auto* to = reinterpret_cast<Pack<float, 4>*>(args.to + i * kElements);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Pack<float, 4> sum = to[half];
#pragma unroll
      for (int j = 0; j < 4; ++j) sum.values[j] += plain::load(added.values[4 * half + j]);
      to[half] = sum;
    }
  }
}

}  // namespace

template <class T>
void add_heads(const AddHeadsArgs<T>& args, Stream stream) {
  const int64_t num_packs = args.num_tokens * args.num_heads * args.head_size / kElements;
  if (num_packs > 0) plain::launch("add_heads", add_heads_kernel<T>, args, num_packs, stream);
}

template void add_heads<bfloat16>(const AddHeadsArgs<bfloat16>&, Stream);
template void add_heads<float16>(const AddHeadsArgs<float16>&, Stream);

}  // namespace longfold::kernels::cuda
