// Block sizes of the CPU kernels, and how a call is cut into items. Pure functions of the shape: they, and so the
// result's bits, depend neither on the number of threads nor on the instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longfold::kernels {

struct Shape {
  int64_t B, N, Lq, Lk, H, D;
};

inline constexpr int64_t kLanes = 64;         // queries in a panel: one per vector lane, 4 AVX-512 vectors
inline constexpr int64_t kWidestVector = 16;  // head dims are padded to this in packed panels
inline constexpr int64_t kForwardKeys = 128;  // keys in a block: scores [128][64] fp32 are 32 KiB, within L1
inline constexpr int64_t kBackwardKeys = 64;  // two such blocks (weights, logit gradients), 16 KiB each
inline constexpr int64_t kSlabKeys = 8192;    // a transposed bias slab [Lk][64] fp32 is kept for all rows up to 2 MiB
inline constexpr int64_t kGradKvBytes = 1 << 20;  // fp32 sums of grad_k and grad_v that one thread keeps: half an L2
inline constexpr int64_t kMostPartials = 8;       // fp32 copies of a pair-bias gradient
inline constexpr int64_t kEnoughItems = 64;       // items that keep a large machine's threads evenly busy

[[nodiscard]] constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
[[nodiscard]] constexpr int64_t round_up(int64_t a, int64_t b) {
  return divide_up(a, b) * b;
}

[[nodiscard]] constexpr int64_t num_panels(const Shape& shape) {
  return divide_up(shape.Lq, kLanes);
}
[[nodiscard]] constexpr int64_t padded_head_dim(const Shape& shape) {
  return round_up(shape.D, kWidestVector);
}

// Forward items are (b, h, panel, group of rows n): a bias slab is made once for an item and used for all its rows.
[[nodiscard]] constexpr int64_t forward_row_groups(const Shape& shape) {
  const int64_t items = shape.B * shape.H * num_panels(shape);
  return std::clamp<int64_t>(divide_up(kEnoughItems, items), 1, shape.N);
}

// Backward items are (b, h, group of rows n). Each group holds one partial copy of the pair-bias gradient.
[[nodiscard]] constexpr int64_t backward_row_groups(const Shape& shape, bool wants_grad_pair) {
  const int64_t most = wants_grad_pair ? std::min(shape.N, kMostPartials) : shape.N;
  return std::clamp<int64_t>(divide_up(kEnoughItems, shape.B * shape.H), 1, most);
}

// Rows n whose grad_k and grad_v are summed side by side, so that a bias slab serves them all.
[[nodiscard]] constexpr int64_t backward_rows_at_once(const Shape& shape) {
  return std::clamp<int64_t>(kGradKvBytes / (8 * shape.Lk * padded_head_dim(shape)), 1, shape.N);
}

}  // namespace longfold::kernels
