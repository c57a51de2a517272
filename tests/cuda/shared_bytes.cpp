// Prints the shared memory that a block of each kernel on tensor cores takes, for tests/cuda/kernel_resources.py.
#include <cstdio>

#include "longfold/kernels/cuda/mma/built.h"
#include "longfold/kernels/cuda/mma/instances.h"

namespace longfold::kernels::cuda::mma {
namespace {

template <class T, int HeadDim>
void print(const char* type) {
  constexpr const char* kForms[] = {"kNone", "k16", "k32"};
  for (const BiasForm form : {BiasForm::kNone, BiasForm::k16, BiasForm::k32}) {
    for (const bool one_row : {false, true}) {
      const auto line = [&](const char* pass, int bytes) {
        std::printf("%s<%s, %d, %s, %s> %d\n", pass, type, HeadDim, kForms[static_cast<int>(form)],
                    one_row ? "one row" : "rows", bytes);
      };
      line("forward", Kernels<T, HeadDim>::forward_shared_bytes(form, one_row));
      line("backward", Kernels<T, HeadDim>::backward_shared_bytes(form, one_row));
    }
  }
}

}  // namespace
}  // namespace longfold::kernels::cuda::mma

int main() {
  using namespace longfold::kernels;
#define LONGFOLD_INSTANCE(Type, HeadDim) cuda::mma::print<Type, HeadDim>(#Type);
  LONGFOLD_MMA_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
}
