// AdamW with decoupled weight decay, and clipping by the global gradient norm.
//
// Decay pulls on matrices only: a decayed bias or norm's gain loses its resting place and gains nothing.
#pragma once

#include <memory>

#include "longfold/techniques/home.h"
#include "longfold/train/named_tensors.h"

namespace longfold::train {

struct OptimizerConfig {
  double learning_rate = 1e-3;
  double final_learning_rate = 1e-4;
  std::string schedule = "cosine";
  int64_t warmup_steps = 10;
  int64_t warmup_tokens = 0;
  int64_t decay_steps = 0;
  int64_t decay_tokens = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("learning_rate", self.learning_rate, "peak learning rate, reached after the warm-up");
    visit("final_learning_rate", self.final_learning_rate, "the least, reached at the last step (not by constant)");
    visit("schedule", self.schedule, "constant, linear, cosine, or wsd (warm-up, stable, decay)");
    visit("warmup_steps", self.warmup_steps, "steps over which the learning rate rises from 0");
    visit("warmup_tokens", self.warmup_tokens, "the same in tokens, in place of warmup_steps");
    visit("decay_steps", self.decay_steps, "of wsd: steps at the end over which it falls; 0 = a tenth of all");
    visit("decay_tokens", self.decay_tokens, "the same in tokens, in place of decay_steps");
    visit("beta1", self.beta1, "decay of the mean of gradients");
    visit("beta2", self.beta2, "decay of the mean of squared gradients");
    visit("epsilon", self.epsilon, "added to the root of the mean of squared gradients");
    visit("weight_decay", self.weight_decay, "pull of weight matrices towards 0, times the learning rate");
    visit("clip_norm", self.clip_norm, "largest gradient norm, longer gradients are scaled down; 0 = never");
  }
  void validate() const;
  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

// The norm of all gradients together, which come one by one; summed in fp64, in one order.
class GradientNorm {
 public:
  explicit GradientNorm(size_t num_gradients) : squares_(num_gradients) {}
  void add(size_t index, const at::Tensor& gradient);  // a gradient is only read; nothing waits for a GPU
  [[nodiscard]] double norm() const;

 private:
  std::vector<at::Tensor> squares_;  // [n], fp64, to be added up
};
[[nodiscard]] double gradient_norm(const NamedTensors& parameters);
// What gradients of that norm are multiplied by, so that they are no longer than `clip_norm`; 0: never shortened.
[[nodiscard]] double clip_factor(double norm, double clip_norm);

class AdamW {
 public:
  // `rounded`, if any, has a tensor of 16 bits, or none, for each parameter: an update writes the new parameter there
  // too. Both moments are made in `home`, by default on the parameters' device, and visit it for an update. So do
  // parameters that have a rounded one: whoever made them put them there.
  AdamW(const OptimizerConfig& config, NamedTensors parameters, const std::vector<at::Tensor>& rounded = {},
        std::shared_ptr<techniques::Home> home = nullptr);

  // One update from the gradients times `gradient_factor`; they are freed. `step` counts updates from 1; its only use
  // is the bias correction. Gradients may be of 16 bits on a GPU whose build has kernels for it
  // (kernels/cuda/training.h).
  void update(int64_t step, double learning_rate, double gradient_factor = 1);
  // The same of one parameter, by its place in the list; settle() after the last.
  void update_one(size_t index, int64_t step, double learning_rate, double gradient_factor = 1);
  void settle();

  void skip();  // frees the gradients

  // Both moments of every parameter, for the checkpoint: "<parameter>.mean" and "<parameter>.mean_square".
  [[nodiscard]] NamedTensors state() const;

 private:
  struct Item {
    at::Tensor parameter, rounded, mean, mean_square;  // rounded: undefined where there is none
    double weight_decay = 0;
  };
  struct Rates {
    int64_t step;
    double learning_rate, gradient_factor;
  };
  // What an update needs, on its way to the device.
  struct Visits {
    techniques::Home::Visit parameter, mean, mean_square;
  };
  [[nodiscard]] Visits begin_visits(const Item& item) const;
  void update(const Item& item, Visits visits, const Rates& rates) const;
  void update_on_gpu(const Item& item, const at::Tensor& gradient, const Rates& rates) const;
  void update_by_torch(const Item& item, const at::Tensor& gradient, const Rates& rates) const;

  OptimizerConfig config_;
  NamedTensors parameters_;
  NamedTensors state_;
  std::shared_ptr<techniques::Home> home_;
  std::vector<Item> items_;
};

}  // namespace longfold::train
