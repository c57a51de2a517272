#include "longfold/kernels/evoformer/tile_size.h"

#include <gtest/gtest.h>

#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

Plan backward_plan(const Shape& shape, bool wants_grad_pair) {
  BackwardArgs<float> args{};
  args.q.sizes = {shape.B, shape.N, shape.Lq, shape.H, shape.D};
  args.k.sizes = {shape.B, shape.N, shape.Lk, shape.H, shape.D};
  float grad_pair = 0;  // a plan only asks whether there is one
  if (wants_grad_pair) args.grad_pair.data = &grad_pair;
  return plan_backward(args);
}
int64_t backward_items(const Shape& shape, bool wants_grad_pair) {
  return backward_plan(shape, wants_grad_pair).num_items;
}
int64_t backward_workspace(const Shape& shape, bool wants_grad_pair) {
  return backward_plan(shape, wants_grad_pair).workspace_bytes;
}

// The contract of docs/evoformer.md: at most 4 MiB of scratch a thread, at most 8 partial copies of a pair-bias
// gradient.
void expect_memory_within_the_contract(const Shape& shape) {
  const auto say = [&] {
    return testing::Message() << "N " << shape.N << " Lq " << shape.Lq << " Lk " << shape.Lk << " D " << shape.D;
  };
  for (const int64_t num_threads : {1, 2, 64}) {
    const ForwardBuffers buffers(shape, cut_forward(shape, num_threads).panel_group, nullptr);
    EXPECT_LE(buffers.num_floats * 4, 4 << 20) << say();
  }
  for (const bool delta_from_weights : {false, true}) {
    EXPECT_LE(BackwardBuffers(shape, delta_from_weights, nullptr).num_floats * 4, 4 << 20) << say();
  }
  if (shape.Lq >= kLanes) {
    EXPECT_LE(backward_workspace(shape, true), kMostPartials * shape.B * shape.H * shape.Lq * shape.Lk * 4) << say();
  }
  EXPECT_EQ(backward_workspace(shape, false), 0) << say();
}

TEST(TileSize, MemoryStaysWithinTheContract) {
  for (const Shape& shape :
       {Shape{1, 512, 640, 640, 8, 32}, Shape{1, 5120, 384, 384, 8, 8}, Shape{1, 4096, 4096, 4096, 4, 32},
        Shape{1, 1, 8192, 8192, 16, 24}, Shape{4, 1, 2048, 2048, 1, 128}, Shape{1, 7, 32, 128, 4, 32},
        Shape{1, 1, 1024, 1024, 8, 128}, Shape{1, 2, 1000000, 1000000, 1, 128}}) {
    expect_memory_within_the_contract(shape);
  }
  for (const int64_t N : {1, 2, 7, 64, 512}) {
    for (const int64_t D : {8, 16, 24, 32, 48, 64, 96, 128, 200, 256, 300, 512}) {
      for (const int64_t Lq : {1, 64, 257, 300, 512, 1024, 1025, 4096, 100000}) {
        for (const int64_t Lk : {1, 64, 256, 300, 512, 1000, 1024, 1025, 2048, 8192, 8193}) {
          expect_memory_within_the_contract({1, N, Lq, Lk, 2, D});
        }
      }
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

// One row is cut by its queries where a pair bias wants its gradient, whose copies leave room for the sums of each
// part.
TEST(TileSize, OneRowHasEnoughBackwardItems) {
  EXPECT_EQ(backward_items({1, 1, 1024, 1024, 16, 24}, true), 64);
  EXPECT_EQ(backward_items({1, 1, 1024, 1024, 4, 32}, true), 16);
  EXPECT_EQ(backward_items({2, 1, 4096, 4096, 4, 32}, true), 64);
  EXPECT_EQ(backward_items({1, 1, 384, 384, 16, 24}, true), 16) << "a short row: heads are enough";
  EXPECT_EQ(backward_items({1, 1, 384, 384, 4, 24}, true), 8);
  EXPECT_EQ(backward_items({1, 1, 64, 64, 1, 8}, true), 1) << "one panel";
  EXPECT_EQ(backward_items({2, 1, 4096, 4096, 4, 32}, false), 8) << "no room by the contract";
}

TEST(TileSize, SpansCoverAllPanels) {
  for (const int64_t queries : {1, 64, 256, 257, 640, 1024, 1025, 5000}) {
    const Shape shape{1, 1, queries, 300, 2, 32};
    EXPECT_EQ(first_panel_of_span(shape, 0), 0);
    EXPECT_EQ(first_panel_of_span(shape, num_spans(shape)), num_panels(shape));
    for (int64_t panel = 0; panel < num_panels(shape); ++panel) {
      const int64_t span = span_of_panel(shape, panel);
      EXPECT_LE(first_panel_of_span(shape, span), panel);
      EXPECT_GT(first_panel_of_span(shape, span + 1), panel);
    }
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
