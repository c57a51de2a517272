// Products of warpgroups element by element, against the layouts that the PTX ISA documents.
#include <gtest/gtest.h>

#include "tests/simt/warpgroup_operands.h"

namespace longfold::simt {
namespace {

// Rows of memory are columns of b. What is multiplied lies at row 64 and column `first` of the matrices.
template <class T>
void expect_product_of_rows(int chunk_of_a, int chunk_of_b, int first) {
  const Matrix b{kBase, 128, 64, chunk_of_b}, a{kBase + 16384, 128, 64, chunk_of_a};
  run_warpgroups({Order::kShuffled, Delivery::kLatest}, 1, [&](int thread) {
    a.fill<T>(thread, [&](int row, int column) { return of_a(row - 64, column - first); });
    b.fill<T>(thread, [&](int row, int column) { return of_b(column - first, row - 64); });
    store_and_meet();
    const uint64_t to_b = b.descriptor(64, first), to_a = a.descriptor(64, first);
    uint32_t words[4];
    load_a<T>(thread, words);
    float d[4][8][4];
    load_d<64>(thread, d[1]);
    load_d<64>(thread, d[3]);
    ptx::fence_products();
    ptx::multiply_async<T>(d[0], words, to_b);
    ptx::add_async<T>(d[1], words, to_b);
    ptx::multiply_async<T>(d[2], to_a, to_b);
    ptx::add_async<T>(d[3], to_a, to_b);
    wait_for_all();
    for (int i = 0; i < 4; ++i) ptx::after_products(d[i]);
    for (int i = 0; i < 4; ++i) expect_d<64>(thread, d[i], i % 2 == 1);
  });
}

TEST(WarpgroupProducts, RowsAreColumns) {
  for (const int chunk : {128, 64, 32}) {
    for (const int first : {0, 16, 48}) {
      expect_product_of_rows<bfloat16>(chunk, chunk, first);
      expect_product_of_rows<float16>(128 / (chunk / 32), chunk, first);
    }
  }
}

// Of its first eight rows alone.
TEST(WarpgroupProducts, EightRowsAreColumns) {
  const Matrix b{kBase, 64, 64, 32};
  run_warpgroups({Order::kShuffled, Delivery::kLatest}, 1, [&](int thread) {
    b.fill<bfloat16>(thread, [&](int row, int column) { return of_b(column, row); });
    store_and_meet();
    uint32_t words[4];
    load_a<bfloat16>(thread, words);
    float d[1][4];
    load_d<8>(thread, d);
    ptx::fence_products();
    ptx::add_async<bfloat16>(d, words, b.descriptor(0, 0));
    wait_for_all();
    ptx::after_products(d);
    expect_d<8>(thread, d, true);
  });
}

// Rows of memory are rows of b.
template <class T, int N>
void expect_product_of_columns(int chunk, int first, int width = 64) {
  const Matrix b{kBase, 64, width, chunk};
  run_warpgroups({Order::kShuffled, Delivery::kLatest}, 1, [&](int thread) {
    b.fill<T>(thread, [&](int row, int column) { return of_b(row - 32, column - first); });
    store_and_meet();
    uint32_t words[4];
    load_a<T>(thread, words);
    float d[N / 8][4];
    load_d<N>(thread, d);
    ptx::fence_products();
    ptx::add_transposed_async<T, N>(d, words, b.descriptor(32, first));
    wait_for_all();
    ptx::after_products(d);
    expect_d<N>(thread, d, true);
  });
}

TEST(WarpgroupProducts, RowsAreRows) {
  for (const int chunk : {128, 64, 32}) {
    expect_product_of_columns<bfloat16, 64>(chunk, 0);
    expect_product_of_columns<float16, 64>(chunk, 0);
    for (const int first : {0, 32}) expect_product_of_columns<bfloat16, 32>(chunk, first);
    for (const int first : {0, 16, 32, 48}) expect_product_of_columns<float16, 16>(chunk, first);
    expect_product_of_columns<bfloat16, 128>(chunk, 0, 128);
    expect_product_of_columns<float16, 128>(chunk, 0, 128);
  }
  for (const int chunk : {64, 32}) {
    expect_product_of_columns<bfloat16, 96>(chunk, 0, 96);
    expect_product_of_columns<float16, 96>(chunk, 0, 96);
  }
}

}  // namespace
}  // namespace longfold::simt
