#include "longfold/train/early_updates.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <functional>
#include <memory>
#include <utility>

namespace longfold::train {
namespace {

// What autograd calls when a parameter has its gradient (techniques/parameter_gradients.h does too).
class Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit Hook(std::function<void()> call) : call_(std::move(call)) {}
  void operator()(const at::Tensor&) override { call_(); }

 private:
  std::function<void()> call_;
};

}  // namespace

EarlyUpdates::EarlyUpdates(const model::Transformer& model, const MasterParameters& parameters, AdamW& optimizer)
    : model_(model), parameters_(parameters), optimizer_(optimizer), norm_(parameters.tensors().size()) {
  const std::vector<at::Tensor> all = model->parameters();
  for (size_t i = 0; i < all.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(all[i], std::make_unique<Hook>([this, i] { move(i); }));
  }
}

EarlyUpdates::~EarlyUpdates() {
  for (const at::Tensor& parameter : model_->parameters()) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }
}

void EarlyUpdates::begin(int64_t step, double learning_rate) {
  step_ = step, learning_rate_ = learning_rate, num_moved_ = 0;
}

void EarlyUpdates::move(size_t index) {
  parameters_.collect_gradient(index);
  norm_.add(index, parameters_.tensors()[index].tensor.grad());
  optimizer_.update_one(index, step_, learning_rate_);
  ++num_moved_;
}

void EarlyUpdates::end() {
  optimizer_.settle();
  TORCH_CHECK(num_moved_ == parameters_.tensors().size(),
              "[early_updates] expected one backward pass with gradients of ", parameters_.tensors().size(),
              " parameters, got ", num_moved_);
}

}  // namespace longfold::train
