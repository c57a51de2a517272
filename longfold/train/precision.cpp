#include "longfold/train/precision.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "longfold/kernels/cuda/training.h"

namespace longfold::train {
namespace {

bool is_of_block(const std::string& name) {
  return name.starts_with("gpt_neox.layers.");
}

}  // namespace

MasterParameters::MasterParameters(const model::Transformer& model, at::ScalarType dtype, at::Device device,
                                   techniques::Home* home, techniques::ParameterStream* stream) {
  const at::NoGradGuard no_grad;
  masters_ = named_parameters(*model);
  rounded_.resize(masters_.size());
  const bool is_dry = masters_.front().tensor.is_meta();
  std::vector<at::Tensor> exact;
  if (dtype != at::kFloat) {
    for (const NamedTensor& master : masters_) exact.push_back(master.tensor.detach());
    model.ptr()->compute_in(dtype);
  }
  if (dtype == at::kFloat) {
    if (!is_dry) model.ptr()->to(device);
    return;
  }
  first_stays_rounded_ =
      dtype == at::kBFloat16 && device.is_cuda() && (is_dry || kernels::cuda::has_training_kernels());
  for (size_t i = 0; i < masters_.size(); ++i) {
    at::Tensor& master = masters_[i].tensor;
    if (master.scalar_type() == at::kFloat) continue;
    rounded_[i] = master;
    master = std::move(exact[i]);
    if (home != nullptr) {
      const at::Tensor own = home->make_like(master);
      own.copy_(master);
      master = own;
    } else if (!is_dry) {
      master = master.to(device);
    }
    master.requires_grad_();
    if (stream != nullptr && is_of_block(masters_[i].name)) stream->adopt(rounded_[i], master);
  }
  if (!is_dry) model.ptr()->to(device);
}

void MasterParameters::collect_gradients() const {
  for (size_t i = 0; i < masters_.size(); ++i) collect_gradient(i);
}

void MasterParameters::collect_gradient(size_t index) const {
  const at::NoGradGuard no_grad;
  const at::Tensor& rounded = rounded_.at(index);
  if (!rounded.defined() || !rounded.grad().defined()) return;
  at::Tensor &grad = rounded.mutable_grad(), &sum = masters_[index].tensor.mutable_grad();
  if (!sum.defined()) {
    sum = first_stays_rounded_ ? grad : grad.to(at::kFloat);
  } else {
    sum = sum.to(at::kFloat).add_(grad);
  }
  grad.reset();
}

std::vector<at::Tensor> MasterParameters::rounded() const {
  return rounded_;
}

void MasterParameters::publish() const {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < masters_.size(); ++i) {
    const bool is_streamed = rounded_[i].defined() && rounded_[i].numel() != masters_[i].tensor.numel();
    if (rounded_[i].defined() && !is_streamed) at::Tensor(rounded_[i]).copy_(masters_[i].tensor);
  }
}

void LossScale::step(bool finite) {
  constexpr int64_t kStepsToDouble = 2000;
  constexpr double kLargest = 1 << 24;
  if (!finite) {
    scale = std::max(scale / 2, 1.0);
    good_steps = 0;
  } else if (++good_steps == kStepsToDouble) {
    scale = std::min(scale * 2, kLargest);
    good_steps = 0;
  }
}

}  // namespace longfold::train
