#include "longfold/techniques/checkpoints.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace longfold::techniques {
namespace {

using model::Attended;
using model::BlockContext;
using torch::autograd::AutogradContext;

struct Group {
  std::vector<Pieces> blocks;
  bool keeps_attention;
  std::shared_ptr<Shelf> shelf;
  std::shared_ptr<ParameterStream> stream;
  std::shared_ptr<const Group> next = nullptr;  // runs after it in a forward pass

  [[nodiscard]] std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    for (const Pieces& one : blocks) {
      for (const at::Tensor& parameter : one.block.module->parameters()) all.push_back(parameter);
    }
    return all;
  }
  [[nodiscard]] ParameterStream::Stay stay() const { return {stream.get(), parameters()}; }
  void prefetch_parameters() const {
    if (stream != nullptr) stream->prefetch(parameters());
  }
};

// What attention gave, on the shelf.
struct ShelvedAttention {
  std::shared_ptr<Shelved> out, log_sum_exp;
  variable_list rest;
};

struct Waiting : torch::CustomClassHolder {
  virtual void prefetch() const = 0;
};
using WeakWaiting = std::optional<c10::weak_intrusive_ptr<Waiting>>;

// What one pass of a group keeps. Of the passes of a step each knows the one before, whose tensors backward wants next.
struct Kept : Waiting {
  Kept(std::shared_ptr<const Group> of, BlockContext in, WeakWaiting previous)
      : group(std::move(of)), context(std::move(in)), before(std::move(previous)) {}

  void prefetch() const override {
    group->prefetch_parameters();
    if (x != nullptr) x->prefetch();
    for (const ShelvedAttention& one : attended) {
      one.out->prefetch();
      one.log_sum_exp->prefetch();
    }
  }

  std::shared_ptr<const Group> group;
  BlockContext context;
  WeakWaiting before;
  std::shared_ptr<Shelved> x;
  std::vector<ShelvedAttention> attended;  // of each block, if it is kept
};

at::Tensor run(const Group& group, at::Tensor x, const BlockContext& context, Kept* kept) {
  const auto stay = group.stay();
  if (group.next != nullptr) group.next->prefetch_parameters();
  for (const Pieces& block : group.blocks) {
    Attended attended = block.attend->forward(x, context);
    x = block.finish->forward(x, attended.out, context);
    if (kept == nullptr || !group.keeps_attention) continue;
    Shelf& shelf = *group.shelf;
    kept->attended.push_back({shelf.put(attended.out), shelf.put(attended.log_sum_exp), std::move(attended.rest)});
  }
  return x;
}

class Checkpoint : public torch::autograd::Function<Checkpoint> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const c10::intrusive_ptr<Kept>& kept) {
    kept->x = kept->group->shelf->put(x.detach());
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    return run(*kept->group, x, kept->context, kept.get());
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::NoGradGuard no_grad;
    const auto capsule = context->saved_data["kept"].toCapsule();
    auto& kept = static_cast<Kept&>(*capsule);
    TORCH_CHECK(kept.x != nullptr, "[checkpoint] expected one backward pass, got a second: what it needs is gone");
    const auto stay = kept.group->stay();
    variable_list inputs = inputs_of_blocks(kept);
    if (const auto before = kept.before ? kept.before->lock() : nullptr) before->prefetch();
    // Autograd holds it until the end, and nobody else: blocks follow each other, and a norm the last. So its memory is
    // taken for the gradient that goes on.
    at::Tensor grad = std::move(grads[0]);
    for (size_t i = inputs.size(); i-- > 0;) {
      grad = differentiate_block(kept, i, std::exchange(inputs[i], {}), std::exchange(grad, {}));
    }
    return {grad, {}};
  }

 private:
  static variable_list inputs_of_blocks(Kept& kept) {
    const auto& blocks = kept.group->blocks;
    variable_list inputs{kept.x->get()};
    kept.x.reset();
    for (size_t i = 0; i + 1 < blocks.size(); ++i) {
      const Attended attended = blocks[i].attend->forward(inputs[i], kept.context);
      inputs.push_back(blocks[i].finish->forward(inputs[i], attended.out, kept.context));
    }
    return inputs;
  }

  static at::Tensor differentiate_block(Kept& kept, size_t i, const at::Tensor& x, at::Tensor grad) {
    const Pieces& block = kept.group->blocks[i];
    Attended attended;
    if (kept.group->keeps_attention) {
      const ShelvedAttention shelved = std::exchange(kept.attended[i], {});
      attended = {shelved.out->get(), shelved.log_sum_exp->get(), shelved.rest};
    } else {
      attended = block.attend->forward(x, kept.context);
    }
    ParameterGradients gradients(block.block.module->parameters());
    auto [grad_x, grad_attended] = block.finish->backward(grad, x, attended.out, kept.context, gradients);
    grad.reset();
    block.attend->backward(grad_attended, x, attended, kept.context, grad_x, gradients);
    gradients.publish();
    return grad_x;
  }
};

}  // namespace

std::vector<model::BlockForward> with_checkpoints(std::vector<Pieces> blocks, const CheckpointOptions& options) {
  std::vector<std::shared_ptr<Group>> groups;
  for (size_t begin = 0; begin < blocks.size(); begin += static_cast<size_t>(options.every)) {
    const size_t end = std::min(blocks.size(), begin + static_cast<size_t>(options.every));
    const auto group = std::make_shared<Group>(
        Group{{blocks.begin() + static_cast<std::ptrdiff_t>(begin), blocks.begin() + static_cast<std::ptrdiff_t>(end)},
              options.keeps_attention,
              options.shelf,
              options.parameters});
    if (!groups.empty()) groups.back()->next = group;
    groups.push_back(group);
  }
  std::vector<model::BlockForward> all;
  const auto last = std::make_shared<WeakWaiting>();  // the pass before, of any group
  for (const std::shared_ptr<const Group> group : groups) {
    all.emplace_back([group, last](const at::Tensor& x, const BlockContext& context) {
      if (!at::GradMode::is_enabled() || !x.requires_grad()) return run(*group, x, context, nullptr);
      auto kept = c10::make_intrusive<Kept>(group, context, *last);
      *last = c10::weak_intrusive_ptr<Waiting>(c10::intrusive_ptr<Waiting>(kept));
      return Checkpoint::apply(x, kept);
    });
  }
  return all;
}

}  // namespace longfold::techniques
