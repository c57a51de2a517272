#include "longfold/train/precision.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "longfold/kernels/cuda/training.h"

namespace longfold::train {

MasterParameters::MasterParameters(const model::Transformer& model, at::ScalarType dtype, at::DeviceType device) {
  const at::NoGradGuard no_grad;
  const auto parameters = model->named_parameters();
  masters_ = named_parameters(*model);
  if (dtype == at::kFloat) return;
  for (NamedTensor& master : masters_) master.tensor = master.tensor.detach().clone();
  model.ptr()->compute_in(dtype);
  const bool is_dry = masters_.front().tensor.is_meta();
  first_stays_rounded_ =
      dtype == at::kBFloat16 && device == at::kCUDA && (is_dry || kernels::cuda::has_training_kernels());
  for (NamedTensor& master : masters_) {
    const at::Tensor& own = parameters[master.name];
    if (own.scalar_type() == at::kFloat) {
      master.tensor = own;
    } else {
      rounded_.push_back({own, master.tensor.requires_grad_()});
    }
  }
}

void MasterParameters::collect_gradients() const {
  const at::NoGradGuard no_grad;
  for (const auto& [rounded, master] : rounded_) {
    at::Tensor& grad = rounded.mutable_grad();
    if (!grad.defined()) continue;
    at::Tensor& sum = master.mutable_grad();
    if (!sum.defined()) {
      sum = first_stays_rounded_ ? grad : grad.to(at::kFloat);
    } else {
      sum = sum.to(at::kFloat).add_(grad);
    }
    grad.reset();
  }
}

std::vector<at::Tensor> MasterParameters::rounded() const {
  std::vector<at::Tensor> all;
  for (const NamedTensor& parameter : masters_) {
    const auto pair =
        std::ranges::find_if(rounded_, [&](const Pair& one) { return one.master.is_same(parameter.tensor); });
    all.push_back(pair == rounded_.end() ? at::Tensor() : pair->rounded);
  }
  return all;
}

void MasterParameters::publish() const {
  const at::NoGradGuard no_grad;
  for (const auto& [rounded, master] : rounded_) at::Tensor(rounded).copy_(master);
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
