// The two parts of a block (model/layers.h) with backward passes that need nothing but the parts' inputs: what runs
// again is their own affair. Tiles, chunks and checkpoints are made of them.
#pragma once

#include <memory>
#include <utility>

#include "longfold/model/layers.h"
#include "longfold/techniques/parameter_gradients.h"

namespace longfold::techniques {

// x [B, S, hidden] -> what attention gives, [B, S, H, D].
class AttendPiece {
 public:
  virtual ~AttendPiece() = default;
  // Without autograd.
  [[nodiscard]] virtual model::Attended forward(const at::Tensor& x, const model::BlockContext& context) const = 0;
  // Adds the gradient by x to grad_x.
  virtual void backward(const at::Tensor& grad, const at::Tensor& x, const model::Attended& attended,
                        const model::BlockContext& context, const at::Tensor& grad_x,
                        ParameterGradients& gradients) const = 0;
};

// x and what attention gave -> the block's output, [B, S, hidden].
class FinishPiece {
 public:
  virtual ~FinishPiece() = default;
  [[nodiscard]] virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& attended,
                                           const model::BlockContext& context) const = 0;
  // The gradients by x and by what attention gave. That by x may take the place of `grad`, whose memory is the
  // caller's to give.
  [[nodiscard]] virtual std::pair<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& x,
                                                                   const at::Tensor& attended,
                                                                   const model::BlockContext& context,
                                                                   ParameterGradients& gradients) const = 0;
};

struct Pieces {
  model::BlockParts block;
  std::shared_ptr<const AttendPiece> attend;
  std::shared_ptr<const FinishPiece> finish;
};

// All tokens at once.
[[nodiscard]] std::shared_ptr<const AttendPiece> attend_at_once(const model::BlockParts& block);
[[nodiscard]] std::shared_ptr<const FinishPiece> finish_at_once(const model::BlockParts& block);

// The same as differentiable functions, which keep their inputs, and what attention gave, for backward.
[[nodiscard]] at::Tensor attend(const Pieces& pieces, const at::Tensor& x, const model::BlockContext& context);
[[nodiscard]] at::Tensor finish(const Pieces& pieces, const at::Tensor& x, const at::Tensor& attended,
                                const model::BlockContext& context);

}  // namespace longfold::techniques
