// What one thread moves at a time.
#pragma once

namespace longfold::kernels::cuda {

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

}  // namespace longfold::kernels::cuda
