#include "longfold/kernels/evoformer_attention.h"

#include "longfold/kernels/reference.h"

namespace longfold::kernels {
namespace {

template <class Acc>
std::span<Acc> as(std::span<std::byte> bytes) {
  return {reinterpret_cast<Acc*>(bytes.data()), bytes.size() / sizeof(Acc)};
}

}  // namespace

template <class T>
Plan plan_forward(const ForwardArgs<T>& args) {
  return {.num_items = args.q.sizes[0] * args.q.sizes[3],
          .scratch_bytes = reference_forward_scratch(args) * int64_t{sizeof(Accumulator<T>)}};
}

template <class T>
void run_forward(const ForwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch) {
  reference_forward(args, begin, end, as<Accumulator<T>>(scratch));
}

template <class T>
Plan plan_backward(const BackwardArgs<T>& args) {
  return {.num_items = args.q.sizes[0] * args.q.sizes[3],
          .scratch_bytes = reference_backward_scratch(args) * int64_t{sizeof(Accumulator<T>)}};
}

template <class T>
void run_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch,
                  std::span<std::byte>) {
  reference_backward(args, begin, end, as<Accumulator<T>>(scratch));
}

template <class T>
void finish_backward(const BackwardArgs<T>&, int64_t, int64_t, std::span<std::byte>) {}

#define LONGFOLD_INSTANTIATE(T)                                                                                      \
  template Plan plan_forward<T>(const ForwardArgs<T>&);                                                              \
  template void run_forward<T>(const ForwardArgs<T>&, int64_t, int64_t, std::span<std::byte>);                       \
  template Plan plan_backward<T>(const BackwardArgs<T>&);                                                            \
  template void run_backward<T>(const BackwardArgs<T>&, int64_t, int64_t, std::span<std::byte>, std::span<std::byte>); \
  template void finish_backward<T>(const BackwardArgs<T>&, int64_t, int64_t, std::span<std::byte>);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels
