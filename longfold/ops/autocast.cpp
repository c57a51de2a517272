// The op under torch.autocast, treated as torch treats scaled_dot_product_attention: q, k and v are cast to autocast's
// dtype, float64 excepted. Biases keep theirs: they are read in any dtype, and rounding them would cost accuracy alone.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "longfold/ops/dispatch.h"

namespace longfold::ops {
namespace {

template <c10::DeviceType Device>
std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       at::TensorList biases, std::optional<double> scale,
                                                       std::string_view fully_masked, bool heads_first) {
  const c10::impl::ExcludeDispatchKeyGuard once(at::autocast::get_autocast_dispatch_key_from_device_type(Device));
  const auto type = at::autocast::get_autocast_dtype(Device);
  const auto cast = [&](const at::Tensor& tensor) { return at::autocast::cached_cast(type, tensor, Device); };
  return call_forward(cast(q), cast(k), cast(v), biases, scale, fully_masked, heads_first);
}

}  // namespace

// The backward op runs in the dtypes that the forward op was called with: it needs no rule.
TORCH_LIBRARY_IMPL(longfold, AutocastCPU, m) {
  m.impl("evoformer_attention", forward<c10::DeviceType::CPU>);
}
TORCH_LIBRARY_IMPL(longfold, AutocastCUDA, m) {
  m.impl("evoformer_attention", forward<c10::DeviceType::CUDA>);
}

}  // namespace longfold::ops
