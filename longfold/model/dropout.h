// Dropout (Srivastava et al. 2014) of what is added to the residual stream. A mask is a pure function of the seed, the
// step, the row of the step, the layer and the place: it is never stored, backward and a recomputed forward make the
// same one again, and neither a resume nor the number of threads nor the split into batches changes it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longfold::model {

struct DropoutKey {
  uint64_t step = 0;      // dropout_key(seed, step)
  int64_t first_row = 0;  // the place of the batch's first row among all rows of the step
};
[[nodiscard]] uint64_t dropout_key(int64_t seed, int64_t step);

class Dropout {
 public:
  enum class Place : uint8_t { kEmbeddings, kAttention, kMlp };

  Dropout() = default;  // drops nothing
  Dropout(double probability, DropoutKey key) : probability_(probability), key_(key) {}
  [[nodiscard]] Dropout of_layer(int64_t layer) const;
  [[nodiscard]] Dropout from_token(int64_t begin) const;  // for the part of each row that begins there

  // x [B, S, hidden]: zero with the probability, else divided by 1 less it. Drops nothing: x itself. On the CPU.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x, Place place) const;

 private:
  double probability_ = 0;
  DropoutKey key_;
  int64_t first_token_ = 0;
};

}  // namespace longfold::model
