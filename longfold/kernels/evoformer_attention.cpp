// Chooses between the reference (double) and the CPU kernels of the selected instruction set (all else).
#include "longfold/kernels/evoformer_attention.h"

#include <type_traits>

#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/cpu/evoformer/isa_kernels.h"
#include "longfold/kernels/evoformer/reference.h"
#include "longfold/kernels/isa.h"

namespace longfold::kernels {
namespace {

template <class Args>
Shape shape_of(const Args& args) {
  return {.B = args.q.sizes[0],
          .N = args.q.sizes[1],
          .Lq = args.q.sizes[2],
          .Lk = args.k.sizes[2],
          .H = args.q.sizes[3],
          .D = args.q.sizes[4]};
}

template <class T>
IsaKernels<T> selected_kernels() {
  switch (selected_isa()) {
    case Isa::kAvx512Bf16:
      if constexpr (std::is_same_v<T, bfloat16>) return avx512_bf16_kernels();
      [[fallthrough]];
    case Isa::kAvx512:
      return avx512_kernels<T>();
    case Isa::kAvx2:
      return avx2_kernels<T>();
    case Isa::kNeon:
      return neon_kernels<T>();
    case Isa::kPortable:
      break;
  }
  return portable_kernels<T>();
}

float* floats(std::span<std::byte> bytes) {
  return reinterpret_cast<float*>(bytes.data());
}

std::span<double> doubles(std::span<std::byte> bytes) {
  return {reinterpret_cast<double*>(bytes.data()), bytes.size() / sizeof(double)};
}

template <class T>
constexpr bool kOnReference = std::is_same_v<T, double>;

}  // namespace

template <class T>
Plan plan_forward(const ForwardArgs<T>& args) {
  const Shape shape = shape_of(args);
  if constexpr (kOnReference<T>) {
    return {.num_items = shape.B * shape.H, .scratch_bytes = reference_forward_scratch(args) * int64_t{sizeof(double)}};
  } else {
    const ForwardCut cut = cut_forward(shape, args.num_threads);
    return {.num_items = shape.B * shape.H * cut.panel_groups * cut.row_groups,
            .scratch_bytes = ForwardBuffers(shape, cut.panel_group, nullptr).num_floats * int64_t{sizeof(float)}};
  }
}

template <class T>
void run_forward(const ForwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch) {
  if constexpr (kOnReference<T>)
    reference_forward(args, begin, end, doubles(scratch));
  else
    selected_kernels<T>().forward(args, shape_of(args), begin, end, floats(scratch));
}

template <class T>
Plan plan_backward(const BackwardArgs<T>& args) {
  const Shape shape = shape_of(args);
  if constexpr (kOnReference<T>) {
    return {.num_items = shape.B * shape.H,
            .scratch_bytes = reference_backward_scratch(args) * int64_t{sizeof(double)}};
  } else {
    const bool pair = args.grad_pair.data != nullptr;
    const BackwardCut cut = cut_backward(shape, pair);
    const int64_t heads = shape.B * shape.H;
    Plan plan{
        .num_items = heads * cut.row_groups * cut.span_groups,
        .scratch_bytes = BackwardBuffers(shape, kDeltaFromWeights<T>, nullptr).num_floats * int64_t{sizeof(float)}};
    if (cut.span_groups > 1) {
      plan.num_finish_items = heads * divide_up(shape.Lk, kFinishKeys);
      plan.workspace_bytes = SpanSums::num_bytes(shape);
    } else if (pair && !is_single_row(shape)) {
      plan.num_finish_items = heads * num_panels(shape);
      plan.workspace_bytes = PartialCopies::num_bytes(shape);
    }
    return plan;
  }
}

template <class T>
void run_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch,
                  std::span<std::byte> workspace) {
  if constexpr (kOnReference<T>)
    reference_backward(args, begin, end, doubles(scratch));
  else
    selected_kernels<T>().backward(args, shape_of(args), begin, end, floats(scratch), floats(workspace));
}

template <class T>
void finish_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> workspace) {
  if constexpr (!kOnReference<T>) {
    selected_kernels<T>().finish_backward(args, shape_of(args), begin, end, floats(workspace));
  }
}

#define LONGFOLD_INSTANTIATE(T)                                                                                        \
  template Plan plan_forward<T>(const ForwardArgs<T>&);                                                                \
  template void run_forward<T>(const ForwardArgs<T>&, int64_t, int64_t, std::span<std::byte>);                         \
  template Plan plan_backward<T>(const BackwardArgs<T>&);                                                              \
  template void run_backward<T>(const BackwardArgs<T>&, int64_t, int64_t, std::span<std::byte>, std::span<std::byte>); \
  template void finish_backward<T>(const BackwardArgs<T>&, int64_t, int64_t, std::span<std::byte>);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels
