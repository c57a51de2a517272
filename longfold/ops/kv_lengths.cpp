// cuEquivariance's kv_lengths as a bias of bools. An op of its own, so that lengths are checked under torch.compile and
// torch.func.vmap as well, where Python may not look at them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/lt.h>
#include <torch/library.h>

#include <utility>

namespace longfold::ops {
namespace {

void check_dtype(const at::Tensor& lengths) {
  TORCH_CHECK_VALUE(at::isIntegralType(lengths.scalar_type(), false),
                    "[triangle_attention] expected kv_lengths of an integer dtype, got ", lengths.scalar_type());
}

// [..., num_keys] from lengths [..., 1]: True for the first so many keys.
at::Tensor first_keys(const at::Tensor& lengths, int64_t num_keys) {
  check_dtype(lengths);
  const at::Tensor wide = lengths.to(at::kLong);
  if (!wide.is_cpu()) {
    at::_assert_async(wide.ge(0).all(), "[triangle_attention] expected kv_lengths of at least 0");
  } else if (wide.numel() > 0) {
    const auto least = wide.min().item<int64_t>();
    TORCH_CHECK_VALUE(least >= 0, "[triangle_attention] expected kv_lengths of at least 0, got ", least);
  }
  return at::arange(num_keys, wide.options()).lt(wide);
}

at::Tensor first_keys_meta(const at::Tensor& lengths, c10::SymInt num_keys) {
  check_dtype(lengths);
  auto sizes = lengths.sym_sizes().vec();
  sizes.back() = std::move(num_keys);
  return at::empty_symint(sizes, lengths.options().dtype(at::kBool));
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, CPU, m) {
  m.impl("first_keys", first_keys);
}
TORCH_LIBRARY_IMPL(longfold, CUDA, m) {
  m.impl("first_keys", first_keys);
}
TORCH_LIBRARY_IMPL(longfold, Meta, m) {
  m.impl("first_keys", first_keys_meta);
}

}  // namespace longfold::ops
