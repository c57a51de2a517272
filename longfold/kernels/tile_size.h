// Block sizes of the CPU kernels, and how a call is cut into items. Pure functions of the shape: they, and so the
// result's bits, depend neither on the number of threads nor on the instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longfold::kernels {

// The backward pass needs delta, the sum over d of grad_out * out. Where out was rounded to 16 bits that is too coarse
// for nearly one-hot weights, and delta is summed as weights * (grad_out . v) instead.
template <class T>
inline constexpr bool kDeltaFromWeights = sizeof(T) == 2;

struct Shape {
  int64_t B, N, Lq, Lk, H, D;
};

inline constexpr int64_t kLanes = 64;           // queries in a panel: one per vector lane, 4 AVX-512 vectors
inline constexpr int64_t kWidestVector = 16;    // head dims are padded to this in packed panels
inline constexpr int64_t kForwardKeys = 128;    // keys in a block: scores [128][64] fp32 are 32 KiB, within L1
inline constexpr int64_t kBackwardKeys = 64;    // two such blocks (weights, logit gradients), 16 KiB each
inline constexpr int64_t kWholeRowKeys = 1024;  // 16-bit backward: weights of whole rows, 512 KiB for the two blocks
inline constexpr int64_t kSlabKeys = 8192;      // a transposed bias slab [Lk][64] fp32 is kept for all rows up to 2 MiB
inline constexpr int64_t kSlabBytes = 512 << 10;    // slabs of neighbouring panels held at once: a part of an L2
inline constexpr int64_t kPackedBytes = 256 << 10;  // keys (and values) of one row converted as a whole up to this size
inline constexpr int64_t kGradKvBytes = 1 << 20;    // fp32 sums of grad_k and grad_v of several rows
inline constexpr int64_t kMostPartials = 8;         // fp32 copies of a pair-bias gradient
inline constexpr int64_t kEnoughItems = 64;         // items that keep a large machine's threads evenly busy

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

// Lanes of a panel that hold queries, in whole vectors; and those of all panels. Partial pair-bias gradients have
// these.
[[nodiscard]] constexpr int64_t panel_lanes(const Shape& shape, int64_t panel) {
  return std::min(kLanes, round_up(shape.Lq - panel * kLanes, kWidestVector));
}
[[nodiscard]] constexpr int64_t all_lanes(const Shape& shape) {
  return round_up(shape.Lq, kWidestVector);
}

// Neighbouring panels that are worked on together, row after row: while their bias slabs stay in the cache, so do the
// keys and values of a row. Fewer where rows and heads alone would not make enough items.
[[nodiscard]] constexpr int64_t forward_panel_groups(const Shape& shape) {
  const int64_t panels = num_panels(shape);
  const int64_t most_by_cache = kSlabBytes / (shape.Lk * kLanes * 4);
  const int64_t most_by_items = shape.B * shape.H * shape.N * panels / kEnoughItems;
  return divide_up(panels, std::clamp<int64_t>(std::min(most_by_cache, most_by_items), 1, panels));
}
[[nodiscard]] constexpr int64_t backward_panel_groups(const Shape& shape) {
  const int64_t panels = num_panels(shape);
  return divide_up(panels, std::clamp<int64_t>(kSlabBytes / (shape.Lk * kLanes * 4), 1, panels));
}

// Forward items are (b, h, group of panels, group of rows n).
[[nodiscard]] constexpr int64_t forward_row_groups(const Shape& shape) {
  const int64_t items = shape.B * shape.H * forward_panel_groups(shape);
  return std::clamp<int64_t>(divide_up(kEnoughItems, items), 1, shape.N);
}

// Backward items are (b, h, group of rows n). Each group holds one partial copy of the pair-bias gradient.
[[nodiscard]] constexpr int64_t backward_row_groups(const Shape& shape, bool wants_grad_pair) {
  const int64_t most_by_memory = std::max<int64_t>(1, kMostPartials * shape.Lq / all_lanes(shape));
  const int64_t most = wants_grad_pair ? std::min(shape.N, most_by_memory) : shape.N;
  return std::clamp<int64_t>(divide_up(kEnoughItems, shape.B * shape.H), 1, most);
}

// Rows n whose grad_k and grad_v are summed side by side, so that the slabs of a group of panels serve them all.
[[nodiscard]] constexpr int64_t backward_rows_at_once(const Shape& shape) {
  if (backward_panel_groups(shape) == 1) return 1;
  return std::clamp<int64_t>(kGradKvBytes / (8 * shape.Lk * padded_head_dim(shape)), 1, shape.N);
}

// Keys in a backward block. 16-bit types need a sum over the whole row before they can go on (cpu/backward.h): where
// the row is short it is one block, so that nothing is computed twice.
[[nodiscard]] constexpr int64_t backward_keys(const Shape& shape, bool delta_from_weights) {
  return delta_from_weights && shape.Lk <= kWholeRowKeys ? shape.Lk : kBackwardKeys;
}

// Keys of one row that are converted to fp32 rows at a time: all of them, or one block.
[[nodiscard]] constexpr int64_t packed_keys(const Shape& shape, int64_t block) {
  return shape.Lk * padded_head_dim(shape) * 4 <= kPackedBytes ? shape.Lk : std::min(block, shape.Lk);
}

// Keys of one panel for which a transposed pair bias is held at a time: all of them, or, for very long rows, one block.
[[nodiscard]] constexpr int64_t slab_keys(const Shape& shape, int64_t block) {
  return shape.Lk <= kSlabKeys ? shape.Lk : block;
}

}  // namespace longfold::kernels
