#include "longfold/ops/sum_to.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>

#include "longfold/ops/parallel_items.h"

namespace longfold::ops {
namespace {

// to[o, i] = sum over r of from[o, r, i], in the order of r, in double.
template <class T>
void sum_middle(const T* from, T* to, int64_t num_outer, int64_t num_summed, int64_t num_inner) {
  constexpr int64_t kBlock = 256;
  const int64_t num_blocks = (num_inner + kBlock - 1) / kBlock;
  parallel_items(num_outer * num_blocks, 0, [&](int64_t begin, int64_t end, std::span<std::byte>) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t outer = item / num_blocks, first = item % num_blocks * kBlock;
      const int64_t count = std::min(kBlock, num_inner - first);
      std::array<double, kBlock> sums{};
      for (int64_t r = 0; r < num_summed; ++r) {
        const T* row = from + (outer * num_summed + r) * num_inner + first;
        for (int64_t i = 0; i < count; ++i) sums[static_cast<size_t>(i)] += static_cast<double>(row[i]);
      }
      for (int64_t i = 0; i < count; ++i)
        to[outer * num_inner + first + i] = static_cast<T>(sums[static_cast<size_t>(i)]);
    }
  });
}

at::Tensor sum_dim(const at::Tensor& full, int64_t dim) {
  auto sizes = full.sizes().vec();
  int64_t outer = 1, inner = 1;
  for (int64_t d = 0; d < full.dim(); ++d) (d < dim ? outer : inner) *= d == dim ? 1 : sizes[static_cast<size_t>(d)];
  const int64_t summed = std::exchange(sizes[static_cast<size_t>(dim)], 1);
  at::Tensor result = at::empty(sizes, full.options());
  if (full.is_cuda()) {
    sum_middle_on_cuda(full, result, outer, summed, inner);
  } else if (full.scalar_type() == at::kDouble) {
    sum_middle(full.const_data_ptr<double>(), result.mutable_data_ptr<double>(), outer, summed, inner);
  } else {
    sum_middle(full.const_data_ptr<float>(), result.mutable_data_ptr<float>(), outer, summed, inner);
  }
  return result;
}

}  // namespace

at::Tensor sum_to(at::Tensor full, const at::Tensor& like) {
  for (int64_t d = 0; d < full.dim(); ++d) {
    const int64_t of_like = d - (full.dim() - like.dim());
    const bool summed = of_like < 0 || like.size(of_like) == 1;
    if (summed && full.size(d) != 1) full = sum_dim(full, d);
  }
  return full.reshape(like.sizes()).to(like.scalar_type());
}

}  // namespace longfold::ops
