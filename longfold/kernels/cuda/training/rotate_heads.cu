#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/element.cuh"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/training.h"

namespace longfold::kernels::cuda {
namespace {

template <class T>
struct KernelArgs {
  T* qkv;
  int64_t num_pairs, of_token;                            // of_token: elements
  int num_groups, num_turned, of_group, head_size, half;  // of_group: elements
  const float *cos, *sin;
  float sign;
};

// A thread for each pair: those of a head are neighbours, and so are the heads.
template <class T>
__global__ void __launch_bounds__(plain::kThreads) rotate_heads_kernel(const __grid_constant__ KernelArgs<T> args) {
  const int of_head = args.half, of_groups = args.num_groups * args.num_turned * of_head;
  for (int64_t pair = plain::first_element(); pair < args.num_pairs; pair += plain::element_step()) {
    const int64_t token = pair / of_groups;
    const int rest = static_cast<int>(pair % of_groups), d = rest % of_head, head = rest / of_head;
    T* first = args.qkv + token * args.of_token + head / args.num_turned * args.of_group +
               head % args.num_turned * args.head_size + d;
    T* second = first + args.half;
    const float c = args.cos[token * args.half + d], s = args.sign * args.sin[token * args.half + d];
    const float x = plain::load(*first), y = plain::load(*second);
    // Contraction is spelled out: the bits are those of torch's operators.
    plain::store(*first, __fsub_rn(__fmul_rn(x, c), __fmul_rn(y, s)));
    plain::store(*second, __fadd_rn(__fmul_rn(y, c), __fmul_rn(x, s)));
  }
}

}  // namespace

template <class T>
void rotate_heads(const RotateArgs<T>& args, Stream stream) {
  const int64_t of_group = (args.num_turned + args.num_kept) * args.head_size;
  const KernelArgs<T> kernel_args{.qkv = args.qkv,
                                  .num_pairs = args.num_tokens * args.num_groups * args.num_turned * args.half,
                                  .of_token = args.num_groups * of_group,
                                  .num_groups = static_cast<int>(args.num_groups),
                                  .num_turned = static_cast<int>(args.num_turned),
                                  .of_group = static_cast<int>(of_group),
                                  .head_size = static_cast<int>(args.head_size),
                                  .half = static_cast<int>(args.half),
                                  .cos = args.cos,
                                  .sin = args.sin,
                                  .sign = args.back ? -1.0f : 1.0f};
  if (kernel_args.num_pairs > 0) {
    plain::launch("rotate_heads", rotate_heads_kernel<T>, kernel_args, kernel_args.num_pairs, stream);
  }
}

template void rotate_heads<bfloat16>(const RotateArgs<bfloat16>&, Stream);
template void rotate_heads<float16>(const RotateArgs<float16>&, Stream);

}  // namespace longfold::kernels::cuda
