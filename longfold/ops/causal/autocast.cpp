// The op under torch.autocast, treated as torch treats scaled_dot_product_attention: q, k and v are cast to autocast's
// dtype, float64 excepted.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "longfold/ops/causal/dispatch.h"

namespace longfold::ops {
namespace {

template <c10::DeviceType Device>
std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const std::optional<at::Tensor>& documents, int64_t window,
                                           std::optional<double> scale, int64_t first_query) {
  const c10::impl::ExcludeDispatchKeyGuard once(at::autocast::get_autocast_dispatch_key_from_device_type(Device));
  const auto type = at::autocast::get_autocast_dtype(Device);
  const auto cast = [&](const at::Tensor& tensor) { return at::autocast::cached_cast(type, tensor, Device); };
  return call_causal_forward(cast(q), cast(k), cast(v), documents, window, scale, first_query);
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, AutocastCPU, m) {
  m.impl("causal_attention", forward<c10::DeviceType::CPU>);
}

}  // namespace longfold::ops
