#include "longfold/techniques/tiled_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "longfold/techniques/parameter_gradients.h"
#include "longfold/techniques/tiles.h"

namespace longfold::techniques {
namespace {

using torch::autograd::AutogradContext;

struct Tiles : torch::CustomClassHolder {
  Tiles(Loss of_tile, int64_t tokens) : loss(std::move(of_tile)), tile_tokens(tokens) {}
  Loss loss;
  int64_t tile_tokens;
};

class TiledLoss : public torch::autograd::Function<TiledLoss> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& labels, const c10::intrusive_ptr<Tiles>& tiles) {
    const auto dtype = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor losses = at::empty(labels.sizes(), hidden.options().dtype(dtype));
    for_tiles(hidden, tiles->tile_tokens, [&](int64_t begin, int64_t count) {
      losses.narrow(1, begin, count)
          .copy_(tiles->loss(hidden.narrow(1, begin, count), head, labels.narrow(1, begin, count)));
    });
    context->save_for_backward({hidden, head, labels});
    context->saved_data["tiles"] = c10::IValue::make_capsule(tiles);
    return losses;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list kept = context->get_saved_variables();
    const at::Tensor &hidden = kept[0], &head = kept[1], &labels = kept[2];
    const auto capsule = context->saved_data["tiles"].toCapsule();
    const auto& tiles = static_cast<const Tiles&>(*capsule);
    const at::Tensor grad_hidden = at::empty(hidden.sizes(), hidden.options());
    const at::Tensor leaf = head.detach().requires_grad_();
    ParameterGradients of_head({leaf});
    for_tiles(hidden, tiles.tile_tokens, [&](int64_t begin, int64_t count) {
      const auto tile = [&](const at::Tensor& all) { return all.narrow(1, begin, count); };
      const auto run = [&](const variable_list& inputs) {
        return variable_list{tiles.loss(inputs[0], leaf, tile(labels))};
      };
      tile(grad_hidden).copy_(differentiate(run, {tile(hidden)}, {tile(grads[0])}, of_head)[0]);
    });
    of_head.publish();
    return {grad_hidden, leaf.grad(), {}, {}};
  }
};

}  // namespace

Loss tiled_loss(Loss loss, int64_t tile_tokens) {
  const auto tiles = c10::make_intrusive<Tiles>(std::move(loss), tile_tokens);
  return [tiles](const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels) {
    return TiledLoss::apply(hidden, head, labels, tiles);
  };
}

}  // namespace longfold::techniques
