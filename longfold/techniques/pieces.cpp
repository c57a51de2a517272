#include "longfold/techniques/pieces.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace longfold::techniques {
namespace {

using model::Attended;
using model::BlockContext;
using model::Qkv;
using torch::autograd::AutogradContext;

class AttendAtOnce final : public AttendPiece {
 public:
  explicit AttendAtOnce(model::BlockParts block) : block_(std::move(block)) {}

  [[nodiscard]] Attended forward(const at::Tensor& x, const BlockContext& context) const override {
    const at::NoGradGuard no_grad;
    return block_.attention->forward(block_.project(x, context), context.documents, /*causal=*/true);
  }

  void backward(const at::Tensor& grad, const at::Tensor& x, const Attended& attended, const BlockContext& context,
                const at::Tensor& grad_x, ParameterGradients& gradients) const override {
    // Attention is differentiated while its inputs stand, which autograd would hold until the end.
    const at::AutoGradMode with_grad(true);
    const at::Tensor leaf = x.detach().requires_grad_();
    Qkv qkv = block_.project(leaf, context);
    variable_list outputs{qkv.q, qkv.k, qkv.v};
    variable_list grads(3);
    {
      const at::NoGradGuard no_grad;
      const Qkv inputs{qkv.q.detach(), qkv.k.detach(), qkv.v.detach()};
      qkv = block_.attention->backward(grad, inputs, attended, context.documents, /*causal=*/true);
      grads = {std::move(qkv.q), std::move(qkv.k), std::move(qkv.v)};
    }
    const at::Tensor by_x = differentiate_outputs(outputs, leaf, grads, gradients);
    const at::NoGradGuard no_grad;
    grad_x.add_(by_x);
  }

 private:
  model::BlockParts block_;
};

class FinishAtOnce final : public FinishPiece {
 public:
  explicit FinishAtOnce(model::BlockParts block) : block_(std::move(block)) {}

  [[nodiscard]] at::Tensor forward(const at::Tensor& x, const at::Tensor& attended,
                                   const BlockContext& context) const override {
    const at::NoGradGuard no_grad;
    return block_.finish(x, attended, context);
  }

  [[nodiscard]] std::pair<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& x,
                                                           const at::Tensor& attended, const BlockContext& context,
                                                           ParameterGradients& gradients) const override {
    const auto run = [&](const variable_list& inputs) {
      return variable_list{block_.finish(inputs[0], inputs[1], context)};
    };
    variable_list results = differentiate(run, {x, attended}, {grad}, gradients);
    return {std::move(results[0]), std::move(results[1])};
  }

 private:
  model::BlockParts block_;
};

// What autograd carries from one pass to the other besides tensors.
struct Call : torch::CustomClassHolder {
  Call(Pieces of, BlockContext in) : pieces(std::move(of)), context(std::move(in)) {}
  Pieces pieces;
  BlockContext context;
};
const Call& call_of(AutogradContext* context) {
  return static_cast<const Call&>(*context->saved_data["call"].toCapsule());
}

class Attend : public torch::autograd::Function<Attend> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const c10::intrusive_ptr<Call>& call) {
    const Attended attended = call->pieces.attend->forward(x, call->context);
    variable_list kept{x, attended.out, attended.log_sum_exp};
    kept.insert(kept.end(), attended.rest.begin(), attended.rest.end());
    context->save_for_backward(kept);
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return attended.out;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list kept = context->get_saved_variables();
    const Call& call = call_of(context);
    ParameterGradients gradients(call.pieces.block.module->parameters());
    const Attended attended{kept[1], kept[2], variable_list(kept.begin() + 3, kept.end())};
    const at::Tensor grad_x = at::zeros_like(kept[0]);
    call.pieces.attend->backward(grads[0], kept[0], attended, call.context, grad_x, gradients);
    gradients.publish();
    return {grad_x, {}};
  }
};

class Finish : public torch::autograd::Function<Finish> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& attended,
                            const c10::intrusive_ptr<Call>& call) {
    context->save_for_backward({x, attended});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return call->pieces.finish->forward(x, attended, call->context);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list kept = context->get_saved_variables();
    const Call& call = call_of(context);
    ParameterGradients gradients(call.pieces.block.module->parameters());
    auto [grad_x, grad_attended] =
        call.pieces.finish->backward(grads[0].clone(), kept[0], kept[1], call.context, gradients);
    gradients.publish();
    return {grad_x, grad_attended, {}};
  }
};

}  // namespace

std::shared_ptr<const AttendPiece> attend_at_once(const model::BlockParts& block) {
  return std::make_shared<AttendAtOnce>(block);
}
std::shared_ptr<const FinishPiece> finish_at_once(const model::BlockParts& block) {
  return std::make_shared<FinishAtOnce>(block);
}

at::Tensor attend(const Pieces& pieces, const at::Tensor& x, const BlockContext& context) {
  return Attend::apply(x, c10::make_intrusive<Call>(pieces, context));
}
at::Tensor finish(const Pieces& pieces, const at::Tensor& x, const at::Tensor& attended, const BlockContext& context) {
  return Finish::apply(x, attended, c10::make_intrusive<Call>(pieces, context));
}

}  // namespace longfold::techniques
