#include "longfold/kernels/tile_size.h"

#include <gtest/gtest.h>

#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

int64_t backward_items(const Shape& shape, bool wants_grad_pair) {
  BackwardArgs<float> args{};
  args.q.sizes = {shape.B, shape.N, shape.Lq, shape.H, shape.D};
  args.k.sizes = {shape.B, shape.N, shape.Lk, shape.H, shape.D};
  float grad_pair = 0;  // a plan only asks whether there is one
  if (wants_grad_pair) args.grad_pair.data = &grad_pair;
  return plan_backward(args).num_items;
}

// The contract of docs/evoformer.md: at most 4 MiB of scratch a thread, at most 8 partial copies of a pair-bias
// gradient.
TEST(TileSize, MemoryStaysWithinTheContract) {
  for (const Shape& shape :
       {Shape{1, 512, 640, 640, 8, 32}, Shape{1, 5120, 384, 384, 8, 8}, Shape{1, 4096, 4096, 4096, 4, 32},
        Shape{1, 1, 8192, 8192, 16, 24}, Shape{4, 1, 2048, 2048, 1, 128}, Shape{1, 7, 32, 128, 4, 32},
        Shape{1, 1, 1024, 1024, 8, 128}, Shape{1, 2, 1000000, 1000000, 1, 128}, Shape{1, 4, 1024, 1024, 2, 512},
        Shape{1, 4, 8192, 8192, 2, 512}, Shape{1, 4, 8193, 8193, 2, 512}, Shape{1, 64, 4096, 4096, 4, 8},
        Shape{1, 64, 2048, 2048, 4, 8}, Shape{1, 64, 362, 362, 4, 128}}) {
    for (const int64_t num_threads : {1, 2, 64}) {
      const ForwardBuffers buffers(shape, cut_forward(shape, num_threads).panel_group, nullptr);
      EXPECT_LE(buffers.num_floats * 4, 4 << 20) << shape.Lk;
    }
    EXPECT_LE(PartialCopies::num_bytes(shape), kMostPartials * shape.B * shape.H * shape.Lq * shape.Lk * 4) << shape.Lk;
    for (const bool delta_from_weights : {false, true}) {
      const BackwardBuffers buffers(shape, delta_from_weights, nullptr);
      EXPECT_LE(buffers.num_floats * 4, 4 << 20) << shape.Lk;
    }
  }
}

// At most 7 copies of grad_pair, or one with its rest, rounded up to whole vectors of queries.
TEST(TileSize, PartialCopiesStayFew) {
  for (const int64_t queries : {1, 4, 15, 17, 32, 64, 65, 100, 384}) {
    const Shape shape{2, 64, queries, 512, 3, 8};
    const int64_t heads = shape.B * shape.H, copy = heads * shape.Lk * queries * 4;
    EXPECT_LE(PartialCopies::num_bytes(shape),
              std::max(kMostPartials * copy, heads * shape.Lk * round_up(queries, 16) * 6))
        << queries;
  }
}

TEST(TileSize, ItemsAreEnoughWhereTheShapeAllows) {
  const auto items = [](const Shape& s, int64_t num_threads) {
    const ForwardCut cut = cut_forward(s, num_threads);
    return s.B * s.H * cut.panel_groups * cut.row_groups;
  };
  for (const int64_t num_threads : {2, 16, 64}) {
    EXPECT_GE(items({1, 128, 256, 256, 8, 32}, num_threads), 4 * num_threads);
    EXPECT_GE(items({1, 1, 4096, 4096, 16, 32}, num_threads), 4 * num_threads);
  }
  EXPECT_EQ(items({1, 1, 64, 64, 4, 32}, 64), 4) << "one panel, one row: only heads are left";
}

// Today's limit: the backward pass sums grad_k and grad_v over all queries of a row, so one row and head is one item.
TEST(TileSize, OneRowHasABackwardItemForEachHead) {
  for (const Shape& shape :
       {Shape{1, 1, 384, 384, 16, 24}, Shape{2, 1, 4096, 4096, 4, 32}, Shape{1, 1, 64, 64, 1, 8}}) {
    for (const bool wants_grad_pair : {false, true})
      EXPECT_EQ(backward_items(shape, wants_grad_pair), shape.B * shape.H);
  }
}

TEST(TileSize, GroupsCoverEverything) {
  for (int64_t length : {1, 64, 65, 1000, 4096}) {
    const Shape shape{1, 3, length, length, 2, 32};
    const ForwardCut cut = cut_forward(shape, 3);
    EXPECT_GE(cut.panel_groups, 1);
    EXPECT_GE(cut.panel_groups * cut.panel_group, num_panels(shape));
    EXPECT_GE(backward_panel_groups(shape) * backward_panel_group(shape), num_panels(shape));
    EXPECT_EQ(grad_kv_keys(shape) % kBackwardKeys == 0 || grad_kv_keys(shape) == length, true);
    EXPECT_LE(backward_rows_at_once(shape), shape.N);
  }
}

}  // namespace
}  // namespace longfold::kernels
