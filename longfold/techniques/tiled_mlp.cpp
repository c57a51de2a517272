#include "longfold/techniques/tiled_mlp.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "longfold/techniques/tiles.h"

namespace longfold::techniques {
namespace {

using model::BlockContext;

class FinishByTiles final : public FinishPiece {
 public:
  FinishByTiles(const model::BlockParts& block, int64_t tile_tokens)
      : of_tile_(finish_at_once(block)), tile_tokens_(tile_tokens) {}

  [[nodiscard]] at::Tensor forward(const at::Tensor& x, const at::Tensor& attended,
                                   const BlockContext& context) const override {
    const at::NoGradGuard no_grad;
    const at::Tensor out = at::empty(x.sizes(), x.options());
    for_tiles(x, tile_tokens_, [&](int64_t begin, int64_t count) {
      out.narrow(1, begin, count)
          .copy_(of_tile_->forward(x.narrow(1, begin, count), attended.narrow(1, begin, count),
                                   context.narrow(begin, count)));
    });
    return out;
  }

  [[nodiscard]] std::pair<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& x,
                                                           const at::Tensor& attended, const BlockContext& context,
                                                           ParameterGradients& gradients) const override {
    const at::Tensor& grad_x = grad;  // a tile of it is done with when that of x is known
    const at::Tensor grad_attended = at::empty(attended.sizes(), x.options());
    for_tiles(x, tile_tokens_, [&](int64_t begin, int64_t count) {
      const auto tile = [&](const at::Tensor& all) { return all.narrow(1, begin, count); };
      const auto [of_x, of_attended] =
          of_tile_->backward(tile(grad), tile(x), tile(attended), context.narrow(begin, count), gradients);
      tile(grad_x).copy_(of_x);
      tile(grad_attended).copy_(of_attended);
    });
    return {grad_x, grad_attended};
  }

 private:
  std::shared_ptr<const FinishPiece> of_tile_;
  int64_t tile_tokens_;
};

}  // namespace

std::shared_ptr<const FinishPiece> finish_by_tiles(const model::BlockParts& block, int64_t tile_tokens) {
  return std::make_shared<FinishByTiles>(block, tile_tokens);
}

}  // namespace longfold::techniques
