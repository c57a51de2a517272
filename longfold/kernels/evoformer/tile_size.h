// Block sizes of the CPU kernels, and how a call is cut into items. Pure functions: no bits of a result depend on the
// number of threads. The forward pass may be cut by it, since each of its results comes from one row; what the backward
// pass adds up across rows is cut by the shape alone. Always inlined: see cpu/simd.h on functions shared by units.
#pragma once

#include <algorithm>
#include <cstdint>

#include "longfold/kernels/panels.h"

namespace longfold::kernels {

// The backward pass needs delta, the sum over d of grad_out * out. Where out was rounded to 16 bits that is too coarse
// for nearly one-hot weights, and delta is summed as weights * (grad_out . v) instead.
template <class T>
inline constexpr bool kDeltaFromWeights = sizeof(T) == 2;

struct Shape {
  int64_t B, N, Lq, Lk, H, D;
};

constexpr int64_t kForwardKeys = 64;   // keys in a block: scores [64][64] fp32 are 16 KiB, half of an L1
constexpr int64_t kBackwardKeys = 64;  // two such blocks (weights, logit gradients)
constexpr int64_t kMostBlockKeys = std::max(kForwardKeys, kBackwardKeys);
constexpr int64_t kWholeRowKeys = 1024;      // 16-bit backward: weights of whole rows, 512 KiB for the two blocks
constexpr int64_t kSlabKeys = 8192;          // a transposed bias slab [Lk][64] fp32 is kept for all rows up to 2 MiB
constexpr int64_t kSlabBytes = 512 << 10;    // slabs of neighbouring panels held at once: a part of an L2
constexpr int64_t kPackedBytes = 256 << 10;  // keys (and values) of one row packed as a whole up to this size
constexpr int64_t kGradKvBytes = 1 << 20;    // fp32 sums of grad_k and grad_v of several rows, or a part of one
constexpr int64_t kMostPartials = 7;         // fp32 copies of a pair-bias gradient; with their sum, 8
constexpr int64_t kPlainRows = 16;           // rows n whose logit gradients are added up one by one
constexpr int64_t kSpanPanels = 4;           // panels whose share of grad_k and grad_v is summed by itself
constexpr int64_t kSpanBytes = 192 << 10;    // fp32 keys of a row that leave room for a second set of such sums
constexpr int64_t kFinishKeys = 256;         // keys in an item that adds up spans
constexpr int64_t kEnoughItems = 64;         // backward items that keep a large machine's threads evenly busy
constexpr int64_t kEnoughShortItems = 16;    // the same of single rows so short that more would not pay
constexpr int64_t kItemsPerThread = 8;       // forward items, for threads to end at about the same time

[[nodiscard, gnu::always_inline]] constexpr int64_t num_panels(const Shape& shape) {
  return divide_up(shape.Lq, kLanes);
}
// Sums of grad_k and grad_v have rows of D lanes, padded to whole vectors. Where that would leave half a vector empty,
// the rows of two summed steps lie side by side, in turn, and are added at the end.
[[nodiscard, gnu::always_inline]] constexpr int64_t scatter_side(const Shape& shape) {
  const int64_t tail = shape.D % kWidestVector;
  return tail >= 1 && tail <= kWidestVector / 2 ? 2 : 1;
}
[[nodiscard, gnu::always_inline]] constexpr int64_t scatter_width(const Shape& shape) {
  return round_up(shape.D * scatter_side(shape), kWidestVector);
}

// Lanes of a panel that hold queries, in whole vectors; and those of all panels. Partial pair-bias gradients have
// these.
[[nodiscard, gnu::always_inline]] constexpr int64_t panel_lanes(const Shape& shape, int64_t panel) {
  return std::min(kLanes, round_up(shape.Lq - panel * kLanes, kWidestVector));
}
[[nodiscard, gnu::always_inline]] constexpr int64_t all_lanes(const Shape& shape) {
  return round_up(shape.Lq, kWidestVector);
}

// A single row n has its biases to itself: no slab is kept for rows to come, and its logit gradients are all there is
// of a pair bias's gradient.
[[nodiscard, gnu::always_inline]] constexpr bool is_single_row(const Shape& shape) {
  return shape.N == 1;
}

// Neighbouring panels that are worked on together, row after row: while their bias slabs stay in the cache, so do the
// keys and values of a row.
[[nodiscard, gnu::always_inline]] constexpr int64_t panels_by_cache(const Shape& shape) {
  if (is_single_row(shape)) return num_panels(shape);
  return std::clamp<int64_t>(kSlabBytes / (shape.Lk * kLanes * 4), 1, num_panels(shape));
}

// Forward items are (b, h, group of panels, group of rows n). Rows are split last: a slab is made again for each group.
struct ForwardCut {
  int64_t panel_groups;
  int64_t panel_group;  // panels in a group, at most
  int64_t row_groups;
};
[[nodiscard, gnu::always_inline]] constexpr ForwardCut cut_forward(const Shape& shape, int64_t num_threads) {
  const int64_t heads = shape.B * shape.H, panels = num_panels(shape);
  const int64_t wanted = num_threads == 1 ? 1 : num_threads * kItemsPerThread;
  const int64_t by_items = std::max<int64_t>(1, heads * panels * shape.N / wanted);
  const int64_t group = std::min(panels_by_cache(shape), by_items);
  const int64_t groups = divide_up(panels, group);
  return {.panel_groups = groups,
          .panel_group = divide_up(panels, groups),
          .row_groups = std::clamp<int64_t>(divide_up(wanted, heads * groups), 1, shape.N)};
}

[[nodiscard, gnu::always_inline]] constexpr int64_t backward_panel_groups(const Shape& shape) {
  return divide_up(num_panels(shape), panels_by_cache(shape));
}
[[nodiscard, gnu::always_inline]] constexpr int64_t backward_panel_group(const Shape& shape) {
  return divide_up(num_panels(shape), backward_panel_groups(shape));
}

// Whether grad_k and grad_v, and grad_mask, sum over so many queries that they are long sums.
[[nodiscard, gnu::always_inline]] constexpr bool has_long_columns(const Shape& shape) {
  return shape.Lq > kLongRow;
}

// grad_k, grad_v and grad_mask are summed over the queries of each span of panels by itself, then over spans in their
// order, so that spans of a single row can be items, with the bits that a row among others has. Long sums have spans of
// one panel, which need no room of their own; where there is none for others, all panels are one span.
[[nodiscard, gnu::always_inline]] constexpr int64_t num_spans(const Shape& shape) {
  if (has_long_columns(shape)) return num_panels(shape);
  return shape.Lk * shape.D * 4 <= kSpanBytes ? divide_up(num_panels(shape), kSpanPanels) : 1;
}
[[nodiscard, gnu::always_inline]] constexpr int64_t first_panel_of_span(const Shape& shape, int64_t span) {
  return num_panels(shape) * span / num_spans(shape);
}
[[nodiscard, gnu::always_inline]] constexpr int64_t span_of_panel(const Shape& shape, int64_t panel) {
  return ((panel + 1) * num_spans(shape) - 1) / num_panels(shape);
}
// Floats of one span's sums, of so many rows and keys: grad_k, grad_v, grad_mask and its rest.
[[nodiscard, gnu::always_inline]] constexpr int64_t span_floats(const Shape& shape, int64_t rows, int64_t keys) {
  return 2 * rows * (keys * scatter_width(shape) + round_up(keys, kWidestVector));
}

// Backward items are (b, h, group of rows n). Each group holds one partial copy of the pair-bias gradient, which is
// written and read once more: at least two rows share it. A group of many rows sums into a copy with a rest of 16 bits
// for each number, one and a half copies, so that there are fewer groups.
//
// A single row makes no copy: where a pair bias wants its gradient, the room goes to the sums of its spans, and groups
// of spans are items.
struct BackwardCut {
  int64_t row_groups;
  bool has_rest;
  int64_t span_groups;
};
[[nodiscard, gnu::always_inline]] constexpr BackwardCut cut_backward(const Shape& shape, bool wants_grad_pair) {
  const int64_t wanted = divide_up(kEnoughItems, shape.B * shape.H);
  const auto rows = [](int64_t groups, bool has_rest) { return BackwardCut{groups, has_rest, 1}; };
  if (!wants_grad_pair) return rows(std::clamp<int64_t>(wanted, 1, shape.N), false);
  if (is_single_row(shape)) {
    const int64_t spans = num_spans(shape);
    const bool has_room = spans * span_floats(shape, 1, shape.Lk) <= kMostPartials * shape.Lq * shape.Lk;
    const int64_t groups = divide_up(spans < 4 ? kEnoughShortItems : kEnoughItems, shape.B * shape.H);
    return {.row_groups = 1, .has_rest = false, .span_groups = has_room ? std::min(groups, spans) : 1};
  }
  const auto groups = [&](int64_t most_by_memory) {
    return std::clamp<int64_t>(wanted, 1, std::min(divide_up(shape.N, 2), std::max<int64_t>(1, most_by_memory)));
  };
  const int64_t plain = groups(kMostPartials * shape.Lq / all_lanes(shape));
  if (divide_up(shape.N, plain) <= kPlainRows) return rows(plain, false);
  return rows(groups(2 * kMostPartials * shape.Lq / (3 * all_lanes(shape))), true);
}

// Bytes of scratch for the grad_k and grad_v of one key.
[[nodiscard, gnu::always_inline]] constexpr int64_t grad_kv_key_bytes(const Shape& shape) {
  return (has_long_columns(shape) ? 16 : 8) * scatter_width(shape);
}

// Long rows of wide heads need more scratch elsewhere.
[[nodiscard, gnu::always_inline]] constexpr int64_t grad_kv_bytes(const Shape& shape) {
  return shape.Lk > kLongRow && shape.D > 128 ? kGradKvBytes / 2 : kGradKvBytes;
}

// Keys of one row whose grad_k and grad_v are summed in scratch at a time: all of them, or, for very long rows, a part
// in whole blocks; then the weights are computed once for each part.
[[nodiscard, gnu::always_inline]] constexpr int64_t grad_kv_keys(const Shape& shape) {
  const int64_t most =
      std::max<int64_t>(1, grad_kv_bytes(shape) / (grad_kv_key_bytes(shape) * kBackwardKeys)) * kBackwardKeys;
  return std::min(shape.Lk, most);
}

// Rows n whose grad_k and grad_v are summed side by side, so that the slabs of a group of panels serve them all.
[[nodiscard, gnu::always_inline]] constexpr int64_t backward_rows_at_once(const Shape& shape) {
  if (backward_panel_groups(shape) == 1) return 1;
  return std::clamp<int64_t>(grad_kv_bytes(shape) / (grad_kv_key_bytes(shape) * grad_kv_keys(shape)), 1, shape.N);
}

// How one group of rows sums its part of a pair-bias gradient; all but the first way are long sums.
enum class PairSum : uint8_t {
  kPlain,   // row after row in the partial copy
  kItem,    // row after row in scratch; then all of it into the copy
  kRows,    // the few rows that are at hand in scratch; then these into the copy
  kBlocks,  // each block of logit gradients at once into the copy
  kDirect,  // there is one row: each block at once to where the caller wants it, and no copy
};
[[nodiscard, gnu::always_inline]] constexpr PairSum pair_sum(const Shape& shape) {
  if (is_single_row(shape)) return PairSum::kDirect;
  if (!cut_backward(shape, true).has_rest) return PairSum::kPlain;
  if (backward_panel_group(shape) * shape.Lk * kLanes * 4 > kSlabBytes) return PairSum::kBlocks;
  if (backward_panel_groups(shape) == 1) return PairSum::kItem;
  return backward_rows_at_once(shape) > 1 ? PairSum::kRows : PairSum::kBlocks;
}

// Keys whose weights are held at a time in the backward pass. 16-bit types need a sum over the whole row before they
// can go on (cpu/backward.h): where the row is short, all of its weights are held, so that nothing is computed twice.
[[nodiscard, gnu::always_inline]] constexpr int64_t backward_weight_keys(const Shape& shape, bool delta_from_weights) {
  return delta_from_weights && shape.Lk <= kWholeRowKeys ? shape.Lk : kBackwardKeys;
}

// Keys of one row that are packed at a time: all of them, or one block.
[[nodiscard, gnu::always_inline]] constexpr int64_t packed_keys(const Shape& shape, int64_t block) {
  return shape.Lk * shape.D * 4 <= kPackedBytes ? shape.Lk : std::min(block, shape.Lk);
}

// How long a transposed pair bias is held. Very long rows have no room for more than a block. A single row needs no
// more, unless its keys pass twice (backward_weight_keys).
enum class SlabHeld : uint8_t { kForBlock, kForPanel, kForRows };
[[nodiscard, gnu::always_inline]] constexpr SlabHeld slab_held(const Shape& shape, bool keys_pass_twice) {
  if (shape.Lk > kSlabKeys) return SlabHeld::kForBlock;
  if (!is_single_row(shape)) return SlabHeld::kForRows;
  return keys_pass_twice ? SlabHeld::kForPanel : SlabHeld::kForBlock;
}
[[nodiscard, gnu::always_inline]] constexpr bool backward_keys_pass_twice(const Shape& shape, bool delta_from_weights) {
  return delta_from_weights && backward_weight_keys(shape, true) < shape.Lk;
}

// Floats of the slabs that are held at a time, of `panels` worked on together.
[[nodiscard, gnu::always_inline]] constexpr int64_t slab_floats(const Shape& shape, SlabHeld held, int64_t panels,
                                                                int64_t block) {
  if (held == SlabHeld::kForBlock) return block * kLanes;
  return (held == SlabHeld::kForRows ? panels : 1) * shape.Lk * kLanes;
}

// Keys whose mask biases are held at a time: those of a row, or, for very long rows, of one block.
[[nodiscard, gnu::always_inline]] constexpr int64_t mask_keys(const Shape& shape, int64_t block) {
  return shape.Lk <= kSlabKeys ? shape.Lk : block;
}

}  // namespace longfold::kernels
